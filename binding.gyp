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
      'defines': ['NAPI_VERSION=9'],
      # off_t has 64 bits anyway; without these the plain symbol names are used, which musl has too.
      'defines!': ['_FILE_OFFSET_BITS=64', '_LARGEFILE_SOURCE'],
      'cflags': ['-Wall', '-Wextra', '-fvisibility=hidden', '-U_FORTIFY_SOURCE'],
      'cflags_cc!': ['-std=gnu++17', '-std=gnu++20'],
      'cflags_cc': ['-std=gnu++17', '-fno-exceptions', '-fno-rtti', '-fno-threadsafe-statics', '-fcheck-new', '-fno-asynchronous-unwind-tables'],
      # nodelete: signal handlers and threads of ours may outlive the last environment that loaded us.
      'ldflags': ['-nodefaultlibs', '-Wl,-z,nodelete', '-Wl,-z,now', '-Wl,--version-script=../native/exports.map', '-Wl,--as-needed'],
      'libraries': ['-lc', '-lgcc'],
    },
  ],
}
