// Set-up and the end of an environment.
#include <unistd.h>

#include "args.h"

namespace kvio {

bool alive(napi_env env) {
  if (env == nullptr) return true;
  // Any call that may run JavaScript fails once the environment must not run any more; this one runs none.
  napi_value undefined = nullptr;
  bool same = false;
  napi_get_undefined(env, &undefined);
  return napi_strict_equals(env, undefined, undefined, &same) == napi_ok;
}

namespace {

/// Runs before V8 frees this environment's memory: threads first, then the files that could still reach its pages, then the pages.
void leave(Env* env) {
  stopRunners(env);
  stopWaits(env);
  leaveVcpus(env);
  closeOwned(env);
  unmapAll(env);
  env->events = {};
}

/// attach(state): a view on shared memory of at least sizeof(State), 8-byte aligned. Shared memory cannot be detached; the reference
/// keeps it.
Napi::Value Attach(Args& args) {
  Bytes bytes = args.bytes(0, "state");
  if (!args.ok()) return {};
  if (bytes.length < sizeof(State) || reinterpret_cast<uintptr_t>(bytes.data) % 8 != 0)
    return args.fail(true, "state", "must have at least 32 bytes, aligned to 8");
  if (!args.shared(0)) return args.fail(false, "state", "must lie in a SharedArrayBuffer");
  args.own()->stateView = Napi::Persistent(args[0].As<Napi::Object>());
  args.own()->state = reinterpret_cast<State*>(bytes.data);
  return args.result(0);
}

/// listen(function (id, value)): where results of runAsync and wait arrive. Once per environment; does not keep it alive.
Napi::Value Listen(Args& args) {
  Napi::Function listener = args.function(0, "listener");
  if (!args.ok()) return {};
  Env* own = args.own();
  if (own->events != nullptr) return args.fail(false, "listener", "is there already");
  own->events = Events::New(args.env(), listener, "kvio", 0, 1, own);
  own->events.Unref(args.env());
  // Hooks run in reverse order, and the function above has one of its own: our threads must have ended before it goes. What leave()
  // did it does not do again.
  args.env().AddCleanupHook(leave, own);
  return args.result(0);
}

/// hold(on): whether the event function keeps the environment's loop alive.
Napi::Value Hold(Args& args) {
  bool on = args.boolean(0, "on");
  if (!args.ok()) return {};
  const Events& events = args.own()->events;
  if (events == nullptr) return args.result(-EINVAL);
  on ? events.Ref(args.env()) : events.Unref(args.env());
  return args.result(0);
}

const Exports addonExports = {{"attach", make<Attach>}, {"listen", make<Listen>}, {"hold", make<Hold>}};

}  // namespace

void deliver(Napi::Env env, Napi::Function listener, Env*, Event* event) {
  Event it = *event;
  delete event;
  if (env == nullptr || listener.IsEmpty()) return;
  listener.Call({Napi::Number::New(env, static_cast<double>(it.id)), Napi::Number::New(env, it.value)});
}

void post(Env* env, uint64_t id, int32_t value) {
  Event* event = new Event{id, value};
  if (event == nullptr) return;
  if (env->events == nullptr || env->events.NonBlockingCall(event) != napi_ok) delete event;
}

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  Env* own = new Env;
  if (own == nullptr) return exports;
  own->env = env;
  own->thread = threadId();
  own->isMain = own->thread == getpid();
  env.SetInstanceData(own);
  env.AddCleanupHook(leave, own);
  for (const Exports* family : {&addonExports, &callExports, &stateExports, &memoryExports, &vcpuExports, &waitExports})
    for (const Export& each : *family) exports.Set(each.name, each.make(env, each.name));
  return exports;
}

NODE_API_MODULE(kvio, Init)

}  // namespace kvio
