/** Steps on vCPUs: state there and back, guests, KVM_RUN and what a program writes into kvm_run between two of them. */
import * as k from 'kvio/uapi';
import { type Edit, KVM_RUN_PAGE } from '../call.ts';
import { type Choices, oddValue } from '../choices.ts';
import { mapFile } from '../files.ts';
import { type Answer, gotMemory, type Step, type WeightedStep } from '../step.ts';
import { leavesOf, littleEndian, put } from '../struct-bytes.ts';
import type { Descriptor, MemoryState, World } from '../world.ts';
import { ENTRY, guestCode, STACK, vectors } from './guests.ts';
import { setRegion } from './memslots.ts';

const { kvm_run } = k;

export function someVcpu(c: Choices, w: World): Descriptor | undefined {
  const vcpus = w.live('vcpu');
  return vcpus.length === 0 ? undefined : c.pick(vcpus);
}

/** State that is read and written by a pair of requests. */
const pairs = (
  [
    ['KVM_GET_REGS', 'KVM_SET_REGS', k.kvm_regs],
    ['KVM_GET_SREGS', 'KVM_SET_SREGS', k.kvm_sregs],
    ['KVM_GET_SREGS2', 'KVM_SET_SREGS2', k.kvm_sregs2],
    ['KVM_GET_VCPU_EVENTS', 'KVM_SET_VCPU_EVENTS', k.kvm_vcpu_events],
    ['KVM_GET_FPU', 'KVM_SET_FPU', k.kvm_fpu],
    ['KVM_GET_DEBUGREGS', 'KVM_SET_DEBUGREGS', k.kvm_debugregs],
    ['KVM_GET_XCRS', 'KVM_SET_XCRS', k.kvm_xcrs],
    ['KVM_GET_MP_STATE', 'KVM_SET_MP_STATE', k.kvm_mp_state],
  ] as const
).map(([get, set, struct]) => ({
  get: { name: get, request: k[get] },
  set: { name: set, request: k[set] },
  struct: struct as k.Struct<unknown>,
}));
const [regs, sregs] = [pairs[0]!, pairs[1]!];

/** Control registers at which a rule begins or ends, by member. */
const control: Readonly<Record<string, readonly bigint[]>> = {
  cr0: [0x10n, 0x60000010n, 0x11n, 0x1n, 0x80000011n, 0x80000001n, 0x80000000n, 0x20000010n, 0x40000010n, 0x1_0000_0010n],
  cr4: [0n, 0x20n, 0x10n, 0x200n, 0x600n, 0x40000n, 0x2000n, 0x800n, 0x100000n, 0x20000n, 0x1000n, 0x800000n, 1n << 32n],
  efer: [0n, 0x500n, 0x100n, 0x400n, 1n, 0x800n, 0x1000n, 0xd01n, 0x4000n, 1n << 40n],
  apic_base: [
    0xfee00900n,
    0xfee00800n,
    0xfee00100n,
    0xfee00c00n,
    0xfee00d00n,
    0xfee00901n,
    0xfee00b00n,
    0x900n,
    (1n << 36n) | 0x900n,
  ],
  cr8: [0n, 1n, 15n, 16n, 1n << 63n],
  cr3: [0n, 0x1000n, 0xfffn, 1n << 36n, 1n << 52n, 1n << 63n],
};

export function editsOf(c: Choices, struct: k.Struct<unknown>): Edit[] {
  const leaves = leavesOf(struct);
  return Array.from({ length: 1 + c.below(3) }, () => {
    const leaf = c.pick(leaves);
    const named = control[leaf.name];
    return {
      at: leaf.at,
      bytes: littleEndian(named !== undefined && c.chance(0.8) ? c.pick(named) : oddValue(c, leaf.size), leaf.size),
    };
  });
}

const roundTrip: Step = function* (c, w) {
  const vcpu = someVcpu(c, w);
  if (vcpu === undefined) return;
  const { get, set, struct } = c.weighted([
    [2, regs],
    [4, sregs],
    [2, c.pick(pairs)],
  ]);
  const edits = editsOf(c, struct);
  const answer = yield { do: 'edit', fd: vcpu.name, get, set, size: struct.size, edits };
  if (answer === undefined) return;
  const state = vcpu.file.vcpu!;
  if (!edits.every((edit) => usual(struct, edit, w.hardware)) || (struct === regs.struct && state.pending)) state.odd = true;
};

/** Members of segments and control registers that real mode gets along with, whatever they are. */
const USUAL = [
  ...['cr2', 'cr3', 'cr8', 'apic_base', 'interrupt_bitmap', 'gdt.base', 'gdt.limit', 'idt.limit'],
  ...['ds', 'es', 'fs', 'gs', 'ss'].flatMap((segment) => ['base', 'selector'].map((member) => `${segment}.${member}`)),
];

/** Does this change leave the vCPU in a state in which a guest can run? Segments and control registers decide. */
function usual(struct: k.Struct<unknown>, { at: offset, bytes }: Edit, hardware: boolean): boolean {
  // The emulator's own rules for RIP beyond 32 bits are not modelled.
  if (struct.field('rip') !== undefined)
    return offset !== struct.offsetOf('rip') || bytes.subarray(4).every((byte) => byte === 0);
  if (struct.field('cs') === undefined) return true;
  // A segment's base has 32 bits in a processor's real mode.
  if (hardware && offset % 24 === 0 && offset < struct.offsetOf('gdt') && bytes.subarray(4).some((byte) => byte !== 0))
    return false;
  return USUAL.some((path) => {
    if (struct.field(path.split('.')[0]!) === undefined) return false;
    const from = struct.offsetOf(path);
    return offset >= from && offset + bytes.length <= from + struct.sizeOf(path);
  });
}

const at = (struct: k.Struct<unknown>, path: string, value: bigint): Edit => ({
  at: struct.offsetOf(path),
  bytes: littleEndian(value, struct.sizeOf(path)),
});

/** Puts a guest into a VM: RAM at 0 in a slot, code, segments, registers; and maps kvm_run. */
export const guest: Step = function* (c, w) {
  const vcpu = someVcpu(c, w);
  if (vcpu === undefined) return;
  const { vm, pending } = vcpu.file.vcpu!;
  if (pending) return;
  const vmFd = w.live('vm').find(({ file }) => file.vm === vm);
  let ram = [...vm.slots.values()]
    .flatMap(({ gpa, hva }) =>
      gpa === 0n && 'memory' in hva && hva.offset === 0
        ? w.rams().filter(({ name, length }) => name === hva.memory && length >= 0x10000)
        : [],
    )
    .at(0);
  if (ram === undefined) {
    if (vmFd === undefined || !w.room('memory')) return;
    const name = w.fresh('ram');
    if (!gotMemory(yield { do: 'ram', length: 0x10000, as: name })) return;
    ram = w.addMemory({ name, length: 0x10000, view: true, of: undefined, offset: 0 });
    const slot = [0, 1, 2, 3, 4].find((id) => !vm.slots.has(id)) ?? 5;
    yield* setRegion(vmFd, { slot, flags: 0, gpa: 0n, size: 0x10000n, hva: { memory: name, offset: 0 } });
  }
  yield { do: 'store', memory: ram.name, offset: 0, bytes: vectors() };
  yield { do: 'store', memory: ram.name, offset: ENTRY, bytes: guestCode(c) };
  const { struct } = sregs;
  const flat = [at(struct, 'cs.base', 0n), at(struct, 'cs.selector', 0n)];
  yield { do: 'edit', fd: vcpu.name, get: sregs.get, set: sregs.set, size: struct.size, edits: flat };
  const registers = [
    at(regs.struct, 'rip', BigInt(ENTRY)),
    at(regs.struct, 'rflags', c.pick([2n, 0x202n, 0x46n])),
    at(regs.struct, 'rsp', BigInt(STACK)),
  ];
  for (let left = c.below(3); left > 0; left--)
    registers.push(at(regs.struct, c.pick(['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp']), oddValue(c, 8)));
  yield { do: 'edit', fd: vcpu.name, get: regs.get, set: regs.set, size: regs.struct.size, edits: registers };
  if (w.runPage(vcpu.file.vcpu!) === undefined)
    yield* mapFile(w, vcpu, { length: 0x3000, prot: 3, flags: 1, offset: 0n, view: true });
};

/** Input fields of kvm_run, and the register sets it carries. */
const inputs: readonly (readonly [path: string, values: readonly bigint[]])[] = [
  ['immediate_exit', [1n, 0n, 2n]],
  ['immediate_exit', [0n]],
  ['kvm_valid_regs', [1n, 7n, 0n, 2n, 4n, 8n, 1n << 63n]],
  ['kvm_dirty_regs', [1n, 0n, 2n, 4n, 7n, 8n]],
  ['cr8', [0n, 1n, 15n, 16n]],
  ['apic_base', [0n, 0xfee00800n]],
  ['exit_reason', [0n, 99n]],
  ['flags', [0n, 0xffffn]],
];
const carried = [
  ['s.regs.regs', k.kvm_regs as k.Struct<unknown>],
  ['s.regs.sregs', k.kvm_sregs as k.Struct<unknown>],
  ['s.regs.events', k.kvm_vcpu_events as k.Struct<unknown>],
] as const;

function poke(c: Choices, page: MemoryState): { do: 'store'; memory: string; offset: number; bytes: Uint8Array } {
  if (c.chance(0.25)) {
    const [path, struct] = c.pick(carried);
    const [edit] = editsOf(c, struct);
    return { do: 'store', memory: page.name, offset: kvm_run.offsetOf(path) + edit!.at, bytes: edit!.bytes };
  }
  const [path, values] = c.pick(inputs);
  return {
    do: 'store',
    memory: page.name,
    offset: kvm_run.offsetOf(path),
    bytes: littleEndian(c.pick(values), kvm_run.sizeOf(path)),
  };
}

const pokeRun: Step = function* (c, w) {
  const vcpu = someVcpu(c, w);
  const page = vcpu && w.runPage(vcpu.file.vcpu!);
  if (page === undefined) return;
  const call = poke(c, page);
  // Register sets in the run page are taken when their dirty bit is set: what they hold is anyone's guess.
  if (call.offset >= kvm_run.offsetOf('kvm_dirty_regs')) vcpu!.file.vcpu!.odd = true;
  yield call;
};

/** KVM_RUN a few times, with answers to what the guest reads left in the run page before each. */
const run: Step = function* (c, w) {
  const vcpu = someVcpu(c, w);
  if (vcpu === undefined) return;
  const state = vcpu.file.vcpu!;
  const page = w.runPage(state);
  if (state.odd) {
    // Even this run completes an MMIO read.
    if (page === undefined || state.pending) return;
    yield { do: 'store', memory: page.name, offset: kvm_run.offsetOf('immediate_exit'), bytes: Uint8Array.of(1) };
    yield { do: 'run', vcpu: vcpu.name, page: page.name, look: [] };
    return;
  }
  for (let left = 1 + c.below(6); left > 0; left--) {
    if (page !== undefined && c.chance(0.5)) {
      yield { do: 'store', memory: page.name, offset: 0x1000, bytes: c.bytes(8) };
      yield { do: 'store', memory: page.name, offset: kvm_run.offsetOf('mmio.data'), bytes: c.bytes(8) };
    }
    const look = w
      .rams()
      .slice(0, 4)
      .map(({ name }) => name);
    const answer = yield { do: 'run', vcpu: vcpu.name, page: page?.name, look };
    if (answer === undefined) return;
    state.pending = answer[0]!.value === 0 && exitReason(answer) === k.KVM_EXIT_MMIO;
    if (c.chance(0.2))
      yield {
        do: 'ioctl',
        fd: vcpu.name,
        request: k.KVM_GET_REGS,
        name: 'KVM_GET_REGS',
        arg: { is: 'bytes', bytes: new Uint8Array(144), patches: [] },
        unsafe: false,
      };
  }
};

/** As the run page tells it; where none is mapped, it may have been an MMIO access. */
function exitReason(answer: NonNullable<Answer>): number {
  const page = answer.find(({ label }) => label === KVM_RUN_PAGE)?.value;
  return page instanceof Uint8Array ? page[kvm_run.offsetOf('exit_reason')]! : k.KVM_EXIT_MMIO;
}

const kick: Step = function* (c, w) {
  const vcpu = someVcpu(c, w);
  if (vcpu === undefined) return;
  const page = w.runPage(vcpu.file.vcpu!);
  if (vcpu.file.vcpu!.odd || page === undefined) return;
  yield { do: 'kick', vcpu: vcpu.name };
  yield { do: 'run', vcpu: vcpu.name, page: page.name, look: [] };
};

const MSRS = [
  ...[
    0x174, 0x175, 0x176, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102, 0xc0000100, 0xc0000101, 0xc0000080,
    0xc0000103,
  ],
  ...[
    0x277, 0x2ff, 0x200, 0x201, 0x20f, 0x250, 0x258, 0x268, 0xfe, 0x1a0, 0x17a, 0x179, 0x17b, 0x400, 0x401, 0x402, 0x47f, 0x480,
  ],
  ...[
    0x1b, 0x3a, 0x8b, 0xce, 0x10a, 0x345, 0x4b564d00, 0x4b564d02, 0x4b564d04, 0x4b564d05, 0x4b564d06, 0x11, 0x10, 0x3b, 0x9e,
    0x140,
  ],
  ...[
    0xc0010015, 0xc001001f, 0xc0010117, 0xc0010010, 0xc0010055, 0xc001011f, 0x48, 0x49, 0x122, 0x1d9, 0x1db, 0xda0, 0x6e0, 0x800,
    0x802,
  ],
  ...[0x186, 0xc1, 0x309, 0x38d, 0xdeadbeef, 0, 1, 0x17, 0x2a, 0x34, 0x1fc, 0xc0010112, 0xc0011029, 0x680, 0x1c8],
];
const MSR_VALUES = [
  0n,
  1n,
  0x0007040600070406n,
  0x0606060606060606n,
  0x0702n,
  0x500n,
  0x100n,
  0xd01n,
  0xfee00900n,
  0xfee00d00n,
  0x1000n,
  1n << 48n,
];

/** Where KVM writes a time: WALL_CLOCK, SYSTEM_TIME, STEAL_TIME. Only at addresses that no slot can have, so that no time gets into memory. */
const CLOCKS: ReadonlySet<number> = new Set([0x11, 0x12, 0x4b564d00, 0x4b564d01, 0x4b564d03]);
const CLOCK_VALUES = [0n, 1n << 53n, (1n << 53n) | 1n, (1n << 53n) | 0x40n, (1n << 53n) | 0x41n, (1n << 64n) - 1n];

/** An MSR of the list, of its neighbourhood, or any low one. */
function someMsr(c: Choices): number {
  return c.weighted([
    [8, () => c.pick(MSRS)],
    [1, () => c.pick(MSRS) + 1 + c.below(4)],
    [1, () => c.below(0x1000)],
  ])();
}

const msrs: Step = function* (c, w) {
  const fd = c.chance(0.1) ? w.live('kvm').at(0) : someVcpu(c, w);
  if (fd === undefined) return;
  const entries = c.below(5);
  const bytes = new Uint8Array(8 + 16 * entries);
  for (let n = 0; n < entries; n++) {
    const index = someMsr(c);
    put(bytes, { at: 8 + 16 * n, size: 4 }, BigInt(index));
    const usual = CLOCKS.has(index) ? CLOCK_VALUES : MSR_VALUES;
    put(bytes, { at: 16 + 16 * n, size: 8 }, CLOCKS.has(index) || c.chance(0.5) ? c.pick(usual) : oddValue(c, 8));
  }
  put(bytes, { at: 0, size: 4 }, BigInt(entries));
  for (const name of c.pick([['KVM_GET_MSRS'], ['KVM_SET_MSRS', 'KVM_GET_MSRS']] as const))
    yield {
      do: 'ioctl',
      fd: fd.name,
      request: k[name],
      name,
      arg: { is: 'bytes', bytes: Uint8Array.from(bytes), patches: [] },
      unsafe: false,
    };
};

const LEAVES = [
  0, 1, 2, 4, 6, 7, 0xa, 0xb, 0xd, 0x1d, 0x1e, 0x24, 0x40000000, 0x40000001, 0x80000000, 0x80000001, 0x80000008, 0x8000001e,
  0xc0000000, 0xffffffff,
];

const cpuid: Step = function* (c, w) {
  const vcpu = someVcpu(c, w);
  if (vcpu === undefined) return;
  const entries = c.below(6);
  const bytes = new Uint8Array(8 + 40 * Math.max(entries, 8));
  for (let n = 0; n < entries; n++) {
    const entry = 8 + 40 * n;
    put(bytes, { at: entry, size: 4 }, BigInt(c.pick(LEAVES)));
    put(bytes, { at: entry + 4, size: 4 }, BigInt(c.pick([0, 1, 2])));
    put(bytes, { at: entry + 8, size: 4 }, BigInt(c.pick([0, 1, 7])));
    for (let r = 0; r < 4; r++) if (c.chance(0.4)) put(bytes, { at: entry + 12 + 4 * r, size: 4 }, oddValue(c, 4));
  }
  put(bytes, { at: 0, size: 4 }, BigInt(entries));
  const ask = Uint8Array.from(bytes).fill(0);
  put(ask, { at: 0, size: 4 }, BigInt(c.pick([8, entries, 0, 1])));
  if (!c.chance(0.2))
    yield {
      do: 'ioctl',
      fd: vcpu.name,
      request: k.KVM_SET_CPUID2,
      name: 'KVM_SET_CPUID2',
      arg: { is: 'bytes', bytes, patches: [] },
      unsafe: false,
    };
  yield {
    do: 'ioctl',
    fd: vcpu.name,
    request: k.KVM_GET_CPUID2,
    name: 'KVM_GET_CPUID2',
    arg: { is: 'bytes', bytes: ask, patches: [] },
    unsafe: false,
  };
};

/** Everything a vCPU tells of itself. */
export function* tellAll(vcpu: Descriptor): ReturnType<Step> {
  const get = (name: string, request: number, bytes: Uint8Array) =>
    ({ do: 'ioctl', fd: vcpu.name, request, name, arg: { is: 'bytes', bytes, patches: [] }, unsafe: false }) as const;
  for (const {
    get: { name, request },
    struct,
  } of pairs)
    yield get(name, request, new Uint8Array(struct.size));
  for (let n = 0; n < MSRS.length; n++) {
    const one = new Uint8Array(24);
    one[0] = 1;
    put(one, { at: 8, size: 4 }, BigInt(MSRS[n]!));
    yield get('KVM_GET_MSRS', k.KVM_GET_MSRS, one);
  }
  const leaves = new Uint8Array(8 + 40 * 16);
  leaves[0] = 16;
  yield get('KVM_GET_CPUID2', k.KVM_GET_CPUID2, leaves);
}

export const vcpuSteps: readonly WeightedStep[] = [
  { weight: 14, name: 'round trip', step: roundTrip },
  { weight: 12, name: 'guest', step: guest },
  { weight: 22, name: 'run', step: run },
  { weight: 8, name: 'poke kvm_run', step: pokeRun },
  { weight: 2, name: 'kick', step: kick },
  { weight: 8, name: 'MSRs', step: msrs },
  { weight: 4, name: 'CPUID', step: cpuid },
];
