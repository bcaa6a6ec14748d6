import { kvm_translation } from '../../uapi/kvm.ts';
import { EFAULT } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import { notModelled } from './ioctl-table.ts';
import type { Vcpu } from './vcpu.ts';

const INVALID_GPA = 0xffff_ffff_ffff_ffffn;
const CR0_PG = 0x80000000;
/** Reserved bytes after the answer. */
const PAD: number = kvm_translation.offsetOf('pad');

/** KVM_TRANSLATE: never fails. `writeable` and `usermode` are always told the same. */
export function translate(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_translation.size);
  if (bytes === null) return -EFAULT;
  const { linear_address } = kvm_translation.decode(bytes);
  if (vcpu.cpu.cr0 & CR0_PG) return notModelled('KVM_TRANSLATE in a guest that pages');
  const physical_address = linear_address;
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
