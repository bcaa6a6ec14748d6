/**
 * What a vCPU needs of the rest of the machine, and what it tells it. KVM (src/sim/kvm) implements `CpuBus` and turns an
 * `Outcome` into `kvm_run`.
 */

/** One 4 KiB page of guest RAM: byte `i` of the page is `u8[offset + i]`, and the same through `view`. Both may cover far more than the page. */
export interface RamPage {
  readonly view: DataView;
  readonly u8: Uint8Array;
  readonly offset: number;
}

export interface CpuidResult {
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}

export type PageAccess = 'read' | 'write' | 'fetch';

export interface CpuBus {
  /**
   * The RAM behind guest page `gpaPage` (guest-physical address / 4096) for this kind of access; null where there is none:
   * a data access becomes an MMIO exit, a fetch an INTERNAL_ERROR exit. A READONLY slot answers 'read' and 'fetch' and refuses 'write'.
   * The CPU remembers answers until `generation` changes. `generation` is looked at on entry of `run`, not within it.
   */
  page(gpaPage: number, access: PageAccess): RamPage | null;
  /** Changes whenever an answer of `page` may have changed (memslots) or dirty bits were taken (see `written`). */
  readonly generation: number;
  /**
   * Dirty logging where every store is told apart: while `tellsStores`, called before each store of an instruction to a page. What needs to know
   * only the first one since `generation` changed hears of it by `page(…, 'write')`.
   */
  written?(gpaPage: number): void;
  readonly tellsStores?: boolean;
  /**
   * A store to an address that is not RAM: true where the kernel itself takes it (LAPIC, IOAPIC, ioeventfd, coalesced zone), and the
   * guest goes on, after another look at `intr` and the events. At most 8 bytes, inside one page.
   */
  mmioWrite?(gpa: number, data: Uint8Array): boolean;
  /** A load from an address that is not RAM: the kernel's own answer, or null for an exit. */
  mmioRead?(gpa: number, length: number): Uint8Array | null;
  /** OUT, or one element of OUTS: true where the kernel itself takes it. */
  pioWrite?(port: number, data: Uint8Array): boolean;
  /** IN, or a batch of INS: size × count bytes of the kernel's own, or null for an exit. */
  pioRead?(port: number, size: number, count: number): Uint8Array | null;
  cpuid(leaf: number, subleaf: number): CpuidResult;
  /** The MSR's value, as two 32-bit halves; null makes the guest take #GP(0); an `MsrExit` asks userspace. */
  rdmsr(index: number): { lo: number; hi: number } | null | MsrExit;
  /** False makes the guest take #GP(0). EFER and the bases are the CPU's own state: set `cpu.efer`, `cpu.setSegmentBase`. */
  wrmsr(index: number, lo: number, hi: number): boolean | MsrExit;
  /** MSRs as instructions other than RDMSR and WRMSR use them (SYSCALL, SWAPGS …): no filter reaches these. Null: there is none. */
  ownMsr(index: number): { lo: number; hi: number } | null;
  setOwnMsr(index: number, lo: number, hi: number): void;
  /** CR4 bits MOV to CR4 may set; without it, those every processor of today has. */
  readonly cr4Bits?: bigint;
  /** XCR0, and a write of it by the guest: false makes it take #GP(0). */
  readonly xcr0?: bigint;
  setXcr0?(value: bigint): boolean;
  /** The guest's time-stamp counter, now. */
  tsc(): bigint;
  /** Interrupt acknowledge: the vector to deliver, or −1 for none after all. Asked when `cpu.intr` is set and the guest can take it. */
  acknowledge?(): number;
  /**
   * VMCALL or VMMCALL, whichever the processor has. What RAX becomes; undefined makes a 'hypercall' outcome, whose answer is brought by
   * `completeHypercall`. Absent: the guest takes #UD.
   */
  hypercall?(call: Hypercall): bigint | undefined;
  /** KVM_X86_QUIRK_FIX_HYPERCALL_INSN is off: the other vendor's hypercall instruction is #UD. Default: it is patched. */
  readonly fixHypercall?: boolean;
  /** The guest's STGI and CLGI are the processor's own. Default: it has neither. */
  readonly virtualGif?: boolean;
  /** An SMI whose state cannot be saved is taken all the same. Default: KVM gives the VM up. */
  readonly losesSmmState?: boolean;
  /** MONITOR and MWAIT are #UD: KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS is off and the guest's CPUID does not have them. */
  mwaitIsUd?(): boolean;
  /**
   * On a processor: the page as KVM's emulator reaches it, where that is not what `page` answers (`emulatorDiffers`). String I/O and what touches
   * MMIO is executed by it.
   */
  emulatedPage?(gpaPage: number, access: PageAccess): RamPage | null;
  readonly emulatorDiffers?: boolean;
  /** What is no RAM is a device's page that is mapped: no emulator comes between the processor and it. */
  reachesDevice?(gpa: number, write: boolean): boolean;
  /** KVM's emulator does not have the instruction, yet the guest goes on: the paravirtual backend sees to a few such ones itself. */
  emulationFailed?(insnBytes: Uint8Array): void;
  /** WBINVD, INVD: what a guest's cache hides from DMA has reached memory. */
  wbinvd?(): void;
}

/** A hypercall as KVM reads it: 64-bit registers in 64-bit mode, else their low halves. */
export interface Hypercall {
  readonly nr: bigint;
  readonly args: readonly bigint[];
  readonly cpl: number;
  readonly longMode: boolean;
}

/** KVM_CAP_X86_USER_SPACE_MSR: this access goes to userspace, for this KVM_MSR_EXIT_REASON. */
export interface MsrExit {
  readonly exit: number;
}

/** KVM_SET_GUEST_DEBUG, as the processor has to know it. */
export interface GuestDebug {
  /** KVM_GUESTDBG_* bits; 0: off. */
  control: number;
  /** With KVM_GUESTDBG_USE_HW_BP: the host's breakpoints, and its DR7. */
  readonly db: BigUint64Array;
  dr7: bigint;
  /** Linear address RIP had when stepping was asked for; a SET_REGS that puts RIP elsewhere ends the stepping (SVM). */
  steppedFrom: bigint;
}

/** Why `run` returned. A fresh object each time. */
export type Outcome =
  /** The fuel is used up; the CPU stands between two instructions (or two iterations of a REP). */
  | { readonly kind: 'fuel' }
  /** KVM_EXIT_IO. `data` has size × count bytes: what is written for 'out', zeros for 'in' (answer with `completeIo`). */
  | {
      readonly kind: 'io';
      readonly direction: 'in' | 'out';
      readonly size: 1 | 2 | 4;
      readonly port: number;
      readonly count: number;
      readonly data: Uint8Array;
    }
  /** KVM_EXIT_MMIO: one fragment of at most 8 bytes inside one page; `data` has `len` bytes (a read: zeros; answer with `completeMmio`). */
  | { readonly kind: 'mmio'; readonly gpa: number; readonly len: number; readonly isWrite: boolean; readonly data: Uint8Array }
  /** HLT executed; RIP is past it. */
  | { readonly kind: 'hlt' }
  /** `cpu.windowRequested` and the guest can take an interrupt now. */
  | { readonly kind: 'irqWindow' }
  /** KVM_EXIT_DEBUG. `pc` is linear; the KVM_EXIT_DEBUG of a breakpoint instruction tells no dr6 and dr7, that of the emulator no dr7. */
  | { readonly kind: 'debug'; readonly exception: number; readonly pc: bigint; readonly dr6?: bigint; readonly dr7?: bigint }
  /** KVM_EXIT_HYPERCALL: answer with `completeHypercall`. */
  | { readonly kind: 'hypercall'; readonly call: Hypercall }
  /** KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR: answer with `completeMsr`. `data` is 0 for a read. */
  | { readonly kind: 'msr'; readonly isWrite: boolean; readonly index: number; readonly reason: number; readonly data: bigint }
  /** The state save area of system management mode cannot be written: KVM gives the VM up (every call EIO). */
  | { readonly kind: 'dead' }
  /** Triple fault. Registers are those of the instruction that faulted. */
  | { readonly kind: 'shutdown' }
  /**
   * Suberror 1 (EMULATION): code fetch from a page that is not RAM. `insnBytes`: the bytes before the failing one, maybe none. Suberror 3
   * (DELIVERY_EV), only where code is not emulated: an event's delivery needs memory at `gpa` that is not RAM.
   */
  | {
      readonly kind: 'internalError';
      readonly suberror: number;
      readonly insnBytes: Uint8Array;
      readonly gpa?: number;
      readonly isWrite?: boolean;
    }
  /** A real instruction or mode this simulator does not have. Never stands for #UD. State is that before the instruction. */
  | { readonly kind: 'notModelled'; readonly description: string; readonly bytes: Uint8Array };

export interface CpuOptions {
  /**
   * true (default): guest code goes through KVM's instruction emulator. RIP is behind a non-string OUT at its exit; RF is set while a
   * REP instruction repeats (otherwise only string I/O and MMIO); INT n ignores the real-mode IDT limit, and in protected mode is an emulation failure.
   * false: VMX and SVM. RIP is at the OUT; the next `run` skips it if linear RIP is unchanged.
   */
  emulated?: boolean;
  /** The processor beneath is QEMU's: error codes without EXT, its own count of double faults, a null SS with interrupt stacks. */
  qemu?: boolean;
  /** The processor's hypercall instruction is VMCALL (VMX); default VMMCALL (SVM). */
  vmcall?: boolean;
  /** PAE paging goes by the PDPTRs loaded with CR0, CR3 or CR4 (Intel). Default false: by what memory has now (AMD). */
  cachesPdptrs?: boolean;
  /** SYSENTER, SYSCALL and SYSRET as Intel's processors have them; default: AMD's. */
  intel?: boolean;
  /** Flags and bits an instruction leaves undefined come out as on Intel's processors; default: AMD's. */
  intelFlags?: boolean;
  /** False: MOV to CR0 cannot turn on paging outside long mode. */
  legacyPaging?: boolean;
}

/** Kernel wording of what is injected: `interrupt` an external vector, `soft` INT n, `exception` a fault, `nmi`. */
export type InjectKind = 'interrupt' | 'soft' | 'exception' | 'nmi';

/** System management mode. While `active`, the bus answers `page` from the second address space. */
export interface Smi {
  active: boolean;
  /** KVM_SMI: becomes `pending` when someone looks. */
  requested: boolean;
  pending: boolean;
  /** NMIs were masked when it was entered: RSM does not open the way for them. */
  insideNmi: boolean;
  /** MSR_IA32_SMBASE. */
  base: number;
}

/** Events on their way in, in the terms of `struct kvm_vcpu_events`. Injected ones are delivered on the next `run`, whatever IF says. */
export interface CpuEvents {
  exception: {
    injected: boolean;
    pending: boolean;
    nr: number;
    hasErrorCode: boolean;
    errorCode: number;
    hasPayload: boolean;
    payload: bigint;
  };
  interrupt: { injected: boolean; nr: number; soft: boolean };
  nmi: { injected: boolean; pending: number; masked: boolean };
}
