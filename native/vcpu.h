// vCPUs, as far as running and interrupting them goes. One record per vCPU in the process, whichever environments use it.
#pragma once

#include "kvio.h"

namespace kvio {

/// Why a run is to end. A kick lasts until a run has returned -EINTR; the others end with the run they were meant for.
enum Reason : uint32_t { kicked = 1, timedOut = 2, stopped = 4, pinged = 8 };

struct Record {
  Mutex mutex;
  pthread_cond_t left = PTHREAD_COND_INITIALIZER;
  uint64_t id = 0;
  /// Our own mapping of struct kvm_run: it holds the vCPU's file, whatever becomes of the caller's mapping. Null: closed.
  volatile uint8_t* page = nullptr;
  /// The thread inside KVM_RUN, or 0.
  pid_t thread = 0;
  uint32_t waiting = 0;
  uint32_t reasons = 0;
  /// immediate_exit was set by us, and is ours to clear.
  bool armed = false;
  /// A synchronous run on a worker's thread: nothing else could get it out when the worker is terminated.
  bool watched = false;
  uint32_t entries = 0;
  uint32_t entriesSeen = 0;
  int64_t due = 0;

  // Under the table's mutex.
  int references = 0;
  int bindings = 0;
  Record* next = nullptr;
};

/// All records, and which descriptor stands for which.
struct Table {
  Mutex mutex;
  Record* first = nullptr;
  uint64_t lastId = 0;
  Array<Record*> byFd;
  /// Moves when a descriptor loses its record: environments look at their own lists again.
  uint64_t generation = 0;
};
extern Table& table;

/// The record of a vCPU descriptor, made on first use; null with `error` set where the descriptor is no vCPU.
Record* recordOf(Env* env, int fd, int64_t* error);
void reference(Record* record);
void release(Record* record);

struct RunOptions {
  double budget = 0;
  pid_t thread = 0;
  /// For a synchronous run on a worker's thread: the environment to ask whether it is still wanted.
  napi_env watch = nullptr;
  const bool* stop = nullptr;
};

/// KVM_RUN; 0 or -errno.
int64_t run(Record* record, int fd, const RunOptions& options);
/// KVM_RUN on the environment's own thread; any descriptor.
int64_t runHere(Env* env, int fd, double budget);
/// Ends the run under way, or for `kicked` else the next one. With the record's mutex held.
void interrupt(Record* record, uint32_t reason);
int64_t kick(Record* record);

/// The signal that gets a thread out of KVM_RUN; below 0 where none is free.
int kickSignal();

/// Makes sure that somebody looks at `due` (0: no deadline) and at watched runs in time.
void clockNotice(int64_t due, bool watched);
int64_t clockNow();
constexpr int64_t watchInterval = 50'000'000;

int64_t startRunner(Env* env, int fd, double budget, uint64_t* id);
void stopRunner(Env* env, Record* record);

}  // namespace kvio
