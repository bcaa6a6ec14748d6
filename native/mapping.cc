#include "mapping.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "args.h"

namespace kvio {

namespace {

constexpr long hugetlbMagic = 0x958458f6;  // linux/magic.h: HUGETLBFS_MAGIC
/// linux/magic.h: SYSFS_MAGIC, PROC_SUPER_MAGIC, DEBUGFS_MAGIC, DMA_BUF_MAGIC, GUEST_MEMFD_MAGIC. Their regular files are devices in
/// disguise (a PCI function's resource0), or fault by their own rules.
constexpr long deviceLike[] = {0x62656572, 0x9fa0, 0x64626720, 0x444d4142, 0x474d454d};
constexpr uint64_t kvmPages = 3;           // kvm_vcpu_fault(): kvm_run, the PIO page, the coalesced MMIO ring
constexpr uint64_t dirtyRingPage = 64;     // linux/kvm.h: KVM_DIRTY_LOG_PAGE_OFFSET on x86-64 and arm64

/// kvm_vcpu_mmap(): a private mapping whose first or last page lies inside the dirty ring is EINVAL, and no other is.
bool inDirtyRing(int fd, uint64_t page) {
  void* probe = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, fd, static_cast<off_t>(page * 4096));
  if (probe == MAP_FAILED) return errno == EINVAL;
  munmap(probe, 4096);
  return false;
}

bool steadyVcpu(int fd, uint64_t offset, uint64_t length, int flags) {
  uint64_t first = offset / 4096;
  uint64_t pages = (length + 4095) / 4096;
  if (first == 0 && pages <= kvmPages) return true;
  if (first < dirtyRingPage || (flags & MAP_TYPE) != MAP_SHARED) return false;
  return inDirtyRing(fd, first) && inDirtyRing(fd, first + pages - 1);
}

}  // namespace

size_t filePageSize(int fd) {
  struct statfs system;
  return fstatfs(fd, &system) == 0 && system.f_type == hugetlbMagic ? static_cast<size_t>(system.f_bsize) : 4096;
}

size_t steadyPages(int fd, uint64_t offset, uint64_t length, int flags) {
  if ((flags & MAP_ANONYMOUS) != 0) {
    if ((flags & MAP_HUGETLB) == 0) return 4096;
    unsigned log = static_cast<unsigned>(flags) >> MAP_HUGE_SHIFT & MAP_HUGE_MASK;
    // No such huge page anywhere: the kernel will say so.
    if (log != 0 && (log < 12 || log > 40)) return 0;
    return log == 0 ? size_t{2} << 20 : size_t{1} << log;
  }
  char link[48];
  char target[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t named = readlink(link, target, sizeof target - 1);
  if (named < 0) return 0;
  target[named] = 0;
  if (strncmp(target, "anon_inode:kvm-vcpu:", 20) == 0) return steadyVcpu(fd, offset, length, flags) ? 4096 : 0;
  // guest_memfd (a regular file on newer kernels) faults wherever memory is private or absent; a dma-buf may be device memory.
  if (strncmp(target, "anon_inode:", 11) == 0 || strncmp(target, "/[kvm-gmem]", 11) == 0 || strncmp(target, "/dmabuf:", 8) == 0) return 0;
  struct stat stat;
  struct statfs system;
  if (fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode) || fstatfs(fd, &system) != 0) return 0;
  for (long magic : deviceLike)
    if (system.f_type == magic) return 0;
  size_t pageSize = filePageSize(fd);
  // What lies in the file's last page can be touched, beyond its end too.
  uint64_t size = (static_cast<uint64_t>(stat.st_size) + pageSize - 1) & ~(pageSize - 1);
  return offset <= size && length <= size - offset ? pageSize : 0;
}

int64_t putZeros(uint8_t* pages, size_t length) {
  void* result = mmap(pages, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  return result == MAP_FAILED ? -errno : 0;
}

int64_t place(uint8_t* pages, size_t length, int prot, int flags, int fd, off_t offset) {
  // Elsewhere first: a driver's refusal comes only after MAP_FIXED has taken the old pages away.
  void* found = mmap(nullptr, length, prot, flags, fd, offset);
  if (found == MAP_FAILED) return -errno;
  if (mremap(found, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, pages) != MAP_FAILED) return 0;
  // hugetlb mappings could not be moved before 5.16.
  munmap(found, length);
  if (mmap(pages, length, prot, flags | MAP_FIXED, fd, offset) != MAP_FAILED) return 0;
  int error = errno;
  putZeros(pages, length);
  return -error;
}

bool setProtection(Mapping* mapping, size_t offset, size_t length, int prot) {
  size_t end = offset + length;
  // At most two parts more than before: nothing below can fail half-way.
  if (!mapping->parts.reserve(mapping->parts.size() + 2)) return false;
  size_t count = mapping->parts.size();
  Part split[2];
  size_t splits = 0;
  size_t kept = 0;
  for (size_t i = 0; i < count; i++) {
    Part part = mapping->parts[i];
    if (part.end <= offset || part.start >= end) {
      mapping->parts[kept++] = part;
      continue;
    }
    if (part.start < offset) split[splits++] = {part.start, offset, part.prot};
    if (part.end > end) split[splits++] = {end, part.end, part.prot};
  }
  while (mapping->parts.size() > kept) mapping->parts.removeAt(mapping->parts.size() - 1);
  for (size_t i = 0; i < splits; i++) mapping->parts.push(split[i]);
  if (length > 0) mapping->parts.push({offset, end, prot});
  return true;
}

bool permits(Mapping* mapping, size_t offset, size_t length, int prot) {
  size_t granted = 0;
  for (size_t i = 0; i < mapping->parts.size(); i++) {
    Part part = mapping->parts[i];
    if ((part.prot & prot) != prot) continue;
    size_t low = part.start > offset ? part.start : offset;
    size_t high = part.end < offset + length ? part.end : offset + length;
    if (high > low) granted += high - low;
  }
  return granted == length;
}

}  // namespace kvio
