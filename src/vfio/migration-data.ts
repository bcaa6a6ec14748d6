import { integer } from '../kernel/arguments.ts';
import { KernelError } from '../kernel/errors.ts';
import { Handle } from '../kernel/handle.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { FdKind } from '../uapi/ioctls.ts';
import { EIO } from '../uapi/sys.ts';
import { VFIO_MIG_GET_PRECOPY_INFO, vfio_precopy_info } from '../uapi/vfio.ts';

/** How much a device has to say before it must stop. */
export interface PrecopyInfo {
  /** VFIO_PRECOPY_INFO_REINIT. */
  readonly flags: number;
  readonly initial_bytes: bigint;
  readonly dirty_bytes: bigint;
}

/**
 * The stream of a device's state (`device.setMigDeviceState`): to be read while saving, to be written while resuming. It ends with the state it was made in: ENODEV
 * from then on.
 */
export class MigrationData extends Handle {
  /** A migration descriptor from outside. `close()` closes it; `kernel.close()` does not. */
  static fromFd(kernel: Kernel, fd: number): MigrationData {
    return new MigrationData(kernel, kernel.adopt(fd));
  }

  protected override get kind(): FdKind {
    return 'vfio-migration';
  }

  /** VFIO_MIG_GET_PRECOPY_INFO. EINVAL outside PRE_COPY and PRE_COPY_P2P; ENOTTY on a stream that resumes. */
  getPrecopyInfo(): PrecopyInfo {
    const bytes = vfio_precopy_info.encode({ argsz: vfio_precopy_info.size, flags: 0, initial_bytes: 0n, dirty_bytes: 0n });
    this.ioctl(VFIO_MIG_GET_PRECOPY_INFO, bytes);
    const { flags, initial_bytes, dirty_bytes } = vfio_precopy_info.decode(bytes);
    return { flags, initial_bytes, dirty_bytes };
  }

  /** read(2): how many bytes came; 0 at the end of the stream. ENOMSG: nothing more before the device stops. */
  read(into: Uint8Array): number {
    return this.kernel.read(this.fd, into);
  }

  /**
   * read(2) of what there is, `chunk` bytes (64 KiB) at a time: in STOP_COPY the stream to its end; in PRE_COPY as far as it goes before the device stops (ENOMSG), and what has
   * changed since when it is asked again.
   */
  *chunks(chunk = 0x1_0000): Generator<Uint8Array, void, undefined> {
    integer(chunk, 'chunk', 1, 0x4000_0000);
    for (;;) {
      const bytes = new Uint8Array(chunk);
      let length: number;
      try {
        length = this.read(bytes);
      } catch (error) {
        if (KernelError.isKernelError(error) && error.code === 'ENOMSG') return;
        throw error;
      }
      if (length === 0) return;
      yield bytes.subarray(0, length);
    }
  }

  /** write(2) until all of it is taken. ENOMEM: more than the device's state is long. */
  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const taken = this.kernel.write(this.fd, bytes.subarray(at));
      if (taken === 0) throw new KernelError(EIO, 'write', { fd: this.fd, note: `${at} of ${bytes.length} bytes were taken` });
      at += taken;
    }
  }
}
