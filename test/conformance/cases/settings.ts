/** What a VM is told before its vCPUs exist, extended control registers, interrupts and NMIs, and the ioctls every file takes. */
import {
  F_GETFD,
  F_GETFL,
  KVM_CREATE_VCPU,
  KVM_GET_CPUID2,
  KVM_GET_DEBUGREGS,
  KVM_GET_MSRS,
  KVM_GET_TSC_KHZ,
  KVM_GET_VCPU_EVENTS,
  KVM_GET_XCRS,
  KVM_INTERRUPT,
  KVM_NMI,
  KVM_SET_BOOT_CPU_ID,
  KVM_SET_CPUID2,
  KVM_SET_IDENTITY_MAP_ADDR,
  KVM_SET_NR_MMU_PAGES,
  KVM_SET_TSC_KHZ,
  KVM_SET_TSS_ADDR,
  KVM_SET_XCRS,
  KVM_SMI,
  kvm_vcpu_events,
  kvm_xcrs,
  PROT_READ,
} from 'kvio/uapi';
import { type Case, define, hex, nonZero } from '../case.ts';
import { cpuidBytes, getSregs, newVcpu, newVm, UNSAFE, withU32 } from '../machine.ts';
import { kinds } from './files.ts';

const section = 'VM settings';

/** The ioctls the VFS answers for any file, and what each is given. */
const vfs: readonly (readonly [string, number, number | undefined])[] = [
  ['FIOCLEX', 0x5451, undefined],
  ['FIONCLEX', 0x5450, undefined],
  ['FIONBIO on', 0x5421, 1],
  ['FIONBIO off', 0x5421, 0],
  ['FIOASYNC on', 0x5452, 1],
  ['FIOASYNC off', 0x5452, 0],
  ['FIGETBSZ', 2, 0],
];

function xcrs(nr_xcrs: number, values: readonly (readonly [number, bigint])[], flags = 0): Uint8Array {
  const all = Array.from({ length: 16 }, (_, at) => ({ xcr: values[at]?.[0] ?? 0, reserved: 0, value: values[at]?.[1] ?? 0n }));
  return kvm_xcrs.encode({ nr_xcrs, flags, xcrs: all });
}

export const settingsCases: Case[] = [
  ...(['before', 'after'] as const).map((when) =>
    define(`kvm/settings/${when}-a-vcpu`, section, (kernel, see) => {
      const vm = newVm(kernel);
      if (when === 'after') kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
      for (const id of [0n, 1n, 4095n, 4096n, 4097n, 1n << 32n]) {
        see.call(`SET_BOOT_CPU_ID ${hex(id)}`, () => kernel.ioctl(vm, KVM_SET_BOOT_CPU_ID, id));
      }
      for (const address of [0n, 0xfffbd000n, 0xffffd000n, 0xffffcfffn, 0xffffd001n, 1n << 32n]) {
        see.call(`SET_TSS_ADDR ${hex(address)}`, () => kernel.ioctl(vm, KVM_SET_TSS_ADDR, address));
      }
      see.call('SET_IDENTITY_MAP_ADDR, pointer 0', () => kernel.ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, 0));
      for (const address of [0n, 0xfffbc000n, 5n]) {
        const bytes = new Uint8Array(BigUint64Array.of(address).buffer);
        see.call(`SET_IDENTITY_MAP_ADDR ${hex(address)}`, () => kernel.ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, bytes));
      }
      for (const pages of [0, 1, 63, 64, 65, 1000])
        see.call(`SET_NR_MMU_PAGES ${pages}`, () => kernel.ioctl(vm, KVM_SET_NR_MMU_PAGES, pages));
      see.note('GET_TSC_KHZ is that of the host', kernel.ioctl(vm, KVM_GET_TSC_KHZ) > 0);
      const khz = kernel.ioctl(vm, KVM_GET_TSC_KHZ);
      see.call('SET_TSC_KHZ to what it is', () => kernel.ioctl(vm, KVM_SET_TSC_KHZ, khz));
      see.call('SET_TSC_KHZ 0', () => kernel.ioctl(vm, KVM_SET_TSC_KHZ, 0));
      see.call('SET_TSC_KHZ 2^31', () => kernel.ioctl(vm, KVM_SET_TSC_KHZ, 2 ** 31));
    }),
  ),
  define('kvm/settings/boot-cpu', section, (kernel, see) => {
    const vm = newVm(kernel);
    kernel.ioctl(vm, KVM_SET_BOOT_CPU_ID, 3);
    for (const id of [0, 3])
      see.note(`apic_base of vCPU ${id}`, getSregs(kernel, kernel.ioctl(vm, KVM_CREATE_VCPU, id)).apic_base);
  }),
  define('kvm/settings/most-vcpus', 'CREATE_VCPU', (kernel, see) => {
    const vm = newVm(kernel);
    // A descriptor table of 1024 is smaller than the limit of vCPUs; a closed vCPU still counts.
    for (let id = 0; id < 1024; id++) kernel.close(kernel.ioctl(vm, KVM_CREATE_VCPU, id * 2));
    see.descriptor('one more than 1024', () => kernel.ioctl(vm, KVM_CREATE_VCPU, 1));
    see.descriptor('one that exists', () => kernel.ioctl(vm, KVM_CREATE_VCPU, 0));
    see.descriptor('a bad id', () => kernel.ioctl(vm, KVM_CREATE_VCPU, 5000));
  }),
  define('kvm/xcrs', 'Extended control registers', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const bytes = kvm_xcrs.alloc();
    see.call('GET, pointer 0', () => kernel.ioctl(vcpu, KVM_GET_XCRS, 0));
    see.call('SET, pointer 0', () => kernel.ioctl(vcpu, KVM_SET_XCRS, 0));
    see.call('GET', () => kernel.ioctl(vcpu, KVM_GET_XCRS, bytes));
    see.note('of a new vCPU', nonZero(kvm_xcrs.decode(bytes)));
    for (const [label, given] of [
      ['none', xcrs(0, [])],
      ['XCR0 1', xcrs(1, [[0, 1n]])],
      ['XCR0 0', xcrs(1, [[0, 0n]])],
      ['XCR0 3 without CPUID', xcrs(1, [[0, 3n]])],
      ['XCR0 4', xcrs(1, [[0, 4n]])],
      ['XCR1 only', xcrs(1, [[1, 0n]])],
      [
        'XCR1, then a bad XCR0',
        xcrs(2, [
          [1, 0n],
          [0, 0n],
        ]),
      ],
      [
        'XCR0, then a bad XCR0',
        xcrs(2, [
          [0, 1n],
          [0, 0n],
        ]),
      ],
      ['16 of them', xcrs(16, [[0, 1n]])],
      ['17 of them', xcrs(17, [[0, 1n]])],
      ['flags', xcrs(1, [[0, 1n]], 1)],
    ] as const) {
      see.call(`SET ${label}`, () => kernel.ioctl(vcpu, KVM_SET_XCRS, given));
    }
  }),
  define('kvm/interrupt-and-nmi', 'Pending events', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const events = () => {
      const bytes = kvm_vcpu_events.alloc();
      kernel.ioctl(vcpu, KVM_GET_VCPU_EVENTS, bytes);
      return nonZero(kvm_vcpu_events.decode(bytes));
    };
    see.call('INTERRUPT, pointer 0', () => kernel.ioctl(vcpu, KVM_INTERRUPT, 0));
    for (const irq of [0x20, 0x21, 255, 256, 0xffffffff]) {
      see.call(`INTERRUPT ${hex(irq)}`, () => kernel.ioctl(vcpu, KVM_INTERRUPT, withU32(irq)));
      see.note(`INTERRUPT ${hex(irq)}: events`, events());
    }
    for (const time of ['first', 'second', 'third']) {
      see.call(`NMI, ${time}`, () => kernel.ioctl(vcpu, KVM_NMI));
      see.note(`NMI, ${time}: events`, events());
    }
    see.call('SMI', () => kernel.ioctl(vcpu, KVM_SMI));
  }),
  define('kvm/faults-half-way', 'User memory', (kernel, see) => {
    // Readable, not writable: what is read first passes, what is written back afterwards does not.
    const { vcpu } = newVcpu(kernel);
    kernel.ioctl(vcpu, KVM_SET_CPUID2, cpuidBytes([{ function: 0, eax: 1 }, { function: 1 }]));
    const memory = kernel.mmap({ length: 0x1000, view: false });
    for (const [name, request, count] of [
      ['GET_CPUID2', KVM_GET_CPUID2, 16],
      ['GET_CPUID2, too little room', KVM_GET_CPUID2, 1],
      ['GET_MSRS', KVM_GET_MSRS, 1],
      ['GET_MSRS of none', KVM_GET_MSRS, 0],
      ['GET_DEBUGREGS', KVM_GET_DEBUGREGS, 0],
      ['SET_CPUID2', KVM_SET_CPUID2, 1],
    ] as const) {
      kernel.mprotect(memory, 3);
      memory.write(0, new Uint8Array(0x1000));
      memory.write32(0, count);
      kernel.mprotect(memory, PROT_READ);
      see.call(name, () => kernel.ioctl(vcpu, request, memory, UNSAFE));
    }
  }),
  ...kinds.map(({ name, make }) =>
    define(`kvm/files/vfs-ioctls-${name}`, 'Kinds of descriptors', (kernel, see) => {
      const fd = make(kernel);
      for (const [label, request, value] of vfs) {
        see.call(label, () => kernel.ioctl(fd, request, value === undefined ? 0 : withU32(value, 8), UNSAFE));
        see.call(`${label}: F_GETFD`, () => kernel.fcntl(fd, F_GETFD));
        see.call(`${label}: F_GETFL`, () => hex(kernel.fcntl(fd, F_GETFL)));
      }
      see.call('FIONBIO, pointer 0', () => kernel.ioctl(fd, 0x5421, 0, UNSAFE));
    }),
  ),
];
