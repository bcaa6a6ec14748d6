#include "fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

// The guarded accesses, between two labels. They are leaves without a frame: a fault in any of them goes on at the last one, which
// returns -EFAULT (14) to the caller.
#if defined(__x86_64__)
asm(R"(
  .pushsection .text.kvio_guarded, "ax", @progbits
  .hidden kvio_guarded_begin, kvio_guarded_fault, kvio_guarded_end
  .globl kvio_guarded_begin, kvio_guarded_fault, kvio_guarded_end
  .hidden kvio_load1, kvio_load2, kvio_load4, kvio_load8, kvio_store1, kvio_store2, kvio_store4, kvio_store8
  .globl kvio_load1, kvio_load2, kvio_load4, kvio_load8, kvio_store1, kvio_store2, kvio_store4, kvio_store8
kvio_guarded_begin:
kvio_load1:
  movzbl (%rdi), %eax
  jmp 1f
kvio_load2:
  movzwl (%rdi), %eax
  jmp 1f
kvio_load4:
  movl (%rdi), %eax
  jmp 1f
kvio_load8:
  movq (%rdi), %rax
1:
  movq %rax, (%rsi)
  xorl %eax, %eax
  ret
kvio_store1:
  movb %sil, (%rdi)
  xorl %eax, %eax
  ret
kvio_store2:
  movw %si, (%rdi)
  xorl %eax, %eax
  ret
kvio_store4:
  movl %esi, (%rdi)
  xorl %eax, %eax
  ret
kvio_store8:
  movq %rsi, (%rdi)
  xorl %eax, %eax
  ret
kvio_guarded_end:
kvio_guarded_fault:
  movl $-14, %eax
  ret
  .popsection
)");
#elif defined(__aarch64__)
asm(R"(
  .pushsection .text.kvio_guarded, "ax", @progbits
  .hidden kvio_guarded_begin, kvio_guarded_fault, kvio_guarded_end
  .globl kvio_guarded_begin, kvio_guarded_fault, kvio_guarded_end
  .hidden kvio_load1, kvio_load2, kvio_load4, kvio_load8, kvio_store1, kvio_store2, kvio_store4, kvio_store8
  .globl kvio_load1, kvio_load2, kvio_load4, kvio_load8, kvio_store1, kvio_store2, kvio_store4, kvio_store8
kvio_guarded_begin:
kvio_load1:
  ldrb w2, [x0]
  b 1f
kvio_load2:
  ldrh w2, [x0]
  b 1f
kvio_load4:
  ldr w2, [x0]
  b 1f
kvio_load8:
  ldr x2, [x0]
1:
  str x2, [x1]
  mov w0, #0
  ret
kvio_store1:
  strb w1, [x0]
  mov w0, #0
  ret
kvio_store2:
  strh w1, [x0]
  mov w0, #0
  ret
kvio_store4:
  str w1, [x0]
  mov w0, #0
  ret
kvio_store8:
  str x1, [x0]
  mov w0, #0
  ret
kvio_guarded_end:
kvio_guarded_fault:
  mov w0, #-14
  ret
  .popsection
)");
#else
#error "kvio: the guarded accesses are written for x86-64 and arm64"
#endif

extern "C" {
extern const char kvio_guarded_begin[], kvio_guarded_end[], kvio_guarded_fault[];
int kvio_load1(const void*, uint64_t*);
int kvio_load2(const void*, uint64_t*);
int kvio_load4(const void*, uint64_t*);
int kvio_load8(const void*, uint64_t*);
int kvio_store1(void*, uint64_t);
int kvio_store2(void*, uint64_t);
int kvio_store4(void*, uint64_t);
int kvio_store8(void*, uint64_t);
}

namespace kvio {

namespace {

/// Read by the handler at any moment: entries are only ever appended and reused, `start` is written last and cleared first.
struct Range {
  uintptr_t start;
  size_t length;
  size_t pageSize;
};
struct Chunk {
  Range ranges[128];
  Chunk* next;
};
Chunk firstChunk;
pthread_mutex_t writers = PTHREAD_MUTEX_INITIALIZER;

struct sigaction before;
pthread_once_t once = PTHREAD_ONCE_INIT;
/// The last fault nobody claimed: thread and address folded together.
uint64_t unclaimed;

bool zeroPage(uintptr_t address) {
  for (Chunk* chunk = &firstChunk; chunk != nullptr; chunk = __atomic_load_n(&chunk->next, __ATOMIC_ACQUIRE)) {
    for (Range& range : chunk->ranges) {
      uintptr_t start = __atomic_load_n(&range.start, __ATOMIC_ACQUIRE);
      if (start == 0 || address < start || address - start >= range.length) continue;
      void* page = reinterpret_cast<void*>(address & ~(range.pageSize - 1));
      return mmap(page, range.pageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) !=
             MAP_FAILED;
    }
  }
  return false;
}

void chain(int signal, siginfo_t* info, void* context) {
  if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler == SIG_DFL || (before.sa_handler == SIG_IGN && info->si_code > 0)) {
    // A fault comes again as soon as we return, a sent signal has to be sent again: either way it now does what it always did.
    struct sigaction plain;
    memset(&plain, 0, sizeof plain);
    plain.sa_handler = SIG_DFL;
    sigaction(signal, &plain, nullptr);
    if (info->si_code <= 0) syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signal);
  } else if (before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
  }
}

void onBus(int signal, siginfo_t* info, void* context) {
  int saved = errno;
  mcontext_t& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  auto& instruction = machine.gregs[REG_RIP];
#else
  auto& instruction = machine.pc;
#endif
  auto at = static_cast<uintptr_t>(instruction);
  bool handled = false;
  if (info->si_code > 0 && at >= reinterpret_cast<uintptr_t>(kvio_guarded_begin) &&
      at < reinterpret_cast<uintptr_t>(kvio_guarded_end)) {
    instruction = static_cast<decltype(+instruction)>(reinterpret_cast<uintptr_t>(kvio_guarded_fault));
    handled = true;
  } else if (info->si_code == BUS_ADRERR) {
    auto address = reinterpret_cast<uintptr_t>(info->si_addr);
    handled = zeroPage(address);
    if (!handled) {
      // Another thread may have unmapped it, and put zeros there, since the fault: once, it is tried again.
      uint64_t fault = address ^ static_cast<uint64_t>(syscall(SYS_gettid)) << 48;
      handled = __atomic_exchange_n(&unclaimed, fault, __ATOMIC_SEQ_CST) != fault;
    }
  }
  if (!handled) chain(signal, info, context);
  errno = saved;
}

void install() {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = onBus;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGBUS, nullptr, &before);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace

void catchFaults() { pthread_once(&once, install); }

bool cover(uint8_t* start, size_t length, size_t pageSize) {
  pthread_mutex_lock(&writers);
  Range* free = nullptr;
  Chunk* last = &firstChunk;
  for (Chunk* chunk = &firstChunk; chunk != nullptr && free == nullptr; chunk = chunk->next) {
    last = chunk;
    for (Range& range : chunk->ranges) {
      if (range.start != 0) continue;
      free = &range;
      break;
    }
  }
  if (free == nullptr) {
    Chunk* chunk = new Chunk();
    if (chunk != nullptr) {
      __atomic_store_n(&last->next, chunk, __ATOMIC_RELEASE);
      free = &chunk->ranges[0];
    }
  }
  if (free != nullptr) {
    free->length = length;
    free->pageSize = pageSize;
    __atomic_store_n(&free->start, reinterpret_cast<uintptr_t>(start), __ATOMIC_RELEASE);
  }
  pthread_mutex_unlock(&writers);
  return free != nullptr;
}

void uncover(uint8_t* start) {
  pthread_mutex_lock(&writers);
  for (Chunk* chunk = &firstChunk; chunk != nullptr; chunk = chunk->next)
    for (Range& range : chunk->ranges)
      if (range.start == reinterpret_cast<uintptr_t>(start)) __atomic_store_n(&range.start, 0, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&writers);
}

int guardedLoad(const uint8_t* address, unsigned width, uint64_t* value) {
  switch (width) {
    case 1:
      return kvio_load1(address, value);
    case 2:
      return kvio_load2(address, value);
    case 4:
      return kvio_load4(address, value);
    default:
      return kvio_load8(address, value);
  }
}

int guardedStore(uint8_t* address, unsigned width, uint64_t value) {
  switch (width) {
    case 1:
      return kvio_store1(address, value);
    case 2:
      return kvio_store2(address, value);
    case 4:
      return kvio_store4(address, value);
    default:
      return kvio_store8(address, value);
  }
}

/// Device memory wants aligned accesses: eight bytes at a time where the mapping's side is aligned, single ones at the edges.
static unsigned stepAt(const uint8_t* mapped, size_t left) {
  return left >= 8 && reinterpret_cast<uintptr_t>(mapped) % 8 == 0 ? 8 : 1;
}

int guardedCopyOut(const uint8_t* from, uint8_t* into, size_t length) {
  while (length > 0) {
    unsigned step = stepAt(from, length);
    uint64_t value;
    if (int fault = step == 8 ? kvio_load8(from, &value) : kvio_load1(from, &value)) return fault;
    memcpy(into, &value, step);
    from += step;
    into += step;
    length -= step;
  }
  return 0;
}

int guardedCopyIn(uint8_t* into, const uint8_t* from, size_t length) {
  while (length > 0) {
    unsigned step = stepAt(into, length);
    uint64_t value = 0;
    memcpy(&value, from, step);
    if (int fault = step == 8 ? kvio_store8(into, value) : kvio_store1(into, value)) return fault;
    into += step;
    from += step;
    length -= step;
  }
  return 0;
}

}  // namespace kvio
