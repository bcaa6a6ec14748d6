// mmap and what follows. JavaScript names a mapping by its id; addresses only go out.
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "args.h"
#include "fault.h"
#include "mapping.h"

namespace kvio {

namespace {

constexpr int readWrite = PROT_READ | PROT_WRITE;

/// MADV_HWPOISON, MADV_SOFT_OFFLINE, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE: a later touch would end the process.
bool deadly(int advice) { return advice >= 100 && advice <= 103; }

/// Takes over the mapping; its id.
Napi::Value add(Args& args, Mapping* mapping) {
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
  else if (!args.shared(0))
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
Napi::Value Keep(Args& args) {
  Bytes pages = args.bytes(0, "pages");
  if (!wholePages(args, pages, "pages")) return {};
  Mapping* mapping = newMapping(pages.data, pages.length, readWrite);
  if (mapping == nullptr) return args.result(-ENOMEM);
  mapping->arena = Napi::Persistent(args[0].As<Napi::Object>());
  return add(args, mapping);
}

/// place(pages, prot, flags, fd, offset, pageSize): a mapping over these pages of an arena.
Napi::Value Place(Args& args) {
  Bytes pages = args.bytes(0, "pages");
  int prot = args.int32(1, "prot");
  int flags = args.int32(2, "flags");
  int fd = args.int32(3, "fd");
  uint64_t offset = args.word(4, "offset");
  uint64_t pageSize = args.size(5, "pageSize");
  if (!wholePages(args, pages, "pages")) return {};
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
  mapping->arena = Napi::Persistent(args[0].As<Napi::Object>());
  return add(args, mapping);
}

/// map(length, prot, flags, fd, offset): a mapping of its own, wherever the kernel puts it.
Napi::Value Map(Args& args) {
  uint64_t length = args.size(0, "length");
  int prot = args.int32(1, "prot");
  int flags = args.int32(2, "flags");
  int fd = args.int32(3, "fd");
  uint64_t offset = args.word(4, "offset");
  if (!args.ok()) return {};
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
int64_t unmap(Mapping* mapping) {
  if (mapping->arena.IsEmpty()) return outcome(munmap(mapping->start, mapping->length));
  int64_t result = putZeros(mapping->start, mapping->length);
  if (result < 0)
    mapping->arena.SuppressDestruct();
  else if (mapping->covered)
    uncover(mapping->start);
  return result;
}

Napi::Value Unmap(Args& args) {
  uint64_t id = args.size(0, "mapping");
  Mapping* mapping = get(args, 0);
  if (mapping == nullptr) return {};
  int64_t result = unmap(mapping);
  args.own()->mappings[id - 1] = nullptr;
  delete mapping;
  return args.result(result);
}

Napi::Value Address(Args& args) {
  Mapping* mapping = get(args, 0);
  if (mapping == nullptr) return {};
  return Napi::BigInt::New(args.env(), reinterpret_cast<uintptr_t>(mapping->start));
}

/// Where the first byte of a view lies.
Napi::Value AddressOf(Args& args) {
  Bytes bytes = args.bytes(0, "view");
  if (!args.ok()) return {};
  return Napi::BigInt::New(args.env(), reinterpret_cast<uintptr_t>(bytes.data));
}

/// steady(fd, offset, length, flags): the page size of a mapping that no touch can make fault; 0 where one can.
Napi::Value Steady(Args& args) {
  int fd = args.int32(0, "fd");
  uint64_t offset = args.word(1, "offset");
  uint64_t length = args.size(2, "length");
  int flags = args.int32(3, "flags");
  if (!args.ok()) return {};
  return args.result(static_cast<int64_t>(steadyPages(fd, offset, length, flags)));
}

/// (mapping, offset, length, …) of a range inside.
bool range(Args& args, Mapping* mapping, uint64_t offset, uint64_t length) {
  if (args.ok() && (offset > mapping->length || length > mapping->length - offset))
    args.fail(true, "offset", "and length must lie within the mapping");
  return args.ok();
}

Napi::Value Protect(Args& args) {
  Mapping* mapping = get(args, 0);
  uint64_t offset = args.size(1, "offset");
  uint64_t length = args.size(2, "length");
  int prot = args.int32(3, "prot");
  if (mapping == nullptr || !range(args, mapping, offset, length)) return {};
  if (!mapping->arena.IsEmpty() && (prot & readWrite) != readWrite)
    return args.fail(true, "prot", "of memory with a view must allow reading and writing");
  // PROT_GROWSDOWN, PROT_GROWSUP: they would reach beyond the range.
  if ((prot & 0x03000000) != 0) return args.fail(true, "prot", "must not have PROT_GROWSDOWN or PROT_GROWSUP");
  uint64_t end = (offset + length + mapping->pageSize - 1) & ~static_cast<uint64_t>(mapping->pageSize - 1);
  if (!mapping->parts.reserve(mapping->parts.size() + 2)) return args.result(-ENOMEM);
  int64_t result = outcome(mprotect(mapping->start + offset, length, prot));
  // A failure may have changed part of it: what is left is what both the old and the new protection allow.
  if (result == 0)
    setProtection(mapping, offset, end - offset, prot);
  else if (result != -EINVAL && mapping->arena.IsEmpty())
    setProtection(mapping, offset, end - offset, PROT_NONE);
  return args.result(result);
}

Napi::Value Advise(Args& args) {
  Mapping* mapping = get(args, 0);
  uint64_t offset = args.size(1, "offset");
  uint64_t length = args.size(2, "length");
  int advice = args.int32(3, "advice");
  if (mapping == nullptr || !range(args, mapping, offset, length)) return {};
  if (deadly(advice)) return args.fail(true, "advice", "would let a later touch end the process");
  return args.result(outcome(madvise(mapping->start + offset, length, advice)));
}

bool widthOk(Args& args, uint32_t width) {
  if (args.ok() && width != 1 && width != 2 && width != 4 && width != 8) args.fail(true, "width", "must be 1, 2, 4 or 8");
  return args.ok();
}

/// load(mapping, offset, width): a number, a bigint for width 8, or -errno (always a number).
Napi::Value Load(Args& args) {
  Mapping* mapping = get(args, 0);
  uint64_t offset = args.size(1, "offset");
  uint32_t width = args.uint32(2, "width");
  if (mapping == nullptr || !widthOk(args, width) || !range(args, mapping, offset, width)) return {};
  uint64_t value = 0;
  int result = permits(mapping, offset, width, PROT_READ) ? guardedLoad(mapping->start + offset, width, &value) : -EFAULT;
  if (result < 0) return args.result(result);
  if (width == 8) return Napi::BigInt::New(args.env(), value);
  return args.result(static_cast<int64_t>(value));
}

Napi::Value Store(Args& args) {
  Mapping* mapping = get(args, 0);
  uint64_t offset = args.size(1, "offset");
  uint32_t width = args.uint32(2, "width");
  uint64_t value = args.word(3, "value");
  if (mapping == nullptr || !widthOk(args, width) || !range(args, mapping, offset, width)) return {};
  if (!permits(mapping, offset, width, PROT_WRITE)) return args.result(-EFAULT);
  return args.result(guardedStore(mapping->start + offset, width, value));
}

Napi::Value CopyOut(Args& args) {
  Mapping* mapping = get(args, 0);
  uint64_t offset = args.size(1, "offset");
  Bytes into = args.bytes(2, "into");
  if (mapping == nullptr || !range(args, mapping, offset, into.length)) return {};
  if (!permits(mapping, offset, into.length, PROT_READ)) return args.result(-EFAULT);
  return args.result(guardedCopyOut(mapping->start + offset, into.data, into.length));
}

Napi::Value CopyIn(Args& args) {
  Mapping* mapping = get(args, 0);
  uint64_t offset = args.size(1, "offset");
  Bytes from = args.bytes(2, "from");
  if (mapping == nullptr || !range(args, mapping, offset, from.length)) return {};
  if (!permits(mapping, offset, from.length, PROT_WRITE)) return args.result(-EFAULT);
  return args.result(guardedCopyIn(mapping->start + offset, from.data, from.length));
}

}  // namespace

const Exports memoryExports = {
    {"keep", make<Keep>}, {"place", make<Place>}, {"map", make<Map>}, {"unmap", make<Unmap>},
    {"address", make<Address>}, {"addressOf", make<AddressOf>}, {"steady", make<Steady>}, {"protect", make<Protect>},
    {"advise", make<Advise>}, {"load", make<Load>}, {"store", make<Store>}, {"copyOut", make<CopyOut>},
    {"copyIn", make<CopyIn>},
};

void unmapAll(Env* env) {
  for (size_t i = 0; i < env->mappings.size(); i++) {
    if (env->mappings[i] == nullptr) continue;
    unmap(env->mappings[i]);
    delete env->mappings[i];
    env->mappings[i] = nullptr;
  }
}

}  // namespace kvio
