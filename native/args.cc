#include "args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

namespace kvio {

namespace {

template <typename Error>
void refuse(Napi::Env env, const char* code, const char* name, const char* rule) {
  char message[160];
  snprintf(message, sizeof message, "%s %s", name, rule);
  Error error = Error::New(env, message);
  error.Set("code", code);
  error.ThrowAsJavaScriptException();
}

void wrongType(Napi::Env env, const char* name, const char* rule) {
  refuse<Napi::TypeError>(env, "ERR_INVALID_ARG_TYPE", name, rule);
}

}  // namespace

Napi::Value Args::fail(bool range, const char* name, const char* rule) {
  if (ok_ && range) refuse<Napi::RangeError>(env(), "ERR_OUT_OF_RANGE", name, rule);
  if (ok_ && !range) wrongType(env(), name, rule);
  ok_ = false;
  return {};
}

double Args::number(size_t index, const char* name) {
  double value = 0;
  if (ok_ && napi_get_value_double(env(), info_[index], &value) != napi_ok) fail(false, name, "must be a number");
  return value;
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
  if (napi_get_value_bigint_uint64(env(), info_[index], &bits, &lossless) == napi_ok) {
    int64_t negative = 0;
    if (!lossless) napi_get_value_bigint_int64(env(), info_[index], &negative, &lossless);
    if (!lossless) fail(true, name, "must fit 64 bits");
    return bits;
  }
  double value = 0;
  if (napi_get_value_double(env(), info_[index], &value) != napi_ok) fail(false, name, "must be a number or a bigint");
  if (!whole(value, -maxSafe, maxSafe)) fail(true, name, "must be a whole number (a bigint above 2^53 - 1)");
  return ok_ ? static_cast<uint64_t>(static_cast<int64_t>(value)) : 0;
}

bool Args::boolean(size_t index, const char* name) {
  bool value = false;
  if (ok_ && napi_get_value_bool(env(), info_[index], &value) != napi_ok) fail(false, name, "must be a boolean");
  return value;
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

bool bytesOf(napi_env env, napi_value view, const char* name, Bytes* found) {
  // A kind newer than this Node-API knows is left unset.
  auto type = static_cast<napi_typedarray_type>(-1);
  size_t count = 0;
  void* data = nullptr;
  // Never ask Node-API about a DataView on shared memory: Node 20 takes it for an ArrayBuffer's; JavaScript makes it a Uint8Array.
  bool typed = napi_get_typedarray_info(env, view, &type, &count, &data, nullptr, nullptr) == napi_ok;
  size_t width = typed ? widthOf(type) : 0;
  if (width == 0) wrongType(env, name, typed ? "is a typed array of an unknown kind" : "must be a typed array");
  // A detached or shrunken buffer has no bytes, and its pointer is not to be looked at.
  if (count * width > 0) *found = {static_cast<uint8_t*>(data), count * width};
  return width != 0;
}

Bytes Args::bytes(size_t index, const char* name) {
  Bytes found;
  if (ok_) ok_ = bytesOf(env(), info_[index], name, &found);
  return found;
}

bool Args::shared(size_t index) const { return !info_[index].As<Napi::TypedArray>().Buffer().IsArrayBuffer(); }

int Args::string(size_t index, const char* name, char* into, size_t capacity) {
  if (!ok_) return 0;
  size_t length = 0;
  // Nor would the class do: what it reads is a std::string, and that needs a run-time library.
  if (napi_get_value_string_utf8(env(), info_[index], nullptr, 0, &length) != napi_ok) {
    fail(false, name, "must be a string");
    return 0;
  }
  if (length >= capacity) return -ENAMETOOLONG;
  napi_get_value_string_utf8(env(), info_[index], into, capacity, &length);
  if (memchr(into, 0, length) != nullptr) fail(false, name, "must not contain NUL");
  return 0;
}

Napi::Function Args::function(size_t index, const char* name) {
  if (ok_ && !info_[index].IsFunction()) fail(false, name, "must be a function");
  return ok_ ? info_[index].As<Napi::Function>() : Napi::Function();
}

Napi::Value Args::result(int64_t value) const {
  if (!ok_) return {};
  return Napi::Number::New(env(), static_cast<double>(value));
}

}  // namespace kvio
