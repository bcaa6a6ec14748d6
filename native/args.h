// Arguments of the exports. A wrong one leaves a TypeError or RangeError pending that names it; `ok()` is false from then on.
#pragma once

#include "kvio.h"

namespace kvio {

struct Bytes {
  uint8_t* data = nullptr;
  size_t length = 0;
};

/// Any view, also on shared memory. Valid until JavaScript runs again. False: the TypeError is pending.
bool bytesOf(napi_env env, napi_value view, const char* name, Bytes* found);

class Args {
 public:
  explicit Args(const Napi::CallbackInfo& info) : info_(info), own_(envOf(info.Env())), ok_(own_ != nullptr) {}

  bool ok() const { return ok_; }
  Napi::Env env() const { return info_.Env(); }
  Env* own() const { return own_; }
  /// Undefined where fewer are given.
  Napi::Value operator[](size_t index) const { return info_[index]; }

  int32_t int32(size_t index, const char* name);
  uint32_t uint32(size_t index, const char* name);
  /// A non-negative whole number up to 2^53 − 1.
  uint64_t size(size_t index, const char* name);
  /// All 64 bits of a bigint, or a whole number.
  uint64_t word(size_t index, const char* name);
  double number(size_t index, const char* name);
  bool boolean(size_t index, const char* name);
  Bytes bytes(size_t index, const char* name);
  /// Whether the view that bytes() has read lies on shared memory.
  bool shared(size_t index) const;
  /// A NUL-terminated string without NULs inside; `into` holds `capacity` bytes. Too long: ok() stays true, result −ENAMETOOLONG.
  int string(size_t index, const char* name, char* into, size_t capacity);
  Napi::Function function(size_t index, const char* name);

  Napi::Value fail(bool range, const char* name, const char* rule);

  /// The results. `undefined` where an exception is pending.
  Napi::Value result(int64_t value) const;

 private:
  const Napi::CallbackInfo& info_;
  Env* own_;
  bool ok_;
};

template <Napi::Value (*call)(Args&)>
Napi::Value withArgs(const Napi::CallbackInfo& info) {
  Args args(info);
  return call(args);
}

/// The function of an export that takes Args.
template <Napi::Value (*call)(Args&)>
Napi::Function make(Napi::Env env, const char* name) {
  return Napi::Function::New<withArgs<call>>(env, name);
}

/// `result >= 0 ? result : -errno`, errno read before anything else can change it.
inline int64_t outcome(int64_t result);

}  // namespace kvio

#include <errno.h>
inline int64_t kvio::outcome(int64_t result) { return result >= 0 ? result : -errno; }
