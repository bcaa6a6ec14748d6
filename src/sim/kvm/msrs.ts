import { KVM_CAP_X86_SMM } from '../../uapi/kvm.ts';
import { has } from '../changes.ts';
import { CR0_PG, EFER_LMA, EFER_LME, EFER_SVME, FS, GS } from '../cpu/state.ts';
import type { Machine } from '../machine.ts';
import { linearWidth } from './cpuid.ts';
import { getHypervMsr, HYPERV_MSRS, setHypervMsr } from './hyperv.ts';
import { capability } from './ioctl-table.ts';
import { APIC_MSRS, setApicBase } from './lapic-state.ts';
import { getBank, getBankCtl2, getMcgCtl, mcgCap, setBank, setBankCtl2, setMcgCtl } from './mce.ts';
import { pvDenied, setAsyncPf, setAsyncPfInt, setPvEoi, setStealTime, setSystemTime, writeWallClock } from './paravirt.ts';
import type { Vcpu } from './vcpu.ts';

/** `host`: the access comes from userspace through an ioctl, not from the guest's RDMSR or WRMSR. */
interface Access {
  readonly vcpu: Vcpu;
  readonly index: number;
  readonly host: boolean;
}

/** What a write leaves in the MSR; undefined refuses it. */
type Setter = (value: bigint, access: Access) => bigint | undefined;

interface MsrRow {
  readonly first: number;
  readonly last: number;
  /** Undefined: not readable. */
  readonly get: ((access: Access) => bigint | undefined) | undefined;
  readonly set: Setter;
}

const any: Setter = (value) => value;
/** A guest's write is forgotten. */
const hostsOwn: Setter = (value, { vcpu, index, host }) => (host ? value : (vcpu.msrs.get(index) ?? vcpu.backend.ucodeRev));
/** Only userspace may write. */
const hostOnly: Setter = (value, { host }) => (host ? value : undefined);
const readOnly: Setter = () => undefined;
const zeroOnly: Setter = (value) => (value === 0n ? 0n : undefined);
/** Accepted and forgotten. */
const ignored: unique symbol = Symbol('ignored');
/** The guest's own writes are no exit on SVM, and QEMU's processor, below it in the lab, takes any value. */
const canonical: Setter = (value, { vcpu, host }) =>
  canonicalised(vcpu, value) === value || (!host && vcpu.backend.qemu) ? value : undefined;
const maskedTo =
  (bits: bigint): Setter =>
  (value) =>
    value & ~bits ? undefined : value;

function canonicalised({ vm }: Vcpu, value: bigint): bigint {
  return BigInt.asUintN(64, BigInt.asIntN(linearWidth(vm.machine), value));
}

function memoryType(byte: bigint, legal: number): boolean {
  return byte < 8n && ((legal >>> Number(byte)) & 1) === 1;
}

function everyByte(value: bigint, test: (byte: bigint) => boolean): boolean {
  for (let shift = 0n; shift < 64n; shift += 8n) if (!test((value >> shift) & 0xffn)) return false;
  return true;
}

/** UC, WC, WT, WP, WB. */
const MTRR_TYPES = 0x73;
/** Besides, UC-. */
const PAT_TYPES = 0xf3;

const mtrrVariable: Setter = (value, { vcpu, index }) => {
  const beyond = -1n << BigInt(vcpu.cpuid.maxphyaddr);
  if ((index & 1) === 0)
    return memoryType(value & 0xffn, MTRR_TYPES) && !(BigInt.asUintN(64, beyond | 0xf00n) & value) ? value : undefined;
  return BigInt.asUintN(64, beyond | 0x7ffn) & value ? undefined : value;
};
const mtrrFixed: Setter = (value) => (everyByte(value, (byte) => memoryType(byte, MTRR_TYPES)) ? value : undefined);

/** Where the machine lists the MSR as a feature, its value is frozen once the vCPU has entered the guest. */
const feature =
  (set: Setter): Setter =>
  (value, access) => {
    const { vcpu, index } = access;
    if (vcpu.entered && vcpu.vm.machine.kvm.featureMsrs.some(([listed]) => listed === index))
      return value === getMsr(access.vcpu, access.index, true) ? value : undefined;
    return set(value, access);
  };
/** Needs a guest CPUID bit: without it, reads as 0 for userspace and takes only 0. */
const needsCpuid =
  (leaf: number, name: 'ecx' | 'edx', bit: number, set: Setter): Setter =>
  (value, access) =>
    access.vcpu.cpuid.has(leaf, 0, name, bit) ? set(value, access) : access.host ? zeroOnly(value, access) : undefined;

/** There only with a guest CPUID bit; what userspace sees without it is the rule for listed MSRs. */
const withCpuid =
  (leaf: number, name: 'ecx' | 'edx', bit: number) =>
  ({ vcpu, index }: Access): bigint | undefined =>
    vcpu.cpuid.has(leaf, 0, name, bit) ? (vcpu.msrs.get(index) ?? 0n) : undefined;

/** ARCH_CAPABILITIES. Before 6.13 it is the host's for userspace, whatever the guest's CPUID. */
const archCapabilities: Pick<MsrRow, 'get' | 'set'> = {
  get(access) {
    const { vcpu, index, host } = access;
    const { machine } = vcpu.vm;
    const follows = !host || has(machine, 'archCapabilitiesFollowCpuid');
    if (follows && !vcpu.cpuid.has(7, 0, 'edx', 29)) return undefined;
    return vcpu.msrs.get(index) ?? getFeatureMsr(machine, index);
  },
  set(value, access) {
    const follows = has(access.vcpu.vm.machine, 'archCapabilitiesFollowCpuid');
    return follows ? needsCpuid(7, 'edx', 29, hostOnly)(value, access) : hostOnly(value, access);
  },
};

const SYSENTER_CS = 0x174;

const setSysenterCs: Setter = (value, { vcpu, host }) => {
  if (host) vcpu.vmcbChanged = vcpu.backend.vmcbSegments;
  return !host && vcpu.backend.qemu ? value & 0xffffn : value;
};

/** QEMU's processor has 32 bits of SYSENTER_CS; those are what VMLOAD takes of the VMCB. */
export function truncateSysenterCs({ msrs }: Vcpu): void {
  const value = msrs.get(SYSENTER_CS);
  if (value !== undefined) msrs.set(SYSENTER_CS, BigInt.asUintN(32, value));
}

/** SYSENTER_ESP, SYSENTER_EIP: SVM's processor has 32 bits of each; KVM keeps the upper halves for guests that are Intel's. */
const setSysenter: Setter = (value, { vcpu }) => {
  const { vm, cpuid } = vcpu;
  const intel = has(vm.machine, 'intelUnlessAmd') ? !cpuid.amdLike : cpuid.intel;
  const address = canonicalised(vcpu, value);
  return vm.machine.backend === 'svm' && !intel ? BigInt.asUintN(32, address) : address;
};

/** EFER: reserved bits refuse; LMA is what the CPU says, never what is written. A guest may not change LME while it pages. */
const setEfer: Setter = (value, { vcpu, host }) => {
  const { cpu } = vcpu;
  if (value & ~vcpu.backend.eferBits) return undefined;
  if (!host && ((value ^ cpu.efer) & EFER_LME) !== 0n && (cpu.cr0 & CR0_PG) !== 0) return undefined;
  cpu.efer = (value & ~EFER_LMA) | (cpu.efer & EFER_LMA);
  cpu.refresh();
  return cpu.efer;
};

const setHwcr: Setter = (value) => {
  // HWCR: FFDIS, TLBCACHEDIS and monitor-MWAIT bits are accepted and dropped; McStatusWrEn and TscFreqSel are kept.
  const rest = value & ~0x148n;
  return rest & ~0x104_0000n ? undefined : rest;
};

/** MISC_ENABLE: a guest cannot change what tells of PEBS and BTS, and its bit for performance monitoring is ignored. */
const setMiscEnable: Setter = (value, { vcpu, index, host }) => {
  const { miscEnable } = vcpu.backend;
  const old = vcpu.msrs.get(index) ?? miscEnable;
  if (host) return value;
  return (old ^ value) & miscEnable & 0x1800n ? undefined : (value & ~0x80n) | (old & 0x80n);
};

/** A guest has it with RDTSCP or RDPID. */
const tscAux = ({ vcpu, host }: Access): boolean =>
  host || vcpu.cpuid.has(0x80000001, 0, 'edx', 27) || vcpu.cpuid.has(7, 0, 'ecx', 22);

const setTscAux: Setter = (value, { vcpu }) => {
  if (vcpu.cpuid.amdLike) return value & 0xffffffffn;
  return value >> 32n ? undefined : value;
};

/** KVM_CAP_MSR_PLATFORM_INFO decides whether a guest may read it. */
const platformInfo = ({ vcpu, index, host }: Access): bigint | undefined =>
  host || vcpu.vm.caps.guestCanReadMsrPlatformInfo ? (vcpu.msrs.get(index) ?? 0x80000000n) : undefined;

const setTscRatio: Setter = (value) => (value === 0n || value === 1n << 32n ? 1n << 32n : undefined);

/** MISC_FEATURES_ENABLES: CPUID faulting, where PLATFORM_INFO has it. */
const setMiscFeatures: Setter = (value, { vcpu }) => {
  const faulting = (getMsr(vcpu, 0xce, true) ?? 0n) & (1n << 31n);
  return value & ~1n || (value && !faulting) ? undefined : value;
};

const VM_CR_LOCK_AND_DISABLE = 0x18n;
const VM_CR_DISABLE = 0x10n;

/** VM_CR: once SVM is disabled, LOCK and SVM_DISABLE stay as they are; it is not disabled while EFER.SVME is set. */
const setVmCr: Setter = (value, { vcpu, index }) => {
  if (value & ~0x1fn) return undefined;
  const old = vcpu.msrs.get(index) ?? 0n;
  const kept = old & VM_CR_DISABLE ? VM_CR_LOCK_AND_DISABLE : 0n;
  const made = (old & kept) | (value & ~kept);
  return made & VM_CR_DISABLE && vcpu.cpu.efer & EFER_SVME ? undefined : made;
};

/** What the host's own feature MSR has. */
function hostFeature(vcpu: Vcpu, index: number): bigint {
  return vcpu.vm.machine.kvm.featureMsrs.find(([feature]) => feature === index)?.[1] ?? 0n;
}

function hasSmm(vcpu: Vcpu): boolean {
  return capability(vcpu.vm.machine, KVM_CAP_X86_SMM) !== 0;
}

/** SMBASE: for userspace only, and only with CONFIG_KVM_SMM. */
const setSmbase: Setter = (value, { vcpu, host }) => {
  if (!host || !hasSmm(vcpu)) return undefined;
  vcpu.cpu.smi.base = Number(value);
  return value;
};

/** RSM may have moved it. */
const getSmbase = (vcpu: Vcpu, set: bigint | undefined): bigint =>
  set !== undefined && Number(set) === vcpu.cpu.smi.base ? set : BigInt(vcpu.cpu.smi.base);

/** Rules of `paravirt.ts`. */
const paravirt =
  (set: (value: bigint, vcpu: Vcpu) => bigint | undefined): Setter =>
  (value, { vcpu }) =>
    set(value, vcpu);

/** One for the whole VM. */
const wallClock = ({ vcpu }: Access): bigint => vcpu.vm.wallClock;

const setTsc = (value: bigint, { vcpu }: Access): bigint => {
  if (!vcpu.backend.hostTsc) vcpu.tscOffset = BigInt.asUintN(64, value - vcpu.hostTsc());
  return value;
};

const base = (segment: number): Pick<MsrRow, 'get' | 'set'> => ({
  get: ({ vcpu }) => vcpu.cpu.segments[segment]!.base,
  set: (value, access) => {
    if (canonical(value, access) === undefined) return undefined;
    access.vcpu.cpu.segments[segment]!.base = value;
    access.vcpu.cpu.refresh();
    return value;
  },
});

/** A row: number or range, what it reads as (a bigint: until written), what a write does. */
export type MsrSpec = readonly [
  at: number | readonly [number, number],
  initial: bigint | MsrRow['get'],
  set: Setter | typeof ignored,
];

function rows(specs: readonly MsrSpec[]): MsrRow[] {
  return specs.map(([at, initial, set]) => {
    const [first, last] = typeof at === 'number' ? [at, at] : at;
    const fixed = typeof initial === 'bigint' ? initial : undefined;
    const get: MsrRow['get'] =
      typeof initial === 'function'
        ? initial
        : fixed === undefined
          ? undefined
          : ({ vcpu, index }) => vcpu.msrs.get(index) ?? fixed;
    return { first, last, get, set: set === ignored ? (_value, { vcpu, index }) => vcpu.msrs.get(index) ?? fixed ?? 0n : set };
  });
}

/**
 * Every MSR KVM knows whatever the host is, by number: value at reset, and what a write does. Asked of Linux 6.18; the names are those of
 * `msr-index.h`.
 */
const common: readonly MsrRow[] = rows([
  [[0x0, 0x1], 0n, readOnly], // P5_MC_ADDR, P5_MC_TYPE
  [0x10, ({ vcpu }) => vcpu.tsc(), setTsc], // TSC
  [0x11, wallClock, paravirt(writeWallClock)], // KVM_WALL_CLOCK
  [0x12, 0n, paravirt(setSystemTime)], // KVM_SYSTEM_TIME
  [0x17, 0n, readOnly], // PLATFORM_ID
  [0x1b, ({ vcpu }) => vcpu.apicBase, (value, { vcpu, host }) => (setApicBase(vcpu, value, host) ? value : undefined)], // APICBASE
  [0x2a, 0n, readOnly], // EBL_CR_POWERON
  [0x2c, 1n << 24n, readOnly], // EBC_FREQUENCY_ID
  [0x34, 0n, hostOnly], // SMI_COUNT
  [0x3b, 0n, (value, { vcpu }) => (vcpu.cpuid.has(7, 0, 'ebx', 1) ? value : 0n)], // TSC_ADJUST
  [0x48, 0n, ignored], // SPEC_CTRL
  [[0x49, 0x49], undefined, ignored], // PRED_CMD
  [0x79, undefined, ignored], // UCODE_WRITE
  [0x8b, ({ vcpu, index }) => vcpu.msrs.get(index) ?? vcpu.backend.ucodeRev, hostsOwn], // UCODE_REV
  [[0xc1, 0xc2], 0n, ignored], // PERFCTR0, 1
  [0xcd, 3n, readOnly], // FSB_FREQ
  [0x9e, ({ vcpu, index, host }) => (host && hasSmm(vcpu) ? getSmbase(vcpu, vcpu.msrs.get(index)) : undefined), setSmbase],
  [0xce, platformInfo, feature(hostOnly)], // PLATFORM_INFO
  [0xfe, 0x508n, readOnly], // MTRRcap
  [0x10a, archCapabilities.get, feature(archCapabilities.set)], // ARCH_CAPABILITIES
  [0x10b, undefined, ignored], // FLUSH_CMD
  [0x11e, 0xbe70_2111n, ignored], // BBL_CR_CTL3
  [0x140, 0n, any], // MISC_FEATURES_ENABLES
  [SYSENTER_CS, 0n, setSysenterCs],
  [[0x175, 0x176], 0n, setSysenter], // SYSENTER_ESP, EIP
  [0x179, ({ vcpu }) => mcgCap(vcpu), readOnly], // MCG_CAP
  [0x17a, 0n, any], // MCG_STATUS
  [0x17b, ({ vcpu, host }) => getMcgCtl(vcpu, host), (value, { vcpu, host }) => setMcgCtl(vcpu, value, host)], // MCG_CTL
  [[0x186, 0x187], 0n, ignored], // EVNTSEL0, 1
  [0x198, 0x400_0000_03e8n, readOnly], // PERF_STATUS
  [0x199, 0n, readOnly], // PERF_CTL
  [0x1a0, ({ vcpu, index }) => vcpu.msrs.get(index) ?? vcpu.backend.miscEnable, setMiscEnable], // MISC_ENABLE
  [[0x1c4, 0x1c5], 0n, zeroOnly], // XFD, XFD_ERR
  [0x1d9, 0n, ignored], // DEBUGCTL
  [[0x1db, 0x1de], 0n, zeroOnly], // LASTBRANCH…, LASTINT…
  [0x1fc, 0n, any], // POWER_CTL
  [[0x200, 0x20f], 0n, mtrrVariable],
  [0x250, 0n, mtrrFixed],
  [[0x258, 0x259], 0n, mtrrFixed],
  [[0x268, 0x26f], 0n, mtrrFixed],
  [
    0x277, // PAT
    0x0007_0406_0007_0406n,
    (value, { vcpu }) => (vcpu.backend.anyPat || everyByte(value, (byte) => memoryType(byte, PAT_TYPES)) ? value : undefined),
  ],
  [
    [0x280, 0x29f], // MCi_CTL2
    ({ vcpu, index, host }) => getBankCtl2(vcpu, index, index - 0x280, host),
    (value, { vcpu, index, host }) => setBankCtl2(vcpu, value, index - 0x280, host),
  ],
  [0x2ff, 0n, (value) => (value & ~0xcffn || !memoryType(value & 0xffn, MTRR_TYPES) ? undefined : value)], // MTRRdefType
  [0x345, withCpuid(1, 'ecx', 15), feature(needsCpuid(1, 'ecx', 15, hostOnly))], // PERF_CAPABILITIES
  [
    [0x400, 0x47f], // MCi_CTL, STATUS, ADDR, MISC
    ({ vcpu, index }) => getBank(vcpu, index, (index - 0x400) >> 2),
    (value, { vcpu, index, host }) => setBank(vcpu, value, index - 0x400, host),
  ],
  [0x606, 0n, readOnly], // RAPL_POWER_UNIT
  [0x611, 0n, readOnly], // PKG_ENERGY_STATUS
  [0x619, 0n, readOnly], // DRAM_ENERGY_STATUS
  [0x639, 0n, readOnly], // PP0_ENERGY_STATUS
  [0x641, 0n, readOnly], // PP1_ENERGY_STATUS
  [0xda0, 0n, readOnly], // XSS
  [
    HYPERV_MSRS,
    ({ vcpu, index, host }) => getHypervMsr(vcpu, index, host),
    (value, { vcpu, index, host }) => setHypervMsr(vcpu, index, value, host),
  ],
  ...APIC_MSRS,
  [0x4b564d00, wallClock, paravirt(writeWallClock)], // KVM_WALL_CLOCK_NEW
  [0x4b564d01, 0n, paravirt(setSystemTime)], // KVM_SYSTEM_TIME_NEW
  [0x4b564d02, 0n, paravirt(setAsyncPf)], // KVM_ASYNC_PF_EN
  [0x4b564d03, 0n, paravirt(setStealTime)], // KVM_STEAL_TIME
  [0x4b564d04, 0n, paravirt(setPvEoi)], // KVM_PV_EOI_EN
  [0x4b564d05, 1n, maskedTo(1n)], // KVM_POLL_CONTROL
  [0x4b564d06, 0n, paravirt(setAsyncPfInt)], // KVM_ASYNC_PF_INT
  [0x4b564d07, 0n, ignored], // KVM_ASYNC_PF_ACK
  [0xc0000080, ({ vcpu }) => vcpu.cpu.efer, setEfer],
  [0xc0000081, 0n, any], // STAR
  [[0xc0000082, 0xc0000083], 0n, canonical], // LSTAR, CSTAR
  [0xc0000084, 0n, any], // SYSCALL_MASK
  [0xc0000100, base(FS).get, base(FS).set],
  [0xc0000101, base(GS).get, base(GS).set],
  [0xc0000102, 0n, canonical], // KERNEL_GS_BASE
  [
    0xc0000103, // TSC_AUX
    (access) => (tscAux(access) ? (access.vcpu.msrs.get(access.index) ?? 0n) : undefined),
    (value, access) => (tscAux(access) ? setTscAux(value, access) : undefined),
  ],
  [[0xc0010000, 0xc0010007], 0n, ignored], // K7_EVNTSEL0 … K7_PERFCTR3
  [0xc0010010, 0n, readOnly], // SYSCFG
  [0xc0010015, 0n, setHwcr],
  [0xc001001b, 0x2000_0000n, ignored], // K7 0xc001001b
  [0xc001001f, 0n, ignored], // NB_CFG
  [0xc0010020, undefined, ignored], // PATCH_LOADER
  [0xc0010055, 0n, readOnly], // INT_PENDING_MSG
  [0xc0010058, 0n, zeroOnly], // FAM10H_MMIO_CONF_BASE
  [[0xc0010112, 0xc0010113], 0n, readOnly], // TSEG_ADDR, TSEG_MASK
  [0xc0010117, 0n, ignored], // VM_HSAVE_PA
  [
    [0xc0010140, 0xc0010141], // OSVW_ID_LENGTH, OSVW_STATUS
    ({ vcpu, index }) => (vcpu.cpuid.has(0x80000001, 0, 'ecx', 9) ? (vcpu.msrs.get(index) ?? 0n) : undefined),
    (value, { vcpu }) => (vcpu.cpuid.has(0x80000001, 0, 'ecx', 9) ? value : undefined),
  ],
  [[0xc0011022, 0xc0011023], 0n, ignored], // DC_CFG, BU_CFG
  [0xc001102a, 0n, ignored], // BU_CFG2
  [0xc001102c, 0n, ignored], // EX_CFG
]);

/** MSRs of the vendor modules. */
const vendor: Readonly<Record<Machine['backend'], readonly MsrRow[]>> = {
  pvm: rows([
    [0x122, 0n, ignored], // TSX_CTRL
    [0x4b564d10, 0x400n, readOnly],
    [0x4b564d11, 0x4d_5650n, readOnly],
    [0x4b564d12, 0x1ffn, readOnly],
    [0x4b564d13, ({ vcpu }) => BigInt(vcpu.vm.machine.kvm.tscKhz), readOnly],
    [0xc0000104, 1n << 32n, setTscRatio],
    [0xc001011f, 0n, ignored], // VIRT_SPEC_CTRL
  ]),
  svm: rows([
    [0x48, 0n, any], // SPEC_CTRL
    // The lab's processor has neither IBPB nor L1D_FLUSH.
    [0x49, undefined, (value, access) => (has(access.vcpu.vm.machine, 'predCmdTakesZero') ? zeroOnly(value, access) : undefined)], // PRED_CMD
    [0x10b, undefined, readOnly], // FLUSH_CMD
    [0x140, 0n, setMiscFeatures],
    [0xc0000104, 1n << 32n, setTscRatio],
    [0xc0010114, 0n, setVmCr],
    [0xc0010115, undefined, ignored], // VM_IGNNE
    [0xc0010117, 0n, (value) => value & ~0xfffn], // VM_HSAVE_PA
    [0xc001011f, 0n, maskedTo(4n)], // VIRT_SPEC_CTRL: SSBD
    [0xc0011029, 0n, feature((value, { vcpu, index }) => (value & ~hostFeature(vcpu, index) ? undefined : value))], // DE_CFG
  ]),
  vmx: rows([
    [0x3a, 0n, any], // FEAT_CTL
    [0x122, 0n, ignored], // TSX_CTRL
  ]),
};

const tables: Map<Machine['backend'], Map<number, MsrRow>> = new Map();

/** The two numbers of one register: KVM_WALL_CLOCK_NEW and KVM_SYSTEM_TIME_NEW are the old ones. */
const ALIASES: ReadonlyMap<number, number> = new Map([
  [0x4b564d00, 0x11],
  [0x4b564d01, 0x12],
]);

function accessOf(vcpu: Vcpu, index: number, host: boolean): Access {
  return { vcpu, index: ALIASES.get(index) ?? index, host };
}

function rowOf(machine: Machine, index: number): MsrRow | undefined {
  let table = tables.get(machine.backend);
  if (table === undefined) {
    table = new Map();
    for (const row of [...common, ...vendor[machine.backend]]) for (let at = row.first; at <= row.last; at++) table.set(at, row);
    tables.set(machine.backend, table);
  }
  return table.get(index);
}

function read(access: Access): bigint | undefined {
  return rowOf(access.vcpu.vm.machine, access.index)?.get?.(access);
}

/** KVM's own rule for MSRs it does not support but lists: userspace reads 0 and may write 0. */
function listed(machine: Machine, index: number): boolean {
  return machine.kvm.msrs.includes(index) || machine.kvm.featureMsrs.some(([feature]) => feature === index);
}

/** The numbers KVM takes for MTRRs, of which not all are there. */
function isMtrr(machine: Machine, index: number): boolean {
  if (has(machine, 'mtrrsByNumber')) return index >= 0x200 && index <= 0x26f;
  return index >= 0x200 && index <= 0x2ff && !(index >= 0x280 && index < 0x2a0);
}

/** Whether KVM has a rule for it at all: what fails otherwise is unknown to it. Read-only ones are unknown to a write. */
export function isKnownMsr(vcpu: Vcpu, index: number): boolean {
  const row = rowOf(vcpu.vm.machine, accessOf(vcpu, index, false).index);
  if (isMtrr(vcpu.vm.machine, index)) return true;
  return row !== undefined && row.set !== readOnly && !pvDenied(vcpu, index);
}

/** undefined: there is no such MSR (the guest takes #GP). */
export function getMsr(vcpu: Vcpu, index: number, host: boolean): bigint | undefined {
  const { machine } = vcpu.vm;
  const denied = pvDenied(vcpu, index);
  if (denied && !has(machine, 'deniedMsrsReadZero')) return undefined;
  const value = denied ? undefined : read(accessOf(vcpu, index, host));
  return value ?? (host && listed(machine, index) ? 0n : undefined);
}

/** False: refused (the guest takes #GP). */
export function setMsr(vcpu: Vcpu, index: number, value: bigint, host: boolean): boolean {
  const { machine } = vcpu.vm;
  const row = rowOf(machine, index);
  const denied = pvDenied(vcpu, index);
  if (denied && !has(machine, 'deniedMsrsReadZero')) return false;
  if (row === undefined || denied) return host && value === 0n && listed(machine, index);
  const access = accessOf(vcpu, index, host);
  const stored = row.set(value, access);
  if (stored === undefined) return false;
  vcpu.msrs.set(access.index, stored);
  return true;
}

/** KVM_GET_MSRS on the system descriptor. */
export function getFeatureMsr(machine: Machine, index: number): bigint | undefined {
  const advertised = has(machine, 'listedFeaturesReadZero') && machine.kvm.msrs.includes(index);
  return machine.kvm.featureMsrs.find(([feature]) => feature === index)?.[1] ?? (advertised ? 0n : undefined);
}
