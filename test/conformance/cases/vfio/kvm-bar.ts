/** A guest that reaches a BAR through a memslot over its mapping, a device's MSI that reaches the guest, and the kernel's own accesses to a mapped BAR. */
import type { Kernel } from 'kvio';
import {
  EFD_NONBLOCK,
  KVM_CREATE_IRQCHIP,
  KVM_GET_IRQCHIP,
  KVM_IRQCHIP_PIC_MASTER,
  KVM_IRQFD,
  KVM_MEM_READONLY,
  KVM_PRE_FAULT_MEMORY,
  kvm_irqchip,
  kvm_irqfd,
  kvm_pre_fault_memory,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_PCI_MSI_IRQ_INDEX,
} from 'kvio/uapi';
import { type Case, type Observer, result } from '../../case.ts';
import { startGuest } from '../../guest.ts';
import { getRegs, newVm, setRegion, setRegs, UNSAFE } from '../../machine.ts';
import { ConfigSpace, groupPath, mapRegion, openDevice, regionInfo, setTrigger, taken, withDevices } from '../../vfio.ts';

const COMMAND = 4;
const MEMORY = 2;
const ID = 0x00;
const LIVENESS = 0x04;
const RAISE = 0x60;
const ACKNOWLEDGE = 0x64;
const DMA_SOURCE = 0x80;

/** Beyond the guest's RAM. */
const WINDOW = 0x1_0000n;

/** With DS at 0x10000: EAX from the id, EAX to the liveness check, whose complement is ECX. */
const code = [0x66, 0xa1, ID, 0x00, 0x66, 0xa3, LIVENESS, 0x00, 0x66, 0x8b, 0x0e, LIVENESS, 0x00, 0xf4];

function inMemslot(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { device } = openDevice(kernel, edu!);
  const bar = mapRegion(kernel, device, 0);
  const config = new ConfigSpace(kernel, device);
  const guest = startGuest(kernel, code, {
    sregs: (sregs) => Object.assign(sregs.ds, { base: WINDOW, selector: 0x1000 }),
  });
  const slot = (flags: number, size = 0x1000n): number =>
    setRegion(kernel, guest.vm, { slot: 1, flags, guest_phys_addr: WINDOW, memory_size: size, userspace_addr: bar.address });
  const go = (label: string): void => {
    setRegs(kernel, guest.vcpu, { rip: guest.entry, rax: 0n, rcx: 0n });
    const returned = result(kernel.run(guest.vcpu, { budget: 20_000 }));
    const { rax, rcx, rip } = getRegs(kernel, guest.vcpu);
    see.note(label, { returned, reason: guest.run.get('exit_reason'), rax, rcx, rip });
  };
  see.call('the slot', () => slot(0));
  go('the guest reads and writes');
  see.note('liveness', bar.read32(LIVENESS));
  config.write16(COMMAND, config.read16(COMMAND) & ~MEMORY);
  go('decode off');
  config.write16(COMMAND, config.read16(COMMAND) | MEMORY);
  go('decode on again');
  see.call('the slot goes', () => slot(0, 0n));
  see.call('a slot to read', () => slot(KVM_MEM_READONLY));
  go('read-only');
  see.note('the store is an exit to', { gpa: guest.run.get('mmio.phys_addr'), write: guest.run.get('mmio.is_write') });
}

const SLOT = 0x4000n;

/** A BAR to be pre-faulted. */
function toPreFault(kernel: Kernel, see: Observer, edu: string) {
  const { device } = openDevice(kernel, edu);
  const bar = mapRegion(kernel, device, 0);
  const guest = startGuest(kernel, code, {
    sregs: (sregs) => Object.assign(sregs.ds, { base: WINDOW, selector: 0x1000 }),
  });
  const slot = (flags: number, userspace_addr = bar.address, memory_size = SLOT): number =>
    setRegion(kernel, guest.vm, { slot: 1, flags, guest_phys_addr: WINDOW, memory_size, userspace_addr });
  const ask = (label: string, gpa = WINDOW, size = SLOT): void => {
    const bytes = kvm_pre_fault_memory.encode({ gpa, size, flags: 0n });
    see.call(label, () => kernel.ioctl(guest.vcpu, KVM_PRE_FAULT_MEMORY, bytes));
    const left = kvm_pre_fault_memory.decode(bytes);
    see.note(`${label}: left`, { gpa: left.gpa, size: left.size });
  };
  return { device, bar, guest, slot, ask };
}

/** KVM_PRE_FAULT_MEMORY of a BAR: what it maps, and how far it gets. */
function preFaulted(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { device, guest, slot, ask } = toPreFault(kernel, see, edu!);
  const config = new ConfigSpace(kernel, device);
  const read = (label: string): void => {
    setRegs(kernel, guest.vcpu, { rip: guest.entry, rax: 0n, rcx: 0n });
    const returned = result(kernel.run(guest.vcpu, { budget: 20_000 }));
    see.note(label, { returned, reason: guest.run.get('exit_reason'), rax: getRegs(kernel, guest.vcpu).rax });
  };
  const decode = (on: boolean): number =>
    config.write16(COMMAND, on ? config.read16(COMMAND) | MEMORY : config.read16(COMMAND) & ~MEMORY);
  slot(0);
  ask('a page of the BAR', WINDOW, 0x1000n);
  ask('the slot');
  ask('the slot and more', WINDOW, 2n * SLOT);
  read('the guest reads it');
  decode(false);
  ask('decode off');
  read('the guest reads it, decode off');
  decode(true);
  ask('decode on again');
}

/** The same of a slot that takes the place of one whose pages were mapped, before the guest runs again. */
function preFaultedAnew(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { device, bar, slot, ask } = toPreFault(kernel, see, edu!);
  slot(0);
  ask('the slot');
  slot(0, bar.address, 0n);
  slot(KVM_MEM_READONLY);
  ask('a slot to read');
  slot(0, bar.address, 0n);
  const { offset } = regionInfo(kernel, device, 0);
  for (const [name, prot] of [
    ['to read', PROT_READ],
    ['to write', PROT_WRITE],
    ['for nothing', PROT_NONE],
  ] as const) {
    const part = kernel.mmap({ length: SLOT, fd: device, offset, prot, view: false });
    slot(0, part.address);
    ask(`mapped ${name}`);
    slot(0, part.address, 0n);
    part.close();
  }
}

function msiAsIrqfd(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { device } = openDevice(kernel, edu!);
  const bar = mapRegion(kernel, device, 0);
  const vm = newVm(kernel);
  kernel.ioctl(vm, KVM_CREATE_IRQCHIP);
  const fd = kernel.eventfd(0, EFD_NONBLOCK);
  see.call('KVM_IRQFD', () => kernel.ioctl(vm, KVM_IRQFD, kvm_irqfd.encode({ fd, gsi: 5, flags: 0, resamplefd: 0 })));
  see.call('SET_IRQS', () => setTrigger(kernel, device, VFIO_PCI_MSI_IRQ_INDEX, fd));
  const pending = (): number => {
    const bytes = kvm_irqchip.alloc();
    kvm_irqchip.view(bytes).chip_id = KVM_IRQCHIP_PIC_MASTER;
    kernel.ioctl(vm, KVM_GET_IRQCHIP, bytes);
    return bytes[9]!;
  };
  bar.write32(RAISE, 1);
  see.note('the device does not master the bus', pending() & 0x20);
  bar.write32(ACKNOWLEDGE, 1);
  new ConfigSpace(kernel, device).enable();
  bar.write32(RAISE, 1);
  const end = Date.now() + 20_000;
  while ((pending() & 0x20) === 0 && Date.now() < end);
  see.note('it does', pending() & 0x20);
  see.note('left in the eventfd', taken(kernel, fd));
}

/** get_user and put_user of a register: a pointer in the argument leads to the BAR. */
function kernelAccess(kernel: Kernel, see: Observer, [edu, other]: string[]): void {
  const { device } = openDevice(kernel, edu!);
  const bar = mapRegion(kernel, device, 0);
  const group = kernel.open(groupPath(kernel, other!));
  const container = kernel.open('/dev/vfio/vfio');
  bar.write32(LIVENESS, ~container >>> 0);
  const set = (): number => kernel.ioctl(group, VFIO_GROUP_SET_CONTAINER, bar.address + BigInt(LIVENESS), UNSAFE);
  see.note('the register is a descriptor', bar.read32(LIVENESS) === container);
  see.call('SET_CONTAINER by a register', set);
  see.call('and again', set);
  const config = new ConfigSpace(kernel, device);
  config.write16(COMMAND, config.read16(COMMAND) & ~MEMORY);
  see.call('decode off', set);
  config.write16(COMMAND, config.read16(COMMAND) | MEMORY);
  // edu has no reset: what an earlier transfer left there goes.
  bar.write32(DMA_SOURCE, 0);
  bar.write32(DMA_SOURCE + 4, 0);
  see.note('a 64-bit register', bar.read64(DMA_SOURCE));
}

export const kvmBarCases: readonly Case[] = [
  withDevices('vfio/kvm/bar-in-a-memslot', 'KVM-VFIO', ['edu'], inMemslot, {
    needs: { devices: ['/dev/kvm', '/dev/vfio/vfio'] },
  }),
  withDevices('vfio/kvm/pre-faulted-bar', 'KVM-VFIO', ['edu'], preFaulted, {
    needs: { devices: ['/dev/kvm', '/dev/vfio/vfio'] },
  }),
  // Of a root that went with the old slot nothing is mapped, nor another loaded: kvm_tdp_map_page tries until a signal (*read*: 6.14).
  withDevices('vfio/kvm/bar-pre-faulted-anew', 'KVM-VFIO', ['edu'], preFaultedAnew, {
    needs: { devices: ['/dev/kvm', '/dev/vfio/vfio'], since: '6.14' },
  }),
  withDevices('vfio/kvm/msi-as-irqfd', 'KVM-VFIO', ['edu'], msiAsIrqfd, { needs: { devices: ['/dev/kvm', '/dev/vfio/vfio'] } }),
  withDevices('vfio/kvm/user-access', 'KVM-VFIO', ['edu', 'second edu'], kernelAccess),
];
