// System calls on descriptors. Each export returns what the kernel returned, or -errno.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "args.h"

namespace kvio {

pid_t threadId() { return static_cast<pid_t>(syscall(SYS_gettid)); }

void own(Env* env, int fd, bool on) {
  if (fd < 0) return;
  size_t word = static_cast<size_t>(fd) / 64;
  uint64_t bit = uint64_t{1} << (fd % 64);
  if (on) {
    if (env->owned.cover(word)) env->owned[word] |= bit;
  } else if (word < env->owned.size()) {
    env->owned[word] &= ~bit;
  }
}

void closeOwned(Env* env) {
  for (size_t word = 0; word < env->owned.size(); word++)
    for (int bit = 0; bit < 64; bit++)
      if (env->owned[word] >> bit & 1) close(static_cast<int>(word * 64 + bit));
  env->owned.clear();
}

namespace {

constexpr int sliceMs = 50;

/// A new descriptor: closed with the environment unless JavaScript closes it before.
Napi::Value opened(const Args& args, int64_t fd) {
  if (fd >= 0) own(args.own(), static_cast<int>(fd), true);
  return args.result(fd);
}

Napi::Value Open(Args& args) {
  char path[PATH_MAX];
  int length = args.string(0, "path", path, sizeof path);
  int flags = args.int32(1, "flags");
  uint32_t mode = args.uint32(2, "mode");
  if (!args.ok()) return {};
  return opened(args, length < 0 ? length : outcome(open(path, flags, mode)));
}

Napi::Value Close(Args& args) {
  int fd = args.int32(0, "fd");
  if (!args.ok()) return {};
  own(args.own(), fd, false);
  return args.result(outcome(close(fd)));
}

Napi::Value Own(Args& args) {
  int fd = args.int32(0, "fd");
  bool on = args.boolean(1, "on");
  if (!args.ok()) return {};
  if (fd < 0 || fd > (1 << 26)) return args.fail(true, "fd", "must be a descriptor");
  own(args.own(), fd, on);
  return args.result(0);
}

Napi::Value Dup(Args& args) {
  int fd = args.int32(0, "fd");
  if (!args.ok()) return {};
  return opened(args, outcome(dup(fd)));
}

Napi::Value Fcntl(Args& args) {
  int fd = args.int32(0, "fd");
  int command = args.int32(1, "command");
  int value = args.int32(2, "arg");
  if (!args.ok()) return {};
  int64_t result = outcome(fcntl(fd, command, static_cast<long>(value)));
  return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? opened(args, result) : args.result(result);
}

int64_t now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * int64_t{1000} + time.tv_nsec / 1000000;
}

/// A worker that blocks in the kernel could not be terminated: it looks up every 50 ms. False: it is being terminated.
bool awaitReady(const Args& args, int fd, short events) {
  if (args.own()->isMain) return true;
  pollfd waited = {fd, events, 0};
  for (int timeout = 0; poll(&waited, 1, timeout) == 0; timeout = sliceMs) {
    if (timeout > 0 && !alive(args.env())) return false;
    // A descriptor that does not block has its own answer to not being ready.
    int flags = timeout > 0 ? 0 : fcntl(fd, F_GETFL);
    if (flags < 0 || (flags & O_NONBLOCK) != 0) return true;
  }
  return true;
}

Napi::Value Read(Args& args) {
  int fd = args.int32(0, "fd");
  Bytes into = args.bytes(1, "into");
  if (!args.ok()) return {};
  return args.result(!awaitReady(args, fd, POLLIN) ? -EINTR : outcome(read(fd, into.data, into.length)));
}

Napi::Value Write(Args& args) {
  int fd = args.int32(0, "fd");
  Bytes from = args.bytes(1, "from");
  if (!args.ok()) return {};
  return args.result(!awaitReady(args, fd, POLLOUT) ? -EINTR : outcome(write(fd, from.data, from.length)));
}

Napi::Value Pread(Args& args) {
  int fd = args.int32(0, "fd");
  Bytes into = args.bytes(1, "into");
  off_t offset = static_cast<off_t>(args.word(2, "offset"));
  if (!args.ok()) return {};
  return args.result(outcome(pread(fd, into.data, into.length, offset)));
}

Napi::Value Pwrite(Args& args) {
  int fd = args.int32(0, "fd");
  Bytes from = args.bytes(1, "from");
  off_t offset = static_cast<off_t>(args.word(2, "offset"));
  if (!args.ok()) return {};
  return args.result(outcome(pwrite(fd, from.data, from.length, offset)));
}

Napi::Value Eventfd(Args& args) {
  uint32_t initval = args.uint32(0, "initval");
  int flags = args.int32(1, "flags");
  if (!args.ok()) return {};
  return opened(args, outcome(eventfd(initval, flags)));
}

Napi::Value MemfdCreate(Args& args) {
  char name[PATH_MAX];
  int length = args.string(0, "name", name, sizeof name);
  uint32_t flags = args.uint32(1, "flags");
  if (!args.ok()) return {};
  // memfd_create(2) itself: a name longer than 249 bytes is EINVAL.
  return opened(args, length < 0 ? -EINVAL : outcome(memfd_create(name, flags)));
}

Napi::Value Ftruncate(Args& args) {
  int fd = args.int32(0, "fd");
  off_t length = static_cast<off_t>(args.word(1, "length"));
  if (!args.ok()) return {};
  return args.result(outcome(ftruncate(fd, length)));
}

Napi::Value Fallocate(Args& args) {
  int fd = args.int32(0, "fd");
  int mode = args.int32(1, "mode");
  off_t offset = static_cast<off_t>(args.word(2, "offset"));
  off_t length = static_cast<off_t>(args.word(3, "length"));
  if (!args.ok()) return {};
  return args.result(outcome(fallocate(fd, mode, offset, length)));
}

/// Ten 64-bit words: dev ino mode nlink uid gid rdev size blksize blocks.
Napi::Value Fstat(Args& args) {
  int fd = args.int32(0, "fd");
  Bytes into = args.bytes(1, "into");
  if (!args.ok()) return {};
  if (into.length < 80 || reinterpret_cast<uintptr_t>(into.data) % 8 != 0)
    return args.fail(true, "into", "must be ten 64-bit words");
  struct stat stat;
  int64_t result = outcome(fstat(fd, &stat));
  if (result == 0) {
    uint64_t* words = reinterpret_cast<uint64_t*>(into.data);
    words[0] = stat.st_dev;
    words[1] = stat.st_ino;
    words[2] = stat.st_mode;
    words[3] = stat.st_nlink;
    words[4] = stat.st_uid;
    words[5] = stat.st_gid;
    words[6] = stat.st_rdev;
    words[7] = static_cast<uint64_t>(stat.st_size);
    words[8] = static_cast<uint64_t>(stat.st_blksize);
    words[9] = static_cast<uint64_t>(stat.st_blocks);
  }
  return args.result(result);
}

/// (fd, events, revents) triples. A wait without end looks up every 50 ms whether its worker is to be terminated.
Napi::Value Poll(Args& args) {
  Bytes triples = args.bytes(0, "fds");
  int32_t timeout = args.int32(1, "timeout");
  if (!args.ok()) return {};
  size_t count = triples.length / 12;
  if (triples.length % 12 != 0 || reinterpret_cast<uintptr_t>(triples.data) % 4 != 0)
    return args.fail(true, "fds", "must be an Int32Array of (fd, events, revents)");
  pollfd few[16];
  pollfd* fds = count <= 16 ? few : static_cast<pollfd*>(malloc(count * sizeof(pollfd)));
  if (fds == nullptr) return args.result(-ENOMEM);
  int32_t* words = reinterpret_cast<int32_t*>(triples.data);
  for (size_t i = 0; i < count; i++) fds[i] = {words[i * 3], static_cast<short>(words[i * 3 + 1]), 0};
  bool slices = !args.own()->isMain;
  int64_t end = timeout < 0 ? INT64_MAX : now() + timeout;
  int64_t result;
  for (;;) {
    int64_t left = timeout < 0 ? -1 : end - now();
    if (timeout >= 0 && left < 0) left = 0;
    bool sliced = slices && (left < 0 || left > sliceMs);
    result = outcome(poll(fds, count, sliced ? sliceMs : static_cast<int>(left)));
    if (result != 0 || !sliced || !alive(args.env())) break;
  }
  if (result >= 0)
    for (size_t i = 0; i < count; i++) words[i * 3 + 2] = fds[i].revents;
  if (fds != few) free(fds);
  return args.result(result);
}

Napi::Value Readlink(Args& args) {
  char path[PATH_MAX];
  char target[PATH_MAX];
  int length = args.string(0, "path", path, sizeof path);
  if (!args.ok()) return {};
  int64_t result = length < 0 ? length : outcome(readlink(path, target, sizeof target));
  if (result < 0) return args.result(result);
  return Napi::String::New(args.env(), target, static_cast<size_t>(result));
}

}  // namespace

const Exports callExports = {
    {"open", make<Open>}, {"close", make<Close>}, {"own", make<Own>}, {"dup", make<Dup>}, {"fcntl", make<Fcntl>},
    {"read", make<Read>}, {"write", make<Write>}, {"pread", make<Pread>}, {"pwrite", make<Pwrite>},
    {"eventfd", make<Eventfd>}, {"fstat", make<Fstat>}, {"memfdCreate", make<MemfdCreate>},
    {"ftruncate", make<Ftruncate>}, {"fallocate", make<Fallocate>}, {"poll", make<Poll>}, {"readlink", make<Readlink>},
};

}  // namespace kvio
