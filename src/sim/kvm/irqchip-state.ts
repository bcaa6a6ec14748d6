import { KVM_IRQCHIP_IOAPIC, kvm_ioapic_state, kvm_irqchip, kvm_pic_state } from '../../uapi/kvm.ts';
import { EFAULT, EINVAL, ENXIO } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import type { Vm } from './vm.ts';

const CHIP: number = kvm_irqchip.offsetOf('chip');

/** The chip a `struct kvm_irqchip` is of, as something that can be stored and loaded; −errno where there is none. */
function chipOf(vm: Vm, bytes: Uint8Array): { store(): Uint8Array; load(bytes: Uint8Array): void } | number {
  const id = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  if (vm.pics === undefined || vm.ioapic === undefined) return -ENXIO;
  if (id > KVM_IRQCHIP_IOAPIC) return -EINVAL;
  return id === KVM_IRQCHIP_IOAPIC ? vm.ioapic : vm.pics.chips[id]!;
}

/** KVM_GET_IRQCHIP: what of the union is beyond the chip's state comes back as it was passed in. */
export function getIrqchip(vm: Vm, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_irqchip.size);
  if (bytes === null) return -EFAULT;
  const chip = chipOf(vm, bytes);
  if (typeof chip === 'number') return chip;
  bytes.set(chip.store(), CHIP);
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}

/** KVM_SET_IRQCHIP: nothing of the state is checked. Whichever chip it is, the PICs' output is found out anew. */
export function setIrqchip(vm: Vm, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_irqchip.size);
  if (bytes === null) return -EFAULT;
  const chip = chipOf(vm, bytes);
  if (typeof chip === 'number') return chip;
  const size = chip === vm.ioapic ? kvm_ioapic_state.size : kvm_pic_state.size;
  chip.load(bytes.subarray(CHIP, CHIP + size));
  vm.pics!.update();
  return 0;
}
