/** What a kernel writes that is not the same twice on one machine: hidden before two kernels are compared, each with its reason. */
import {
  KVM_EXIT_INTERNAL_ERROR,
  KVM_EXIT_IO,
  KVM_EXIT_MMIO,
  KVM_INTERNAL_ERROR_DELIVERY_EV,
  KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES,
  kvm_clock_data,
  kvm_fpu,
  kvm_pit_channel_state,
  kvm_run,
  kvm_vcpu_events,
} from 'kvio/uapi';

type Mask = (bytes: DataView) => void;

const ENTRIES = 8;
const CPUID_ENTRY = 40;
const MSR_ENTRY = 16;

/**
 * Indices of MSRs that tell a time or what the host did at boot. In the lab the TSC, and with it KVM_VCPU_TSC_OFFSET, is 0 on every vCPU after most boots:
 * QEMU's timers let the kernel refine its TSC's rate upwards after KVM has taken it as the default, KVM refuses a guest's rate below the host's, and the
 * ratio stays 0.
 */
const volatileMsrs = new Set([
  0x10, // TSC
  0x3b, // TSC_ADJUST: PVM answers with the host's
  0x8b, // UCODE_REV: the host's microcode
  0x6e0, // TSC_DEADLINE
]);

const msrs: Mask = (view) => {
  for (let at = ENTRIES; at + MSR_ENTRY <= view.byteLength; at += MSR_ENTRY)
    if (volatileMsrs.has(view.getUint32(at, true))) view.setBigUint64(at + 8, 0n, true);
};

/** Fields that name the CPU that happened to answer: [leaf, offset of the register in its entry, mask of what is kept]. */
const ofThisCpu: readonly (readonly [leaf: number, at: number, kept: number])[] = [
  [0x1, 16, 0x00ff_ffff], // EBX: initial APIC id
  [0xb, 24, 0], // EDX: x2APIC id
  [0x1f, 24, 0],
  [0x8000_001e, 12, 0], // EAX: extended APIC id
  [0x8000_001e, 16, 0], // EBX: core id
  [0x8000_001e, 20, 0], // ECX: node id
];

const cpuid: Mask = (view) => {
  for (let at = ENTRIES; at + CPUID_ENTRY <= view.byteLength; at += CPUID_ENTRY) {
    for (const [leaf, field, kept] of ofThisCpu)
      if (view.getUint32(at, true) === leaf) view.setUint32(at + field, view.getUint32(at + field, true) & kept, true);
  }
};

/** When a PIT's channel was loaded: a time. */
const loadTimes: Mask = (view) => {
  for (let channel = 0; channel < 3; channel++)
    view.setBigUint64(channel * kvm_pit_channel_state.size + kvm_pit_channel_state.offsetOf('count_load_time'), 0n, true);
};

/** XSTATE_BV of x87, SSE and AVX. */
const inUse: Mask = (view) => {
  const at = 512;
  if (view.byteLength >= at + 8) view.setBigUint64(at, view.getBigUint64(at, true) & ~7n, true);
};

const masks: Readonly<Record<string, Mask>> = {
  // Times; their presence is compared.
  KVM_GET_CLOCK(view) {
    for (const field of ['clock', 'realtime', 'host_tsc']) {
      const at = kvm_clock_data.offsetOf(field);
      if (field === 'clock' || view.getBigUint64(at, true) !== 0n) view.setBigUint64(at, 1n, true);
    }
  },
  KVM_GET_PIT: loadTimes,
  KVM_GET_PIT2: loadTimes,
  KVM_GET_MSRS: msrs,
  KVM_GET_SUPPORTED_CPUID: cpuid,
  KVM_GET_EMULATED_CPUID: cpuid,
  KVM_GET_CPUID2: cpuid,
};

/**
 * The same on PVM. XSAVE does not write components that are in their initial state: what KVM_SET_FPU has written into registers that are not in use
 * stays, until the host's processor takes one for in use (SSE, about one KVM_RUN in thousands, more on a busy host).
 */
const emulatorMasks: Readonly<Record<string, Mask>> = {
  KVM_GET_FPU: (view) => {
    for (let at = kvm_fpu.offsetOf('xmm'); at < kvm_fpu.offsetOf('mxcsr'); at++) view.setUint8(at, 0);
  },
  KVM_GET_XSAVE: inUse,
  KVM_GET_XSAVE2: inUse,
};

/**
 * The same where the guest runs on hardware. What an event leaves when it is delivered depends on whether a page it needed was mapped by then:
 * KVM then queues it once more.
 */
const hardwareMasks: Readonly<Record<string, Mask>> = { KVM_GET_VCPU_EVENTS: (view) => delivered(view, 0) };

/** Of a `struct kvm_vcpu_events` at this offset. */
function delivered(view: DataView, events: number): void {
  const at = (path: string): number => events + kvm_vcpu_events.offsetOf(path);
  if (view.getUint8(at('interrupt.injected')) === 0) view.setUint8(at('interrupt.nr'), 0);
  view.setBigUint64(at('exception_payload'), 0n, true);
}

/** Zeroes in place what is volatile in the bytes an ioctl of this name left. */
export function hideVolatile(name: string | undefined, bytes: Uint8Array, hardware: boolean): void {
  if (name === undefined) return;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  masks[name]?.(view);
  (hardware ? hardwareMasks : emulatorMasks)[name]?.(view);
}

const EXIT_REASON: number = kvm_run.offsetOf('exit_reason');
const UNION: number = kvm_run.offsetOf('hw');
const UNION_END: number = kvm_run.offsetOf('kvm_valid_regs');
const SYNC_EVENTS: number = kvm_run.offsetOf('s.regs.events');
const MMIO_DATA: number = kvm_run.offsetOf('mmio.data');

/** Which bytes of the exit union an exit fills: [from, to). The others are whatever earlier exits, or attempts at one, have left. */
const members: Readonly<Record<number, (view: DataView) => readonly (readonly [from: number, to: number])[]>> = {
  [KVM_EXIT_IO]: () => [[UNION, UNION + 16]],
  [KVM_EXIT_MMIO]: (view) => {
    const length = Math.min(8, view.getUint32(MMIO_DATA + 8, true));
    const data = view.getUint8(MMIO_DATA + 12) === 0 ? 0 : length;
    return [
      [UNION, MMIO_DATA + data],
      [MMIO_DATA + 8, MMIO_DATA + 13],
    ];
  },
  [KVM_EXIT_INTERNAL_ERROR]: (view) => {
    const suberror = view.getUint32(UNION, true);
    const words = view.getUint32(UNION + 4, true);
    const told = view.getUint32(UNION + 8, true) & Number(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) ? 3 : 1;
    // What follows says whether any vCPU has found the page to be MMIO before; DELIVERY_EV ends in the number of the host's CPU.
    const same = suberror === KVM_INTERNAL_ERROR_DELIVERY_EV ? 2 : told;
    return [[UNION, UNION + 8 + 8 * Math.min(16, words, same)]];
  },
};

/**
 * Zeroes in place what a mapping of kvm_run shows of the union but the exit at hand; all of it where KVM_RUN failed. Where guests run on hardware:
 * what was attempted before depends on which pages were mapped by then, and so do the events among the synchronised registers.
 */
export function hideStale(bytes: Uint8Array, failed: boolean): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = UNION;
  if (!failed) {
    for (const [from, to] of members[view.getUint32(EXIT_REASON, true)]?.(view) ?? []) {
      bytes.fill(0, at, from);
      at = to;
    }
  }
  bytes.fill(0, at, UNION_END);
  delivered(view, SYNC_EVENTS);
}
