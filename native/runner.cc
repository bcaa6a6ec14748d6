// The threads of runAsync: one per vCPU that an environment runs asynchronously, made on first use, joined by forget() or with the
// environment. They block every signal but the kick, so that none of the process's signals lands in a guest.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include "args.h"
#include "vcpu.h"

namespace kvio {

struct Runner {
  Env* env;
  Record* record;
  pthread_t thread;
  pid_t threadId = 0;
  Mutex mutex;
  pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
  bool busy = false;
  bool stop = false;
  int fd = -1;
  double budget = 0;
  uint64_t id = 0;
};

namespace {

void* runnerThread(void* data) {
  Runner* runner = static_cast<Runner*>(data);
  char name[16];
  snprintf(name, sizeof name, "kvio-vcpu-%d", runner->fd);
  prctl(PR_SET_NAME, name);
  RunOptions options;
  options.thread = threadId();
  __atomic_store_n(&runner->threadId, options.thread, __ATOMIC_RELEASE);
  options.stop = &runner->stop;
  runner->mutex.lock();
  for (;;) {
    while (!runner->busy && !runner->stop) pthread_cond_wait(&runner->wake, runner->mutex.native());
    if (!runner->busy) break;
    options.budget = runner->budget;
    int fd = runner->fd;
    uint64_t id = runner->id;
    runner->mutex.unlock();
    int64_t result = run(runner->record, fd, options);
    runner->mutex.lock();
    // Before the result is known in JavaScript, which may start the next run at once.
    runner->busy = false;
    post(runner->env, id, static_cast<int32_t>(result));
  }
  runner->mutex.unlock();
  return nullptr;
}

bool launch(Runner* runner) {
  sigset_t mask, old;
  sigfillset(&mask);
  // Faults of the thread's own must reach their handlers.
  const int faults[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
  for (int fault : faults) sigdelset(&mask, fault);
  if (kickSignal() > 0) sigdelset(&mask, kickSignal());
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 128 * 1024);
  pthread_sigmask(SIG_SETMASK, &mask, &old);
  bool made = pthread_create(&runner->thread, &attributes, runnerThread, runner) == 0;
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  pthread_attr_destroy(&attributes);
  return made;
}

/// Tells it to stop; its run, if any, ends with -EINTR.
void halt(Runner* runner) {
  runner->mutex.lock();
  __atomic_store_n(&runner->stop, true, __ATOMIC_RELEASE);
  pthread_cond_signal(&runner->wake);
  bool busy = runner->busy;
  runner->mutex.unlock();
  if (!busy) return;
  // Either it has not entered yet and will see `stop` under this mutex, or it is inside and gets the signal.
  Locked locked(runner->record->mutex);
  pid_t thread = __atomic_load_n(&runner->threadId, __ATOMIC_ACQUIRE);
  if (thread != 0 && runner->record->thread == thread) interrupt(runner->record, stopped);
  pthread_cond_broadcast(&runner->record->left);
}

void join(Runner* runner) {
  pthread_join(runner->thread, nullptr);
  release(runner->record);
  delete runner;
}

}  // namespace

int64_t startRunner(Env* env, int fd, double budget, uint64_t* id) {
  int64_t error = 0;
  Record* record = recordOf(env, fd, &error);
  if (record == nullptr) return error == -EINVAL ? outcome(ioctl(fd, 0xae80 /* KVM_RUN */, 0)) : error;
  if (env->events == nullptr) return -EINVAL;
  Runner* runner = nullptr;
  for (size_t i = 0; i < env->runners.size(); i++)
    if (env->runners[i]->record == record) runner = env->runners[i];
  if (runner == nullptr) {
    runner = new Runner;
    if (runner == nullptr) return -ENOMEM;
    runner->env = env;
    runner->record = record;
    runner->fd = fd;
    if (!env->runners.push(runner)) {
      delete runner;
      return -ENOMEM;
    }
    reference(record);
    if (!launch(runner)) {
      env->runners.removeAt(env->runners.size() - 1);
      release(record);
      delete runner;
      return -EAGAIN;
    }
  }
  Locked locked(runner->mutex);
  if (runner->busy) return -EBUSY;
  *id = runner->id = nextId(env);
  runner->fd = fd;
  runner->budget = budget;
  runner->busy = true;
  pthread_cond_signal(&runner->wake);
  return 0;
}

void stopRunner(Env* env, Record* record) {
  for (size_t i = 0; i < env->runners.size(); i++) {
    Runner* runner = env->runners[i];
    if (runner->record != record) continue;
    env->runners.removeAt(i);
    halt(runner);
    join(runner);
    return;
  }
}

void stopRunners(Env* env) {
  for (size_t i = 0; i < env->runners.size(); i++) halt(env->runners[i]);
  for (size_t i = 0; i < env->runners.size(); i++) join(env->runners[i]);
  env->runners.clear();
}

}  // namespace kvio
