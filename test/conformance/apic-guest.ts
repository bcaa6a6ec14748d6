/** Real-mode guests that program a local APIC: the register page is at DS:0, RAM at 0, and what they find out they say on ports. */
import type { Kernel, Memory } from 'kvio';
import {
  KVM_CAP_SPLIT_IRQCHIP,
  KVM_CAP_X2APIC_API,
  KVM_CREATE_IRQCHIP,
  KVM_CREATE_VCPU,
  KVM_ENABLE_CAP,
  KVM_EXIT_HLT,
  KVM_EXIT_IO,
  KVM_EXIT_IOAPIC_EOI,
  KVM_EXIT_IRQ_WINDOW_OPEN,
  KVM_EXIT_MMIO,
  KVM_EXIT_SHUTDOWN,
  KVM_EXIT_TPR_ACCESS,
  KVM_GET_LAPIC,
  KVM_GET_MP_STATE,
  KVM_SET_CPUID2,
  KVM_SET_LAPIC,
  kvm_enable_cap,
  kvm_run,
} from 'kvio/uapi';
import { type Fact, result, toFact } from './case.ts';
import { addRam, cpuidBytes, mapRun, newVm, RunPage, setRegs, setSregs, u32, withU32 } from './machine.ts';

export const le16 = (value: number): number[] => [value & 0xff, (value >> 8) & 0xff];
export const le32 = (value: number): number[] => [...le16(value), ...le16(value >>> 16)];

/** mov dword [register], value */
export const write = (register: number, value: number): number[] => [0x66, 0xc7, 0x06, ...le16(register), ...le32(value)];
/** mov eax, [register] */
export const read = (register: number): number[] => [0x66, 0xa1, ...le16(register)];
/** out port, eax */
export const say = (port: number): number[] => [0x66, 0xe7, port];
/** mov eax, value; mov ecx, msr; mov edx, high; wrmsr */
export const wrmsr = (msr: number, low: number, high = 0): number[] => [
  ...[0x66, 0xb8, ...le32(low)],
  ...[0x66, 0xba, ...le32(high)],
  ...[0x66, 0xb9, ...le32(msr)],
  ...[0x0f, 0x30],
];
/** mov ecx, msr; rdmsr */
export const rdmsr = (msr: number): number[] => [0x66, 0xb9, ...le32(msr), 0x0f, 0x32];
export const cli = 0xfa;
export const sti = 0xfb;
export const hlt = 0xf4;
export const nop = 0x90;
export const iret = 0xcf;

export const EOI: readonly number[] = write(0xb0, 0);
/** SPIV: enabled, spurious vector 0xff. */
export const ENABLE: readonly number[] = write(0xf0, 0x1ff);

/** Where handlers are put: vector v at 0x4000 + 64 v. */
const HANDLERS = 0x4000;
const HANDLER_SIZE = 64;

/** A handler that says its vector on port 0x80, ends the interrupt and returns. */
export const handler = (vector: number, eoi: readonly number[] = EOI): number[] => [
  ...[0x50, 0xb0, vector, 0xe6, 0x80],
  ...eoi,
  ...[0x58, iret],
];

const handlerOf = (vector: number): number => HANDLERS + vector * HANDLER_SIZE;
const every = Array.from({ length: 256 }, (_, vector) => vector);
const vectors = Uint8Array.from(every.flatMap((vector) => [...le16(handlerOf(vector)), 0, 0]));
const plainHandlers = new Uint8Array(256 * HANDLER_SIZE);
for (const vector of every) plainHandlers.set(handler(vector), vector * HANDLER_SIZE);

export type Irqchip = 'none' | 'kernel' | 'split';

export function enableCap(kernel: Kernel, fd: number, cap: number, first = 0n, flags = 0): number {
  const bytes = kvm_enable_cap.encode({ cap, flags, args: [first, 0n, 0n, 0n], pad: new Uint8Array(64) });
  return kernel.ioctl(fd, KVM_ENABLE_CAP, bytes);
}

export function irqchipVm(kernel: Kernel, irqchip: Irqchip, pins = 24): number {
  const vm = newVm(kernel);
  if (irqchip === 'kernel') kernel.ioctl(vm, KVM_CREATE_IRQCHIP);
  else if (irqchip === 'split') enableCap(kernel, vm, KVM_CAP_SPLIT_IRQCHIP, BigInt(pins));
  return vm;
}

export function x2apicApi(kernel: Kernel, vm: number, flags: bigint): number {
  return enableCap(kernel, vm, KVM_CAP_X2APIC_API, flags);
}

/** CPUID of a processor with x2APIC, TSC deadline and MSRs. */
export function setApicCpuid(kernel: Kernel, vcpu: number): void {
  const entries = [
    { function: 0, eax: 1, ebx: 0x68747541, edx: 0x69746e65, ecx: 0x444d4163 },
    { function: 1, eax: 0x60fb1, ecx: (1 << 21) | (1 << 24), edx: 0x0f8bfbff },
  ];
  kernel.ioctl(vcpu, KVM_SET_CPUID2, cpuidBytes(entries));
}

export interface ApicVcpu {
  readonly kernel: Kernel;
  readonly vm: number;
  readonly vcpu: number;
  readonly run: RunPage;
}

export interface ApicGuest extends ApicVcpu {
  readonly ram: Memory;
}

export interface ApicGuestOptions {
  readonly irqchip?: Irqchip;
  readonly cpuid?: boolean;
  /** RFLAGS.IF at the start. */
  readonly interrupts?: boolean;
  /** Handlers by vector. */
  readonly handlers?: Readonly<Record<number, readonly number[]>>;
  /** Base of DS; default the APIC's page. */
  readonly ds?: bigint;
  readonly before?: (kernel: Kernel, vm: number) => void;
}

/** RAM of 64 KiB with a handler for each vector. */
export function apicRam(kernel: Kernel, vm: number, handlers: Readonly<Record<number, readonly number[]>> = {}): Memory {
  const ram = addRam(kernel, vm, 0, 0n, 0x10000);
  ram.write(0, vectors);
  ram.write(HANDLERS, plainHandlers);
  for (const [vector, code] of Object.entries(handlers)) ram.write(handlerOf(Number(vector)), Uint8Array.from(code));
  return ram;
}

/** A vCPU that begins at `entry` in real mode, with DS on the APIC. */
export function aim(kernel: Kernel, vcpu: number, entry: number, ds = 0xfee00000n, interrupts = false, stack = 0x3000): void {
  setSregs(kernel, vcpu, (sregs) => {
    Object.assign(sregs.cs, { base: 0n, selector: 0 });
    Object.assign(sregs.ds, { base: ds, selector: 0 });
  });
  setRegs(kernel, vcpu, { rip: BigInt(entry), rflags: interrupts ? 0x202n : 2n, rsp: BigInt(stack) });
}

export function apicGuest(kernel: Kernel, code: readonly number[], options: ApicGuestOptions = {}): ApicGuest {
  const vm = irqchipVm(kernel, options.irqchip ?? 'kernel');
  options.before?.(kernel, vm);
  const ram = apicRam(kernel, vm, options.handlers);
  ram.write(0x1000, Uint8Array.from(code));
  const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
  if (options.cpuid) setApicCpuid(kernel, vcpu);
  aim(kernel, vcpu, 0x1000, options.ds, options.interrupts);
  return { kernel, vm, vcpu, run: new RunPage(mapRun(kernel, vcpu)), ram };
}

/** One KVM_RUN of at most `budget` milliseconds, as a fact: what it came out with. */
export function step(guest: ApicVcpu, budget = 3000): Fact {
  return exitFact(guest, guest.kernel.run(guest.vcpu, { budget }));
}

/** What KVM_RUN returned and left in kvm_run. */
export function exitFact({ run }: Pick<ApicVcpu, 'run'>, returned: number): Fact {
  if (returned < 0) return `${result(returned)}, reason ${run.get('exit_reason')}`;
  const reason = Number(run.get('exit_reason'));
  return exits[reason]?.(run) ?? `reason ${reason}`;
}

/** Steps until HLT leaves, the guest says port 0xff, or nothing comes any more. */
export function story(guest: ApicVcpu, most = 40, budget = 3000): Fact[] {
  const facts: Fact[] = [];
  for (let at = 0; at < most; at++) {
    const fact = step(guest, budget);
    facts.push(fact);
    if (fact === 'hlt' || fact === 'shutdown' || String(fact).startsWith('E') || String(fact).startsWith('out 0xff')) break;
  }
  return facts;
}

const exits: Readonly<Record<number, (run: RunPage) => Fact>> = {
  [KVM_EXIT_IO]: (run) => {
    const size = Number(run.get('io.size'));
    const at = Number(run.get('io.data_offset'));
    const value = run.slice(at, size).reduceRight((sum, byte) => sum * 256 + byte, 0);
    const port = `0x${Number(run.get('io.port')).toString(16)}`;
    return run.get('io.direction') === 1 ? `out ${port} 0x${value.toString(16)}` : `in ${port}`;
  },
  [KVM_EXIT_MMIO]: (run) => ({
    mmio: toFact(run.get('mmio.phys_addr')),
    len: toFact(run.get('mmio.len')),
    ...(run.get('mmio.is_write') ? { data: toFact(run.slice(kvm_run.offsetOf('mmio.data'), Number(run.get('mmio.len')))) } : {}),
  }),
  [KVM_EXIT_HLT]: () => 'hlt',
  [KVM_EXIT_SHUTDOWN]: () => 'shutdown',
  [KVM_EXIT_IRQ_WINDOW_OPEN]: () => 'irq window open',
  [KVM_EXIT_IOAPIC_EOI]: (run) => `ioapic eoi ${run.get('eoi.vector')}`,
  [KVM_EXIT_TPR_ACCESS]: (run) =>
    `tpr access, ${run.get('tpr_access.is_write') ? 'write' : 'read'} at 0x${run.get('tpr_access.rip').toString(16)}`,
};

export function getLapic(kernel: Kernel, vcpu: number): Uint8Array {
  const bytes = new Uint8Array(1024);
  kernel.ioctl(vcpu, KVM_GET_LAPIC, bytes);
  return bytes;
}

export function setLapic(kernel: Kernel, vcpu: number, edit: (view: DataView) => void): number {
  const bytes = getLapic(kernel, vcpu);
  edit(new DataView(bytes.buffer));
  return kernel.ioctl(vcpu, KVM_SET_LAPIC, bytes);
}

/** What is not 0 of the register page, by offset: the four bytes as a number. */
export function lapicRegisters(bytes: Uint8Array): Record<string, Fact> {
  const found: Record<string, Fact> = {};
  for (let at = 0; at < bytes.length; at += 4) {
    const value = u32(bytes, at);
    if (value !== 0) found[`0x${at.toString(16)}`] = `0x${value.toString(16)}`;
  }
  return found;
}

export function mpState(kernel: Kernel, vcpu: number): number {
  const bytes = withU32(0xffff_ffff);
  kernel.ioctl(vcpu, KVM_GET_MP_STATE, bytes);
  return u32(bytes);
}
