import type { Stat } from '../kernel/backend.ts';

/** sizeof(struct statx), the same on every architecture, which struct stat is not. */
export const STATX_SIZE = 256;
export const STATX_BASIC_STATS = 0x7ff;
export const AT_EMPTY_PATH = 0x1000;

/** `struct statx` as `Stat`; device numbers in the kernel's own 32-bit encoding, as fstat(2) gives them. */
export function statOf(statx: Uint8Array): Stat {
  const view = new DataView(statx.buffer, statx.byteOffset, statx.byteLength);
  const u32 = (offset: number): number => view.getUint32(offset, true);
  const u64 = (offset: number): bigint => view.getBigUint64(offset, true);
  return {
    dev: device(u32(136), u32(140)),
    ino: u64(32),
    mode: view.getUint16(28, true),
    nlink: u32(16),
    uid: u32(20),
    gid: u32(24),
    rdev: device(u32(128), u32(132)),
    size: u64(40),
    blksize: u32(4),
    blocks: u64(48),
  };
}

/** new_encode_dev() of the kernel: the minor number's upper bits stand above the major number. */
function device(major: number, minor: number): bigint {
  return BigInt(minor & 0xff) | (BigInt(major) << 8n) | (BigInt(minor >>> 8) << 20n);
}
