import type { Machine } from '../machine.ts';

/**
 * What differs between KVM's vendor modules, besides the tables of a machine profile. 'pvm' was asked (Linux 6.18, paravirtual
 * nested KVM, shadow paging, real mode through the instruction emulator), and so was 'svm' (Linux 7.2 in the lab, on QEMU's processor); 'vmx' is
 * read in the 7.2 source.
 */
export interface Backend {
  /** Entries of a dirty ring kept free for what the processor logs by itself: 512 with page modification logging. */
  readonly cpuDirtyLog: number;
  /** Guest code goes through KVM's instruction emulator (see CpuOptions). */
  readonly emulated: boolean;
  /** The processor beneath is QEMU's (see CpuOptions). */
  readonly qemu: boolean;
  /** The hypercall instruction is VMCALL, else VMMCALL. */
  readonly vmcall: boolean;
  /** Intel's processor: its SYSCALL and SYSENTER, PDPTRs cached as they were loaded. */
  readonly intel: boolean;
  /** An access to a slot whose host page cannot be used: an MMIO exit (emulator), or −EFAULT with exit reason 0 (hardware paging). */
  readonly badHostPage: 'mmio' | 'efault';
  /** Instructions the emulator executes before it looks for NMIs, interrupts and windows; undefined: the guest runs on hardware. */
  readonly turn: number | undefined;
  /** The five words of exit information in an INTERNAL_ERROR of the emulator, which could not fetch from this guest address. */
  readonly emulationExitInfo: (gpa: bigint) => readonly bigint[];
  /** The first four words of INTERNAL_ERROR suberror 3, DELIVERY_EV. */
  readonly deliveryExitInfo: ((gpa: bigint, isWrite: boolean) => readonly bigint[]) | undefined;
  /** A failed emulation has queued #UD besides its exit: the next KVM_RUN delivers it. */
  readonly udAfterFailure: boolean;
  /** SVM's segments: what SET_SREGS gives is truncated to the VMCB's fields, G, unusable and some type bits are derived from them. */
  readonly vmcbSegments: boolean;
  /** SVM has one bit of interrupt shadow, which reads as both of KVM's. */
  readonly oneShadow: boolean;
  /** Segment types after reset. */
  readonly resetTypes: { readonly cs: number; readonly ss: number; readonly tr: number };
  /**
   * SHUTDOWN: SVM has INIT-reset the vCPU before userspace sees the exit. With the rest of the VMCB it has cleared the root of the nested page
   * tables: KVM_RUN then spins until a signal, until the root is loaded anew (CR0, CR3, CR4 or EFER changed, a memslot deleted or moved).
   */
  readonly resetOnShutdown: boolean;
  /** CR4 bits that are legal whatever the guest's CPUID; 'cpuid': those of the features the guest's CPUID has, besides the old ones. */
  readonly cr4: bigint | 'cpuid';
  /** SET_SREGS looks at reserved EFER bits. */
  readonly checksEfer: boolean;
  /** EFER bits KVM_SET_MSRS lets through (LMA is dropped, not refused). */
  readonly eferBits: bigint;
  /** SET_SREGS with paging but without long mode drops CR0.PG and requests a triple fault: pvm has no such paging. */
  readonly dropsLegacyPaging: boolean;
  /** GET_SREGS gives back the padding byte of each segment. */
  readonly echoesSegmentPadding: boolean;
  /** RFLAGS bits SET_REGS drops. */
  readonly hiddenRflags: bigint;
  /** The guest's TSC is the host's, and writes to it have no effect. */
  readonly hostTsc: boolean;
  /** An interrupt taken from the local APIC ends as it is acknowledged: ISR stays empty, and the guest's EOI finds nothing. */
  readonly autoEoi: boolean;
  /** The processor holds four bits of TPR: what the others are is forgotten as the guest runs. */
  readonly virtualTpr: boolean;
  /** The x2APIC's 64-bit ICR is kept in the xAPIC's two registers. */
  readonly splitsX2apicIcr: boolean;
  /** IA32_PAT takes memory types the architecture reserves. */
  readonly anyPat: boolean;
  /** SET_CPUID2 merges what the host has into leaves 1, 7 and 0xD. */
  readonly cpuidOverlay: boolean;
  /** MCG_CAP bits KVM_X86_SETUP_MCE keeps: SVM has nothing above MCG_CTL_P. */
  readonly mcgCap: bigint;
  readonly ucodeRev: bigint;
  readonly miscEnable: bigint;
}

const SVM_EXIT_NPF = 0x400n;
/** EXITINFO1 of a nested page fault on the final address, nothing present. */
const NPF_READ = 0x1_0000_0004n;
const NPF_WRITE = 0x1_0000_0006n;
const NPF_FETCH = 0x1_0000_0014n;

const hardware = {
  cpuDirtyLog: 0,
  emulated: false,
  vmcall: false,
  qemu: false,
  intel: false,
  badHostPage: 'efault',
  turn: undefined,
  udAfterFailure: true,
  vmcbSegments: false,
  oneShadow: false,
  emulationExitInfo: () => [0n, 0n, 0n, 0n, 0n],
  deliveryExitInfo: undefined,
  resetOnShutdown: false,
  cr4: 'cpuid',
  checksEfer: true,
  dropsLegacyPaging: false,
  echoesSegmentPadding: false,
  hiddenRflags: 0n,
  hostTsc: false,
  autoEoi: false,
  virtualTpr: false,
  splitsX2apicIcr: false,
  anyPat: false,
  cpuidOverlay: false,
  mcgCap: 0xffff_ffff_ffff_ffffn,
  miscEnable: 0x1800n,
} as const;

const backends: Readonly<Record<Machine['backend'], Backend>> = {
  pvm: {
    cpuDirtyLog: 0,
    emulated: true,
    vmcall: true,
    qemu: false,
    intel: false,
    badHostPage: 'mmio',
    turn: 1024,
    udAfterFailure: false,
    vmcbSegments: false,
    oneShadow: false,
    emulationExitInfo: () => [0x1000n, 0n, 0n, 0n, 0n],
    deliveryExitInfo: undefined,
    resetTypes: { cs: 11, ss: 3, tr: 11 },
    resetOnShutdown: false,
    // VME … OSXMMEXCPT (bits 0–10), UMIP, FSGSBASE, OSXSAVE, SMEP, SMAP, PKE: fixed, CPUID is not asked.
    cr4: 0x750fffn,
    checksEfer: false,
    eferBits: 0xd01n,
    dropsLegacyPaging: true,
    echoesSegmentPadding: true,
    hiddenRflags: 1n << 17n,
    hostTsc: true,
    autoEoi: true,
    virtualTpr: false,
    splitsX2apicIcr: false,
    anyPat: true,
    cpuidOverlay: true,
    mcgCap: 0xffff_ffff_ffff_ffffn,
    ucodeRev: 0n,
    miscEnable: 1n,
  },
  vmx: {
    ...hardware,
    cpuDirtyLog: 512,
    vmcall: true,
    intel: true,
    resetTypes: { cs: 11, ss: 3, tr: 11 },
    eferBits: 0xd01n,
    ucodeRev: 0x1_0000_0000n,
  },
  svm: {
    ...hardware,
    qemu: true,
    resetTypes: { cs: 10, ss: 2, tr: 3 },
    emulationExitInfo: (gpa) => [SVM_EXIT_NPF, NPF_FETCH, gpa, 0n, 0n],
    deliveryExitInfo: (gpa, isWrite) => [gpa, SVM_EXIT_NPF, isWrite ? NPF_WRITE : NPF_READ, gpa],
    resetOnShutdown: true,
    mcgCap: 0x1ffn,
    vmcbSegments: true,
    oneShadow: true,
    virtualTpr: true,
    splitsX2apicIcr: true,
    // SCE, LME, LMA, NX, SVME, LMSLE, FFXSR, AUTOIBRS.
    eferBits: 0x20_7d01n,
    ucodeRev: 0x0100_0065n,
  },
};

export function backendOf(machine: Machine): Backend {
  return backends[machine.backend];
}
