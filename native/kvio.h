// The addon's own vocabulary. Flat exports, one family per file; nothing here validates what a kernel call means: that is done
// above, in TypeScript. What is checked here is only what would otherwise crash the process.
//
// JavaScript is spoken to through node-addon-api. Plain Node-API stays on the hot path (state.cc, envOf), and where a call's failure is
// the answer to a question: whether a value is of its type (args.cc; the classes ask for the type first, and a register of a device
// would cost a third more), whether JavaScript may still run (alive).
#pragma once

#include <napi.h>
#include <pthread.h>
#include <stdint.h>
#include <stddef.h>
#include <sys/types.h>

namespace kvio {

/// A mutex whose initial state is all zeros (as PTHREAD_MUTEX_INITIALIZER is on every Linux libc): usable in static storage.
class Mutex {
 public:
  void lock() { pthread_mutex_lock(&mutex_); }
  void unlock() { pthread_mutex_unlock(&mutex_); }
  pthread_mutex_t* native() { return &mutex_; }

 private:
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

class Locked {
 public:
  explicit Locked(Mutex& mutex) : mutex_(mutex) { mutex_.lock(); }
  ~Locked() { mutex_.unlock(); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  Mutex& mutex_;
};

/// A growable array of plain values; a null `data` only where it is empty. `push` is false where memory has run out.
template <typename T>
class Array {
 public:
  Array() = default;
  ~Array() { delete[] data_; }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  bool reserve(size_t wanted) {
    if (wanted <= capacity_) return true;
    size_t capacity = capacity_ == 0 ? 8 : capacity_;
    while (capacity < wanted) capacity *= 2;
    T* data = new T[capacity]();
    if (data == nullptr) return false;
    for (size_t i = 0; i < size_; i++) data[i] = data_[i];
    delete[] data_;
    data_ = data;
    capacity_ = capacity;
    return true;
  }
  bool push(T value) {
    if (!reserve(size_ + 1)) return false;
    data_[size_++] = value;
    return true;
  }
  /// Index `at` exists afterwards; what is new is zero.
  bool cover(size_t at) {
    if (at < size_) return true;
    if (!reserve(at + 1)) return false;
    while (size_ <= at) data_[size_++] = T();
    return true;
  }
  void removeAt(size_t index) { data_[index] = data_[--size_]; }
  void clear() { size_ = 0; }
  T& operator[](size_t index) { return data_[index]; }
  size_t size() const { return size_; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

/// The remembered state buffer: arguments and results of the hot calls (src/native/state.ts has the same table).
struct State {
  int32_t fd;
  uint32_t request;
  uint64_t arg;
  double budget;
  int32_t result;
};

/// What a run or a wait has come to.
struct Event {
  uint64_t id;
  int32_t value;
};

struct Env;
struct Mapping;
struct Record;
struct Runner;
struct Waits;

/// Calls the listener with (id, value); without one where the environment is gone and the queue is being emptied.
void deliver(Napi::Env env, Napi::Function listener, Env* own, Event* event);
using Events = Napi::TypedThreadSafeFunction<Env, Event, deliver>;

/// One per environment that loaded us: the main thread, each worker.
struct Env {
  napi_env env = nullptr;
  pid_t thread = 0;
  bool isMain = false;
  bool kickUnblocked = false;

  State* state = nullptr;
  Napi::ObjectReference stateView;

  /// Completions of runs and waits come to JavaScript through this one function. Null before listen().
  Events events;
  uint64_t lastId = 0;

  /// Descriptors to close when the environment goes: one bit each.
  Array<uint64_t> owned;
  /// By id − 1; null where it is free.
  Array<Mapping*> mappings;
  /// By descriptor number.
  Array<Record*> vcpus;
  uint64_t generation = 0;
  Array<Runner*> runners;
  Waits* waits = nullptr;
};

inline Env* envOf(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return static_cast<Env*>(data);
}

/// Posts (id, value) to the environment's event function, from any thread.
void post(Env* env, uint64_t id, int32_t value);
/// Environment-wide ids of runs and waits.
inline uint64_t nextId(Env* env) { return ++env->lastId; }
/// False once the environment is being torn down (worker.terminate(), process.exit() of the parent).
bool alive(napi_env env);

void own(Env* env, int fd, bool on);
void closeOwned(Env* env);

void unmapAll(Env* env);
void leaveVcpus(Env* env);
void stopRunners(Env* env);
void stopWaits(Env* env);

pid_t threadId();

/// An export: its name, and what makes its function.
struct Export {
  const char* name;
  Napi::Function (*make)(Napi::Env env, const char* name);
};
using Exports = std::initializer_list<Export>;
extern const Exports callExports, stateExports, memoryExports, vcpuExports, waitExports;

}  // namespace kvio
