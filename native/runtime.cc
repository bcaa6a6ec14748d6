// What the C++ compiler expects of a run-time library, so that none is needed: one binary serves every libc.
#include <stdlib.h>
#include <new>

void* operator new(size_t size) { return malloc(size == 0 ? 1 : size); }
void* operator new[](size_t size) { return malloc(size == 0 ? 1 : size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return malloc(size == 0 ? 1 : size); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return malloc(size == 0 ? 1 : size); }
void operator delete(void* pointer) noexcept { free(pointer); }
void operator delete[](void* pointer) noexcept { free(pointer); }
void operator delete(void* pointer, size_t) noexcept { free(pointer); }
void operator delete[](void* pointer, size_t) noexcept { free(pointer); }

extern "C" void __cxa_pure_virtual() { abort(); }
