import { text, wide } from '../kernel/arguments.ts';
import { rangeError } from '../kernel/errors.ts';
import { Handle, setStruct } from '../kernel/handle.ts';
import { hex } from '../kernel/inspect.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { DMA_BUF_IOCTL_SYNC, DMA_BUF_NAME_LEN, DMA_BUF_SET_NAME, dma_buf_sync } from '../uapi/dma-buf.ts';
import type { FdKind } from '../uapi/ioctls.ts';

/**
 * A dma-buf: memory of one device for others to reach. One of VFIO's is a piece of a BAR, for an iommufd to map; it reaches nothing while the device is
 * being reset or has its memory decoding off, and never again once the device is closed.
 */
export class DmaBuf extends Handle {
  /** In bytes, the sum of its ranges; undefined for a descriptor from outside. */
  readonly size: bigint | undefined;

  constructor(kernel: Kernel, fd: number, size?: bigint) {
    super(kernel, fd);
    this.size = size;
  }

  /** A dma-buf from outside. `close()` closes it; `kernel.close()` does not. */
  static fromFd(kernel: Kernel, fd: number): DmaBuf {
    return new DmaBuf(kernel, kernel.adopt(fd));
  }

  protected override get kind(): FdKind {
    return 'dma-buf';
  }

  /** DMA_BUF_SET_NAME: what /proc says of it; at most 31 characters. */
  setName(name: string): void {
    const bytes = Buffer.from(`${text(name, 'name')}\0`);
    if (bytes.length > DMA_BUF_NAME_LEN)
      throw rangeError(`name must be at most ${DMA_BUF_NAME_LEN - 1} bytes, not ${bytes.length - 1}`);
    this.ioctl(DMA_BUF_SET_NAME, bytes);
  }

  /** DMA_BUF_IOCTL_SYNC: DMA_BUF_SYNC_START or …_END of access by the CPU, with …_READ and …_WRITE. */
  sync(flags: number | bigint): void {
    setStruct(this, DMA_BUF_IOCTL_SYNC, dma_buf_sync, { flags: wide(flags, 'flags') });
  }

  protected override describe(): string {
    return `${this.size === undefined ? '' : `${hex(this.size)} bytes, `}${super.describe()}`;
  }
}
