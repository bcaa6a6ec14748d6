// Waiting for descriptors: one epoll thread per environment, made on first use, never libuv's pool.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "args.h"

namespace kvio {

/// Each wait has a duplicate of the descriptor: several may wait for one file, and a number that is closed and given out again
/// meanwhile cannot be mistaken.
struct Wait {
  uint64_t id;
  int fd;
};

struct Waits {
  Env* env;
  int epoll;
  int stop;
  pthread_t thread;
  Mutex mutex;
  Array<Wait> pending;
};

namespace {

/// Removes the wait if it is still there.
bool take(Waits* waits, uint64_t id) {
  Locked locked(waits->mutex);
  for (size_t i = 0; i < waits->pending.size(); i++) {
    if (waits->pending[i].id != id) continue;
    int fd = waits->pending[i].fd;
    epoll_ctl(waits->epoll, EPOLL_CTL_DEL, fd, nullptr);
    close(fd);
    waits->pending.removeAt(i);
    return true;
  }
  return false;
}

void* waitThread(void* data) {
  Waits* waits = static_cast<Waits*>(data);
  prctl(PR_SET_NAME, "kvio-wait");
  for (;;) {
    epoll_event events[32];
    int count = epoll_wait(waits->epoll, events, 32, -1);
    for (int i = 0; i < count; i++) {
      if (events[i].data.u64 == 0) return nullptr;
      if (take(waits, events[i].data.u64)) post(waits->env, events[i].data.u64, static_cast<int32_t>(events[i].events));
    }
  }
}

void closeAll(Waits* waits) {
  if (waits->epoll >= 0) close(waits->epoll);
  if (waits->stop >= 0) close(waits->stop);
  delete waits;
}

int64_t start(Env* env) {
  Waits* waits = new Waits;
  if (waits == nullptr) return -ENOMEM;
  waits->env = env;
  waits->epoll = epoll_create1(EPOLL_CLOEXEC);
  int error = errno;
  waits->stop = waits->epoll < 0 ? -1 : eventfd(0, EFD_CLOEXEC);
  if (waits->epoll >= 0) error = errno;
  epoll_event event = {};
  event.events = EPOLLIN;
  if (waits->stop < 0 || epoll_ctl(waits->epoll, EPOLL_CTL_ADD, waits->stop, &event) != 0) {
    closeAll(waits);
    return -error;
  }
  sigset_t all, old;
  sigfillset(&all);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 128 * 1024);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  error = pthread_create(&waits->thread, &attributes, waitThread, waits);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    closeAll(waits);
    return -error;
  }
  env->waits = waits;
  return 0;
}

/// The id under which the ready events will be posted, once; or -errno (-EPERM: this file cannot be waited for).
Napi::Value WaitFor(Args& args) {
  int fd = args.int32(0, "fd");
  uint32_t events = args.uint32(1, "events");
  if (!args.ok()) return {};
  Env* own = args.own();
  if (own->events == nullptr) return args.result(-EINVAL);
  if (own->waits == nullptr) {
    int64_t started = start(own);
    if (started < 0) return args.result(started);
  }
  Waits* waits = own->waits;
  int twin = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (twin < 0) return args.result(-errno);
  uint64_t id = nextId(own);
  epoll_event event = {};
  // The bits of poll(2) and epoll(7) are the same numbers; those above belong to epoll itself.
  event.events = (events & 0xffff) | EPOLLONESHOT;
  event.data.u64 = id;
  Locked locked(waits->mutex);
  int64_t result = waits->pending.push({id, twin}) ? 0 : -ENOMEM;
  if (result == 0) {
    result = outcome(epoll_ctl(waits->epoll, EPOLL_CTL_ADD, twin, &event));
    if (result < 0) waits->pending.removeAt(waits->pending.size() - 1);
  }
  if (result < 0) {
    close(twin);
    return args.result(result);
  }
  return args.result(static_cast<int64_t>(id));
}

/// 1 where the wait was still pending, 0 where its result is on its way (JavaScript drops it).
Napi::Value CancelWait(Args& args) {
  uint64_t id = args.size(0, "id");
  if (!args.ok()) return {};
  Waits* waits = args.own()->waits;
  return args.result(waits != nullptr && id != 0 && take(waits, id) ? 1 : 0);
}

}  // namespace

void stopWaits(Env* env) {
  Waits* waits = env->waits;
  if (waits == nullptr) return;
  env->waits = nullptr;
  uint64_t one = 1;
  while (write(waits->stop, &one, sizeof one) < 0 && errno == EINTR) {
  }
  pthread_join(waits->thread, nullptr);
  for (size_t i = 0; i < waits->pending.size(); i++) close(waits->pending[i].fd);
  closeAll(waits);
}

const Exports waitExports = {{"wait", make<WaitFor>}, {"cancelWait", make<CancelWait>}};

}  // namespace kvio
