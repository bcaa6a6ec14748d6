/*
 * Runs short 64-bit programs natively, in user mode, and says what they left behind: a signal handler puts their registers into place, and the
 * fault each of them ends with (HLT) takes them down. Driven by record-long.mjs.
 *
 * stdin:  u32 data size, u32 code size, 3 x u64 (data, its alias, code: addresses), data image, code image; then per case: u32 code length,
 *         u32 offset in the code, code, 16 x u64 registers (by number), u64 flags
 * stdout: per case: 16 x u64 registers, u64 rip, u64 flags, u32 n, n x { u32 offset in data and code, u32 byte }
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

typedef unsigned long long u64;
static const int REGS[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
static u64 in[17], out[18], entry;
static gregset_t saved;
static volatile int running;

static void die(const char *what) { perror(what); exit(1); }
static int get(void *to, size_t n) { return fread(to, 1, n, stdin) == n; }
static void put(const void *from, size_t n) { if (fwrite(from, 1, n, stdout) != n) die("write"); }

static void start(int n, siginfo_t *info, void *context) {
  (void)n, (void)info;
  greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
  memcpy(saved, g, sizeof saved);
  for (int i = 0; i < 16; i++) g[REGS[i]] = (greg_t)in[i];
  g[REG_RIP] = (greg_t)entry;
  g[REG_EFL] = (greg_t)(in[16] | 0x202);
  running = 1;
}

static void stop(int n, siginfo_t *info, void *context) {
  (void)info;
  if (!running) _exit(n);
  running = 0;
  greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
  for (int i = 0; i < 16; i++) out[i] = (u64)g[REGS[i]];
  out[16] = (u64)g[REG_RIP];
  out[17] = (u64)g[REG_EFL];
  memcpy(g, saved, sizeof saved);
}

int main(void) {
  unsigned sizes[2];
  u64 at[3];
  if (!get(sizes, sizeof sizes) || !get(at, sizeof at)) return 1;
  int file = memfd_create("data", 0);
  if (ftruncate(file, sizes[0])) die("ftruncate");
  unsigned char *data = mmap((void *)at[0], sizes[0], PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, file, 0);
  if (data == MAP_FAILED || mmap((void *)at[1], sizes[0], PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, file, 0) == MAP_FAILED) die("mmap data");
  unsigned char *code = mmap((void *)at[2], sizes[1], PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (code == MAP_FAILED) die("mmap code");
  unsigned char *images = malloc(sizes[0] + sizes[1]);
  if (!get(images, sizes[0] + sizes[1])) return 1;
  stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
  sigaltstack(&stack, 0);
  struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK};
  action.sa_sigaction = start;
  sigaction(SIGUSR1, &action, 0);
  action.sa_sigaction = stop;
  int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGALRM};
  for (unsigned i = 0; i < sizeof faults / sizeof *faults; i++) sigaction(faults[i], &action, 0);

  unsigned head[2];
  while (get(head, sizeof head)) {
    unsigned char bytes[64];
    if (head[0] > sizeof bytes || !get(bytes, head[0]) || !get(in, sizeof in)) return 1;
    memcpy(data, images, sizes[0]);
    memcpy(code, images + sizes[0], sizes[1]);
    memcpy(code + head[1], bytes, head[0]);
    entry = at[2] + head[1];
    alarm(1);
    raise(SIGUSR1);
    alarm(0);
    put(out, sizeof out);
    memcpy(images + sizes[0] + head[1], bytes, head[0]);
    unsigned n = 0, total = sizes[0] + sizes[1];
#define BYTE(i) ((i) < sizes[0] ? data[i] : code[(i) - sizes[0]])
    for (unsigned i = 0; i < total; i++) n += BYTE(i) != images[i];
    put(&n, 4);
    for (unsigned i = 0; i < total; i++)
      if (BYTE(i) != images[i]) {
        unsigned pair[2] = {i, BYTE(i)};
        put(pair, 8);
      }
    memset(images + sizes[0] + head[1], 0xf4, head[0]);
  }
  return 0;
}
