/*
 * Runs short real-mode programs on /dev/kvm and says what they left behind. Driven by record.mjs.
 *
 * stdin:  u32 mode (0 real; 1 protected, 32-bit code and stack, the same bases and limits), u32 image size, image; then per case: u32 code length, u32 code address, code, 8 x u32 registers (ax bx cx dx si di sp bp), u32 ip,
 *         u32 flags, 6 x u16 selectors (cs ds es fs gs ss)
 * stdout: per case: u32 exit reason, 8 x u32 registers, u32 ip, u32 flags, 6 x u16 selectors, u32 n, n x { u32 address, u32 byte }
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

static void die(const char *what) { perror(what); exit(1); }
static int get(void *to, size_t n) { return fread(to, 1, n, stdin) == n; }
static void put(const void *from, size_t n) { if (fwrite(from, 1, n, stdout) != n) die("write"); }

static void on_alarm(int n) { (void)n; }

int main(void) {
  struct sigaction action = {.sa_handler = on_alarm};
  sigaction(SIGALRM, &action, 0);
  int sys = open("/dev/kvm", O_RDWR);
  if (sys < 0) die("/dev/kvm");
  int vm = ioctl(sys, KVM_CREATE_VM, 0);
  if (vm < 0) die("KVM_CREATE_VM");
  unsigned mode, size;
  if (!get(&mode, 4) || !get(&size, 4)) return 1;
  unsigned char *image = malloc(size);
  unsigned char *ram = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (!get(image, size)) return 1;
  struct kvm_userspace_memory_region region = {.slot = 0, .guest_phys_addr = 0, .memory_size = size, .userspace_addr = (unsigned long)ram};
  if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region)) die("KVM_SET_USER_MEMORY_REGION");
  int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  struct kvm_run *run = mmap(0, ioctl(sys, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  struct kvm_sregs reset;
  ioctl(vcpu, KVM_GET_SREGS, &reset);

  unsigned length, at;
  while (get(&length, 4) && get(&at, 4)) {
    unsigned char code[64];
    unsigned in[10];
    unsigned short selectors[6];
    if (length > sizeof code || !get(code, length) || !get(in, sizeof in) || !get(selectors, sizeof selectors)) return 1;
    memcpy(ram, image, size);
    memcpy(ram + at, code, length);
    struct kvm_sregs s = reset;
    struct kvm_segment *seg[6] = {&s.cs, &s.ds, &s.es, &s.fs, &s.gs, &s.ss};
    for (int i = 0; i < 6; i++) {
      seg[i]->selector = selectors[i];
      seg[i]->base = selectors[i] * 16;
      seg[i]->db = mode;
    }
    s.cr0 |= mode;
    if (mode) {
      s.cs.type = 11;
      s.idt.limit = 0;
    }
    if (ioctl(vcpu, KVM_SET_SREGS, &s)) die("KVM_SET_SREGS");
    struct kvm_vcpu_events events = {0};
    ioctl(vcpu, KVM_SET_VCPU_EVENTS, &events);
    struct kvm_regs r = {.rax = in[0], .rbx = in[1], .rcx = in[2], .rdx = in[3], .rsi = in[4], .rdi = in[5], .rsp = in[6], .rbp = in[7], .rip = in[8], .rflags = in[9]};
    if (ioctl(vcpu, KVM_SET_REGS, &r)) die("KVM_SET_REGS");
    /* A case that loops for ever ends as KVM_EXIT_INTR. The timer repeats: the first signal may come before KVM_RUN. */
    struct itimerval limit = {{0, 20000}, {0, 20000}}, off = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &limit, 0);
    int failed = ioctl(vcpu, KVM_RUN, 0);
    setitimer(ITIMER_REAL, &off, 0);
    if (failed && errno != EINTR) die("KVM_RUN");
    ioctl(vcpu, KVM_GET_REGS, &r);
    ioctl(vcpu, KVM_GET_SREGS, &s);
    unsigned out[11] = {run->exit_reason, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.rip, r.rflags};
    put(out, sizeof out);
    for (int i = 0; i < 6; i++) put(&seg[i]->selector, 2);
    memcpy(image + at, code, length);
    unsigned n = 0;
    for (unsigned i = 0; i < size; i++) n += ram[i] != image[i];
    put(&n, 4);
    for (unsigned i = 0; i < size; i++)
      if (ram[i] != image[i]) {
        unsigned pair[2] = {i, ram[i]};
        put(pair, 8);
      }
    memset(image + at, 0xf4, length);
  }
  return 0;
}
