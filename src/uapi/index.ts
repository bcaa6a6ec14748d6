/**
 * The vocabulary of the kernel: every constant, struct and ioctl request of KVM, VFIO, iommufd and dma-buf at Linux 7.2, in
 * the kernel's spelling, for x86-64; `arm64` holds what arm64 defines otherwise, `teeIo` what exists as posted series (RFC) only. No
 * behaviour.
 *
 * Constants are numbers, request words unsigned. Those the headers type `long long`, and those beyond 32 bits, are bigint, as the
 * 64-bit fields they belong to.
 */
export * as arm64 from './arm64.ts';
export * from './dma-buf.ts';
export type { Peek, State, UserPointer } from './extents.ts';
export { touchedLength, userPointers } from './extents.ts';
export * from './ioc.ts';
export * from './ioctls.ts';
export * from './iommufd.ts';
export * from './kvm.ts';
export * from './macros.ts';
export type { Bytes, Field, FlexCount, Input } from './struct.ts';
export { Struct } from './struct.ts';
export * from './sys.ts';
export * as teeIo from './tee-io.ts';
export * from './vfio.ts';
