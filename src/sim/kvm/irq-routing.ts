import {
  KVM_CAP_HYPERV_SYNIC,
  KVM_IRQ_ROUTING_HV_SINT,
  KVM_IRQ_ROUTING_IRQCHIP,
  KVM_IRQ_ROUTING_MSI,
  KVM_IRQCHIP_IOAPIC,
  KVM_MSI_VALID_DEVID,
  kvm_irq_level,
  kvm_irq_routing,
  kvm_irq_routing_entry,
  kvm_msi,
} from '../../uapi/kvm.ts';
import { EFAULT, EINVAL, ENXIO } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import { deliverIrq, type LapicIrq, matchesDest } from './apic-map.ts';
import { IOAPIC_NUM_PINS } from './ioapic.ts';
import { KVM_USERSPACE_IRQ_SOURCE_ID } from './irq-line.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

const KVM_MAX_IRQ_ROUTES = 4096;
const PIC_NUM_PINS = 16;
const PIC_CHIP_PINS = 8;

/** An MSI message: what a device writes, and where. */
export interface Msi {
  readonly address_lo: number;
  readonly address_hi: number;
  readonly data: number;
}

/** `struct kvm_kernel_irq_routing_entry`: what becomes of a GSI. */
type Route =
  | { readonly gsi: number; readonly type: 'irqchip'; readonly chip: number; readonly pin: number }
  | ({ readonly gsi: number; readonly type: 'msi' } & Msi);

/** kvm_msi_to_lapic_irq. The address is not looked at beyond these bits. */
function msiToIrq({ irqchip }: Vm, { address_lo, address_hi, data }: Msi): LapicIrq {
  const extended = irqchip.x2apicFormat ? address_hi & 0xffff_ff00 : 0;
  return {
    destId: (((address_lo >>> 12) & 0xff) | extended) >>> 0,
    destMode: address_lo & 4 ? 'logical' : 'physical',
    shorthand: 'none',
    deliveryMode: data & 0x700,
    vector: data & 0xff,
    level: true,
    levelTriggered: (data & 0x8000) !== 0,
    redirHint: (address_lo & 8) !== 0,
  };
}

/** kvm_msi_route_invalid: with 32-bit ids, the low byte of the high address is reserved. */
function badMsi({ irqchip }: Vm, { address_hi }: Msi): boolean {
  return irqchip.x2apicFormat && (address_hi & 0xff) !== 0;
}

/** Someone who wants to know when the guest has ended an interrupt of a GSI: resampling irqfds, the PIT. */
export interface AckNotifier {
  readonly gsi: number;
  acked(): void;
}

/** `struct kvm_irq_routing_table`, and who listens to its GSIs. */
export class IrqRouting {
  readonly #vm: Vm;
  #routes = new Map<number, Route[]>();
  /** GSI of each pin of each chip, as the last entry that named it has it. */
  #gsiOfPin = new Map<string, number>();
  readonly ackNotifiers: Set<AckNotifier> = new Set();
  /** By GSI: who wants to know when its pin is masked or unmasked. */
  readonly maskNotifiers: Map<number, (masked: boolean) => void> = new Map();

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  /** What KVM_CREATE_IRQCHIP begins with: GSI n is pin n of the IOAPIC, and of the PIC where it has one. */
  setDefault(): void {
    const routes: Route[] = [];
    for (let gsi = 0; gsi < IOAPIC_NUM_PINS; gsi++) {
      routes.push({ gsi, type: 'irqchip', chip: KVM_IRQCHIP_IOAPIC, pin: gsi });
      if (gsi < PIC_NUM_PINS) routes.push({ gsi, type: 'irqchip', chip: gsi >> 3, pin: gsi & 7 });
    }
    this.set(routes);
  }

  set(routes: readonly Route[]): void {
    this.#routes = new Map();
    this.#gsiOfPin = new Map();
    for (const route of routes) {
      this.#routes.set(route.gsi, [...this.of(route.gsi), route]);
      if (route.type === 'irqchip') this.#gsiOfPin.set(`${route.chip} ${route.pin}`, route.gsi);
    }
  }

  of(gsi: number): readonly Route[] {
    return this.#routes.get(gsi) ?? [];
  }

  /** kvm_set_irq: the sum of what the targets say that took it; −1 if none did. */
  setIrq(source: number, gsi: number, level: boolean, lineStatus = false): number {
    let sum = -1;
    for (const route of this.of(gsi)) {
      const result = this.#setRoute(route, source, level, lineStatus);
      if (result >= 0) sum = result + Math.max(0, sum);
    }
    return sum;
  }

  #setRoute(route: Route, source: number, level: boolean, lineStatus: boolean): number {
    const { pics, ioapic } = this.#vm;
    if (route.type === 'msi')
      return level && !badMsi(this.#vm, route) ? deliverIrq(this.#vm, undefined, msiToIrq(this.#vm, route)) : -1;
    if (route.chip === KVM_IRQCHIP_IOAPIC) return ioapic?.setIrq(route.pin, source, level, lineStatus) ?? -1;
    return pics?.setIrq(route.chip * PIC_CHIP_PINS + route.pin, source, level) ?? -1;
  }

  /** kvm_notify_acked_irq: the guest has ended what came from this pin. */
  notifyAcked(chip: number, pin: number): void {
    const gsi = this.#gsiOfPin.get(`${chip} ${pin}`);
    if (gsi === undefined) return;
    for (const notifier of [...this.ackNotifiers]) if (notifier.gsi === gsi) notifier.acked();
  }

  /** kvm_fire_mask_notifiers. */
  notifyMask(chip: number, pin: number, masked: boolean): void {
    const gsi = this.#gsiOfPin.get(`${chip} ${pin}`);
    if (gsi !== undefined) this.maskNotifiers.get(gsi)?.(masked);
  }

  /**
   * kvm_scan_ioapic_routes: true where userspace's IOAPIC has to hear of the end of this vector: a level-triggered MSI route of one of the reserved
   * GSIs sent it to this vCPU.
   */
  userspaceIoapicHandles(vcpu: Vcpu, vector: number): boolean {
    for (let gsi = 0; gsi < this.#vm.irqchip.reservedPins; gsi++) {
      for (const route of this.of(gsi)) {
        if (route.type !== 'msi') continue;
        const irq = msiToIrq(this.#vm, route);
        if (irq.vector === vector && irq.levelTriggered && vcpu.lapic !== undefined && matchesDest(vcpu.lapic, undefined, irq))
          return true;
      }
    }
    return false;
  }
}

/** KVM_SET_GSI_ROUTING: the whole table at once, or not at all. */
export function setGsiRouting(vm: Vm, p: Process, arg: bigint): number {
  const header = p.mm.copyFrom(arg, kvm_irq_routing.size);
  if (header === null) return -EFAULT;
  if (!vm.irqchip.inKernel) return -EINVAL;
  const { nr, flags } = kvm_irq_routing.decode(header);
  if (nr > KVM_MAX_IRQ_ROUTES || flags !== 0) return -EINVAL;
  const bytes = p.mm.copyFrom(arg + BigInt(kvm_irq_routing.size), nr * kvm_irq_routing_entry.size);
  if (bytes === null) return -EFAULT;
  const entries = Array.from({ length: nr }, (_, i) => kvm_irq_routing_entry.decode(bytes, i * kvm_irq_routing_entry.size));
  if (entries.some(({ gsi }) => gsi >= KVM_MAX_IRQ_ROUTES)) return -EINVAL;
  const routes: Route[] = [];
  const byGsi = new Map<number, Route[]>();
  for (const { gsi, type, flags, u } of entries) {
    if (type === KVM_IRQ_ROUTING_MSI ? flags & ~KVM_MSI_VALID_DEVID : flags) return -EINVAL;
    // Only pins of different chips may share a GSI.
    const others = byGsi.get(gsi) ?? [];
    const { irqchip: chip, pin } = u.irqchip;
    const shares = (other: Route): boolean => type === KVM_IRQ_ROUTING_IRQCHIP && other.type === 'irqchip' && other.chip !== chip;
    if (!others.every(shares)) return -EINVAL;
    let route: Route;
    if (type === KVM_IRQ_ROUTING_IRQCHIP) {
      if (vm.irqchip.mode === 'split' || chip > KVM_IRQCHIP_IOAPIC) return -EINVAL;
      if (pin >= (chip === KVM_IRQCHIP_IOAPIC ? IOAPIC_NUM_PINS : PIC_CHIP_PINS)) return -EINVAL;
      route = { gsi, type: 'irqchip', chip, pin };
    } else if (type === KVM_IRQ_ROUTING_MSI) {
      route = { gsi, type: 'msi', address_lo: u.msi.address_lo, address_hi: u.msi.address_hi, data: u.msi.data };
      if (badMsi(vm, route)) return -EINVAL;
    } else if (type === KVM_IRQ_ROUTING_HV_SINT && vm.capability(KVM_CAP_HYPERV_SYNIC) !== 0) {
      return p.system.notModelled('KVM_SET_GSI_ROUTING to a Hyper-V SINT', -EINVAL);
    } else return -EINVAL;
    routes.push(route);
    byGsi.set(gsi, [...others, route]);
  }
  vm.routing.set(routes);
  return 0;
}

/** KVM_IRQ_LINE and KVM_IRQ_LINE_STATUS: never fails once there is a controller, whatever the GSI. */
export function irqLine(withStatus: boolean) {
  return (vm: Vm, p: Process, arg: bigint): number => {
    const bytes = p.mm.copyFrom(arg, kvm_irq_level.size);
    if (bytes === null) return -EFAULT;
    if (!vm.irqchip.inKernel) return -ENXIO;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const [gsi, level] = [view.getUint32(0, true), view.getUint32(4, true) !== 0];
    const status = vm.routing.setIrq(KVM_USERSPACE_IRQ_SOURCE_ID, gsi, level, withStatus);
    if (!withStatus) return 0;
    view.setInt32(0, status, true);
    return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
  };
}

/** KVM_SIGNAL_MSI: how many local APICs took it. −1, EPERM, while no vCPU has ever been made. */
export function signalMsi(vm: Vm, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_msi.size);
  if (bytes === null) return -EFAULT;
  const msi = kvm_msi.decode(bytes);
  if (!vm.irqchip.inKernel || msi.flags & ~KVM_MSI_VALID_DEVID || badMsi(vm, msi)) return -EINVAL;
  return deliverIrq(vm, undefined, msiToIrq(vm, msi));
}
