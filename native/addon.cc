// Set-up and the end of an environment.
#include <node_api.h>
#include <initializer_list>
#include <stdlib.h>
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

struct Event {
  uint64_t id;
  int32_t value;
};

void deliver(napi_env env, napi_value callback, void*, void* data) {
  Event event = *static_cast<Event*>(data);
  free(data);
  // Null: the environment is gone, the queue is being emptied.
  if (env == nullptr || callback == nullptr) return;
  napi_value arguments[2];
  napi_value undefined = nullptr;
  napi_create_int64(env, static_cast<int64_t>(event.id), &arguments[0]);
  napi_create_int32(env, event.value, &arguments[1]);
  napi_get_undefined(env, &undefined);
  napi_call_function(env, undefined, callback, 2, arguments, nullptr);
}

/// Runs before V8 frees this environment's memory: threads first, then the files that could still reach its pages, then the pages.
void leave(void* data) {
  Env* env = static_cast<Env*>(data);
  stopRunners(env);
  stopWaits(env);
  leaveVcpus(env);
  closeOwned(env);
  unmapAll(env);
  env->events = nullptr;
}

void discard(napi_env, void* data, void*) { delete static_cast<Env*>(data); }

/// listen(function (id, value)): where results of runAsync and wait arrive. Once per environment; does not keep it alive.
napi_value Listen(napi_env env, napi_callback_info info) {
  Args args(env, info);
  napi_value callback = args.function(0, "listener");
  if (callback == nullptr) return nullptr;
  Env* own = args.own();
  if (own->events != nullptr) return args.fail(false, "listener", "is there already");
  napi_value name = nullptr;
  napi_create_string_utf8(env, "kvio", NAPI_AUTO_LENGTH, &name);
  if (napi_create_threadsafe_function(env, callback, nullptr, name, 0, 1, nullptr, nullptr, own, deliver, &own->events) != napi_ok) {
    own->events = nullptr;
    return args.fail(false, "listener", "could not be set up");
  }
  napi_unref_threadsafe_function(env, own->events);
  // Hooks run in reverse order, and the function above has one of its own: our threads must have ended before it goes.
  napi_remove_env_cleanup_hook(env, leave, own);
  napi_add_env_cleanup_hook(env, leave, own);
  return args.result(0);
}

/// hold(on): whether the event function keeps the environment's loop alive.
napi_value Hold(napi_env env, napi_callback_info info) {
  Args args(env, info);
  bool on = args.boolean(0, "on");
  if (!args.ok()) return nullptr;
  if (args.own()->events == nullptr) return args.result(-EINVAL);
  if (on)
    napi_ref_threadsafe_function(env, args.own()->events);
  else
    napi_unref_threadsafe_function(env, args.own()->events);
  return args.result(0);
}

const Export rows[] = {{"listen", Listen}, {"hold", Hold}};
const Exports addonExports = {rows, sizeof rows / sizeof *rows};

napi_value Init(napi_env env, napi_value exports) {
  Env* own = new Env;
  if (own == nullptr) return exports;
  own->env = env;
  own->thread = threadId();
  own->isMain = own->thread == getpid();
  napi_set_instance_data(env, own, discard, nullptr);
  napi_add_env_cleanup_hook(env, leave, own);
  for (const Exports* family : {&addonExports, &callExports, &stateExports, &memoryExports, &vcpuExports, &waitExports}) {
    for (size_t i = 0; i < family->count; i++) {
      const Export& row = family->rows[i];
      napi_value function = nullptr;
      napi_create_function(env, row.name, NAPI_AUTO_LENGTH, row.call, nullptr, &function);
      napi_set_named_property(env, exports, row.name, function);
    }
  }
  return exports;
}

}  // namespace

void post(Env* env, uint64_t id, int32_t value) {
  Event* event = static_cast<Event*>(malloc(sizeof(Event)));
  if (event == nullptr) return;
  *event = {id, value};
  if (env->events == nullptr || napi_call_threadsafe_function(env->events, event, napi_tsfn_nonblocking) != napi_ok) free(event);
}

}  // namespace kvio

NAPI_MODULE_INIT() { return kvio::Init(env, exports); }
