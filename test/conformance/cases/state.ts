/** MSRs, CPUID, MP state, FPU, and what a new vCPU looks like. */
import {
  KVM_CREATE_VCPU,
  KVM_GET_CPUID2,
  KVM_GET_FPU,
  KVM_GET_MP_STATE,
  KVM_GET_MSR_INDEX_LIST,
  KVM_GET_MSRS,
  KVM_GET_SUPPORTED_CPUID,
  KVM_SET_CPUID2,
  KVM_SET_FPU,
  KVM_SET_MP_STATE,
  KVM_SET_MSRS,
  kvm_fpu,
} from 'kvio/uapi';
import { type Case, define, hex, nonZero } from '../case.ts';
import {
  addRam,
  cpuidBytes,
  cpuidEntries,
  getMsr,
  getRegs,
  getSregs,
  msrBytes,
  msrData,
  newVcpu,
  openKvm,
  setMsr,
  setRegs,
  setSregs,
  u32,
  withU32,
} from '../machine.ts';

/** MSRs that belong to the interface everywhere: name, index, values to try. */
const writable: readonly (readonly [string, number, readonly bigint[]])[] = [
  ['SYSENTER_CS', 0x174, [0x10n, 0xffffffffn, 1n << 32n]],
  ['SYSENTER_ESP', 0x175, [0x1000n, 0xffff800000000000n, 1n << 62n]],
  ['SYSENTER_EIP', 0x176, [0x1000n, 1n << 62n]],
  ['STAR', 0xc0000081, [0x0023001000000000n]],
  ['LSTAR', 0xc0000082, [0xffffffff80000000n, 1n << 62n]],
  ['CSTAR', 0xc0000083, [0x1234n, 1n << 62n]],
  ['SFMASK', 0xc0000084, [0x47700n]],
  ['FS_BASE', 0xc0000100, [0x7000n, 1n << 62n]],
  ['GS_BASE', 0xc0000101, [0x8000n, 1n << 62n]],
  ['KERNEL_GS_BASE', 0xc0000102, [0x9000n, 1n << 62n]],
  ['TSC_AUX', 0xc0000103, [5n]],
  ['EFER', 0xc0000080, [1n, 0x100n, 0x500n, 0x400n, 0xd01n, 1n << 63n, 2n, 0n]],
  ['PAT', 0x277, [0x0007040600070406n, 0n, 0x0303030303030303n, 0x08n, (1n << 64n) - 1n]],
  ['APICBASE', 0x1b, [0xfee00900n, 0xfee00800n, 0xfee00d00n, 0xfee00400n, 1n, 0xfee00100n]],
  ['MTRRdefType', 0x2ff, [0xc06n, 0n, 0x300n, 2n]],
  ['MTRRfix64K', 0x250, [0x0606060606060606n, 0x0202020202020202n]],
  ['MTRRphysBase0', 0x200, [0x6n, 0x1000006n, 2n]],
  ['MTRRcap', 0xfe, [0x508n, 0n]],
  ['MCG_CAP', 0x179, [0x20n, 0n]],
  ['MCG_STATUS', 0x17a, [4n, 0n, 8n]],
  ['MC0_CTL', 0x400, [0n, (1n << 64n) - 1n, 5n]],
  ['SMBASE', 0x9e, [0x30000n]],
  ['PLATFORM_INFO', 0xce, [0x80000000n, 0n]],
  ['UCODE_REV', 0x8b, [1n << 32n]],
  ['TSC_ADJUST', 0x3b, [0n]],
  ['KVM wall clock', 0x4b564d00, [0n]],
  ['KVM system time', 0x4b564d01, [0n]],
  ['KVM async PF', 0x4b564d02, [0n, 8n]],
  ['KVM steal time', 0x4b564d03, [0n, 2n]],
  ['KVM EOI', 0x4b564d04, [0n, 2n]],
  ['KVM poll control', 0x4b564d05, [0n, 1n, 2n]],
  ['x2APIC id', 0x802, [0n]],
  ['no such MSR', 0xdead, [0n, 1n]],
  ['no such MSR, high', 0xffffffff, [0n]],
  ['DEBUGCTL', 0x1d9, [0n]],
];

export const stateCases: Case[] = [
  define('kvm/msrs/argument', 'MSRs', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    for (const [name, request] of [
      ['GET_MSRS', KVM_GET_MSRS],
      ['SET_MSRS', KVM_SET_MSRS],
    ] as const) {
      see.call(`${name}: pointer 0`, () => kernel.ioctl(vcpu, request, 0));
      for (const nmsrs of [0, 256, 257])
        see.call(`${name}: nmsrs ${nmsrs}`, () => kernel.ioctl(vcpu, request, msrBytes([], nmsrs, 260)));
      see.call(`${name}: nmsrs 255, the first unknown`, () =>
        kernel.ioctl(vcpu, request, msrBytes([{ index: 0xdead }], 255, 260)),
      );
      see.call(`${name}: nmsrs 255, all known`, () =>
        kernel.ioctl(vcpu, request, msrBytes(Array.from({ length: 255 }, () => ({ index: 0x174 })))),
      );
    }
  }),
  define('kvm/msrs/stop-half-way', 'MSRs', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const set = msrBytes([
      { index: 0x174, data: 1n, reserved: 0xffff },
      { index: 0xc0000082, data: 1n << 62n },
      { index: 0x175, data: 3n },
    ]);
    see.call('SET_MSRS: the second is bad', () => kernel.ioctl(vcpu, KVM_SET_MSRS, set));
    see.note(
      'SET_MSRS writes nothing back',
      [0, 1, 2].map((at) => msrData(set, at)),
    );
    see.note('the first stays applied', getMsr(kernel, vcpu, 0x174));
    see.note('the third was not tried', getMsr(kernel, vcpu, 0x175));
    const get = msrBytes([
      { index: 0x174, data: 77n },
      { index: 0xdead, data: 77n },
      { index: 0x174, data: 77n },
    ]);
    see.call('GET_MSRS: the second is unknown', () => kernel.ioctl(vcpu, KVM_GET_MSRS, get));
    see.note(
      'data then',
      [0, 1, 2].map((at) => msrData(get, at)),
    );
    see.call('the same MSR twice: the last wins', () => {
      kernel.ioctl(
        vcpu,
        KVM_SET_MSRS,
        msrBytes([
          { index: 0x174, data: 5n },
          { index: 0x174, data: 6n },
        ]),
      );
      return getMsr(kernel, vcpu, 0x174);
    });
  }),
  ...writable.map(([name, index, values]) =>
    define(
      `kvm/msrs/${name}`,
      'MSRs',
      (kernel, see) => {
        for (const value of values) {
          const { vcpu } = newVcpu(kernel);
          see.call(`write ${hex(value)}`, () => setMsr(kernel, vcpu, index, value));
          // What an unwritten or refused one reads is its reset value, noted elsewhere.
          see.note(`write ${hex(value)}: reads`, getMsr(kernel, vcpu, index) ?? 'stops');
        }
      },
      ['UCODE_REV', 'TSC_ADJUST'].includes(name) ? { volatile: ['*/reads'] } : {},
    ),
  ),
  define('kvm/msrs/listed-are-readable', 'MSRs', (kernel, see) => {
    const kvm = openKvm(kernel);
    const list = withU32(1000, 4 + 4 * 1000);
    kernel.ioctl(kvm, KVM_GET_MSR_INDEX_LIST, list);
    const { vcpu } = newVcpu(kernel);
    const refused: string[] = [];
    for (let at = 0; at < u32(list); at++) {
      const index = u32(list, 4 + 4 * at);
      if (getMsr(kernel, vcpu, index) === undefined) refused.push(hex(index));
    }
    see.note('listed, but GET_MSRS stops at it', refused);
  }),
  define('kvm/msrs/sregs-and-msrs-share', 'MSRs', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    setSregs(kernel, vcpu, (s) => {
      s.fs.base = 0x1230n;
      s.gs.base = 0x4560n;
      s.apic_base = 0xfee00800n;
    });
    see.note('FS_BASE', getMsr(kernel, vcpu, 0xc0000100));
    see.note('GS_BASE', getMsr(kernel, vcpu, 0xc0000101));
    see.note('APICBASE', getMsr(kernel, vcpu, 0x1b));
    setMsr(kernel, vcpu, 0xc0000100, 0x7770n);
    see.note('fs.base after SET_MSRS', getSregs(kernel, vcpu).fs.base);
  }),
  define('kvm/cpuid/set-and-get', 'CPUID', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const get = (nent: number, room = 260) => {
      const bytes = cpuidBytes([], nent, room);
      return { bytes, call: () => kernel.ioctl(vcpu, KVM_GET_CPUID2, bytes) };
    };
    const set = (label: string, bytes: Uint8Array | number) => see.call(label, () => kernel.ioctl(vcpu, KVM_SET_CPUID2, bytes));
    see.call('GET, pointer 0', () => kernel.ioctl(vcpu, KVM_GET_CPUID2, 0));
    set('SET, pointer 0', 0);
    const fresh = get(10);
    see.call('GET on a fresh vCPU', fresh.call);
    see.note('nent of a fresh vCPU', u32(fresh.bytes));
    see.call('GET with nent 0 on a fresh vCPU', get(0).call);
    set('nent 0', cpuidBytes([]));
    set('nent 257', cpuidBytes([], 257, 257));
    set('nent 256', cpuidBytes([], 256, 256));
    set(
      'three entries',
      cpuidBytes([
        { function: 0, eax: 1, ebx: 0x756e6547, ecx: 0x6c65746e, edx: 0x49656e69, padding: 9 },
        { function: 0x40000000, eax: 5, ebx: 6 },
        { function: 0x1234, index: 7, flags: 1, eax: 3 },
      ]),
    );
    const few = get(2);
    see.call('GET with room for two', few.call);
    see.note('header left alone', u32(few.bytes));
    const all = get(8);
    see.call('GET with room for eight', all.call);
    see.note('nent', u32(all.bytes));
    see.note(
      'entries',
      cpuidEntries(all.bytes).map(({ function: fn, index, flags, eax, ebx }) => ({ function: fn, index, flags, eax, ebx })),
    );
    for (const [label, eax] of [
      ['48 linear bits', 0x3028],
      ['57 linear bits', 0x3928],
      ['0 linear bits', 0x28],
      ['47 linear bits', 0x2f28],
      ['64 linear bits', 0x4028],
    ] as const) {
      set(`leaf 0x80000008 with ${label}`, cpuidBytes([{ function: 0x80000008, eax }]));
    }
    const last = get(8);
    last.call();
    see.note(
      'a refused table leaves the old one',
      cpuidEntries(last.bytes).map((entry) => [hex(entry.function), hex(entry.eax)]),
    );
    set(
      'duplicates',
      cpuidBytes([
        { function: 2, eax: 1 },
        { function: 2, eax: 2 },
      ]),
    );
    set('none again', cpuidBytes([]));
    const none = get(4);
    none.call();
    see.note('nent then', u32(none.bytes));
  }),
  define('kvm/cpuid/supported-can-be-set', 'CPUID', (kernel, see) => {
    const kvm = openKvm(kernel);
    const { vcpu } = newVcpu(kernel);
    const supported = cpuidBytes([], 256, 256);
    kernel.ioctl(kvm, KVM_GET_SUPPORTED_CPUID, supported);
    see.call('SET_CPUID2 of what is supported', () => kernel.ioctl(vcpu, KVM_SET_CPUID2, supported));
    const back = cpuidBytes([], 256, 256);
    see.call('GET_CPUID2', () => kernel.ioctl(vcpu, KVM_GET_CPUID2, back));
    // Where the host has AMX or AVX10, PVM takes their leaves away.
    const kept = (table: Uint8Array): number =>
      cpuidEntries(table).filter(({ function: leaf }) => ![0x1d, 0x1e, 0x24].includes(leaf)).length;
    see.note('as many entries', kept(back) === kept(supported));
    const width = (cpuidEntries(supported).find((entry) => entry.function === 0x80000008)?.eax ?? 0) & 0xff;
    const long = { efer: 0x500n, cr0: 0x80000011n, cr4: 0x20n };
    see.call('long mode, CR3 with the last physical bit', () =>
      setSregs(kernel, vcpu, (s) => Object.assign(s, long, { cr3: 1n << BigInt(width - 1) })),
    );
    see.call('long mode, CR3 one bit beyond', () =>
      setSregs(kernel, vcpu, (s) => Object.assign(s, long, { cr3: 1n << BigInt(width) })),
    );
  }),
  define('kvm/cpuid/after-run', 'CPUID', (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    const set = (bytes: Uint8Array) => kernel.ioctl(vcpu, KVM_SET_CPUID2, bytes);
    const table = [{ function: 0x40000000, eax: 1, ebx: 2 }];
    see.call('before', () => set(cpuidBytes(table)));
    const ram = addRam(kernel, vm, 0, 0n, 0x1000);
    ram.bytes![0] = 0xf4;
    setSregs(kernel, vcpu, (s) => Object.assign(s.cs, { base: 0n, selector: 0 }));
    setRegs(kernel, vcpu, { rip: 0n });
    see.call('KVM_RUN', () => kernel.run(vcpu));
    see.call('another table', () => set(cpuidBytes([{ function: 0x40000000, eax: 9 }])));
    see.call('none', () => set(cpuidBytes([])));
    const current = cpuidBytes([], 16, 16);
    kernel.ioctl(vcpu, KVM_GET_CPUID2, current);
    see.call('the current one', () => set(current));
    see.call('and the old one is there', () => cpuidEntries(current).map((entry) => hex(entry.function)));
    see.call('a feature MSR with its own value', () => setMsr(kernel, vcpu, 0xce, getMsr(kernel, vcpu, 0xce)!));
    see.call('a feature MSR with another value', () => setMsr(kernel, vcpu, 0xce, 0x1234n));
  }),
  define('kvm/mp-state', 'MP state', (kernel, see) => {
    const { vcpu, vm } = newVcpu(kernel);
    const get = (fd: number) => {
      const bytes = new Uint8Array(4).fill(0xff);
      kernel.ioctl(fd, KVM_GET_MP_STATE, bytes);
      return u32(bytes);
    };
    see.call('of vCPU 0', () => get(vcpu));
    see.call('of vCPU 1, without an irqchip', () => get(kernel.ioctl(vm, KVM_CREATE_VCPU, 1)));
    see.call('GET, pointer 0', () => kernel.ioctl(vcpu, KVM_GET_MP_STATE, 0));
    see.call('SET, pointer 0', () => kernel.ioctl(vcpu, KVM_SET_MP_STATE, 0));
    for (const state of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255, 0xffffffff]) {
      see.call(`set ${state}`, () => kernel.ioctl(vcpu, KVM_SET_MP_STATE, withU32(state)));
    }
    see.call('afterwards', () => get(vcpu));
  }),
  define('kvm/fpu', 'FPU', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    see.call('GET, pointer 0', () => kernel.ioctl(vcpu, KVM_GET_FPU, 0));
    see.call('SET, pointer 0', () => kernel.ioctl(vcpu, KVM_SET_FPU, 0));
    const bytes = new Uint8Array(kvm_fpu.size).map((_, at) => at & 0xff);
    see.call('SET_FPU of a pattern', () => kernel.ioctl(vcpu, KVM_SET_FPU, bytes));
    const back = kvm_fpu.alloc();
    see.call('GET_FPU', () => kernel.ioctl(vcpu, KVM_GET_FPU, back));
    see.note('reads back', nonZero(kvm_fpu.decode(back)));
    bytes.fill(0xff);
    see.call('SET_FPU of all ones', () => kernel.ioctl(vcpu, KVM_SET_FPU, bytes));
    kernel.ioctl(vcpu, KVM_GET_FPU, back);
    see.note('all ones read back', nonZero(kvm_fpu.decode(back)));
    bytes.fill(0);
    see.call('SET_FPU of zero', () => kernel.ioctl(vcpu, KVM_SET_FPU, bytes));
    kernel.ioctl(vcpu, KVM_GET_FPU, back.fill(0xff));
    see.note('zero reads back', nonZero(kvm_fpu.decode(back)));
  }),
  define('kvm/reset/registers', 'Reset state', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    see.note('regs', nonZero(getRegs(kernel, vcpu)));
    const { cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt, ...rest } = getSregs(kernel, vcpu);
    for (const [name, value] of Object.entries({ cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt })) see.note(name, nonZero(value));
    see.note('control registers', nonZero(rest));
    const fpu = kvm_fpu.alloc();
    kernel.ioctl(vcpu, KVM_GET_FPU, fpu);
    see.note('fpu', nonZero(kvm_fpu.decode(fpu)));
  }),
  define('kvm/reset/registers-of-the-second', 'Reset state', (kernel, see) => {
    const { vm } = newVcpu(kernel);
    const second = kernel.ioctl(vm, KVM_CREATE_VCPU, 1);
    see.note('regs', nonZero(getRegs(kernel, second)));
    see.note('apic_base', getSregs(kernel, second).apic_base);
    see.note('cs', nonZero(getSregs(kernel, second).cs));
  }),
  define(
    'kvm/reset/msrs',
    'Reset state',
    (kernel, see) => {
      const { vcpu } = newVcpu(kernel);
      const extra: readonly (readonly [string, number])[] = [
        ['FEAT_CTL', 0x3a],
        ['MISC_ENABLE', 0x1a0],
        ['SPEC_CTRL', 0x48],
        ['ARCH_CAPABILITIES without CPUID', 0x10a],
        ['PERF_CAPABILITIES without CPUID', 0x345],
        ['KVM wall clock, new', 0x11],
        ['KVM migration control', 0x4b564d08],
      ];
      for (const [name, index] of [...writable.map(([name, index]) => [name, index] as const), ...extra]) {
        if (name === 'UCODE_REV') continue; // the host's
        see.note(`${name} ${hex(index)}`, getMsr(kernel, vcpu, index) ?? 'stops');
      }
    },
    { volatile: ['FEAT_CTL 0x3a'] },
  ), // There where the host has VMX.
];
