/** What an ioctl writes that is not the same twice on one machine: hidden before two kernels are compared, each with its reason. */

type Mask = (bytes: DataView) => void;

const ENTRIES = 8;
const CPUID_ENTRY = 40;
const MSR_ENTRY = 16;

/** Indices of MSRs that tell a time or what the host did at boot. */
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

const masks: Readonly<Record<string, Mask>> = {
  KVM_GET_MSRS: msrs,
  KVM_GET_SUPPORTED_CPUID: cpuid,
  KVM_GET_EMULATED_CPUID: cpuid,
  KVM_GET_CPUID2: cpuid,
};

/** Zeroes in place what is volatile in the bytes an ioctl of this name left. */
export function hideVolatile(name: string | undefined, bytes: Uint8Array): void {
  if (name !== undefined) masks[name]?.(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
}
