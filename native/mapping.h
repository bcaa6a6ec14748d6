// What mmap gave us: pages of an arena (a shared WebAssembly.Memory), or a mapping of its own that only accessors touch.
#pragma once

#include "kvio.h"

namespace kvio {

/// Protection of part of a mapping, as byte offsets.
struct Part {
  size_t start;
  size_t end;
  int prot;
};

struct Mapping {
  uint8_t* start = nullptr;
  /// Whole pages.
  size_t length = 0;
  size_t pageSize = 4096;
  /// Keeps the arena alive while these pages are ours; empty for a mapping of its own.
  Napi::ObjectReference arena;
  bool covered = false;
  /// Every byte of the mapping lies in exactly one.
  Array<Part> parts;
};

bool setProtection(Mapping* mapping, size_t offset, size_t length, int prot);
/// Does every byte of the range have this protection?
bool permits(Mapping* mapping, size_t offset, size_t length, int prot);

/// 0 where a touch of these pages of the file may fault, otherwise the page size.
size_t steadyPages(int fd, uint64_t offset, uint64_t length, int flags);

/// 4096, or the huge page size of a file on hugetlbfs.
size_t filePageSize(int fd);

/// Places a mapping over exactly these pages of an arena. 0 or -errno; on failure the pages are as they were, or zeros.
int64_t place(uint8_t* pages, size_t length, int prot, int flags, int fd, off_t offset);
/// Puts zero pages back: a stale view reads zeros, never a stranger's bytes.
int64_t putZeros(uint8_t* pages, size_t length);

}  // namespace kvio
