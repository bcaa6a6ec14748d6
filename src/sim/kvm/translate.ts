import { kvm_translation } from '../../uapi/kvm.ts';
import { EFAULT } from '../../uapi/sys.ts';
import { READ } from '../cpu/paging.ts';
import type { Process } from '../process.ts';
import { HostPageFault } from './memory-fault.ts';
import type { Vcpu } from './vcpu.ts';

const INVALID_GPA = 0xffff_ffff_ffff_ffffn;
const CR0_PG = 0x80000000;
/** Reserved bytes after the answer. */
const PAD: number = kvm_translation.offsetOf('pad');

/** kvm_mmu_gva_to_gpa_system: a supervisor's read, which leaves its accessed bits in the tables. */
function walk({ cpu }: Vcpu, linear: bigint): bigint {
  if (!(cpu.cr0 & CR0_PG)) return linear;
  try {
    const gpa = cpu.lookUp(Number(BigInt.asIntN(64, linear)), READ, false, true);
    return gpa < 0 ? INVALID_GPA : BigInt(gpa);
  } catch (error) {
    if (error instanceof HostPageFault) return INVALID_GPA;
    throw error;
  }
}

/** KVM_TRANSLATE: never fails. `writeable` and `usermode` are always told the same. */
export function translate(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_translation.size);
  if (bytes === null) return -EFAULT;
  const { linear_address } = kvm_translation.decode(bytes);
  const physical_address = walk(vcpu, linear_address);
  const answer = kvm_translation.encode({
    linear_address,
    physical_address,
    valid: Number(physical_address !== INVALID_GPA),
    writeable: 1,
    usermode: 0,
    pad: bytes.slice(PAD),
  });
  return p.mm.copyTo(arg, answer) ? 0 : -EFAULT;
}
