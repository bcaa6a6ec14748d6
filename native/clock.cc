// One thread per process, asleep unless a run has a deadline, or a worker is inside a synchronous run. It ends the former in time;
// the latter it interrupts every 50 ms without anyone noticing, so that a worker that is being terminated finds out.
#include <signal.h>
#include <time.h>

#include "vcpu.h"

namespace kvio {

namespace {

constexpr int64_t never = INT64_MAX;

/// When the clock looks again; `never` while it is looking, so that whoever comes then takes the slow way.
int64_t nextLook = never;
bool ticking = false;
bool started = false;
pthread_cond_t wake;

/// With the table's mutex held. When to look again.
int64_t look(int64_t time, bool* watching) {
  int64_t next = never;
  for (Record* record = table.first; record != nullptr; record = record->next) {
    Locked locked(record->mutex);
    if (record->thread != 0 && record->due != 0) {
      if (record->due <= time) {
        record->due = 0;
        interrupt(record, timedOut);
      } else if (record->due < next) {
        next = record->due;
      }
    }
    if (!record->watched) continue;
    bool same = record->entries == record->entriesSeen;
    record->entriesSeen = record->entries;
    if (record->thread != 0 && same) interrupt(record, pinged);
    if (record->thread != 0 || !same) *watching = true;
  }
  return *watching && time + watchInterval < next ? time + watchInterval : next;
}

void* clockThread(void*) {
  table.mutex.lock();
  for (;;) {
    __atomic_store_n(&nextLook, never, __ATOMIC_SEQ_CST);
    __atomic_store_n(&ticking, false, __ATOMIC_SEQ_CST);
    bool watching = false;
    int64_t next = look(clockNow(), &watching);
    __atomic_store_n(&nextLook, next, __ATOMIC_SEQ_CST);
    __atomic_store_n(&ticking, watching, __ATOMIC_SEQ_CST);
    if (next == never) {
      pthread_cond_wait(&wake, table.mutex.native());
    } else {
      timespec until = {static_cast<time_t>(next / 1000000000), static_cast<long>(next % 1000000000)};
      pthread_cond_timedwait(&wake, table.mutex.native(), &until);
    }
  }
  return nullptr;
}

/// With the table's mutex held.
void startClock() {
  started = true;
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&wake, &monotonic);
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 128 * 1024);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  if (pthread_create(&thread, &attributes, clockThread, nullptr) != 0) started = false;
  pthread_attr_destroy(&attributes);
  pthread_condattr_destroy(&monotonic);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

}  // namespace

int64_t clockNow() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * int64_t{1000000000} + time.tv_nsec;
}

void clockNotice(int64_t due, bool watched) {
  bool inTime = due == 0 || __atomic_load_n(&nextLook, __ATOMIC_SEQ_CST) <= due;
  if (inTime && (!watched || __atomic_load_n(&ticking, __ATOMIC_SEQ_CST))) return;
  Locked locked(table.mutex);
  if (!started) startClock();
  // The clock waits, or will look before it waits: one look now makes it reckon with this run.
  if (started) pthread_cond_signal(&wake);
}

}  // namespace kvio
