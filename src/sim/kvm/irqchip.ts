import {
  KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
  KVM_X2APIC_API_USE_32BIT_IDS,
  KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST,
  KVM_X2APIC_ENABLE_SUPPRESS_EOI_BROADCAST,
} from '../../uapi/kvm.ts';
import { EEXIST, EINVAL } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import type { Process } from '../process.ts';
import type { EnableCap } from './enable-cap.ts';
import { Ioapic } from './ioapic.ts';
import { Pics } from './pic.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

/**
 * What of the interrupt controllers is in the kernel: nothing; local APICs, IOAPIC and the pair of 8259s; or the local APICs alone (the
 * VMM has the IOAPIC).
 */
export type IrqchipMode = 'none' | 'kernel' | 'split';

/** What a local APIC and the run loop need of the pair of 8259s: its INTR output and the interrupt acknowledge cycle. */
export interface PicOutput {
  readonly output: boolean;
  /** kvm_pic_read_irq: the vector; the interrupt is in service from now on. */
  readIrq(): number;
}

/** kvm_arch.suppress_eoi_broadcast_mode: 'quirked' advertises it without an in-kernel IOAPIC, and ignores the guest's choice. */
export type SuppressEoiBroadcast = 'quirked' | 'enabled' | 'disabled';

/** The interrupt part of `struct kvm_arch`. */
export class Irqchip {
  mode: IrqchipMode = 'none';
  /** KVM_CAP_SPLIT_IRQCHIP: pins the userspace IOAPIC has; level-triggered MSI routes of these GSIs make KVM_EXIT_IOAPIC_EOI. */
  reservedPins = 0;
  pic: PicOutput | undefined = undefined;
  /**
   * A local APIC's EOI of `vector`, for the in-kernel IOAPIC ('kernel'), or for the decision whether userspace has to know ('split', see
   * `Vcpu.requestIoapicEoi`). `level`: the TMR bit of the vector.
   */
  onEoi: ((vcpu: Vcpu, vector: number, level: boolean) => void) | undefined = undefined;
  /** KVM_X2APIC_API_USE_32BIT_IDS. */
  x2apicFormat = false;
  /** KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK. */
  broadcastQuirkDisabled = false;
  suppressEoiBroadcast: SuppressEoiBroadcast = 'quirked';

  /** vCPUs made from now on have a local APIC. */
  get inKernel(): boolean {
    return this.mode !== 'none';
  }
}

/** KVM_CREATE_IRQCHIP; the argument is ignored. */
export function createIrqchip(vm: Vm, _p: Process): number {
  if (vm.irqchip.inKernel) return -EEXIST;
  if (vm.vcpus.size > 0) return -EINVAL;
  vm.irqchip.mode = 'kernel';
  vm.pics = vm.irqchip.pic = new Pics(vm);
  const ioapic = (vm.ioapic = new Ioapic(vm));
  vm.irqchip.onEoi = (vcpu, vector, level) => ioapic.eoi(vcpu, vector, level);
  vm.routing.setDefault();
  return 0;
}

const MAX_IRQ_ROUTES = 4096n;

/** KVM_CAP_SPLIT_IRQCHIP: args[0] is the number of pins reserved for the userspace IOAPIC. A vCPU too early is EEXIST here, not EINVAL. */
export function splitIrqchip(vm: Vm, { args: [pins] }: EnableCap): number {
  if (pins > MAX_IRQ_ROUTES) return -EINVAL;
  if (vm.irqchip.inKernel || vm.vcpus.size > 0) return -EEXIST;
  vm.irqchip.mode = 'split';
  vm.irqchip.reservedPins = Number(pins);
  vm.irqchip.onEoi = (vcpu, vector) => {
    if (vm.routing.userspaceIoapicHandles(vcpu, vector)) vcpu.requestIoapicEoi(vector);
  };
  return 0;
}

const X2APIC_FORMAT_FLAGS: bigint = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
const X2APIC_EOI_FLAGS: bigint = KVM_X2APIC_ENABLE_SUPPRESS_EOI_BROADCAST | KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST;

/** KVM_CAP_X2APIC_API: flags only ever come on. */
export function setX2apicApi({ irqchip, machine }: Vm, { args: [flags] }: EnableCap): number {
  const asks = (flag: bigint): boolean => (flags & flag) !== 0n;
  const known = X2APIC_FORMAT_FLAGS | (has(machine, 'x2apicEoiBroadcasts') ? X2APIC_EOI_FLAGS : 0n);
  if (flags & ~known) return -EINVAL;
  if (asks(KVM_X2APIC_ENABLE_SUPPRESS_EOI_BROADCAST) && asks(KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST)) return -EINVAL;
  if (asks(KVM_X2APIC_ENABLE_SUPPRESS_EOI_BROADCAST) && irqchip.mode !== 'split') return -EINVAL;
  if (asks(KVM_X2APIC_API_USE_32BIT_IDS)) irqchip.x2apicFormat = true;
  if (asks(KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)) irqchip.broadcastQuirkDisabled = true;
  if (asks(KVM_X2APIC_ENABLE_SUPPRESS_EOI_BROADCAST)) irqchip.suppressEoiBroadcast = 'enabled';
  if (asks(KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST)) irqchip.suppressEoiBroadcast = 'disabled';
  return 0;
}
