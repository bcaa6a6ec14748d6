/** The headers' function-like macros. */
import {
  kvm_regs as arm64_kvm_regs,
  KVM_ARM_FEATURE_ID_RANGE_SIZE,
  KVM_ARM64_SVE_MAX_SLICES,
  KVM_ARM64_SVE_NUM_PREGS,
  KVM_ARM64_SVE_NUM_ZREGS,
  KVM_PSCI_FN_BASE,
  KVM_REG_ARM_FW,
  KVM_REG_ARM_FW_FEAT_BMAP,
  KVM_REG_ARM64_SVE,
  KVM_REG_ARM64_SVE_FFR_BASE,
  KVM_REG_ARM64_SVE_PREG_BASE,
  KVM_REG_ARM64_SVE_ZREG_BASE,
  KVM_REG_ARM64_SYSREG,
} from './arm64.ts';
import {
  KVM_REG_ARM64,
  KVM_REG_GUEST_SSP,
  KVM_REG_SIZE_MASK,
  KVM_REG_SIZE_SHIFT,
  KVM_REG_SIZE_U64,
  KVM_REG_SIZE_U256,
  KVM_REG_SIZE_U2048,
  KVM_REG_X86,
  KVM_VM_TYPE_ARM_IPA_SIZE_MASK,
  KVM_X86_REG_TYPE_KVM,
  KVM_X86_REG_TYPE_MSR,
} from './kvm.ts';

/** Bytes of a register, from its id. */
export const KVM_REG_SIZE = (id: bigint): number => 1 << Number((id & KVM_REG_SIZE_MASK) >> BigInt(KVM_REG_SIZE_SHIFT));

/** KVM_GET_ONE_REG id of an x86-64 register of a type; a type or register without a size has none in its id. */
export function KVM_X86_REG_ID(type: number, index: number): bigint {
  const sized = type === KVM_X86_REG_TYPE_MSR || (type === KVM_X86_REG_TYPE_KVM && index === KVM_REG_GUEST_SSP);
  return KVM_REG_X86 | (sized ? KVM_REG_SIZE_U64 : 0n) | (BigInt(type) << 32n) | BigInt(index);
}
export const KVM_X86_REG_MSR = (index: number): bigint => KVM_X86_REG_ID(KVM_X86_REG_TYPE_MSR, index);
export const KVM_X86_REG_KVM = (index: number): bigint => KVM_X86_REG_ID(KVM_X86_REG_TYPE_KVM, index);

/** An event of KVM_SET_PMU_EVENT_FILTER with KVM_PMU_EVENT_FLAG_MASKED_EVENTS. */
export function KVM_PMU_ENCODE_MASKED_ENTRY(
  event_select: number,
  mask: number,
  match: number,
  exclude: boolean | number,
): bigint {
  const select = BigInt(event_select);
  const umask = (BigInt(mask) & 0xffn) << 56n;
  return (select & 0xffn) | ((select & 0xf00n) << 24n) | umask | ((BigInt(match) & 0xffn) << 8n) | (exclude ? 1n << 55n : 0n);
}

export const KVM_MAP_GPA_RANGE_ENC_STAT = (n: number): number => n << 4;
export const KVM_VM_TYPE_ARM_IPA_SIZE = (bits: number): bigint => BigInt(bits) & KVM_VM_TYPE_ARM_IPA_SIZE_MASK;

/** KVM_GET_ONE_REG id of an arm64 system register. */
export function ARM64_SYS_REG(op0: number, op1: number, crn: number, crm: number, op2: number): bigint {
  const index = ((op0 & 3) << 14) | ((op1 & 7) << 11) | ((crn & 15) << 7) | ((crm & 15) << 3) | (op2 & 7);
  return KVM_REG_ARM64 | BigInt(KVM_REG_ARM64_SYSREG) | BigInt(index) | KVM_REG_SIZE_U64;
}

/** Index of a core register: offsetof(struct kvm_regs, path) / 4, by a path such as `regs.pc`. */
export const KVM_REG_ARM_CORE_REG = (path: string): number => arm64_kvm_regs.offsetOf(path) / 4;

const firmware = (block: number, r: number): bigint => KVM_REG_ARM64 | KVM_REG_SIZE_U64 | BigInt(block | (r & 0xffff));
export const KVM_REG_ARM_FW_REG = (r: number): bigint => firmware(KVM_REG_ARM_FW, r);
export const KVM_REG_ARM_FW_FEAT_BMAP_REG = (r: number): bigint => firmware(KVM_REG_ARM_FW_FEAT_BMAP, r);

function sve(base: number, size: bigint, n: number, i: number): bigint {
  return KVM_REG_ARM64 | BigInt(KVM_REG_ARM64_SVE | base | (n << 5) | (i & (KVM_ARM64_SVE_MAX_SLICES - 1))) | size;
}
export const KVM_REG_ARM64_SVE_ZREG = (n: number, i: number): bigint =>
  sve(KVM_REG_ARM64_SVE_ZREG_BASE, KVM_REG_SIZE_U2048, n & (KVM_ARM64_SVE_NUM_ZREGS - 1), i);
export const KVM_REG_ARM64_SVE_PREG = (n: number, i: number): bigint =>
  sve(KVM_REG_ARM64_SVE_PREG_BASE, KVM_REG_SIZE_U256, n & (KVM_ARM64_SVE_NUM_PREGS - 1), i);
export const KVM_REG_ARM64_SVE_FFR = (i: number): bigint => sve(KVM_REG_ARM64_SVE_FFR_BASE, KVM_REG_SIZE_U256, 0, i);

export const KVM_PSCI_FN = (n: number): number => KVM_PSCI_FN_BASE + n;

/** Where the writable mask of an arm64 feature id register is in what KVM_ARM_GET_REG_WRITABLE_MASKS writes. */
export function KVM_ARM_FEATURE_ID_RANGE_IDX(_op0: number, op1: number, _crn: number, crm: number, op2: number): number {
  const set = op1 & 3;
  const index = ((set === 3 ? 2 : set) << 6) | ((crm & 7) << 3) | op2;
  if (index >= KVM_ARM_FEATURE_ID_RANGE_SIZE) throw new RangeError(`op2 ${op2} is outside 0..7`);
  return index;
}
