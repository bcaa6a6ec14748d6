/** KVM_SET_GSI_ROUTING and KVM_SIGNAL_MSI: what a GSI stands for, and messages straight to the local APICs. */
import type { Kernel } from 'kvio';
import {
  KVM_CAP_X2APIC_API,
  KVM_CREATE_VCPU,
  KVM_ENABLE_CAP,
  KVM_GET_VCPU_EVENTS,
  KVM_SET_GSI_ROUTING,
  KVM_SIGNAL_MSI,
  kvm_irq_routing,
  kvm_irq_routing_entry,
  kvm_msi,
  kvm_vcpu_events,
} from 'kvio/uapi';
import { type Case, define, hex } from '../case.ts';
import { newVm } from '../machine.ts';
import { chipState, enableCap, irqchipVm, line, splitVm } from './irqchip.ts';

const section = 'Interrupt routing';
const IRQCHIP = 1;
const MSI = 2;

interface Entry {
  gsi?: number;
  type?: number;
  flags?: number;
  irqchip?: number;
  pin?: number;
  address_lo?: number;
  address_hi?: number;
  data?: number;
}

function routing(entries: readonly Entry[], header: { nr?: number; flags?: number } = {}): Uint8Array {
  const bytes = new Uint8Array(kvm_irq_routing.size + entries.length * kvm_irq_routing_entry.size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, header.nr ?? entries.length, true);
  view.setUint32(4, header.flags ?? 0, true);
  for (const [at, entry] of entries.entries()) {
    const from = kvm_irq_routing.size + at * kvm_irq_routing_entry.size;
    const { gsi = 0, type = IRQCHIP, flags = 0, irqchip = 0, pin = 0, address_lo = 0, address_hi = 0, data = 0 } = entry;
    const words = type === MSI ? [address_lo, address_hi, data] : [irqchip, pin];
    for (const [i, word] of [gsi, type, flags, 0, ...words].entries()) view.setUint32(from + 4 * i, word, true);
  }
  return bytes;
}

function set(kernel: Kernel, vm: number, entries: readonly Entry[], header = {}): number {
  return kernel.ioctl(vm, KVM_SET_GSI_ROUTING, routing(entries, header), { unsafe: true });
}

function msi(message: { lo?: number; hi?: number; data?: number; flags?: number }): Uint8Array {
  const { lo = 0xfee0_0000, hi = 0, data = 0, flags = 0 } = message;
  return kvm_msi.encode({ address_lo: lo, address_hi: hi, data, flags, devid: 0, pad: new Uint8Array(12) });
}

/** NMIs that wait at a vCPU: where an MSI with delivery mode NMI went. */
function nmis(kernel: Kernel, vcpu: number): number {
  const bytes = kvm_vcpu_events.alloc();
  kernel.ioctl(vcpu, KVM_GET_VCPU_EVENTS, bytes);
  return kvm_vcpu_events.decode(bytes).nmi.pending;
}

const NMI = 0x400;

export const irqRoutingCases: Case[] = [
  define('kvm/irq-routing/checks', section, (kernel, see) => {
    const none = newVm(kernel);
    see.call('no controller, pointer 0', () => kernel.ioctl(none, KVM_SET_GSI_ROUTING, 0));
    see.call('no controller', () => set(kernel, none, []));
    const split = splitVm(kernel);
    see.call('split, nr 0', () => set(kernel, split, []));
    see.call('split, a pin', () => set(kernel, split, [{}]));
    see.call('split, an MSI', () => set(kernel, split, [{ type: MSI }]));
    const { vm } = irqchipVm(kernel);
    see.call('pointer 0', () => kernel.ioctl(vm, KVM_SET_GSI_ROUTING, 0));
    see.call('nr 0', () => set(kernel, vm, []));
    see.call('flags 1', () => set(kernel, vm, [], { flags: 1 }));
    see.call('nr 4097', () => set(kernel, vm, [], { nr: 4097 }));
    const many = Array.from({ length: 4096 }, (_, gsi) => ({ gsi, type: MSI }));
    see.call('nr 4096', () => set(kernel, vm, many));
    for (const gsi of [0, 4095, 4096, 0xffffffff]) see.call(`gsi ${hex(gsi)}`, () => set(kernel, vm, [{ gsi, type: MSI }]));
    for (const type of [0, 1, 2, 3, 5, 6]) see.call(`type ${type}`, () => set(kernel, vm, [{ type }]));
    for (const flags of [0, 1, 2, 3]) {
      see.call(`MSI with flags ${flags}`, () => set(kernel, vm, [{ type: MSI, flags }]));
      see.call(`pin with flags ${flags}`, () => set(kernel, vm, [{ flags }]));
    }
    for (const [irqchip, pin] of [
      [0, 7],
      [0, 8],
      [1, 7],
      [1, 8],
      [2, 23],
      [2, 24],
      [3, 0],
    ] as const) {
      see.call(`chip ${irqchip}, pin ${pin}`, () => set(kernel, vm, [{ irqchip, pin }]));
    }
    const pairs: readonly (readonly [string, Entry, Entry])[] = [
      ['two pins of one chip', { irqchip: 0, pin: 1 }, { irqchip: 0, pin: 2 }],
      ['pins of two chips', { irqchip: 0, pin: 1 }, { irqchip: 2, pin: 1 }],
      ['a pin and an MSI', { irqchip: 0 }, { type: MSI }],
      ['two MSIs', { type: MSI }, { type: MSI }],
    ];
    for (const [name, a, b] of pairs) see.call(`one gsi: ${name}`, () => set(kernel, vm, [a, b]));
    see.call('one gsi: pins of three chips', () => set(kernel, vm, [{ irqchip: 0 }, { irqchip: 1 }, { irqchip: 2 }]));
    see.call('gsi of the last entry, flags of the first', () => set(kernel, vm, [{ flags: 1 }, { gsi: 4096 }]));
  }),

  define('kvm/irq-routing/effect', section, (kernel, see) => {
    const { vm, vcpu } = irqchipVm(kernel);
    // KVM's map of APIC ids does not have the first vCPU until something builds it anew: another vCPU's reset does.
    kernel.ioctl(vm, KVM_CREATE_VCPU, 1);
    const pulse = (gsi: number): void => {
      line(kernel, vm, gsi, 1);
      line(kernel, vm, gsi, 0);
    };
    const master = (): unknown => (chipState(kernel, vm, 0) as Record<string, unknown>)['irr'] ?? 0;
    set(kernel, vm, [{ gsi: 5, irqchip: 0, pin: 3 }]);
    pulse(3);
    see.note('gsi 3, no route', master());
    pulse(5);
    see.note('gsi 5 to pin 3', master());
    set(kernel, vm, [{ gsi: 5, type: MSI, address_lo: 0xfee0_0000, data: NMI }]);
    pulse(5);
    see.note('gsi 5 to an NMI', nmis(kernel, vcpu));
    see.note('the master is as before', master());
    see.call('a bad table', () => set(kernel, vm, [{ gsi: 6 }, { gsi: 4096 }]));
    pulse(5);
    see.note('and the old one still works', nmis(kernel, vcpu));
    set(kernel, vm, []);
    pulse(5);
    see.note('with none, no third', nmis(kernel, vcpu));
  }),

  define('kvm/irq-routing/signal-msi', section, (kernel, see) => {
    const signal = (vm: number, message: Parameters<typeof msi>[0]): number => kernel.ioctl(vm, KVM_SIGNAL_MSI, msi(message));
    const none = newVm(kernel);
    see.call('no controller, pointer 0', () => kernel.ioctl(none, KVM_SIGNAL_MSI, 0));
    see.call('no controller', () => signal(none, {}));
    const split = splitVm(kernel);
    see.call('no vCPU', () => signal(split, { data: NMI }));
    const one = irqchipVm(kernel);
    see.call('a fresh vCPU', () => signal(one.vm, { data: NMI }));
    see.note('NMIs of a fresh vCPU', nmis(kernel, one.vcpu));
    const { vm, vcpu } = one;
    const other = kernel.ioctl(vm, KVM_CREATE_VCPU, 1);
    for (const flags of [1, 2, 3]) see.call(`flags ${flags}`, () => signal(vm, { flags, data: 0x41 }));
    for (const [name, message] of [
      ['NMI to 0', { data: NMI }],
      ['NMI to 1', { lo: 0xfee0_1000, data: NMI }],
      ['NMI to 5', { lo: 0xfee0_5000, data: NMI }],
      ['NMI to 0xff', { lo: 0xfeef_f000, data: NMI }],
      ['NMI, address 0', { lo: 0, data: NMI }],
      ['NMI, address high', { hi: 0xffffff01, data: NMI }],
      ['fixed 0x41', { data: 0x41 }],
      ['lowest priority 0x41', { data: 0x141 }],
      ['fixed 0x41, logical 1', { lo: 0xfee0_1004, data: 0x41 }],
      ['NMI, logical 1', { lo: 0xfee0_1004, data: NMI }],
      ['fixed, vector 5', { data: 5 }],
      ['SMI', { data: 0x200 }],
      ['reserved mode 3', { data: 0x341 }],
      ['ExtINT', { data: 0x741 }],
      ['level, asserted', { data: 0xc041 }],
    ] as const) {
      see.call(name, () => signal(vm, message));
      see.note(`${name}: NMIs of 0 and 1`, [nmis(kernel, vcpu), nmis(kernel, other)]);
    }
  }),

  define('kvm/irq-routing/32-bit-ids', section, (kernel, see) => {
    const vm = splitVm(kernel);
    see.call('X2APIC_API', () => kernel.ioctl(vm, KVM_ENABLE_CAP, enableCap(KVM_CAP_X2APIC_API, [1n])));
    kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
    kernel.ioctl(vm, KVM_CREATE_VCPU, 1);
    for (const hi of [0, 1, 0x100, 0xff, 0xffffff00]) {
      see.call(`SIGNAL_MSI, hi ${hex(hi)}`, () => kernel.ioctl(vm, KVM_SIGNAL_MSI, msi({ hi, data: NMI })));
      see.call(`route, hi ${hex(hi)}`, () => set(kernel, vm, [{ type: MSI, address_hi: hi }]));
    }
  }),
];
