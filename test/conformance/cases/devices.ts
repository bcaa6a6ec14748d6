/** KVM_CREATE_DEVICE and the one device x86 has: KVM-VFIO, as far as it goes without a VFIO file. */
import type { Kernel } from 'kvio';
import {
  F_GETFD,
  F_GETFL,
  KVM_CHECK_EXTENSION,
  KVM_CREATE_DEVICE,
  KVM_CREATE_DEVICE_TEST,
  KVM_CREATE_VCPU,
  KVM_DEV_TYPE_VFIO,
  KVM_GET_DEVICE_ATTR,
  KVM_GET_REGS,
  KVM_HAS_DEVICE_ATTR,
  KVM_SET_DEVICE_ATTR,
  kvm_create_device,
  kvm_device_attr,
  MAP_PRIVATE,
  PROT_EXEC,
  PROT_READ,
} from 'kvio/uapi';
import { type Case, define, hex, type Observer } from '../case.ts';
import { newVcpu, newVm, openKvm, UNSAFE } from '../machine.ts';
import { guestMemfd } from '../private.ts';

const section = 'Devices';
const TEST = KVM_CREATE_DEVICE_TEST;
const VFIO = KVM_DEV_TYPE_VFIO;
const FILE = 1;
const ADD = 1n;
const DEL = 2n;

/** KVM_CREATE_DEVICE: the descriptor it gave. */
function create(kernel: Kernel, vm: number, type = VFIO, flags = 0): number {
  const bytes = kvm_create_device.encode({ type, fd: 0x12345, flags });
  kernel.ioctl(vm, KVM_CREATE_DEVICE, bytes);
  return kvm_create_device.decode(bytes).fd;
}

/** A struct kvm_device_attr whose `addr` names a descriptor number in memory. */
function attribute(kernel: Kernel, fd: number, attr: bigint, more: Partial<kvm_device_attr> = {}): Uint8Array {
  const memory = kernel.guestRam(4096);
  memory.write32(0, fd >>> 0);
  return kvm_device_attr.encode({ flags: 0, group: FILE, attr, addr: memory.address, ...more });
}

/** Calls of one device, a line each. */
function asker(kernel: Kernel, see: Observer, device: number) {
  const ask = (label: string, request: number, bytes: Uint8Array): void =>
    void see.call(label, () => kernel.ioctl(device, request, bytes, UNSAFE));
  return {
    has: (label: string, attr: Partial<kvm_device_attr>) =>
      ask(label, KVM_HAS_DEVICE_ATTR, kvm_device_attr.encode({ flags: 0, group: FILE, attr: ADD, addr: 0n, ...attr })),
    add: (label: string, fd: number, more?: Partial<kvm_device_attr>) =>
      ask(label, KVM_SET_DEVICE_ATTR, attribute(kernel, fd, ADD, more)),
    del: (label: string, fd: number, more?: Partial<kvm_device_attr>) =>
      ask(label, KVM_SET_DEVICE_ATTR, attribute(kernel, fd, DEL, more)),
    raw: ask,
  };
}

export const deviceCases: Case[] = [
  define('kvm/devices/create', section, (kernel, see) => {
    const vm = newVm(kernel);
    see.call('pointer 0', () => kernel.ioctl(vm, KVM_CREATE_DEVICE, 0));
    for (const type of [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 100, 0xffffffff]) {
      see.descriptor(`type ${hex(type)}`, () => create(kernel, vm, type));
      see.descriptor(`type ${hex(type)}, TEST`, () => create(kernel, vm, type, TEST));
    }
    see.note('TEST leaves fd as it was', hex(create(kernel, vm, VFIO, TEST)));
    see.note('TEST with all other flags', hex(create(kernel, vm, VFIO, 0xffffffff)));
    const device = see.descriptor('all flags but TEST', () => create(kernel, vm, VFIO, 0xfffffffe));
    see.descriptor('a second one', () => create(kernel, vm));
    see.note('TEST of a second one', hex(create(kernel, vm, VFIO, TEST)));
    see.descriptor('one of another VM', () => create(kernel, newVm(kernel)));
    const twin = kernel.dup(device);
    kernel.close(device);
    see.descriptor('while a dup is open', () => create(kernel, vm));
    kernel.close(twin);
    const again = see.descriptor('after all are closed', () => create(kernel, vm));
    see.note('the lowest free number', again === device);
  }),
  define(
    'kvm/devices/create-emfile',
    section,
    (kernel, see) => {
      const [vm, other] = [newVm(kernel), newVm(kernel)];
      create(kernel, vm);
      let last = -1;
      for (let more = true; more; ) {
        try {
          last = kernel.dup(vm);
        } catch {
          more = false;
        }
      }
      see.call('an unknown type', () => create(kernel, vm, 99));
      see.call('TEST', () => create(kernel, vm, VFIO, TEST));
      see.call('a second one', () => create(kernel, vm));
      see.call('a first one', () => create(kernel, other));
      kernel.close(last);
      see.descriptor('one that failed leaves nothing behind', () => create(kernel, other));
    },
    { needs: { nofile: 4096 } },
  ),
  define('kvm/devices/file', section, (kernel, see) => {
    const fd = create(kernel, newVm(kernel));
    see.call('F_GETFD', () => kernel.fcntl(fd, F_GETFD));
    see.call('F_GETFL', () => hex(kernel.fcntl(fd, F_GETFL)));
    see.call('/proc/self/fd', () => kernel.readlink(`/proc/self/fd/${fd}`));
    see.call('mode of fstat', () => `0${kernel.fstat(fd).mode.toString(8)}`);
    see.call('read', () => kernel.read(fd, new Uint8Array(8)));
    see.call('write', () => kernel.write(fd, new Uint8Array(8)));
    see.call('pread', () => kernel.pread(fd, new Uint8Array(8), 0));
    see.call('ftruncate 0', () => kernel.ftruncate(fd, 0));
    see.call('fallocate', () => kernel.fallocate(fd, 0, 0, 4096));
    see.call('poll, all events', () => hex(kernel.poll([{ fd, events: 0xffff }])[0]!));
    for (const [name, options] of Object.entries({
      shared: {},
      private: { flags: MAP_PRIVATE },
      executable: { prot: PROT_READ | PROT_EXEC },
    }))
      see.call(`mmap, ${name}`, () => kernel.mmap({ fd, length: 4096, view: false, ...options }).length);
    see.call('KVM_CHECK_EXTENSION', () => kernel.ioctl(fd, KVM_CHECK_EXTENSION, 0));
    see.call('KVM_GET_REGS', () => kernel.ioctl(fd, KVM_GET_REGS, 0));
    see.call('KVM_CREATE_DEVICE', () => kernel.ioctl(fd, KVM_CREATE_DEVICE, 0));
    see.call('unknown ioctl of type 0xae', () => kernel.ioctl(fd, 0xaeff));
    see.call('unknown ioctl of another type', () => kernel.ioctl(fd, 0x3b00));
    see.call('TCGETS', () => kernel.ioctl(fd, 0x5401, 0));
  }),
  define('kvm/devices/vfio-attributes', section, (kernel, see) => {
    const device = create(kernel, newVm(kernel));
    for (const [name, request] of Object.entries({
      HAS: KVM_HAS_DEVICE_ATTR,
      GET: KVM_GET_DEVICE_ATTR,
      SET: KVM_SET_DEVICE_ATTR,
    }))
      see.call(`${name}, pointer 0`, () => kernel.ioctl(device, request, 0));
    const { has, raw } = asker(kernel, see, device);
    for (const [group, attr] of [
      [0, 0n],
      [0, 1n],
      [1, 0n],
      [1, 1n],
      [1, 2n],
      [1, 3n],
      [1, 1n << 32n],
      [1, (1n << 32n) | 1n],
      [2, 1n],
      [0x80000001, 1n],
    ] as const) {
      has(`HAS ${hex(group)}/${hex(attr)}`, { group, attr });
      raw(`GET ${hex(group)}/${hex(attr)}`, KVM_GET_DEVICE_ATTR, kvm_device_attr.encode({ flags: 0, group, attr, addr: 0n }));
      raw(
        `SET ${hex(group)}/${hex(attr)}, address 0`,
        KVM_SET_DEVICE_ATTR,
        kvm_device_attr.encode({ flags: 0, group, attr, addr: 0n }),
      );
    }
    has('HAS with flags', { flags: 0xffffffff });
  }),
  define('kvm/devices/vfio-files', section, (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    const device = create(kernel, vm);
    const { add, del } = asker(kernel, see, device);
    const others = {
      'no descriptor': -1,
      'a closed descriptor': 900,
      '2^31 - 1': 0x7fffffff,
      'a negative number': -4096,
      '/dev/kvm': openKvm(kernel),
      'the VM': vm,
      'a vCPU': vcpu,
      itself: device,
      'an eventfd': kernel.eventfd(),
      'a memfd': kernel.memfd('kvio'),
    };
    for (const [name, fd] of Object.entries(others)) {
      add(`ADD of ${name}`, fd);
      del(`DEL of ${name}`, fd);
    }
    add('ADD with flags', vm, { flags: 0xffffffff });
    del('DEL with flags', vm, { flags: 0xffffffff });
    add('ADD in the kernel half', vm, { addr: 0xffff800000000000n });
    del('DEL from an address that is no multiple of 4', -1, { addr: attributeAddress(kernel) + 2n });
  }),
  define(
    'kvm/devices/vfio-guest-memfd',
    section,
    (kernel, see) => {
      const vm = newVm(kernel);
      const memfd = guestMemfd(kernel, vm, 0x1000n);
      const { add, del } = asker(kernel, see, create(kernel, vm));
      add('ADD', memfd);
      del('DEL', memfd);
    },
    { needs: { capability: 234 } },
  ),
  define('kvm/devices/outlives-the-vm-descriptor', section, (kernel, see) => {
    const vm = newVm(kernel);
    const device = create(kernel, vm);
    kernel.close(vm);
    const { has, add } = asker(kernel, see, device);
    has('HAS', {});
    add('ADD of a closed descriptor', 900);
  }),
  define('kvm/devices/vfio-with-a-vcpu', section, (kernel, see) => {
    const vm = newVm(kernel);
    kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
    see.descriptor('after a vCPU', () => create(kernel, vm));
  }),
];

/** Two descriptor numbers in a row: −1 across the border of both. */
function attributeAddress(kernel: Kernel): bigint {
  const memory = kernel.guestRam(4096);
  memory.write64(0, 0xffffffffffffffffn);
  return memory.address;
}
