// SIGBUS in memory of ours: an error in an accessor, a page of zeros under a view. SIGSEGV is V8's and never touched.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace kvio {

/// Installs the handler, once per process, in front of whoever was there.
void catchFaults();

/// From now on (until `uncover`) a fault in this range of an arena gets a page of zeros of this size.
bool cover(uint8_t* start, size_t length, size_t pageSize);
void uncover(uint8_t* start);

/// One access of exactly this width, as one instruction. 0, or -EFAULT.
int guardedLoad(const uint8_t* address, unsigned width, uint64_t* value);
int guardedStore(uint8_t* address, unsigned width, uint64_t value);
int guardedCopyOut(const uint8_t* from, uint8_t* into, size_t length);
int guardedCopyIn(uint8_t* into, const uint8_t* from, size_t length);

}  // namespace kvio
