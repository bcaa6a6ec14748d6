import { type Descriptor, fdOf } from '../kernel/descriptor.ts';
import { rangeError } from '../kernel/errors.ts';
import { getStruct, setStruct } from '../kernel/handle.ts';
import {
  KVM_CREATE_IRQCHIP,
  KVM_CREATE_PIT2,
  KVM_GET_IRQCHIP,
  KVM_GET_PIT2,
  KVM_IOEVENTFD,
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  KVM_IRQ_LINE,
  KVM_IRQ_LINE_STATUS,
  KVM_IRQ_ROUTING_IRQCHIP,
  KVM_IRQ_ROUTING_MSI,
  KVM_IRQCHIP_IOAPIC,
  KVM_IRQFD,
  KVM_IRQFD_FLAG_RESAMPLE,
  KVM_MSI_VALID_DEVID,
  KVM_REINJECT_CONTROL,
  KVM_SET_GSI_ROUTING,
  KVM_SET_IRQCHIP,
  KVM_SET_PIT2,
  KVM_SIGNAL_MSI,
  kvm_ioapic_state,
  kvm_ioeventfd,
  kvm_irq_level,
  kvm_irq_routing,
  kvm_irq_routing_entry,
  kvm_irqchip,
  kvm_irqfd,
  kvm_msi,
  kvm_pic_state,
  kvm_pit_config,
  kvm_pit_state2,
  kvm_reinject_control,
} from '../uapi/kvm.ts';
import type { Input, Struct } from '../uapi/struct.ts';
import { VmMemory } from './vm-memory.ts';

/** An MSI message; `devid` only where the VM's interrupt translation needs it (KVM_CAP_MSI_DEVID). */
export interface Msi {
  address_lo: number;
  address_hi?: number;
  data: number;
  devid?: number;
}

/** What a GSI stands for: a pin of an in-kernel controller (KVM_IRQCHIP_*), or a message. Or the struct as it is. */
export type GsiRoute = { gsi: number; irqchip: number; pin: number } | { gsi: number; msi: Msi } | Input<kvm_irq_routing_entry>;

export interface Irqfd {
  /** An eventfd. */
  fd: Descriptor;
  gsi: number;
  /** KVM_IRQFD_FLAG_*; default 0, or RESAMPLE where there is a `resamplefd`. */
  flags?: number;
  /** Signalled when the guest has ended the interrupt: the device may raise it again. */
  resamplefd?: Descriptor;
}

export interface Ioeventfd {
  /** Guest-physical address, or a port with KVM_IOEVENTFD_FLAG_PIO. */
  addr: bigint;
  /** 1, 2, 4, 8: writes of this width; default 0, of any. */
  len?: number;
  /** An eventfd. */
  fd: Descriptor;
  /** KVM_IOEVENTFD_FLAG_*; DATAMATCH is added where there is a `datamatch`. */
  flags?: number;
  /** Only writes of this value. */
  datamatch?: bigint;
}

/** The state behind each value of `chip_id`. */
const chips = (chip_id: number): Struct<unknown> =>
  (chip_id === KVM_IRQCHIP_IOAPIC ? kvm_ioapic_state : kvm_pic_state) as Struct<unknown>;
const chipAt = (): number => kvm_irqchip.offsetOf('chip');

/** Interrupts of a VM: controllers in the kernel, routing, eventfds at both ends. */
export abstract class VmInterrupts extends VmMemory {
  /**
   * KVM_CREATE_IRQCHIP: local APICs, IOAPIC and the two 8259s in the kernel; GSI n is pin n of each. Before the first vCPU (EINVAL), once (EEXIST).
   * For local APICs alone: `enableCap({ cap: KVM_CAP_SPLIT_IRQCHIP, args: [pins …] })`.
   */
  createIrqchip(): void {
    this.ioctl(KVM_CREATE_IRQCHIP);
  }

  /**
   * KVM_GET_IRQCHIP: KVM_IRQCHIP_PIC_MASTER, …_PIC_SLAVE or …_IOAPIC. ENXIO without the controllers in the kernel, or with local APICs alone; EINVAL for
   * another id. x86 only.
   */
  getIrqchip(chip_id: 2): kvm_ioapic_state;
  getIrqchip(chip_id: 0 | 1): kvm_pic_state;
  getIrqchip(chip_id: number): kvm_ioapic_state | kvm_pic_state {
    const bytes = kvm_irqchip.alloc();
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, chip_id, true);
    this.ioctl(KVM_GET_IRQCHIP, bytes);
    return chips(chip_id).decode(bytes, chipAt()) as kvm_ioapic_state | kvm_pic_state;
  }

  /** KVM_SET_IRQCHIP: the state as it is, nothing is checked; what waits at the IOAPIC is injected anew. Errors as KVM_GET_IRQCHIP. */
  setIrqchip(chip_id: 2, state: Input<kvm_ioapic_state>): void;
  setIrqchip(chip_id: 0 | 1, state: Input<kvm_pic_state>): void;
  setIrqchip(chip_id: number, state: Input<kvm_ioapic_state> | Input<kvm_pic_state>): void {
    const bytes = kvm_irqchip.alloc();
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, chip_id, true);
    bytes.set(chips(chip_id).encode(state), chipAt());
    this.ioctl(KVM_SET_IRQCHIP, bytes);
  }

  /** KVM_IRQ_LINE: raises or lowers a GSI. ENXIO without a controller in the kernel; any GSI is accepted. */
  irqLine(irq: number, level: boolean | number): void {
    setStruct(this, KVM_IRQ_LINE, kvm_irq_level, { irq, level: Number(level) });
  }

  /** KVM_IRQ_LINE_STATUS: the same; what became of it: −1 nobody took it (masked), 0 coalesced with one that waits, else how many took it. */
  irqLineStatus(irq: number, level: boolean | number): number {
    const bytes = kvm_irq_level.encode({ irq, level: Number(level) });
    this.ioctl(KVM_IRQ_LINE_STATUS, bytes);
    return kvm_irq_level.decode(bytes).status;
  }

  /**
   * KVM_CREATE_PIT2: an 8254 at ports 0x40–0x43 whose first channel is GSI 0; KVM_PIT_SPEAKER_DUMMY adds port 0x61. ENOENT without the 8259s in the kernel,
   * EEXIST if there is one. x86 only.
   */
  createPit2(flags = 0): void {
    setStruct(this, KVM_CREATE_PIT2, kvm_pit_config, { flags });
  }

  /** KVM_GET_PIT2; `count_load_time` is CLOCK_MONOTONIC in nanoseconds. ENXIO without a PIT. */
  getPit2(): kvm_pit_state2 {
    return getStruct(this, KVM_GET_PIT2, kvm_pit_state2);
  }

  /** KVM_SET_PIT2: nothing is checked; every channel begins its count anew. ENXIO without a PIT. */
  setPit2(state: Input<kvm_pit_state2>): void {
    setStruct(this, KVM_SET_PIT2, kvm_pit_state2, state);
  }

  /** KVM_REINJECT_CONTROL: whether ticks the guest was too slow for are made up for (the default). ENXIO without a PIT. */
  reinjectControl(pit_reinject: boolean): void {
    setStruct(this, KVM_REINJECT_CONTROL, kvm_reinject_control, { pit_reinject: Number(pit_reinject) });
  }

  /**
   * KVM_SET_GSI_ROUTING: the whole table, in place of the one before; on an error that stays. One GSI may be pins of several controllers, or one
   * message. EINVAL: no controller in the kernel, more than KVM_CAP_IRQ_ROUTING entries or a GSI beyond, a pin or kind there is not.
   */
  setGsiRouting(routes: readonly GsiRoute[]): void {
    const entries = routes.map((route) => kvm_irq_routing_entry.encode(routingEntry(route)));
    const bytes = new Uint8Array(kvm_irq_routing.size + entries.length * kvm_irq_routing_entry.size);
    new DataView(bytes.buffer).setUint32(0, entries.length, true);
    for (const [at, entry] of entries.entries()) bytes.set(entry, kvm_irq_routing.size + at * kvm_irq_routing_entry.size);
    this.ioctl(KVM_SET_GSI_ROUTING, bytes);
  }

  /**
   * KVM_SIGNAL_MSI: how many local APICs took it; 0: none. EINVAL without a controller in the kernel, EPERM before the first vCPU.
   * The destination of a vCPU just made may not be known yet: the message is then lost (0).
   */
  signalMsi({ address_lo, address_hi = 0, data, devid }: Msi): number {
    const flags = devid === undefined ? 0 : KVM_MSI_VALID_DEVID;
    return setStruct(this, KVM_SIGNAL_MSI, kvm_msi, { address_lo, address_hi, data, flags, devid: devid ?? 0 });
  }

  /**
   * KVM_IRQFD: each write to the eventfd is an interrupt of `gsi`; the kernel takes the count. With `resamplefd` the GSI stays raised until the guest
   * has ended the interrupt. With KVM_IRQFD_FLAG_DEASSIGN the pair goes. It goes by itself with the eventfd's last descriptor, and with the VM's.
   * EINVAL: no controller in the kernel, or not an eventfd; EBUSY: the eventfd serves one already, in any VM.
   */
  irqfd({ fd, gsi, flags, resamplefd }: Irqfd): void {
    const resample = resamplefd === undefined ? 0 : KVM_IRQFD_FLAG_RESAMPLE;
    setStruct(this, KVM_IRQFD, kvm_irqfd, {
      ...{ fd: fdOf(fd, 'fd', this.kernel), gsi, flags: (flags ?? 0) | resample },
      resamplefd: resamplefd === undefined ? 0 : fdOf(resamplefd, 'resamplefd', this.kernel),
    });
  }

  /**
   * KVM_IOEVENTFD: the guest's writes at an address or port signal the eventfd, without an exit. With KVM_IOEVENTFD_FLAG_DEASSIGN it goes: ENOENT
   * unless all of address, length, eventfd and value are as they were. EEXIST: another one would take the same writes; EINVAL: a length or flags there are not.
   */
  ioeventfd({ addr, len = 0, fd, flags = 0, datamatch }: Ioeventfd): void {
    const match = datamatch === undefined ? 0 : KVM_IOEVENTFD_FLAG_DATAMATCH;
    setStruct(this, KVM_IOEVENTFD, kvm_ioeventfd, {
      ...{ datamatch: datamatch ?? 0n, addr, len, fd: fdOf(fd, 'fd', this.kernel), flags: flags | match },
    });
  }
}

function routingEntry(route: GsiRoute): Input<kvm_irq_routing_entry> {
  if ('msi' in route) {
    const { address_lo, address_hi = 0, data, devid } = route.msi;
    const flags = devid === undefined ? 0 : KVM_MSI_VALID_DEVID;
    return { gsi: route.gsi, type: KVM_IRQ_ROUTING_MSI, flags, u: { msi: { address_lo, address_hi, data, devid: devid ?? 0 } } };
  }
  if ('irqchip' in route) {
    const { gsi, irqchip, pin } = route;
    return { gsi, type: KVM_IRQ_ROUTING_IRQCHIP, flags: 0, u: { irqchip: { irqchip, pin } } };
  }
  if (!('type' in route))
    throw rangeError('a GSI route is { gsi, irqchip, pin }, { gsi, msi } or a struct kvm_irq_routing_entry');
  return route;
}
