export type { Backend, KernelArch, KernelFeatures, KernelKind, Kicker, MapRequest, Stat } from './backend.ts';
export { KernelCore } from './core.ts';
export { errnoMessage, errnoName, errnoNumber } from './errno.ts';
export {
  Deadlock,
  isKvioError,
  KernelError,
  type KernelErrorDetails,
  KvioError,
  NotAvailable,
  NotModelled,
  type NotRestored,
  RestoreError,
  VcpuBusy,
} from './errors.ts';
export type {
  IoctlArgument,
  IoctlOptions,
  Kernel,
  MemoryRange,
  MmapOptions,
  PollFd,
  RunAsyncOptions,
  RunOptions,
  WaitOptions,
} from './kernel.ts';
export type { Mapping, Memory, Ram, Width } from './memory.ts';
