import { KVM_CAP_MCE, kvm_x86_mce } from '../../uapi/kvm.ts';
import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import { APIC_LVTCMCI } from './apic-regs.ts';
import { capability } from './ioctl-table.ts';
import type { Vcpu } from './vcpu.ts';

const MCG_CTL_P = 1n << 8n;
const MCG_STATUS_MCIP = 4n;
const MCG_CMCI_P = 1n << 10n;
const MCI_STATUS_VAL = 1n << 63n;
const MCI_STATUS_OVER = 1n << 62n;
const MCI_STATUS_UC = 1n << 61n;
const MCI_STATUS_PCC = 1n << 57n;
const MCI_STATUS_S = 1n << 56n;
const MCI_STATUS_AR = 1n << 55n;
const MCI_CTL2_CMCI_EN = 1n << 30n;
const CR4_MCE = 1n << 6n;
const MC_VECTOR = 18;
const BANKS = 0xffn;
/** The default of MCG_CAP: 32 banks, nothing else. */
const MCG_CAP_DEFAULT = 0x20n;
/** CMCI_EN and the threshold. */
const CTL2_BITS = (1n << 30n) | 0x7fffn;
const ALL = 0xffff_ffff_ffff_ffffn;
const MSR = { cap: 0x179, status: 0x17a, ctl: 0x17b, bank0: 0x400 };

/** MCG_CAP of a vCPU: KVM_X86_SETUP_MCE sets it. */
export function mcgCap(vcpu: Vcpu): bigint {
  return vcpu.msrs.get(MSR.cap) ?? MCG_CAP_DEFAULT;
}

function mceBanks(vcpu: Vcpu): number {
  return Number(mcgCap(vcpu) & BANKS);
}

/** MCG_CTL: all or nothing; there only with MCG_CTL_P, but for userspace's 0. */
export function setMcgCtl(vcpu: Vcpu, value: bigint, host: boolean): bigint | undefined {
  if (!(mcgCap(vcpu) & MCG_CTL_P) && !(host && value === 0n)) return undefined;
  return value === 0n || value === ALL ? value : undefined;
}

/** A guest has MCG_CTL only with MCG_CTL_P. */
export function getMcgCtl(vcpu: Vcpu, host: boolean): bigint | undefined {
  return host || mcgCap(vcpu) & MCG_CTL_P ? (vcpu.msrs.get(MSR.ctl) ?? 0n) : undefined;
}

/** MCi_CTL2: a guest has it only with MCG_CMCI_P. */
export function getBankCtl2(vcpu: Vcpu, index: number, bank: number, host: boolean): bigint | undefined {
  return host || mcgCap(vcpu) & MCG_CMCI_P ? getBank(vcpu, index, bank) : undefined;
}

/** A register of a bank there is. */
export function getBank(vcpu: Vcpu, index: number, bank: number): bigint | undefined {
  return bank < mceBanks(vcpu) ? (vcpu.msrs.get(index) ?? 0n) : undefined;
}

/** MCi_CTL2: with MCG_CMCI_P an enable bit and a threshold. */
export function setBankCtl2(vcpu: Vcpu, value: bigint, bank: number, host: boolean): bigint | undefined {
  if (bank >= mceBanks(vcpu)) return undefined;
  if (!(mcgCap(vcpu) & MCG_CMCI_P) && !(host && value === 0n)) return undefined;
  return value & ~CTL2_BITS ? undefined : value;
}

/**
 * Registers of the banks, `at` from the first: CTL is all or nothing, but some kernels clear bits 0 and 10; only userspace puts more than 0 into
 * STATUS.
 */
export function setBank(vcpu: Vcpu, value: bigint, at: number, host: boolean): bigint | undefined {
  if (at >> 2 >= mceBanks(vcpu)) return undefined;
  const register = at & 3;
  if (register === 0) return value === 0n || (value | 0x401n) === ALL ? value : undefined;
  return register === 1 && !host && value !== 0n ? undefined : value;
}

/** KVM_X86_SETUP_MCE: the number of banks in bits 7:0, the rest of what the host supports. All banks report everything. */
export function setupMce(vcpu: Vcpu, p: Process, arg: bigint): number {
  const cap = p.mm.read64(arg);
  if (cap === null) return -EFAULT;
  const banks = cap & BANKS;
  const { machine } = vcpu.vm;
  if (banks === 0n || banks > BigInt(capability(machine, KVM_CAP_MCE))) return -EINVAL;
  if (cap & ~(machine.kvm.mceCap | BANKS | 0xff_0000n)) return -EINVAL;
  vcpu.msrs.set(MSR.cap, cap & vcpu.backend.mcgCap);
  if (cap & MCG_CTL_P) vcpu.msrs.set(MSR.ctl, ALL);
  for (let bank = 0; bank < Number(banks); bank++) {
    vcpu.msrs.set(MSR.bank0 + bank * 4, ALL);
    if (cap & MCG_CMCI_P) vcpu.msrs.set(0x280 + bank, 0n);
  }
  return 0;
}

/**
 * KVM_X86_SET_MCE: an error is put into a bank. One that is uncorrected raises #MC, or a triple fault where the guest does not expect one;
 * banks and MCG_CTL that are switched off swallow it. A corrected one does not overwrite an uncorrected one.
 */
export function setMce(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_x86_mce.size);
  if (bytes === null) return -EFAULT;
  const { status, addr, misc, mcg_status, bank } = kvm_x86_mce.decode(bytes);
  if (bank >= mceBanks(vcpu) || !(status & MCI_STATUS_VAL)) return -EINVAL;
  const { msrs, cpu } = vcpu;
  const get = (index: number): bigint => msrs.get(index) ?? 0n;
  const [ctl, stored, address, other] = [0, 1, 2, 3].map((n) => MSR.bank0 + bank * 4 + n) as [number, number, number, number];
  const put = (value: bigint): void => {
    msrs.set(address, addr);
    msrs.set(other, misc);
    msrs.set(stored, value);
  };
  // Uncorrected, but nothing has to be done: it is written whatever is switched off, and told by the interrupt of corrected ones.
  const toBeDone = status & (MCI_STATUS_PCC | MCI_STATUS_S | MCI_STATUS_AR);
  if (status & MCI_STATUS_UC && mcg_status === 0n && !toBeDone) {
    put(status);
    msrs.set(MSR.status, mcg_status);
    if (mcgCap(vcpu) & MCG_CMCI_P && get(0x280 + bank) & MCI_CTL2_CMCI_EN) vcpu.lapic?.deliverLocal(APIC_LVTCMCI);
    return 0;
  }
  const before = get(stored);
  const overflow = before & MCI_STATUS_VAL ? status | MCI_STATUS_OVER : status;
  if (status & MCI_STATUS_UC) {
    if (mcgCap(vcpu) & MCG_CTL_P && get(MSR.ctl) !== ALL) return 0;
    if (get(ctl) !== ALL) return 0;
    if (get(MSR.status) & MCG_STATUS_MCIP || !(cpu.cr4 & CR4_MCE)) {
      vcpu.tripleFault = true;
      return 0;
    }
    put(overflow);
    msrs.set(MSR.status, mcg_status);
    Object.assign(cpu.events.exception, {
      pending: true,
      nr: MC_VECTOR,
      hasErrorCode: false,
      errorCode: 0,
      hasPayload: false,
      payload: 0n,
    });
  } else if (!(before & MCI_STATUS_VAL) || !(before & MCI_STATUS_UC)) put(overflow);
  else msrs.set(stored, before | MCI_STATUS_OVER);
  return 0;
}
