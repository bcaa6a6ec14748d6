import { KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry, kvm_cpuid_entry2, kvm_cpuid2 } from '../../uapi/kvm.ts';
import { E2BIG, EFAULT, EINVAL, EPERM } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import type { CpuidLeaf, Machine } from '../machine.ts';
import type { Process } from '../process.ts';
import { backendOf } from './backends.ts';
import { overlayHostCpuid } from './pvm-cpuid.ts';

export const KVM_MAX_CPUID_ENTRIES = 256;

const HEADER: number = kvm_cpuid2.offsetOf('entries');
const ENTRY: number = kvm_cpuid_entry2.size;
const OLD_ENTRY: number = kvm_cpuid_entry.size;
/** AMX: XSAVE components whose state grows on use, and that a process has to ask permission for. */
const XFEATURE_MASK_USER_DYNAMIC = 1 << 18;

export interface CpuidEntry extends CpuidLeaf {
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
  /** Kept as userspace gave it. */
  readonly padding: readonly [number, number, number];
}

/** State of the vCPU that shows in its CPUID. */
export interface CpuidRuntime {
  readonly osxsave: boolean;
  readonly ospke: boolean;
  readonly apicEnabled: boolean;
  readonly xcr0: bigint;
}

/** `nent` of a `struct kvm_cpuid2` in user memory; null: EFAULT. */
function copyHeader(p: Process, arg: bigint): number | null {
  const header = p.mm.copyFrom(arg, HEADER);
  return header === null ? null : new DataView(header.buffer).getUint32(0, true);
}

function storeEntry(view: DataView, at: number, entry: CpuidLeaf & { padding?: readonly number[] }): void {
  const { padding = [0, 0, 0] } = entry;
  [entry.function, entry.index, entry.flags, entry.eax, entry.ebx, entry.ecx, entry.edx, ...padding].forEach((word, i) => {
    view.setUint32(at + i * 4, word, true);
  });
}

function encodeEntries(entries: readonly CpuidLeaf[]): Uint8Array {
  const bytes = new Uint8Array(entries.length * ENTRY);
  const view = new DataView(bytes.buffer);
  entries.forEach((entry, i) => {
    storeEntry(view, i * ENTRY, entry);
  });
  return bytes;
}

function decodeEntries(bytes: Uint8Array): CpuidEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / ENTRY }, (_, i) => {
    const word = (n: number): number => view.getUint32(i * ENTRY + n * 4, true);
    return {
      function: word(0),
      index: word(1),
      flags: word(2),
      eax: word(3),
      ebx: word(4),
      ecx: word(5),
      edx: word(6),
      padding: [word(7), word(8), word(9)],
    };
  });
}

/** KVM_SET_CPUID's 24-byte entries: no index, no flags. */
function decodeOldEntries(bytes: Uint8Array): CpuidEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / OLD_ENTRY }, (_, i) => {
    const word = (n: number): number => view.getUint32(i * OLD_ENTRY + n * 4, true);
    return { function: word(0), index: 0, flags: 0, eax: word(1), ebx: word(2), ecx: word(3), edx: word(4), padding: [0, 0, 0] };
  });
}

/** KVM_GET_SUPPORTED_CPUID: entries of the caller are never read; where they do not suffice, nothing is written, `nent` neither. */
export function getSupportedCpuid(p: Process, arg: bigint): number {
  const nent = copyHeader(p, arg);
  if (nent === null) return -EFAULT;
  if (nent === 0) return -E2BIG;
  return writeTable(p, arg, p.system.machine.kvm.cpuid, Math.min(nent, KVM_MAX_CPUID_ENTRIES));
}

/**
 * KVM_GET_EMULATED_CPUID: besides, the padding of every entry passed in must be readable and zero, and there must be room for
 * one entry more than is returned (it is tested once more for a leaf that adds nothing).
 */
export function getEmulatedCpuid(p: Process, arg: bigint): number {
  const nent = copyHeader(p, arg);
  if (nent === null) return -EFAULT;
  if (nent === 0) return -E2BIG;
  const room = Math.min(nent, KVM_MAX_CPUID_ENTRIES);
  for (let i = 0; i < room; i++) {
    const padding = p.mm.copyFrom(arg + BigInt(HEADER + i * ENTRY + 28), 12);
    if (padding === null || padding.some((byte) => byte !== 0)) return -EINVAL;
  }
  return writeTable(p, arg, p.system.machine.kvm.emulatedCpuid, room - 1);
}

/** Writes a table that has to fit into `room` entries, then its length. */
function writeTable(p: Process, arg: bigint, table: readonly CpuidLeaf[], room: number): number {
  if (table.length > room) return -E2BIG;
  if (!p.mm.copyTo(arg + BigInt(HEADER), encodeEntries(table))) return -EFAULT;
  return p.mm.write32(arg, table.length) ? 0 : -EFAULT;
}

/** The index-aware lookup of the kernel: first entry of the leaf that has no significant index, or the right one. */
function findEntry<T extends CpuidLeaf>(entries: readonly T[], leaf: number, index?: number): T | undefined {
  return entries.find(
    (entry) =>
      entry.function === leaf &&
      (index === undefined || (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) === 0 || entry.index === index),
  );
}

const LA57 = 1 << 16;

/** Bits of a linear address on the host: 57 with LA57, whatever the guest has. */
export function linearWidth({ kvm }: Machine): number {
  return kvm.cpuid.some(({ function: leaf, index, ecx }) => leaf === 7 && index === 0 && (ecx & LA57) !== 0) ? 57 : 48;
}

/** Bytes XSAVE needs for these components, standard or compacted format, by the host's leaf 0xD. */
function xstateSize(machine: Machine, xfeatures: bigint, compacted: boolean): number {
  let size = 576;
  for (const entry of machine.kvm.cpuid) {
    if (entry.function !== 0xd || entry.index < 2 || ((xfeatures >> BigInt(entry.index)) & 1n) === 0n) continue;
    if (compacted && entry.ecx & 2) size = Math.ceil(size / 64) * 64;
    size = Math.max(size, (compacted ? size : entry.ebx) + entry.eax);
  }
  return size;
}

/** The CPUID table of one vCPU. */
export class GuestCpuid {
  #entries: CpuidEntry[] = [];
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** Physical address bits: 36 where the guest has no leaf 0x80000008. */
  get maxphyaddr(): number {
    const max = findEntry(this.#entries, 0x80000000)?.eax ?? 0;
    const entry = max >= 0x80000008 ? findEntry(this.#entries, 0x80000008) : undefined;
    return entry === undefined ? 36 : entry.eax & 0xff;
  }

  /** One register of a leaf, 0 where the guest has no such leaf. */
  register(leaf: number, index: number, name: 'eax' | 'ebx' | 'ecx' | 'edx'): number {
    return findEntry(this.#entries, leaf, index)?.[name] ?? 0;
  }

  has(leaf: number, index: number, name: 'eax' | 'ebx' | 'ecx' | 'edx', bit: number): boolean {
    return ((this.register(leaf, index, name) >>> bit) & 1) === 1;
  }

  /** Guest vendor is AMD or Hygon, by leaf 0. */
  get amdLike(): boolean {
    const leaf = findEntry(this.#entries, 0);
    return leaf !== undefined && (leaf.ebx === 0x6874_7541 || leaf.ebx === 0x6f67_7948);
  }

  /** Guest vendor is Intel, by leaf 0. */
  get intel(): boolean {
    return findEntry(this.#entries, 0)?.ebx === 0x756e_6547;
  }

  /** KVM_SET_CPUID2 (KVM_SET_CPUID with `old`). `entered`: the vCPU has run; only an equal table is accepted then. */
  set(p: Process, arg: bigint, old: boolean, runtime: CpuidRuntime, entered: boolean): number {
    const nent = copyHeader(p, arg);
    if (nent === null) return -EFAULT;
    if (nent > KVM_MAX_CPUID_ENTRIES) return -E2BIG;
    const bytes = p.mm.copyFrom(arg + BigInt(HEADER), nent * (old ? OLD_ENTRY : ENTRY));
    if (bytes === null) return -EFAULT;
    const entries = old ? decodeOldEntries(bytes) : decodeEntries(bytes);
    if (entered) {
      const asked = encodeEntries(withRuntime(this.#machine, entries, runtime));
      return Buffer.compare(asked, encodeEntries(this.entries(runtime))) === 0 ? 0 : -EINVAL;
    }
    const addressSizes = findEntry(entries, 0x80000008);
    if (addressSizes !== undefined && ![0, 48, 57].includes((addressSizes.eax >>> 8) & 0xff)) return -EINVAL;
    const xsave = findEntry(entries, 0xd, 0);
    if (xsave !== undefined && xsave.eax & XFEATURE_MASK_USER_DYNAMIC) return -EPERM;
    this.#entries = backendOf(this.#machine).cpuidOverlay ? overlayHostCpuid(this.#machine, entries) : entries;
    return 0;
  }

  /** KVM_GET_CPUID2. Where the room does not suffice the header is not updated; before 6.5, nowhere. */
  get(p: Process, arg: bigint, runtime: CpuidRuntime): number {
    const nent = copyHeader(p, arg);
    if (nent === null) return -EFAULT;
    const entries = this.entries(runtime);
    if (nent < entries.length) return -E2BIG;
    if (!p.mm.copyTo(arg + BigInt(HEADER), encodeEntries(entries))) return -EFAULT;
    return p.mm.write32(arg, has(this.#machine, 'cpuid2Counts') ? entries.length : nent) ? 0 : -EFAULT;
  }

  /** The table with the bits that belong to KVM as they are now. */
  entries(runtime: CpuidRuntime): readonly CpuidEntry[] {
    return withRuntime(this.#machine, this.#entries, runtime);
  }

  /**
   * The guest's CPUID instruction: exact leaf and index. Where there is none, an Intel-style guest gets the data of its highest basic
   * leaf for functions out of range, an AMD-style one zeros.
   */
  execute(leaf: number, index: number, runtime: CpuidRuntime): { eax: number; ebx: number; ecx: number; edx: number } {
    const entries = this.entries(runtime);
    const exact = findEntry(entries, leaf, index);
    if (exact !== undefined) return exact;
    return outOfRange(entries, leaf, index, this.amdLike) ?? { eax: 0, ebx: 0, ecx: 0, edx: 0 };
  }
}

function outOfRange(entries: readonly CpuidEntry[], leaf: number, index: number, amdLike: boolean): CpuidEntry | undefined {
  const basic = findEntry(entries, 0);
  if (basic === undefined || amdLike) return undefined;
  const hypervisor = leaf >= 0x4000_0000 && leaf <= 0x4fff_ffff;
  const base = hypervisor ? leaf & 0xffff_ff00 : leaf >= 0x8000_0000 ? 0x8000_0000 : 0;
  const range = findEntry(entries, base >>> 0);
  if (range !== undefined && leaf <= range.eax) return undefined;
  return findEntry(entries, basic.eax, index);
}

/** Bits that follow the vCPU's state: OSXSAVE, APIC, OSPKE, and the sizes in leaf 0xD. Only the first entry that fits is touched. */
function withRuntime(machine: Machine, entries: readonly CpuidEntry[], runtime: CpuidRuntime): readonly CpuidEntry[] {
  const changed = new Map<CpuidEntry, Partial<CpuidEntry>>();
  const change = (leaf: number, index: number | undefined, fields: (entry: CpuidEntry) => Partial<CpuidEntry>): void => {
    const entry = findEntry(entries, leaf, index);
    if (entry !== undefined)
      changed.set(entry, { ...entry, ...changed.get(entry), ...fields({ ...entry, ...changed.get(entry) }) });
  };
  change(1, undefined, ({ ecx, edx }) => ({ ecx: bit(ecx, 27, runtime.osxsave), edx: bit(edx, 9, runtime.apicEnabled) }));
  change(7, 0, ({ ecx }) => ({ ecx: bit(ecx, 4, runtime.ospke) }));
  change(0xd, 0, () => ({ ebx: xstateSize(machine, runtime.xcr0, false) }));
  change(0xd, 1, ({ eax, ebx }) => ({ ebx: eax & 0xa ? xstateSize(machine, runtime.xcr0, true) : ebx }));
  return entries.map((entry) => (changed.get(entry) as CpuidEntry | undefined) ?? entry);
}

function bit(word: number, n: number, on: boolean): number {
  return ((on ? word | (1 << n) : word & ~(1 << n)) >>> 0) as number;
}
