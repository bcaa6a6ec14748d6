// mmap and what follows. JavaScript names a mapping by its id; addresses only go out.
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "args.h"
#include "fault.h"
#include "mapping.h"

namespace kvio {

bool onSharedMemory(napi_env env, napi_value view) {
  napi_typedarray_type type;
  napi_value buffer = nullptr;
  bool plain = true;
  return napi_get_typedarray_info(env, view, &type, nullptr, nullptr, &buffer, nullptr) == napi_ok &&
         napi_is_arraybuffer(env, buffer, &plain) == napi_ok && !plain;
}

namespace {

constexpr int readWrite = PROT_READ | PROT_WRITE;

/// MADV_HWPOISON, MADV_SOFT_OFFLINE, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE: a later touch would end the process.
bool deadly(int advice) { return advice >= 100 && advice <= 103; }

/// Takes over the mapping; its id.
napi_value add(Args& args, Mapping* mapping) {
  Array<Mapping*>& all = args.own()->mappings;
  size_t index = 0;
  while (index < all.size() && all[index] != nullptr) index++;
  all.cover(index);
  all[index] = mapping;
  return args.result(static_cast<int64_t>(index + 1));
}

Mapping* get(Args& args, size_t index) {
  uint64_t id = args.size(index, "mapping");
  if (!args.ok()) return nullptr;
  Array<Mapping*>& all = args.own()->mappings;
  Mapping* mapping = id >= 1 && id <= all.size() ? all[id - 1] : nullptr;
  if (mapping == nullptr) args.fail(true, "mapping", "is not the id of a live mapping");
  return mapping;
}

/// The pages of an arena that a view covers exactly.
bool wholePages(Args& args, Bytes view, const char* name) {
  if (!args.ok()) return false;
  if (view.length == 0 || view.length % 4096 != 0 || reinterpret_cast<uintptr_t>(view.data) % 4096 != 0)
    args.fail(true, name, "must cover whole pages");
  else if (!onSharedMemory(args.env(), args.value(0)))
    args.fail(false, name, "must lie in a shared WebAssembly.Memory");
  return args.ok();
}

Mapping* newMapping(uint8_t* start, size_t length, int prot) {
  Mapping* mapping = new Mapping;
  if (mapping == nullptr) return nullptr;
  mapping->start = start;
  mapping->length = length;
  if (mapping->parts.push({0, length, prot})) return mapping;
  delete mapping;
  return nullptr;
}

/// keep(pages): these pages of an arena, as they are.
napi_value Keep(napi_env env, napi_callback_info info) {
  Args args(env, info);
  Bytes pages = args.bytes(0, "pages");
  if (!wholePages(args, pages, "pages")) return nullptr;
  Mapping* mapping = newMapping(pages.data, pages.length, readWrite);
  if (mapping == nullptr) return args.result(-ENOMEM);
  napi_create_reference(env, args.value(0), 1, &mapping->arena);
  return add(args, mapping);
}

/// place(pages, prot, flags, fd, offset, pageSize): a mapping over these pages of an arena.
napi_value Place(napi_env env, napi_callback_info info) {
  Args args(env, info);
  Bytes pages = args.bytes(0, "pages");
  int prot = args.int32(1, "prot");
  int flags = args.int32(2, "flags");
  int fd = args.int32(3, "fd");
  uint64_t offset = args.word(4, "offset");
  uint64_t pageSize = args.size(5, "pageSize");
  if (!wholePages(args, pages, "pages")) return nullptr;
  if ((prot & readWrite) != readWrite) return args.fail(true, "prot", "of memory with a view must allow reading and writing");
  if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0) return args.fail(true, "flags", "must not have MAP_FIXED");
  if (pageSize < 4096 || (pageSize & (pageSize - 1)) != 0 || pages.length % pageSize != 0 ||
      reinterpret_cast<uintptr_t>(pages.data) % pageSize != 0)
    return args.fail(true, "pageSize", "must be a power of two that the pages are aligned to");
  Mapping* mapping = newMapping(pages.data, pages.length, prot);
  if (mapping == nullptr) return args.result(-ENOMEM);
  mapping->pageSize = pageSize;
  if ((flags & MAP_ANONYMOUS) == 0 || pageSize > 4096) {
    catchFaults();
    mapping->covered = cover(pages.data, pages.length, pageSize);
    if (!mapping->covered) {
      delete mapping;
      return args.result(-ENOMEM);
    }
  }
  int64_t result = place(pages.data, pages.length, prot, flags, fd, static_cast<off_t>(offset));
  if (result < 0) {
    if (mapping->covered) uncover(pages.data);
    delete mapping;
    return args.result(result);
  }
  napi_create_reference(env, args.value(0), 1, &mapping->arena);
  return add(args, mapping);
}

/// map(length, prot, flags, fd, offset): a mapping of its own, wherever the kernel puts it.
napi_value Map(napi_env env, napi_callback_info info) {
  Args args(env, info);
  uint64_t length = args.size(0, "length");
  int prot = args.int32(1, "prot");
  int flags = args.int32(2, "flags");
  int fd = args.int32(3, "fd");
  uint64_t offset = args.word(4, "offset");
  if (!args.ok()) return nullptr;
  if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0) return args.fail(true, "flags", "must not have MAP_FIXED");
  if ((flags & MAP_GROWSDOWN) != 0) return args.fail(true, "flags", "must not have MAP_GROWSDOWN: its guard gap faults");
  catchFaults();
  // The file's page size: hugetlb maps whole ones, and unmaps only those.
  size_t pageSize = (flags & MAP_ANONYMOUS) != 0 ? steadyPages(fd, offset, length, flags) : filePageSize(fd);
  if (pageSize == 0) pageSize = 4096;
  uint64_t whole = (length + pageSize - 1) & ~static_cast<uint64_t>(pageSize - 1);
  // The raw call: mmap(3) may refuse an offset that the kernel has its own opinion on.
  int64_t address = outcome(static_cast<int64_t>(syscall(SYS_mmap, nullptr, length, prot, flags, fd, offset)));
  if (address < 0) return args.result(address);
  Mapping* mapping = newMapping(reinterpret_cast<uint8_t*>(address), whole, prot);
  if (mapping == nullptr) {
    munmap(reinterpret_cast<void*>(address), whole);
    return args.result(-ENOMEM);
  }
  mapping->pageSize = pageSize;
  return add(args, mapping);
}

/// 0, or -errno and the pages stay: better a leak than a view on a stranger's bytes.
int64_t unmap(napi_env env, Mapping* mapping) {
  if (mapping->arena == nullptr) return outcome(munmap(mapping->start, mapping->length));
  int64_t result = putZeros(mapping->start, mapping->length);
  if (result < 0) return result;
  if (mapping->covered) uncover(mapping->start);
  if (env != nullptr) napi_delete_reference(env, mapping->arena);
  return 0;
}

napi_value Unmap(napi_env env, napi_callback_info info) {
  Args args(env, info);
  uint64_t id = args.size(0, "mapping");
  Mapping* mapping = get(args, 0);
  if (mapping == nullptr) return nullptr;
  int64_t result = unmap(env, mapping);
  args.own()->mappings[id - 1] = nullptr;
  delete mapping;
  return args.result(result);
}

napi_value bigint(napi_env env, uint64_t value) {
  napi_value out = nullptr;
  napi_create_bigint_uint64(env, value, &out);
  return out;
}

napi_value Address(napi_env env, napi_callback_info info) {
  Args args(env, info);
  Mapping* mapping = get(args, 0);
  return mapping == nullptr ? nullptr : bigint(env, reinterpret_cast<uintptr_t>(mapping->start));
}

/// Where the first byte of a view lies.
napi_value AddressOf(napi_env env, napi_callback_info info) {
  Args args(env, info);
  Bytes bytes = args.bytes(0, "view");
  return args.ok() ? bigint(env, reinterpret_cast<uintptr_t>(bytes.data)) : nullptr;
}

/// steady(fd, offset, length, flags): the page size of a mapping that no touch can make fault; 0 where one can.
napi_value Steady(napi_env env, napi_callback_info info) {
  Args args(env, info);
  int fd = args.int32(0, "fd");
  uint64_t offset = args.word(1, "offset");
  uint64_t length = args.size(2, "length");
  int flags = args.int32(3, "flags");
  if (!args.ok()) return nullptr;
  return args.result(static_cast<int64_t>(steadyPages(fd, offset, length, flags)));
}

/// (mapping, offset, length, …) of a range inside.
bool range(Args& args, Mapping* mapping, uint64_t offset, uint64_t length) {
  if (args.ok() && (offset > mapping->length || length > mapping->length - offset))
    args.fail(true, "offset", "and length must lie within the mapping");
  return args.ok();
}

napi_value Protect(napi_env env, napi_callback_info info) {
  Args args(env, info);
  Mapping* mapping = get(args, 0);
  uint64_t offset = args.size(1, "offset");
  uint64_t length = args.size(2, "length");
  int prot = args.int32(3, "prot");
  if (mapping == nullptr || !range(args, mapping, offset, length)) return nullptr;
  if (mapping->arena != nullptr && (prot & readWrite) != readWrite)
    return args.fail(true, "prot", "of memory with a view must allow reading and writing");
  // PROT_GROWSDOWN, PROT_GROWSUP: they would reach beyond the range.
  if ((prot & 0x03000000) != 0) return args.fail(true, "prot", "must not have PROT_GROWSDOWN or PROT_GROWSUP");
  uint64_t end = (offset + length + mapping->pageSize - 1) & ~static_cast<uint64_t>(mapping->pageSize - 1);
  if (!mapping->parts.reserve(mapping->parts.size() + 2)) return args.result(-ENOMEM);
  int64_t result = outcome(mprotect(mapping->start + offset, length, prot));
  // A failure may have changed part of it: what is left is what both the old and the new protection allow.
  if (result == 0)
    setProtection(mapping, offset, end - offset, prot);
  else if (result != -EINVAL && mapping->arena == nullptr)
    setProtection(mapping, offset, end - offset, PROT_NONE);
  return args.result(result);
}

napi_value Advise(napi_env env, napi_callback_info info) {
  Args args(env, info);
  Mapping* mapping = get(args, 0);
  uint64_t offset = args.size(1, "offset");
  uint64_t length = args.size(2, "length");
  int advice = args.int32(3, "advice");
  if (mapping == nullptr || !range(args, mapping, offset, length)) return nullptr;
  if (deadly(advice)) return args.fail(true, "advice", "would let a later touch end the process");
  return args.result(outcome(madvise(mapping->start + offset, length, advice)));
}

bool widthOk(Args& args, uint32_t width) {
  if (args.ok() && width != 1 && width != 2 && width != 4 && width != 8) args.fail(true, "width", "must be 1, 2, 4 or 8");
  return args.ok();
}

/// load(mapping, offset, width): a number, a bigint for width 8, or -errno (always a number).
napi_value Load(napi_env env, napi_callback_info info) {
  Args args(env, info);
  Mapping* mapping = get(args, 0);
  uint64_t offset = args.size(1, "offset");
  uint32_t width = args.uint32(2, "width");
  if (mapping == nullptr || !widthOk(args, width) || !range(args, mapping, offset, width)) return nullptr;
  uint64_t value = 0;
  int result = permits(mapping, offset, width, PROT_READ) ? guardedLoad(mapping->start + offset, width, &value) : -EFAULT;
  if (result < 0) return args.result(result);
  return width == 8 ? bigint(env, value) : args.result(static_cast<int64_t>(value));
}

napi_value Store(napi_env env, napi_callback_info info) {
  Args args(env, info);
  Mapping* mapping = get(args, 0);
  uint64_t offset = args.size(1, "offset");
  uint32_t width = args.uint32(2, "width");
  uint64_t value = args.word(3, "value");
  if (mapping == nullptr || !widthOk(args, width) || !range(args, mapping, offset, width)) return nullptr;
  if (!permits(mapping, offset, width, PROT_WRITE)) return args.result(-EFAULT);
  return args.result(guardedStore(mapping->start + offset, width, value));
}

napi_value CopyOut(napi_env env, napi_callback_info info) {
  Args args(env, info);
  Mapping* mapping = get(args, 0);
  uint64_t offset = args.size(1, "offset");
  Bytes into = args.bytes(2, "into");
  if (mapping == nullptr || !range(args, mapping, offset, into.length)) return nullptr;
  if (!permits(mapping, offset, into.length, PROT_READ)) return args.result(-EFAULT);
  return args.result(guardedCopyOut(mapping->start + offset, into.data, into.length));
}

napi_value CopyIn(napi_env env, napi_callback_info info) {
  Args args(env, info);
  Mapping* mapping = get(args, 0);
  uint64_t offset = args.size(1, "offset");
  Bytes from = args.bytes(2, "from");
  if (mapping == nullptr || !range(args, mapping, offset, from.length)) return nullptr;
  if (!permits(mapping, offset, from.length, PROT_WRITE)) return args.result(-EFAULT);
  return args.result(guardedCopyIn(mapping->start + offset, from.data, from.length));
}

const Export rows[] = {
    {"keep", Keep},       {"place", Place},     {"map", Map},       {"unmap", Unmap}, {"address", Address},
    {"addressOf", AddressOf}, {"steady", Steady}, {"protect", Protect}, {"advise", Advise}, {"load", Load},
    {"store", Store},     {"copyOut", CopyOut}, {"copyIn", CopyIn},
};

}  // namespace

const Exports memoryExports = {rows, sizeof rows / sizeof *rows};

void unmapAll(Env* env) {
  for (size_t i = 0; i < env->mappings.size(); i++) {
    if (env->mappings[i] == nullptr) continue;
    unmap(nullptr, env->mappings[i]);
    delete env->mappings[i];
    env->mappings[i] = nullptr;
  }
}

}  // namespace kvio
