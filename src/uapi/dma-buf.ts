// dma-buf: linux/dma-buf.h, linux/udmabuf.h. Generated from linux-libc-dev 7.2.13 by scripts/uapi/generate.mjs: do not edit.
import type { Struct } from './struct.ts';
import { struct } from './struct.ts';

export const DMA_BUF_SYNC_READ = 0x1;
export const DMA_BUF_SYNC_WRITE = 0x2;
export const DMA_BUF_SYNC_RW = 3;
export const DMA_BUF_SYNC_START = 0x0;
export const DMA_BUF_SYNC_END = 0x4;
export const DMA_BUF_SYNC_VALID_FLAGS_MASK = 7;
export const DMA_BUF_NAME_LEN = 32;
export const DMA_BUF_BASE = 98;
export const DMA_BUF_IOCTL_SYNC = 0x40086200;
export const DMA_BUF_SET_NAME = 0x40086201;
export const DMA_BUF_SET_NAME_A = 0x40046201;
export const DMA_BUF_SET_NAME_B = 0x40086201;
export const DMA_BUF_IOCTL_EXPORT_SYNC_FILE = 0xc0086202;
export const DMA_BUF_IOCTL_IMPORT_SYNC_FILE = 0x40086203;
export const UDMABUF_FLAGS_CLOEXEC = 0x1;
export const UDMABUF_CREATE = 0x40187542;
export const UDMABUF_CREATE_LIST = 0x40087543;

export interface dma_buf_sync {
  flags: bigint;
}
export const dma_buf_sync: Struct<dma_buf_sync> = struct('dma_buf_sync', 'struct', 8, 8, `
  0 __u64 flags;
`);

export interface dma_buf_export_sync_file {
  flags: number;
  fd: number;
}
export const dma_buf_export_sync_file: Struct<dma_buf_export_sync_file> = struct('dma_buf_export_sync_file', 'struct', 8, 4, `
  0 __u32 flags;
  4 __s32 fd;
`);

export interface dma_buf_import_sync_file {
  flags: number;
  fd: number;
}
export const dma_buf_import_sync_file: Struct<dma_buf_import_sync_file> = struct('dma_buf_import_sync_file', 'struct', 8, 4, `
  0 __u32 flags;
  4 __s32 fd;
`);

export interface udmabuf_create {
  memfd: number;
  flags: number;
  offset: bigint;
  size: bigint;
}
export const udmabuf_create: Struct<udmabuf_create> = struct('udmabuf_create', 'struct', 24, 8, `
  0 __u32 memfd;
  4 __u32 flags;
  8 __u64 offset;
  16 __u64 size;
`);

export interface udmabuf_create_item {
  memfd: number;
  __pad: number;
  offset: bigint;
  size: bigint;
}
export const udmabuf_create_item: Struct<udmabuf_create_item> = struct('udmabuf_create_item', 'struct', 24, 8, `
  0 __u32 memfd;
  4 __u32 __pad;
  8 __u64 offset;
  16 __u64 size;
`);

export interface udmabuf_create_list {
  flags: number;
  count: number;
  list: udmabuf_create_item[];
}
export const udmabuf_create_list: Struct<udmabuf_create_list> = struct('udmabuf_create_list', 'struct', 8, 8, `
  0 __u32 flags;
  4 __u32 count;
  8 struct udmabuf_create_item list[count];
`, [udmabuf_create_item]);
