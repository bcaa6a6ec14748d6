/** /dev/kvm itself: every ioctl of the system descriptor. */
import {
  KVM_CHECK_EXTENSION,
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_GET_API_VERSION,
  KVM_GET_DEVICE_ATTR,
  KVM_GET_EMULATED_CPUID,
  KVM_GET_MSR_FEATURE_INDEX_LIST,
  KVM_GET_MSR_INDEX_LIST,
  KVM_GET_MSRS,
  KVM_GET_REGS,
  KVM_GET_SUPPORTED_CPUID,
  KVM_GET_SUPPORTED_HV_CPUID,
  KVM_GET_VCPU_MMAP_SIZE,
  KVM_HAS_DEVICE_ATTR,
  KVM_RUN,
  KVM_SET_MSRS,
  KVM_X86_GET_MCE_CAP_SUPPORTED,
  kvm_device_attr,
} from 'kvio/uapi';
import { type Case, define, hex, type Observer } from '../case.ts';
import { cpuidBytes, cpuidEntries, msrBytes, msrData, newVm, openKvm, UNSAFE, u32, withU32 } from '../machine.ts';

const section = 'System descriptor';

/** Capabilities whose value is the host's (CPUs online, CPU model), not the kernel's. */
const hostCapabilities: ReadonlySet<number> = new Set([9 /* NR_VCPUS */]);
const LAST_CAPABILITY = 260;

function attrBytes(group: number, attr: bigint, addr: bigint, flags = 0): Uint8Array {
  return kvm_device_attr.encode({ flags, group, attr, addr });
}

/** KVM_GET_MSR_INDEX_LIST and its feature twin follow one protocol. */
function msrListCase(name: string, request: number): Case {
  return define(
    `kvm/system/${name}`,
    section,
    (kernel, see) => {
      const kvm = openKvm(kernel);
      see.call('pointer 0', () => kernel.ioctl(kvm, request, 0));
      const probe = withU32(0, 4 + 4 * 1024);
      see.call('room for none', () => kernel.ioctl(kvm, request, probe));
      const count = u32(probe);
      see.note('count written although E2BIG', count > 0);
      see.note(
        'no index written',
        probe.subarray(4).every((byte) => byte === 0),
      );
      const short = withU32(count - 1, 4 + 4 * 1024);
      see.call('room for one too few', () => kernel.ioctl(kvm, request, short));
      see.note('count again', u32(short) === count);
      const exact = withU32(count, 4 + 4 * 1024);
      see.call('exact room', () => kernel.ioctl(kvm, request, exact));
      see.note('exact: same count', u32(exact) === count);
      const indices = Array.from({ length: count }, (_, at) => u32(exact, 4 + 4 * at));
      see.note('all different', new Set(indices).size === count);
      see.note(
        'nothing written behind',
        exact.subarray(4 + 4 * count).every((byte) => byte === 0),
      );
      const large = withU32(1000, 4 + 4 * 1024);
      see.call('more room than needed', () => kernel.ioctl(kvm, request, large));
      see.note('count corrected', u32(large) === count);
      see.note(
        'indices',
        indices.map((index) => hex(index)),
      );
    },
    // Which MSRs are in the list is the host CPU's: the order and the set are compared only where the identity is the same machine.
    { volatile: ['indices'] },
  );
}

/** KVM_GET_SUPPORTED_CPUID and KVM_GET_EMULATED_CPUID. */
function cpuidList(see: Observer, ioctl: (arg: Uint8Array | number) => number, most: number): void {
  see.call('pointer 0', () => ioctl(0));
  see.call('nent 0', () => ioctl(cpuidBytes([], 0, 257)));
  const one = cpuidBytes([], 1, 257);
  see.call('nent 1', () => ioctl(one));
  see.note('nent 1: header left alone', u32(one));
  see.note(
    'nent 1: entries left alone',
    one.subarray(8).every((byte) => byte === 0),
  );
  const full = cpuidBytes([], most, 257);
  see.call('enough room', () => ioctl(full));
  const entries = cpuidEntries(full);
  see.note('nent is the number of entries', entries.length > 0 && entries.length < most);
  const functions = entries.map((entry) => entry.function);
  see.note('first leaf', functions[0]);
  const ranges = [...new Set(functions.map((fn) => hex((fn & 0xffff0000) >>> 0)))];
  see.note('order of ranges', ranges);
  see.note(
    'leaves of one range ascend',
    ranges.every((range) => isSorted(functions.filter((fn) => hex((fn & 0xffff0000) >>> 0) === range))),
  );
  see.note(
    'nothing written behind',
    full.subarray(8 + 40 * entries.length).every((byte) => byte === 0),
  );
  see.call('exact room', () => ioctl(cpuidBytes([], entries.length, 257)));
  see.call('one too few', () => ioctl(cpuidBytes([], entries.length - 1, 257)));
}

function isSorted(numbers: readonly number[]): boolean {
  return numbers.every((value, at) => at === 0 || numbers[at - 1]! <= value);
}

export const systemCases: Case[] = [
  define('kvm/system/api-version', section, (kernel, see) => {
    const kvm = openKvm(kernel);
    see.call('arg 0', () => kernel.ioctl(kvm, KVM_GET_API_VERSION));
    see.call('arg 1', () => kernel.ioctl(kvm, KVM_GET_API_VERSION, 1));
    see.call('arg above 32 bits', () => kernel.ioctl(kvm, KVM_GET_API_VERSION, 1n << 32n));
    see.call('arg -1', () => kernel.ioctl(kvm, KVM_GET_API_VERSION, -1));
  }),
  define('kvm/system/vcpu-mmap-size', section, (kernel, see) => {
    const kvm = openKvm(kernel);
    see.call('arg 0', () => kernel.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE));
    see.call('arg 1', () => kernel.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 1));
    see.call('arg above 32 bits', () => kernel.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 1n << 32n));
  }),
  define('kvm/system/create-vm', section, (kernel, see) => {
    const kvm = openKvm(kernel);
    see.descriptor('type 0', () => kernel.ioctl(kvm, KVM_CREATE_VM, 0));
    for (const type of [1n, 2n, 3n, 4n, 5n, 6n, 31n, 32n, 63n, 64n, 1n << 31n, 1n << 32n, (1n << 64n) - 1n]) {
      see.descriptor(`type ${hex(type)}`, () => kernel.ioctl(kvm, KVM_CREATE_VM, type));
    }
    const a = kernel.ioctl(kvm, KVM_CREATE_VM, 0);
    const b = kernel.ioctl(kvm, KVM_CREATE_VM, 0);
    see.note('a second one is another', a !== b);
    kernel.close(a);
    see.note('takes the lowest free number', kernel.ioctl(kvm, KVM_CREATE_VM, 0) === a);
    kernel.close(b);
    see.descriptor('a bad type in between', () => kernel.ioctl(kvm, KVM_CREATE_VM, 99));
    see.note('a refused one leaves no descriptor behind', kernel.ioctl(kvm, KVM_CREATE_VM, 0) === b);
  }),
  define(
    'kvm/system/create-vm-emfile',
    section,
    (kernel, see) => {
      const kvm = openKvm(kernel);
      const vm = kernel.ioctl(kvm, KVM_CREATE_VM, 0);
      kernel.ioctl(vm, KVM_CREATE_VCPU, 7);
      const filler: number[] = [];
      see.call('filling the table ends with', () => {
        for (;;) filler.push(kernel.dup(kvm));
      });
      see.descriptor('CREATE_VM', () => kernel.ioctl(kvm, KVM_CREATE_VM, 0));
      see.descriptor('CREATE_VM with a bad type', () => kernel.ioctl(kvm, KVM_CREATE_VM, 99));
      see.descriptor('CREATE_VCPU', () => kernel.ioctl(vm, KVM_CREATE_VCPU, 0));
      see.descriptor('CREATE_VCPU of an id that exists', () => kernel.ioctl(vm, KVM_CREATE_VCPU, 7));
      see.descriptor('CREATE_VCPU of a bad id', () => kernel.ioctl(vm, KVM_CREATE_VCPU, 5000));
      see.descriptor('open', () => kernel.open('/dev/kvm'));
      see.descriptor('eventfd', () => kernel.eventfd());
      see.descriptor('memfd', () => kernel.memfd('full'));
      for (const fd of filler.splice(0)) kernel.close(fd);
      see.descriptor('the id that failed can be had afterwards', () => kernel.ioctl(vm, KVM_CREATE_VCPU, 0));
    },
    { needs: { nofile: 1024 } },
  ),
  define('kvm/system/capabilities', 'Capabilities', (kernel, see) => {
    const kvm = openKvm(kernel);
    const vm = newVm(kernel);
    for (const [name, fd] of [
      ['system', kvm],
      ['VM', vm],
    ] as const) {
      for (let capability = 0; capability <= LAST_CAPABILITY; capability++) {
        const value = kernel.tryIoctl(fd, KVM_CHECK_EXTENSION, capability);
        if (hostCapabilities.has(capability)) see.note(`${name} ${capability} is at least 1`, value >= 1);
        else see.note(`${name} ${capability}`, value);
      }
    }
  }),
  define('kvm/system/check-extension-odd', 'Capabilities', (kernel, see) => {
    const kvm = openKvm(kernel);
    const vm = newVm(kernel);
    for (const argument of [
      261n,
      1000n,
      0x7fffffffn,
      0x80000000n,
      0xffffffffn,
      1n << 32n,
      (1n << 32n) + 10n,
      1n << 63n,
      (1n << 64n) - 1n,
    ]) {
      see.call(`system ${hex(argument)}`, () => kernel.ioctl(kvm, KVM_CHECK_EXTENSION, argument));
      see.call(`VM ${hex(argument)}`, () => kernel.ioctl(vm, KVM_CHECK_EXTENSION, argument));
    }
  }),
  msrListCase('msr-index-list', KVM_GET_MSR_INDEX_LIST),
  msrListCase('msr-feature-index-list', KVM_GET_MSR_FEATURE_INDEX_LIST),
  define('kvm/system/supported-cpuid', section, (kernel, see) => {
    const kvm = openKvm(kernel);
    cpuidList(see, (arg) => kernel.ioctl(kvm, KVM_GET_SUPPORTED_CPUID, arg), 256);
    const clamped = cpuidBytes([], 257, 257);
    see.call('nent 257 is clamped', () => kernel.ioctl(kvm, KVM_GET_SUPPORTED_CPUID, clamped));
    see.note('and corrected', u32(clamped) < 256);
    see.call('nent 2^32-1 is clamped', () => kernel.ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuidBytes([], 0xffffffff, 257), UNSAFE));
    const dirty = cpuidBytes([{ function: 5, padding: 0x1234 }], 256, 257);
    see.call('entries are not read', () => kernel.ioctl(kvm, KVM_GET_SUPPORTED_CPUID, dirty));
    const kvmLeaf = cpuidEntries(dirty).find((entry) => entry.function === 0x40000000);
    see.note(
      'signature leaf 0x40000000',
      kvmLeaf && [kvmLeaf.eax, kvmLeaf.ebx, kvmLeaf.ecx, kvmLeaf.edx].map((word) => hex(word)),
    );
  }),
  define('kvm/system/emulated-cpuid', section, (kernel, see) => {
    const kvm = openKvm(kernel);
    const ioctl = (arg: Uint8Array | number) => kernel.ioctl(kvm, KVM_GET_EMULATED_CPUID, arg);
    cpuidList(see, ioctl, 256);
    for (const nent of [2, 3, 4, 5, 257]) see.call(`nent ${nent}`, () => ioctl(cpuidBytes([], nent, 257)));
    const four = cpuidBytes([], 4, 257);
    ioctl(four);
    see.note(
      'entries',
      cpuidEntries(four).map((entry) => ({ ...entry, ecx: hex(entry.ecx) })),
    );
    see.call('padding of the first entry', () => ioctl(cpuidBytes([{ function: 0, padding: 1 }], 4, 257)));
    see.call('padding of the last entry', () =>
      ioctl(cpuidBytes([{ function: 0 }, { function: 0 }, { function: 0 }, { function: 0, padding: 1 }], 4, 257)),
    );
    see.call('padding behind the last entry', () =>
      ioctl(
        cpuidBytes([{ function: 0 }, { function: 0 }, { function: 0 }, { function: 0 }, { function: 0, padding: 1 }], 4, 257),
      ),
    );
    see.call('other fields of an entry', () => ioctl(cpuidBytes([{ function: 77, index: 1, flags: 9, eax: 1 }], 4, 257)));
    see.call('padding and too little room', () => ioctl(cpuidBytes([{ function: 0, padding: 1 }], 1, 257)));
    see.call('nent 0 and padding', () => ioctl(cpuidBytes([{ function: 0, padding: 1 }], 0, 257)));
  }),
  define('kvm/system/feature-msrs', section, (kernel, see) => {
    const kvm = openKvm(kernel);
    const get = (bytes: Uint8Array | number) => kernel.ioctl(kvm, KVM_GET_MSRS, bytes);
    see.call('pointer 0', () => get(0));
    see.call('nmsrs 0', () => get(msrBytes([], 0, 256)));
    see.call('nmsrs 256', () => get(msrBytes([], 256, 257)));
    see.call('nmsrs 257', () => get(msrBytes([], 257, 257)));
    const platform = msrBytes([{ index: 0xce }, { index: 0x345 }]);
    see.call('PLATFORM_INFO, PERF_CAPABILITIES', () => get(platform));
    see.note('PLATFORM_INFO', msrData(platform, 0));
    const listed = msrBytes([{ index: 0x10, data: 7n }]);
    see.call('an MSR of the index list that is no feature', () => get(listed));
    see.note('reads 0', msrData(listed, 0));
    const unknown = msrBytes([
      { index: 0xdead, data: 7n },
      { index: 0xce, data: 9n },
    ]);
    see.call('an unknown MSR first', () => get(unknown));
    see.note('unknown: its data', msrData(unknown, 0));
    see.note('unknown: the data behind it', msrData(unknown, 1));
    const second = msrBytes([{ index: 0xce }, { index: 0xdead, data: 7n }, { index: 0xce, data: 9n }]);
    see.call('an unknown MSR second', () => get(second));
    see.note(
      'second: data',
      [0, 1, 2].map((at) => msrData(second, at)),
    );
    see.call('SET_MSRS', () => kernel.ioctl(kvm, KVM_SET_MSRS, msrBytes([{ index: 0xce }])));
  }),
  define('kvm/system/mce-cap', section, (kernel, see) => {
    const kvm = openKvm(kernel);
    const bytes = new Uint8Array(8);
    see.call('read', () => kernel.ioctl(kvm, KVM_X86_GET_MCE_CAP_SUPPORTED, bytes));
    see.note('value', new DataView(bytes.buffer).getBigUint64(0, true));
    see.call('pointer 0', () => kernel.ioctl(kvm, KVM_X86_GET_MCE_CAP_SUPPORTED, 0));
    see.call('pointer in the kernel half', () => kernel.ioctl(kvm, KVM_X86_GET_MCE_CAP_SUPPORTED, 0xffff800000000000n));
  }),
  define('kvm/system/hv-cpuid', section, (kernel, see) => {
    const kvm = openKvm(kernel);
    see.call('room for 64', () => kernel.ioctl(kvm, KVM_GET_SUPPORTED_HV_CPUID, cpuidBytes([], 64, 64)));
    see.call('pointer 0', () => kernel.ioctl(kvm, KVM_GET_SUPPORTED_HV_CPUID, 0));
  }),
  define(
    'kvm/system/device-attributes',
    section,
    (kernel, see) => {
      const kvm = openKvm(kernel);
      const target = kernel.guestRam(0x1000);
      const get = (group: number, attr: bigint, addr: bigint, flags = 0) =>
        kernel.ioctl(kvm, KVM_GET_DEVICE_ATTR, attrBytes(group, attr, addr, flags), UNSAFE);
      const has = (group: number, attr: bigint, flags = 0) =>
        kernel.ioctl(kvm, KVM_HAS_DEVICE_ATTR, attrBytes(group, attr, 0n, flags), UNSAFE);
      see.call('has 0/0 (supported XCR0)', () => has(0, 0n));
      see.call('has 0/0 with flags', () => has(0, 0n, 5));
      see.call('has 0/1', () => has(0, 1n));
      see.call('has 0/2^63', () => has(0, 1n << 63n));
      see.call('has 1/0', () => has(1, 0n));
      see.call('has 99/0', () => has(99, 0n));
      see.call('has, pointer 0', () => kernel.ioctl(kvm, KVM_HAS_DEVICE_ATTR, 0));
      see.call('get 0/0', () => get(0, 0n, target.address));
      see.note('XCR0 has x87 and SSE', (target.read64(0) & 3n) === 3n);
      see.note('XCR0', target.read64(0));
      see.call('get 0/0 to address 0', () => get(0, 0n, 0n));
      see.call('get 0/0 with flags', () => get(0, 0n, target.address, 5));
      see.call('get 0/1', () => get(0, 1n, target.address));
      see.call('get 1/0', () => get(1, 0n, target.address));
      see.call('get 99/0', () => get(99, 0n, 0n));
      see.call('get, pointer 0', () => kernel.ioctl(kvm, KVM_GET_DEVICE_ATTR, 0));
    },
    { volatile: ['XCR0'] },
  ),
  define('kvm/system/not-its-own', section, (kernel, see) => {
    const kvm = openKvm(kernel);
    see.call('a vCPU ioctl (KVM_GET_REGS)', () => kernel.ioctl(kvm, KVM_GET_REGS, 0));
    see.call('a vCPU ioctl (KVM_RUN)', () => kernel.ioctl(kvm, KVM_RUN));
    see.call('a VM ioctl (KVM_CREATE_VCPU)', () => kernel.ioctl(kvm, KVM_CREATE_VCPU, 0));
    see.call('right number, wrong size (KVM_GET_MSRS with 4 bytes)', () => kernel.ioctl(kvm, 0xc004ae88, 0));
    see.call('right number, no direction (KVM_GET_MSRS)', () => kernel.ioctl(kvm, 0xae88, 0));
    see.call('KVM_GET_API_VERSION with a size', () => kernel.ioctl(kvm, 0x8004ae00, 0));
    see.call('TCGETS', () => kernel.ioctl(kvm, 0x5401, 0));
    see.call('request 0', () => kernel.ioctl(kvm, 0, 0));
    see.call('request 2^32-1', () => kernel.ioctl(kvm, 0xffffffff, 0));
  }),
];
