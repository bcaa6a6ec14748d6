#include "args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

namespace kvio {

Args::Args(napi_env env, napi_callback_info info) : env_(env), own_(envOf(env)) {
  // Where fewer are given, Node-API fills the rest with undefined.
  if (napi_get_cb_info(env, info, &count_, values_, nullptr, nullptr) != napi_ok || own_ == nullptr) ok_ = false;
}

napi_value Args::fail(bool range, const char* name, const char* rule) {
  if (!ok_) return nullptr;
  ok_ = false;
  char message[160];
  snprintf(message, sizeof message, "%s %s", name, rule);
  if (range)
    napi_throw_range_error(env_, "ERR_OUT_OF_RANGE", message);
  else
    napi_throw_type_error(env_, "ERR_INVALID_ARG_TYPE", message);
  return nullptr;
}

double Args::number(size_t index, const char* name) {
  double value = 0;
  if (ok_ && napi_get_value_double(env_, values_[index], &value) != napi_ok) fail(false, name, "must be a number");
  return ok_ ? value : 0;
}

static bool whole(double value, double low, double high) {
  // NaN fails both comparisons.
  return value >= low && value <= high && value == static_cast<double>(static_cast<int64_t>(value));
}

int32_t Args::int32(size_t index, const char* name) {
  double value = number(index, name);
  if (ok_ && !whole(value, INT32_MIN, INT32_MAX)) fail(true, name, "must be a whole number of 32 signed bits");
  return ok_ ? static_cast<int32_t>(value) : 0;
}

uint32_t Args::uint32(size_t index, const char* name) {
  double value = number(index, name);
  if (ok_ && !whole(value, 0, UINT32_MAX)) fail(true, name, "must be a whole number of 32 unsigned bits");
  return ok_ ? static_cast<uint32_t>(value) : 0;
}

static constexpr double maxSafe = 9007199254740991.0;

uint64_t Args::size(size_t index, const char* name) {
  double value = number(index, name);
  if (ok_ && !whole(value, 0, maxSafe)) fail(true, name, "must be a whole number from 0 to 2^53 - 1");
  return ok_ ? static_cast<uint64_t>(value) : 0;
}

uint64_t Args::word(size_t index, const char* name) {
  if (!ok_) return 0;
  uint64_t bits = 0;
  bool lossless = false;
  if (napi_get_value_bigint_uint64(env_, values_[index], &bits, &lossless) == napi_ok) {
    int64_t negative = 0;
    if (!lossless) napi_get_value_bigint_int64(env_, values_[index], &negative, &lossless);
    if (!lossless) fail(true, name, "must fit 64 bits");
    return bits;
  }
  double value = 0;
  if (napi_get_value_double(env_, values_[index], &value) != napi_ok) {
    fail(false, name, "must be a number or a bigint");
    return 0;
  }
  if (!whole(value, -maxSafe, maxSafe)) fail(true, name, "must be a whole number (a bigint above 2^53 - 1)");
  return ok_ ? static_cast<uint64_t>(static_cast<int64_t>(value)) : 0;
}

bool Args::boolean(size_t index, const char* name) {
  bool value = false;
  if (ok_ && napi_get_value_bool(env_, values_[index], &value) != napi_ok) fail(false, name, "must be a boolean");
  return ok_ && value;
}

static size_t widthOf(napi_typedarray_type type) {
  switch (type) {
    case napi_int16_array:
    case napi_uint16_array:
      return 2;
    case napi_int32_array:
    case napi_uint32_array:
    case napi_float32_array:
      return 4;
    case napi_float64_array:
    case napi_bigint64_array:
    case napi_biguint64_array:
      return 8;
    case napi_int8_array:
    case napi_uint8_array:
    case napi_uint8_clamped_array:
      return 1;
    default:
      return 0;
  }
}

Bytes Args::bytes(size_t index, const char* name) {
  Bytes found;
  if (!ok_) return found;
  // A kind newer than this Node-API knows is left unset.
  auto type = static_cast<napi_typedarray_type>(-1);
  size_t count = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env_, values_[index], &type, &count, &data, nullptr, nullptr) == napi_ok) {
    size_t width = widthOf(type);
    if (width == 0) fail(false, name, "is a typed array of an unknown kind");
    found.data = static_cast<uint8_t*>(data);
    found.length = count * width;
  } else {
    // Never ask Node-API about a DataView on shared memory: Node 20 takes it for an ArrayBuffer's; JavaScript makes it a Uint8Array.
    fail(false, name, "must be a typed array");
  }
  // A detached or shrunken buffer has no bytes, and its pointer is not to be looked at.
  if (found.length == 0) found.data = nullptr;
  return ok_ ? found : Bytes();
}

int Args::string(size_t index, const char* name, char* into, size_t capacity) {
  if (!ok_) return 0;
  size_t length = 0;
  if (napi_get_value_string_utf8(env_, values_[index], nullptr, 0, &length) != napi_ok) {
    fail(false, name, "must be a string");
    return 0;
  }
  if (length >= capacity) return -ENAMETOOLONG;
  napi_get_value_string_utf8(env_, values_[index], into, capacity, &length);
  if (memchr(into, 0, length) != nullptr) fail(false, name, "must not contain NUL");
  return 0;
}

napi_value Args::function(size_t index, const char* name) {
  napi_valuetype type = napi_undefined;
  if (ok_ && (napi_typeof(env_, values_[index], &type) != napi_ok || type != napi_function))
    fail(false, name, "must be a function");
  return ok_ ? values_[index] : nullptr;
}

napi_value Args::result(int64_t value) const {
  napi_value out = nullptr;
  if (!ok_) return nullptr;
  if (value >= INT32_MIN && value <= INT32_MAX)
    napi_create_int32(env_, static_cast<int32_t>(value), &out);
  else
    napi_create_int64(env_, value, &out);
  return out;
}

}  // namespace kvio
