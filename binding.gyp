{
  'targets': [
    {
      'target_name': 'kvio',
      'sources': [
        'native/addon.cc',
        'native/args.cc',
        'native/calls.cc',
        'native/clock.cc',
        'native/fault.cc',
        'native/mapping.cc',
        'native/memory.cc',
        'native/runner.cc',
        'native/runtime.cc',
        'native/state.cc',
        'native/vcpu.cc',
        'native/wait.cc',
      ],
      'include_dirs': ["<!(node -p \"require('node-addon-api').include_dir\")"],
      # Where nothing can be thrown any more, in a worker that is being terminated, the classes would else end the process.
      'defines': ['NAPI_VERSION=9', 'NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS', 'NODE_ADDON_API_DISABLE_DEPRECATED', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'],
      # off_t has 64 bits anyway; without these the plain symbol names are used, which musl has too.
      'defines!': ['_FILE_OFFSET_BITS=64', '_LARGEFILE_SOURCE'],
      # The failures that the classes foresee, inlined everywhere, would make the binary four times as large; not inlined anywhere,
      # they need libstdc++.
      'cflags!': ['-O0', '-O3'],
      'cflags': ['-O2', '-ffunction-sections', '-fdata-sections', '-Wall', '-Wextra', '-fvisibility=hidden', '-U_FORTIFY_SOURCE'],
      'cflags_cc!': ['-std=gnu++17'],
      # Before C++20 what std::string does is in the run-time library; it is a part of the classes' errors.
      'cflags_cc': ['-std=gnu++20', '-fno-exceptions', '-fno-rtti', '-fno-threadsafe-statics', '-fcheck-new', '-fno-asynchronous-unwind-tables'],
      # nodelete: signal handlers and threads of ours may outlive the last environment that loaded us.
      'ldflags': ['-nodefaultlibs', '-Wl,-z,nodelete', '-Wl,-z,now', '-Wl,--gc-sections', '-Wl,--version-script=../native/exports.map', '-Wl,--as-needed'],
      'libraries': ['-lc', '-lgcc'],
    },
  ],
}
