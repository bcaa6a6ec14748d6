/** What exists at this point of a sequence, by the names both kernels know it under. Fed by the answers the two agreed on. */
import type { Ref } from './call.ts';

/** `struct kvm` as far as a fuzzer must know it. */
export interface VmState {
  /** Slots that were accepted. */
  readonly slots: Map<number, { gpa: bigint; size: bigint; hva: SlotMemory; flags: number }>;
  readonly ids: Set<number>;
}

/** Where a slot's userspace_addr points: into a Memory, or at a number. */
export type SlotMemory = { readonly memory: Ref; readonly offset: number } | { readonly address: bigint };

export interface VcpuState {
  readonly vm: VmState;
  readonly id: number;
  /** Its segments or control registers may be what no processor ever has: a guest is not run on them. */
  odd: boolean;
  /** Its last exit was an MMIO access, or may have been: what SET_REGS before its completion does is not modelled in all its turns. */
  pending: boolean;
}

export interface Mapped {
  readonly ioas: number;
  readonly iova: bigint;
  readonly length: bigint;
}

/** An open file description; dups share it. */
export interface FileState {
  readonly kind: string;
  readonly vm?: VmState;
  readonly vcpu?: VcpuState;
  /** Of an iommufd: what it has made, by id. */
  readonly objects?: Map<number, string>;
  /** Of an iommufd: what is mapped in it, as far as the sequence knows. */
  readonly mapped?: Mapped[];
  /** Of an iommufd: no page table is ever made on it. */
  bare?: boolean;
  /** Of an iommufd: its tables map page by page, and what is written is asked for. */
  tracked?: boolean;
  /** The device of VFIO it is about. */
  readonly place?: { readonly address: string };
}

export interface Descriptor {
  readonly name: Ref;
  readonly file: FileState;
  open: boolean;
}

export interface MemoryState {
  readonly name: Ref;
  readonly length: number;
  /** It has `bytes`. */
  readonly view: boolean;
  /** It was asked for without `bytes`: only then may its protection change. */
  readonly plain?: boolean;
  /** The file it maps; undefined for anonymous memory. */
  readonly of: FileState | undefined;
  readonly offset: number;
  open: boolean;
}

/** No sequence needs more, and the machine has to hold it. */
const LIMITS: Readonly<Record<string, number>> = { kvm: 3, vm: 4, vcpu: 6, eventfd: 3, memfd: 3, memory: 8, descriptors: 24 };

export class World {
  /** Guests run on the processor itself, not in KVM's emulator. */
  readonly hardware: boolean;
  readonly descriptors: Descriptor[] = [];
  readonly memories: MemoryState[] = [];
  readonly #counts = new Map<string, number>();

  constructor(hardware: boolean) {
    this.hardware = hardware;
  }

  /** A name nobody has: vm0, vm1 … */
  fresh(kind: string): Ref {
    const count = this.#counts.get(kind) ?? 0;
    this.#counts.set(kind, count + 1);
    return `${kind.replace(/[^a-z]/g, '')}${count}`;
  }

  /** Another one of these may be made. */
  room(kind: string): boolean {
    const open =
      kind === 'memory' ? this.liveMemories() : this.descriptors.filter(({ open, file }) => open && file.kind === kind);
    return open.length < (LIMITS[kind] ?? 4) && this.descriptors.length < LIMITS['descriptors']!;
  }

  addDescriptor(name: Ref, file: FileState): Descriptor {
    const added = { name, file, open: true };
    this.descriptors.push(added);
    return added;
  }

  addMemory(memory: Omit<MemoryState, 'open'>): MemoryState {
    const added = { ...memory, open: true };
    this.memories.push(added);
    return added;
  }

  live(kind?: string): Descriptor[] {
    return this.descriptors.filter(({ open, file }) => open && (kind === undefined || file.kind === kind));
  }

  closed(): Descriptor[] {
    return this.descriptors.filter(({ open }) => !open);
  }

  liveMemories(): MemoryState[] {
    return this.memories.filter(({ open }) => open);
  }

  /** Memory whose content can be looked at: RAM and memfds, not the pages of vCPUs. */
  rams(): MemoryState[] {
    return this.liveMemories().filter(({ view, of }) => view && of?.vcpu === undefined);
  }

  /** A mapping of kvm_run with its PIO page, of that vCPU. */
  runPage(vcpu: VcpuState): MemoryState | undefined {
    return this.liveMemories().find(
      ({ view, of, length, offset }) => view && offset === 0 && length >= 0x2000 && of?.vcpu === vcpu,
    );
  }
}
