import { kvm_one_reg } from '../../uapi/kvm.ts';
import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import { getMsr, setMsr } from './msrs.ts';
import type { Vcpu } from './vcpu.ts';

/** Fields of a register id: architecture, log2 of the size, then of x86 the type and the index. */
const X86_U64 = (0x2n << 60n) | (3n << 52n);
const TYPE_MSR = 2n;
const INDEX = 0xffff_ffffn;

/** The MSR an id names; undefined: no such register. A guest's shadow stack pointer (type 3) needs shadow stacks, which no profile has. */
function msrOf(id: bigint): number | undefined {
  if ((id & ~((0xffn << 32n) | INDEX)) !== X86_U64 || ((id >> 32n) & 0xffn) !== TYPE_MSR) return undefined;
  return Number(id & INDEX);
}

function one(p: Process, arg: bigint, access: (index: number, addr: bigint) => number): number {
  const bytes = p.mm.copyFrom(arg, kvm_one_reg.size);
  if (bytes === null) return -EFAULT;
  const { id, addr } = kvm_one_reg.decode(bytes);
  const index = msrOf(id);
  return index === undefined ? -EINVAL : access(index, addr);
}

/** KVM_GET_ONE_REG. */
export function getOneReg(vcpu: Vcpu, p: Process, arg: bigint): number {
  return one(p, arg, (index, addr) => {
    const value = getMsr(vcpu, index, true);
    if (value === undefined) return -EINVAL;
    return p.mm.write64(addr, value) ? 0 : -EFAULT;
  });
}

/** KVM_SET_ONE_REG. */
export function setOneReg(vcpu: Vcpu, p: Process, arg: bigint): number {
  return one(p, arg, (index, addr) => {
    const value = p.mm.read64(addr);
    if (value === null) return -EFAULT;
    return setMsr(vcpu, index, value, true) ? 0 : -EINVAL;
  });
}

/** KVM_GET_REG_LIST: registers that are no MSRs. There are none, and so none too many. */
export function getRegList(_vcpu: Vcpu, p: Process, arg: bigint): number {
  return p.mm.read64(arg) !== null && p.mm.write64(arg, 0n) ? 0 : -EFAULT;
}
