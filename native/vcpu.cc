// KVM_RUN and how to get out of it.
//
// KVM samples immediate_exit once, on entry; a signal that arrives later makes KVM_RUN return EINTR (virt/kvm: a pending signal
// ends the run loop). So a kick sets immediate_exit first and sends the signal second: whichever moment it hits, one of the two
// ends the run. A kick that finds no thread inside leaves immediate_exit set, so that the next KVM_RUN completes pending I/O,
// enters no guest code, and returns EINTR.
#include "vcpu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <new>

#include "args.h"

namespace kvio {

/// Never destroyed: threads of ours may still look at it while the process exits.
alignas(Table) static char tableStorage[sizeof(Table)];
Table& table = *new (tableStorage) Table;

namespace {

constexpr unsigned long KVM_RUN = 0xae80;      // linux/kvm.h: _IO(0xAE, 0x80)
constexpr size_t immediateExit = 1;            // linux/kvm.h: offsetof(struct kvm_run, immediate_exit)
constexpr int KCMP_FILE = 0;                   // linux/kcmp.h

int chosenSignal = -1;
pthread_once_t signalOnce = PTHREAD_ONCE_INIT;

void onKick(int) {}

/// The first real-time signal nobody uses. Without SA_RESTART: KVM_RUN must return.
void chooseSignal() {
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; signal++) {
    struct sigaction old;
    if (sigaction(signal, nullptr, &old) != 0 || (old.sa_flags & SA_SIGINFO) != 0 || old.sa_handler != SIG_DFL) continue;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = onKick;
    action.sa_flags = SA_ONSTACK;
    if (sigaction(signal, &action, nullptr) != 0) continue;
    chosenSignal = signal;
    return;
  }
}

bool isVcpu(int fd) {
  char link[48];
  char target[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, target, sizeof target - 1);
  if (length < 0) return false;
  target[length] = 0;
  return strncmp(target, "anon_inode:kvm-vcpu:", 20) == 0;
}

void setExit(Record* record, uint8_t value) {
  __atomic_store_n(record->page + immediateExit, value, __ATOMIC_SEQ_CST);
}

/// With both mutexes held, and nobody inside KVM_RUN.
void dropPage(Record* record) {
  if (record->page == nullptr) return;
  if (record->armed) setExit(record, 0);
  record->armed = false;
  munmap(const_cast<uint8_t*>(record->page), 4096);
  record->page = nullptr;
}

/// With the table's mutex held.
void unbind(size_t fd) {
  Record* record = table.byFd[fd];
  table.byFd[fd] = nullptr;
  __atomic_add_fetch(&table.generation, 1, __ATOMIC_SEQ_CST);
  if (--record->bindings > 0) return;
  Locked locked(record->mutex);
  if (record->thread == 0) dropPage(record);
}

/// With the table's mutex held.
void releaseLocked(Record* record) {
  if (--record->references > 0) return;
  for (size_t fd = 0; fd < table.byFd.size() && record->bindings > 0; fd++)
    if (table.byFd[fd] == record) unbind(fd);
  for (Record** link = &table.first; *link != nullptr; link = &(*link)->next) {
    if (*link != record) continue;
    *link = record->next;
    break;
  }
  delete record;
}

/// The record of another descriptor of the same open file (a dup). KCMP may be absent: then each descriptor is kicked by itself.
Record* twin(int fd) {
  pid_t self = getpid();
  for (size_t other = 0; other < table.byFd.size(); other++) {
    if (table.byFd[other] == nullptr) continue;
    if (syscall(SYS_kcmp, self, self, KCMP_FILE, fd, static_cast<int>(other)) == 0) return table.byFd[other];
  }
  return nullptr;
}

/// With the table's mutex held.
Record* makeRecord(int fd, int64_t* error) {
  if (!isVcpu(fd)) {
    *error = -EINVAL;
    return nullptr;
  }
  if (!table.byFd.cover(static_cast<size_t>(fd))) {
    *error = -ENOMEM;
    return nullptr;
  }
  Record* record = twin(fd);
  if (record == nullptr) {
    void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) {
      *error = -errno;
      return nullptr;
    }
    record = new Record;
    if (record == nullptr) {
      munmap(page, 4096);
      *error = -ENOMEM;
      return nullptr;
    }
    record->id = ++table.lastId;
    record->page = static_cast<uint8_t*>(page);
    record->next = table.first;
    table.first = record;
  }
  record->bindings++;
  table.byFd[static_cast<size_t>(fd)] = record;
  return record;
}

/// Forgets what other environments have closed meanwhile.
void revalidate(Env* env) {
  Locked locked(table.mutex);
  env->generation = __atomic_load_n(&table.generation, __ATOMIC_SEQ_CST);
  for (size_t fd = 0; fd < env->vcpus.size(); fd++) {
    Record* record = env->vcpus[fd];
    if (record == nullptr || (fd < table.byFd.size() && table.byFd[fd] == record)) continue;
    env->vcpus[fd] = nullptr;
    releaseLocked(record);
  }
}

}  // namespace

int kickSignal() {
  pthread_once(&signalOnce, chooseSignal);
  return chosenSignal;
}

void reference(Record* record) {
  Locked locked(table.mutex);
  record->references++;
}

void release(Record* record) {
  Locked locked(table.mutex);
  releaseLocked(record);
}

Record* recordOf(Env* env, int fd, int64_t* error) {
  if (fd < 0) {
    *error = -EBADF;
    return nullptr;
  }
  size_t index = static_cast<size_t>(fd);
  if (env->generation != __atomic_load_n(&table.generation, __ATOMIC_ACQUIRE)) revalidate(env);
  if (index < env->vcpus.size() && env->vcpus[index] != nullptr) return env->vcpus[index];
  kickSignal();
  Locked locked(table.mutex);
  Record* record = index < table.byFd.size() ? table.byFd[index] : nullptr;
  if (record == nullptr) record = makeRecord(fd, error);
  if (record == nullptr) return nullptr;
  if (!env->vcpus.cover(index)) {
    *error = -ENOMEM;
    if (record->references == 0) {
      record->references = 1;
      releaseLocked(record);
    }
    return nullptr;
  }
  record->references++;
  env->vcpus[index] = record;
  return record;
}

void interrupt(Record* record, uint32_t reason) {
  record->reasons |= reason;
  // A ping is repeated, so it may miss; the others may not.
  if (reason != pinged && record->page != nullptr && record->page[immediateExit] == 0) {
    setExit(record, 1);
    record->armed = true;
  }
  if (record->thread != 0) syscall(SYS_tgkill, getpid(), record->thread, chosenSignal);
}

int64_t kick(Record* record) {
  if (chosenSignal < 0) return -EAGAIN;
  Locked locked(record->mutex);
  if (record->page == nullptr) return -ESRCH;
  interrupt(record, kicked);
  return 0;
}

/// With the record's mutex held: waits until no other thread is inside. The kernel would block on the vCPU's mutex instead, where
/// nothing but SIGKILL reaches it. False: not worth waiting any longer.
static bool await(Record* record, const RunOptions& options, int64_t due) {
  while (record->thread != 0) {
    timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += watchInterval;
    if (until.tv_nsec >= 1000000000) {
      until.tv_nsec -= 1000000000;
      until.tv_sec++;
    }
    record->waiting++;
    pthread_cond_timedwait(&record->left, record->mutex.native(), &until);
    record->waiting--;
    if (options.stop != nullptr && __atomic_load_n(options.stop, __ATOMIC_ACQUIRE)) return false;
    if (options.watch != nullptr && !alive(options.watch)) return false;
    if (due != 0 && clockNow() >= due) return false;
  }
  return options.stop == nullptr || !__atomic_load_n(options.stop, __ATOMIC_ACQUIRE);
}

int64_t run(Record* record, int fd, const RunOptions& options) {
  int64_t due = options.budget > 0 ? clockNow() + static_cast<int64_t>(options.budget * 1e6) : 0;
  bool watched = options.watch != nullptr;
  for (;;) {
    record->mutex.lock();
    if (!await(record, options, due)) {
      record->mutex.unlock();
      return -EINTR;
    }
    if (record->page == nullptr) {
      record->mutex.unlock();
      return -EBADF;
    }
    record->thread = options.thread;
    record->entries++;
    record->watched = watched;
    record->due = due;
    // Whoever writes struct kvm_run as a whole may have cleared it since the kick.
    if ((record->reasons & kicked) != 0 && record->page[immediateExit] == 0) {
      setExit(record, 1);
      record->armed = true;
    }
    record->mutex.unlock();
    if (due != 0 || watched) clockNotice(due, watched);

    int64_t result = outcome(ioctl(fd, KVM_RUN, 0));

    record->mutex.lock();
    record->thread = 0;
    record->due = 0;
    bool again = result == -EINTR && record->reasons == pinged;
    record->reasons = result == -EINTR ? 0 : record->reasons & kicked;
    // A kick that this run has not answered is armed again by the next one: between runs the page holds what the program wrote.
    if (record->armed) {
      setExit(record, 0);
      record->armed = false;
    }
    bool closed = record->bindings == 0;
    if (record->waiting > 0) pthread_cond_broadcast(&record->left);
    record->mutex.unlock();
    if (closed) {
      Locked tableLocked(table.mutex);
      Locked locked(record->mutex);
      if (record->bindings == 0 && record->thread == 0) dropPage(record);
    }
    if (!again || !alive(options.watch)) return result;
  }
}

int64_t runHere(Env* env, int fd, double budget) {
  int64_t error = 0;
  Record* record = recordOf(env, fd, &error);
  // Not a vCPU: the kernel says what it thinks of it.
  if (record == nullptr) return error == -EINVAL ? outcome(ioctl(fd, KVM_RUN, 0)) : error;
  if (!env->kickUnblocked) {
    env->kickUnblocked = true;
    sigset_t set;
    sigemptyset(&set);
    if (chosenSignal > 0) sigaddset(&set, chosenSignal);
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  }
  RunOptions options;
  options.budget = budget;
  options.thread = env->thread;
  options.watch = env->isMain ? nullptr : env->env;
  return run(record, fd, options);
}

void leaveVcpus(Env* env) {
  Locked locked(table.mutex);
  for (size_t fd = 0; fd < env->vcpus.size(); fd++) {
    if (env->vcpus[fd] == nullptr) continue;
    releaseLocked(env->vcpus[fd]);
    env->vcpus[fd] = nullptr;
  }
}

namespace {

Napi::Value Kick(Args& args) {
  int fd = args.int32(0, "vcpu");
  if (!args.ok()) return {};
  int64_t error = 0;
  Record* record = recordOf(args.own(), fd, &error);
  return args.result(record == nullptr ? error : kick(record));
}

Napi::Value KickById(Args& args) {
  uint64_t id = args.word(0, "id");
  if (!args.ok()) return {};
  Locked locked(table.mutex);
  Record* record = table.first;
  while (record != nullptr && record->id != id) record = record->next;
  return args.result(record == nullptr ? -ESRCH : kick(record));
}

/// The id by which kickById() finds this vCPU, or -errno.
Napi::Value KickerId(Args& args) {
  int fd = args.int32(0, "vcpu");
  if (!args.ok()) return {};
  int64_t error = 0;
  Record* record = recordOf(args.own(), fd, &error);
  return args.result(record == nullptr ? error : static_cast<int64_t>(record->id));
}

/// KVM_RUN on a thread of its own: the id under which its result will be posted, or -errno.
Napi::Value RunAsync(Args& args) {
  int fd = args.int32(0, "vcpu");
  double budget = args.number(1, "budget");
  if (!args.ok()) return {};
  uint64_t id = 0;
  int64_t result = startRunner(args.own(), fd, budget, &id);
  return args.result(result < 0 ? result : static_cast<int64_t>(id));
}

/// The descriptor is about to be closed: ends and joins what runs on it here, and frees its number for another vCPU.
Napi::Value Forget(Args& args) {
  int fd = args.int32(0, "vcpu");
  if (!args.ok()) return {};
  Env* own = args.own();
  size_t index = static_cast<size_t>(fd);
  if (fd < 0) return args.result(-EBADF);
  Record* record = index < own->vcpus.size() ? own->vcpus[index] : nullptr;
  bool last = record != nullptr;
  for (size_t other = 0; last && other < own->vcpus.size(); other++) last = other == index || own->vcpus[other] != record;
  if (last) stopRunner(own, record);
  Locked locked(table.mutex);
  if (index < table.byFd.size() && table.byFd[index] != nullptr) unbind(index);
  if (record != nullptr) {
    own->vcpus[index] = nullptr;
    releaseLocked(record);
  }
  return args.result(0);
}

/// The signal that kicks; below 0 where none is free.
Napi::Value KickSignal(Args& args) {
  return args.result(kickSignal());
}

}  // namespace

const Exports vcpuExports = {
    {"kickSignal", make<KickSignal>}, {"kick", make<Kick>}, {"kickById", make<KickById>}, {"kickerId", make<KickerId>},
    {"runAsync", make<RunAsync>}, {"forget", make<Forget>},
};

}  // namespace kvio
