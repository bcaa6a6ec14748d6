import { Handle } from '../kernel/handle.ts';
import type { Kernel } from '../kernel/kernel.ts';
import {
  KVM_STATS_BASE_MASK,
  KVM_STATS_BASE_POW2,
  KVM_STATS_TYPE_MASK,
  KVM_STATS_UNIT_MASK,
  kvm_stats_header,
} from '../uapi/kvm.ts';

/** `struct kvm_stats_desc` before its name. */
const DESC_HEAD = 16;

const types = ['cumulative', 'instant', 'peak', 'linear histogram', 'log histogram'] as const;
const units = ['none', 'bytes', 'seconds', 'cycles', 'boolean'] as const;

/** One statistic: what `struct kvm_stats_desc` says of it, and its values now. */
export interface Statistic {
  readonly name: string;
  readonly type: (typeof types)[number] | number;
  readonly unit: (typeof units)[number] | number;
  /** A value counts `base ** exponent` units. */
  readonly base: 2 | 10;
  readonly exponent: number;
  /** Of a linear histogram, in units of a value; otherwise 0. */
  readonly bucket_size: number;
  /** One, or the buckets of a histogram. */
  readonly values: readonly bigint[];
}

/** A descriptor made by KVM_GET_STATS_FD. It keeps the VM alive. */
export class KvmStats extends Handle {
  /** A statistics descriptor from outside. `close()` closes it; `kernel.close()` does not. */
  static fromFd(kernel: Kernel, fd: number): KvmStats {
    return new KvmStats(kernel, kernel.adopt(fd));
  }

  /** pread(2) of header, id, descriptors and data: all statistics by name, in the kernel's order (Documentation/virt/kvm/api.rst, 4.134). */
  read(): { id: string; statistics: ReadonlyMap<string, Statistic> } {
    const head = this.#bytes(0, kvm_stats_header.size);
    const header = kvm_stats_header.decode(head);
    const { name_size, num_desc, id_offset, desc_offset, data_offset } = header;
    const descriptors = this.#bytes(desc_offset, num_desc * (DESC_HEAD + name_size));
    const view = new DataView(descriptors.buffer, descriptors.byteOffset, descriptors.byteLength);
    const statistics = new Map<string, Statistic>();
    for (let at = 0; at < descriptors.length; at += DESC_HEAD + name_size) {
      const flags = view.getUint32(at, true);
      const size = view.getUint16(at + 6, true);
      const values = this.#bytes(data_offset + view.getUint32(at + 8, true), size * 8);
      const words = new DataView(values.buffer, values.byteOffset, values.byteLength);
      const type = flags & KVM_STATS_TYPE_MASK;
      const unit = (flags & KVM_STATS_UNIT_MASK) >>> 4;
      const name = text(descriptors.subarray(at + DESC_HEAD, at + DESC_HEAD + name_size));
      statistics.set(name, {
        name,
        type: types[type] ?? type,
        unit: units[unit] ?? unit,
        base: (flags & KVM_STATS_BASE_MASK) === KVM_STATS_BASE_POW2 ? 2 : 10,
        exponent: view.getInt16(at + 4, true),
        bucket_size: view.getUint32(at + 12, true),
        values: Array.from({ length: size }, (_, i) => words.getBigUint64(i * 8, true)),
      });
    }
    return { id: text(this.#bytes(id_offset, name_size)), statistics };
  }

  #bytes(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.kernel.pread(this.fd, bytes, BigInt(offset));
    return bytes;
  }
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(bytes.subarray(0, end < 0 ? bytes.length : end)).toString('latin1');
}
