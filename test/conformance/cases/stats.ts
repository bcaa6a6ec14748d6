/** KVM_GET_STATS_FD: the binary statistics of a VM and of a vCPU. */
import type { Kernel } from 'kvio';
import { F_GETFL, KVM_GET_STATS_FD, KVM_RUN, kvm_stats_header } from 'kvio/uapi';
import { type Case, define, type Observer, result } from '../case.ts';
import { startGuest } from '../guest.ts';
import { newVcpu, newVm } from '../machine.ts';

/** struct kvm_stats_desc before its name. */
const DESC = 16;
const HEADER: number = kvm_stats_header.size;

interface Descriptor {
  readonly name: string;
  readonly flags: number;
  readonly exponent: number;
  readonly size: number;
  readonly offset: number;
  readonly bucket_size: number;
}

function readAll(kernel: Kernel, fd: number): Uint8Array {
  const bytes = new Uint8Array(16384);
  return bytes.subarray(0, kernel.pread(fd, bytes, 0n));
}

function headerOf(bytes: Uint8Array): ReturnType<typeof kvm_stats_header.decode> {
  return kvm_stats_header.decode(bytes.slice(0, HEADER));
}

function descriptorsOf(bytes: Uint8Array): Descriptor[] {
  const { num_desc, desc_offset, name_size } = headerOf(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: num_desc }, (_, i) => {
    const at = desc_offset + i * (DESC + name_size);
    return {
      name: text(bytes.subarray(at + DESC, at + DESC + name_size)),
      flags: view.getUint32(at, true),
      exponent: view.getInt16(at + 4, true),
      size: view.getUint16(at + 6, true),
      offset: view.getUint32(at + 8, true),
      bucket_size: view.getUint32(at + 12, true),
    };
  });
}

function value(bytes: Uint8Array, name: string): bigint | undefined {
  const found = descriptorsOf(bytes).find((one) => one.name === name);
  if (found === undefined) return undefined;
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(headerOf(bytes).data_offset + found.offset, true);
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(bytes.subarray(0, end < 0 ? bytes.length : end)).toString('latin1');
}

/** Statistics of kernels that carry patches of their own; they come last. */
const patched: ReadonlySet<string> = new Set(['mmu_kicks_spared', 'pf_parked', 'pf_park_timeouts']);

function describe(kernel: Kernel, see: Observer, fd: number): void {
  const bytes = readAll(kernel, fd);
  const header = headerOf(bytes);
  see.note('header', header);
  see.note(
    'the data follow the descriptors',
    header.data_offset === header.desc_offset + header.num_desc * (DESC + header.name_size),
  );
  see.note('length', bytes.length);
  see.note('id', text(bytes.subarray(HEADER, HEADER + headerOf(bytes).name_size)).replace(/^kvm-\d+/, 'kvm-(pid)'));
  for (const { name, ...rest } of descriptorsOf(bytes)) {
    if (patched.has(name)) continue;
    const { flags, exponent, size, offset, bucket_size } = rest;
    see.note(name, `flags 0x${flags.toString(16)}, 10^${exponent}, ${size} at ${offset}, bucket ${bucket_size}`);
  }
}

export const statsCases: Case[] = [
  define(
    'kvm/stats/vm',
    'Binary stats',
    (kernel, see) => {
      const vm = newVm(kernel);
      describe(kernel, see, kernel.ioctl(vm, KVM_GET_STATS_FD));
    },
    { volatile: ['header/num_desc', 'header/data_offset', 'length'] },
  ),
  define(
    'kvm/stats/vcpu',
    'Binary stats',
    (kernel, see) => {
      const { vcpu } = newVcpu(kernel, 3);
      describe(kernel, see, kernel.ioctl(vcpu, KVM_GET_STATS_FD));
    },
    { volatile: ['header/num_desc', 'header/data_offset', 'length'] },
  ),
  ...(['VM', 'vCPU'] as const).map((of) =>
    define(`kvm/stats/file of a ${of}`, 'Binary stats', (kernel, see) => {
      const { vm, vcpu } = newVcpu(kernel, 2);
      const owner = of === 'VM' ? vm : vcpu;
      see.descriptor('the argument is not looked at', () => kernel.ioctl(owner, KVM_GET_STATS_FD, 77));
      const fd = kernel.ioctl(owner, KVM_GET_STATS_FD);
      see.note('link', kernel.readlink(`/proc/self/fd/${fd}`));
      see.note('F_GETFL', kernel.fcntl(fd, F_GETFL, 0) & 3);
      see.note('mode', kernel.fstat(fd).mode);
      const bytes = new Uint8Array(100);
      see.call('read', () => kernel.read(fd, bytes));
      const again = new Uint8Array(100);
      see.call('pread of the same', () => kernel.pread(fd, again, 0n));
      see.note('it is the same', Buffer.compare(bytes, again) === 0);
      see.call('read goes on', () => kernel.read(fd, again));
      const third = new Uint8Array(100);
      kernel.pread(fd, third, 100n);
      see.note('from where it was', Buffer.compare(third, again) === 0);
      const length = readAll(kernel, fd).length;
      see.call('pread across the end', () => kernel.pread(fd, new Uint8Array(100), BigInt(length - 10)));
      see.call('pread at the end', () => kernel.pread(fd, new Uint8Array(100), BigInt(length)));
      see.call('pread beyond', () => kernel.pread(fd, new Uint8Array(100), 1n << 40n));
      see.call('pread of nothing', () => kernel.pread(fd, new Uint8Array(0), 0n));
      see.call('pread across header and id', () => kernel.pread(fd, new Uint8Array(30), 20n));
      see.call('write', () => kernel.write(fd, new Uint8Array(8)));
      see.call('pwrite', () => kernel.pwrite(fd, new Uint8Array(8), 0n));
      see.call('KVM_RUN', () => kernel.ioctl(fd, KVM_RUN));
      see.call('ftruncate', () => kernel.ftruncate(fd, 0n));
      see.call('fallocate', () => kernel.fallocate(fd, 0, 0n, 4096n));
      see.call('mmap', () => {
        kernel.mmap({ fd, length: 4096 });
      });
      kernel.close(vcpu);
      kernel.close(vm);
      see.call('after its VM is closed', () => kernel.pread(fd, new Uint8Array(24), 0n));
    }),
  ),
  define('kvm/stats/counted', 'Binary stats', (kernel, see) => {
    // out 0x10, al; out 0x10, al; in al, 0x10; mov [0], al beyond RAM; hlt
    const guest = startGuest(kernel, [0xe6, 0x10, 0xe6, 0x10, 0xe4, 0x10, 0xa2, 0, 0, 0xf4], {
      sregs: ({ ds }) => Object.assign(ds, { base: 0x100000n, selector: 0 }),
    });
    const fd = kernel.ioctl(guest.vcpu, KVM_GET_STATS_FD);
    const before = readAll(kernel, fd);
    for (const name of ['io_exits', 'mmio_exits', 'halt_exits', 'guest_mode', 'blocking'])
      see.note(`before: ${name}`, value(before, name));
    for (let i = 0; i < 5; i++) see.note(`run ${i}`, result(kernel.run(guest.vcpu)));
    const after = readAll(kernel, fd);
    for (const name of ['io_exits', 'mmio_exits', 'halt_exits', 'guest_mode', 'blocking'])
      see.note(`after: ${name}`, value(after, name));
    see.note('after: exits', value(after, 'exits')! > 0n);
  }),
];
