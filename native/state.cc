// The hot calls. Their arguments and results lie in a state buffer that JavaScript knows and we remember: no value is converted.
#include <sys/ioctl.h>

#include "args.h"
#include "vcpu.h"

namespace kvio {

namespace {

constexpr uint32_t KVM_RUN = 0xae80;  // linux/kvm.h: _IO(0xAE, 0x80)

napi_value unattached(napi_env env) {
  napi_throw_type_error(env, "ERR_INVALID_STATE", "no state buffer is attached");
  return nullptr;
}

inline napi_value answer(Env* own, int64_t result) {
  own->state->result = static_cast<int32_t>(result);
  return nullptr;
}

/// ioctl(state.fd, state.request, state.arg).
napi_value Call(napi_env env, napi_callback_info) {
  Env* own = envOf(env);
  if (own == nullptr || own->state == nullptr) return unattached(env);
  const State* state = own->state;
  uint32_t request = state->request;
  uint64_t arg = state->arg;
  // So that a kick finds the thread. With an argument it is only EINVAL.
  if (__builtin_expect(request == KVM_RUN && arg == 0, 0)) return answer(own, runHere(own, state->fd, 0));
  return answer(own, outcome(ioctl(state->fd, request, arg)));
}

/// ioctl(state.fd, state.request, address of these bytes).
napi_value CallBytes(napi_env env, napi_callback_info info) {
  napi_value arg = nullptr;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &arg, nullptr, nullptr);
  Bytes bytes;
  if (!bytesOf(env, arg, "arg", &bytes)) return nullptr;
  Env* own = envOf(env);
  if (own == nullptr || own->state == nullptr) return unattached(env);
  return answer(own, outcome(ioctl(own->state->fd, own->state->request, bytes.data)));
}

/// KVM_RUN of state.fd for at most state.budget milliseconds (0: no bound).
napi_value Run(napi_env env, napi_callback_info) {
  Env* own = envOf(env);
  if (own == nullptr || own->state == nullptr) return unattached(env);
  return answer(own, runHere(own, own->state->fd, own->state->budget));
}

template <napi_callback call>
Napi::Function plain(Napi::Env env, const char* name) {
  napi_value function = nullptr;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, call, nullptr, &function);
  return {env, function};
}

}  // namespace

const Exports stateExports = {{"call", plain<Call>}, {"callBytes", plain<CallBytes>}, {"run", plain<Run>}};

}  // namespace kvio
