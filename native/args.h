// Arguments of the exports. A wrong one leaves a TypeError or RangeError pending that names it; `ok()` is false from then on.
#pragma once

#include "kvio.h"

namespace kvio {

struct Bytes {
  uint8_t* data = nullptr;
  size_t length = 0;
};

class Args {
 public:
  static constexpr size_t most = 8;

  Args(napi_env env, napi_callback_info info);

  bool ok() const { return ok_; }
  napi_env env() const { return env_; }
  Env* own() const { return own_; }
  napi_value value(size_t index) const { return values_[index]; }

  int32_t int32(size_t index, const char* name);
  uint32_t uint32(size_t index, const char* name);
  /// A non-negative whole number up to 2^53 − 1.
  uint64_t size(size_t index, const char* name);
  /// All 64 bits of a bigint, or a whole number.
  uint64_t word(size_t index, const char* name);
  double number(size_t index, const char* name);
  bool boolean(size_t index, const char* name);
  /// Any view, also on shared memory. Valid until JavaScript runs again.
  Bytes bytes(size_t index, const char* name);
  /// A NUL-terminated string without NULs inside; `into` holds `capacity` bytes. Too long: ok() stays true, result −ENAMETOOLONG.
  int string(size_t index, const char* name, char* into, size_t capacity);
  napi_value function(size_t index, const char* name);

  napi_value fail(bool range, const char* name, const char* rule);

  /// The results. `undefined` where an exception is pending.
  napi_value result(int64_t value) const;

 private:
  napi_env env_;
  Env* own_;
  napi_value values_[most];
  size_t count_ = most;
  bool ok_ = true;
};

/// `result >= 0 ? result : -errno`, errno read before anything else can change it.
inline int64_t outcome(int64_t result);

}  // namespace kvio

#include <errno.h>
inline int64_t kvio::outcome(int64_t result) { return result >= 0 ? result : -errno; }
