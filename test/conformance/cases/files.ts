/** What a descriptor of each kind answers to the calls every file has. */
import type { Kernel } from 'kvio';
import {
  F_GETFD,
  F_GETFL,
  F_SETFD,
  FALLOC_FL_KEEP_SIZE,
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  MAP_PRIVATE,
  O_CLOEXEC,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  POLLERR,
  POLLIN,
  POLLOUT,
  POLLPRI,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from 'kvio/uapi';
import { type Case, define, hex } from '../case.ts';
import { newVcpu, openKvm } from '../machine.ts';

const section = 'Kinds of descriptors';

export interface Kind {
  readonly name: string;
  make(kernel: Kernel): number;
}

/** One descriptor of each kind there is so far. */
export const kinds: readonly Kind[] = [
  { name: 'system', make: openKvm },
  { name: 'VM', make: (kernel) => newVcpu(kernel).vm },
  { name: 'vCPU', make: (kernel) => newVcpu(kernel, 3).vcpu },
  { name: 'eventfd', make: (kernel) => kernel.eventfd(0, 0x800 /* EFD_NONBLOCK */) },
  { name: 'memfd', make: (kernel) => kernel.memfd('kvio') },
];

const kvmKinds: readonly Kind[] = kinds.filter((kind) => /system|VM|vCPU/.test(kind.name));

function fileCase({ name, make }: Kind): Case {
  return define(`kvm/files/${name}`, section, (kernel, see) => {
    const fd = make(kernel);
    see.call('F_GETFD', () => kernel.fcntl(fd, F_GETFD));
    see.call('F_GETFL', () => hex(kernel.fcntl(fd, F_GETFL)));
    see.call('/proc/self/fd', () => kernel.readlink(`/proc/self/fd/${fd}`));
    see.call('mode of fstat', () => `0${kernel.fstat(fd).mode.toString(8)}`);
    see.call('size of fstat', () => kernel.fstat(fd).size);
    see.call('rdev of fstat', () => hex(kernel.fstat(fd).rdev));
    see.call('nlink of fstat', () => kernel.fstat(fd).nlink);
    see.call('read', () => kernel.read(fd, new Uint8Array(8)));
    see.call('read of nothing', () => kernel.read(fd, new Uint8Array(0)));
    see.call('write', () => kernel.write(fd, new Uint8Array(8)));
    see.call('write of nothing', () => kernel.write(fd, new Uint8Array(0)));
    see.call('pread', () => kernel.pread(fd, new Uint8Array(8), 0));
    see.call('pread at 2^40', () => kernel.pread(fd, new Uint8Array(8), 1n << 40n));
    see.call('pwrite', () => kernel.pwrite(fd, new Uint8Array(8), 0));
    see.call('ftruncate 0', () => kernel.ftruncate(fd, 0));
    see.call('ftruncate 4096', () => kernel.ftruncate(fd, 4096));
    see.call('fallocate', () => kernel.fallocate(fd, 0, 0, 4096));
    see.call('fallocate KEEP_SIZE', () => kernel.fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 4096));
    see.call('fallocate of nothing', () => kernel.fallocate(fd, 0, 0, 0));
    see.call('fallocate with unknown mode', () => kernel.fallocate(fd, 0x4000, 0, 4096));
    see.call('poll, all events', () => hex(kernel.poll([{ fd, events: 0xffff }])[0]!));
    see.call('poll, POLLIN|POLLOUT', () => kernel.poll([{ fd, events: POLLIN | POLLOUT }])[0]!);
    see.call('poll, POLLPRI|POLLERR', () => kernel.poll([{ fd, events: POLLPRI | POLLERR }])[0]!);
    see.call('unknown ioctl of type 0xae', () => kernel.ioctl(fd, 0xaeff));
    see.call('unknown ioctl of another type', () => kernel.ioctl(fd, 0x3b00));
    see.call('TCGETS', () => kernel.ioctl(fd, 0x5401, 0));
  });
}

function mapCase({ name, make }: Kind): Case {
  return define(`kvm/files/mmap-${name}`, section, (kernel, see) => {
    const fd = make(kernel);
    const map = (label: string, options: object) =>
      see.call(label, () => {
        kernel.mmap({ fd, length: 4096, view: false, ...options }).close();
        return 'mapped';
      });
    map('shared', {});
    map('private', { flags: MAP_PRIVATE });
    map('read-only', { prot: PROT_READ });
    map('PROT_EXEC', { prot: PROT_READ | PROT_EXEC });
    map('PROT_NONE', { prot: 0 });
    map('unaligned offset', { offset: 1 });
    map('flags without a sharing type', { flags: 0 });
  });
}

export const fileCases: Case[] = [
  ...kinds.map(fileCase),
  ...kvmKinds.filter((kind) => kind.name !== 'vCPU').map(mapCase),
  define('kvm/files/open', section, (kernel, see) => {
    for (const [name, flags] of [
      ['O_RDONLY', O_RDONLY],
      ['O_WRONLY', O_WRONLY],
      ['O_RDWR', O_RDWR],
      ['O_RDWR|O_CLOEXEC', O_RDWR | O_CLOEXEC],
    ] as const) {
      const fd = see.descriptor(name, () => kernel.open('/dev/kvm', flags));
      see.call(`${name}: F_GETFD`, () => kernel.fcntl(fd, F_GETFD));
      see.call(`${name}: F_GETFL`, () => hex(kernel.fcntl(fd, F_GETFL)));
      see.descriptor(`${name}: KVM_CREATE_VM`, () => kernel.ioctl(fd, KVM_CREATE_VM, 0));
      see.call(`${name}: read`, () => kernel.read(fd, new Uint8Array(8)));
      see.call(`${name}: write`, () => kernel.write(fd, new Uint8Array(8)));
      see.call(`${name}: pread`, () => kernel.pread(fd, new Uint8Array(8), 0));
      see.call(`${name}: mmap`, () => kernel.mmap({ fd, length: 4096, prot: PROT_READ | PROT_WRITE, view: false }).length);
    }
    see.descriptor('a path that is not there', () => kernel.open('/dev/kvio-no-such-device'));
    see.descriptor('a path below a file', () => kernel.open('/dev/kvm/x'));
    see.descriptor('a directory read-write', () => kernel.open('/dev'));
    see.descriptor('no path', () => kernel.open(''));
    see.descriptor('O_CREAT|O_EXCL', () => kernel.open('/dev/kvm', O_RDWR | 0o300));
    see.descriptor('O_DIRECTORY', () => kernel.open('/dev/kvm', O_RDWR | 0o200000));
  }),
  define('kvm/files/dup-and-close-on-exec', section, (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    for (const [name, fd] of [
      ['VM', vm],
      ['vCPU', vcpu],
    ] as const) {
      const twin = kernel.dup(fd);
      see.note(`${name}: a dup is another descriptor`, twin !== fd);
      see.call(`${name}: F_GETFD of the dup`, () => kernel.fcntl(twin, F_GETFD));
      see.call(`${name}: F_SETFD 0`, () => kernel.fcntl(fd, F_SETFD, 0));
      see.call(`${name}: F_GETFD then`, () => kernel.fcntl(fd, F_GETFD));
      see.call(`${name}: F_DUPFD_CLOEXEC`, () => kernel.fcntl(kernel.fcntl(fd, 1030, 0), F_GETFD));
      see.note(`${name}: F_DUPFD gives at least the number asked`, kernel.fcntl(fd, 0, 200) >= 200);
      see.call(`${name}: unknown command`, () => kernel.fcntl(fd, 9999));
      see.call(`${name}: link of the dup`, () => kernel.readlink(`/proc/self/fd/${twin}`));
    }
  }),
  define('kvm/files/lowest-free', section, (kernel, see) => {
    const kvm = openKvm(kernel);
    const [a, b, c] = [kernel.dup(kvm), kernel.dup(kvm), kernel.dup(kvm)] as const;
    kernel.close(b);
    kernel.close(a);
    see.note('the lower of two free numbers first', kernel.ioctl(kvm, KVM_CREATE_VM, 0) === Math.min(a, b));
    const vm = Math.min(a, b);
    see.note('then the other, for a vCPU', kernel.ioctl(vm, KVM_CREATE_VCPU, 0) === Math.max(a, b));
    kernel.close(c);
    see.note('an eventfd', kernel.eventfd() === c);
    kernel.close(c);
    see.note('a memfd', kernel.memfd('x') === c);
    see.call('link of a vCPU names its id', () => kernel.readlink(`/proc/self/fd/${kernel.ioctl(vm, KVM_CREATE_VCPU, 4095)}`));
  }),
];
