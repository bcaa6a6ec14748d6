// The hot calls. Their arguments and results lie in a state buffer that JavaScript knows and we remember: no value is converted.
#include <sys/ioctl.h>

#include "args.h"
#include "vcpu.h"

namespace kvio {

namespace {

constexpr uint32_t KVM_RUN = 0xae80;  // linux/kvm.h: _IO(0xAE, 0x80)

/// A view on shared memory of at least sizeof(State), 8-byte aligned. Shared memory cannot be detached; the reference keeps it.
napi_value Attach(napi_env env, napi_callback_info info) {
  Args args(env, info);
  Bytes bytes = args.bytes(0, "state");
  if (!args.ok()) return nullptr;
  if (bytes.length < sizeof(State) || reinterpret_cast<uintptr_t>(bytes.data) % 8 != 0)
    return args.fail(true, "state", "must have at least 32 bytes, aligned to 8");
  if (!onSharedMemory(env, args.value(0))) return args.fail(false, "state", "must lie in a SharedArrayBuffer");
  Env* own = args.own();
  napi_ref view = nullptr;
  if (napi_create_reference(env, args.value(0), 1, &view) != napi_ok) return args.fail(false, "state", "cannot be referenced");
  if (own->stateView != nullptr) napi_delete_reference(env, own->stateView);
  own->stateView = view;
  own->state = reinterpret_cast<State*>(bytes.data);
  return args.result(0);
}

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
  Args args(env, info);
  Bytes bytes = args.bytes(0, "arg");
  if (!args.ok()) return nullptr;
  if (args.own()->state == nullptr) return unattached(env);
  const State* state = args.own()->state;
  return answer(args.own(), outcome(ioctl(state->fd, state->request, bytes.data)));
}

/// KVM_RUN of state.fd for at most state.budget milliseconds (0: no bound).
napi_value Run(napi_env env, napi_callback_info) {
  Env* own = envOf(env);
  if (own == nullptr || own->state == nullptr) return unattached(env);
  return answer(own, runHere(own, own->state->fd, own->state->budget));
}

const Export rows[] = {{"attach", Attach}, {"call", Call}, {"callBytes", CallBytes}, {"run", Run}};

}  // namespace

const Exports stateExports = {rows, sizeof rows / sizeof *rows};

}  // namespace kvio
