/** The in-kernel interrupt controllers: the pair of 8259s and the IOAPIC, as userspace and as guests see them. */
import type { Kernel } from 'kvio';
import {
  KVM_CAP_SPLIT_IRQCHIP,
  KVM_CREATE_IRQCHIP,
  KVM_CREATE_VCPU,
  KVM_ENABLE_CAP,
  KVM_GET_IRQCHIP,
  KVM_IRQ_LINE,
  KVM_IRQ_LINE_STATUS,
  KVM_SET_IRQCHIP,
  kvm_enable_cap,
  kvm_ioapic_state,
  kvm_irq_level,
  kvm_irqchip,
  kvm_pic_state,
} from 'kvio/uapi';
import { type Case, define, hex, nonZero } from '../case.ts';
import { addRam, mapRun, newVm, RunPage, setRegs, setSregs, UNSAFE } from '../machine.ts';

const section = 'Interrupt controllers';
const CHIP = 8;

/** A VM with all controllers in the kernel, and its first vCPU. */
export function irqchipVm(kernel: Kernel): { vm: number; vcpu: number } {
  const vm = newVm(kernel);
  kernel.ioctl(vm, KVM_CREATE_IRQCHIP);
  return { vm, vcpu: kernel.ioctl(vm, KVM_CREATE_VCPU, 0) };
}

/** A VM with the local APICs alone in the kernel. */
export function splitVm(kernel: Kernel, pins = 24n): number {
  const vm = newVm(kernel);
  kernel.ioctl(vm, KVM_ENABLE_CAP, enableCap(KVM_CAP_SPLIT_IRQCHIP, [pins]));
  return vm;
}

export function enableCap(cap: number, args: readonly bigint[] = [], flags = 0): Uint8Array {
  return kvm_enable_cap.encode({ cap, flags, args: [0n, 0n, 0n, 0n].map((zero, i) => args[i] ?? zero), pad: new Uint8Array(64) });
}

function chipBytes(chip_id: number, fill = 0): Uint8Array {
  const bytes = new Uint8Array(kvm_irqchip.size).fill(fill);
  new DataView(bytes.buffer).setUint32(0, chip_id, true);
  return bytes;
}

/** The state of a chip, without what is zero. */
export function chipState(kernel: Kernel, vm: number, chip: 0 | 1 | 2): unknown {
  const bytes = chipBytes(chip);
  kernel.ioctl(vm, KVM_GET_IRQCHIP, bytes);
  const state = bytes.subarray(CHIP);
  if (chip !== 2) return nonZero(kvm_pic_state.decode(state));
  const ioapic = kvm_ioapic_state.decode(state);
  return nonZero({ ...ioapic, redirtbl: ioapic.redirtbl.map(({ bits }) => bits) });
}

function setChip(kernel: Kernel, vm: number, chip: 0 | 1 | 2, edit: (state: Record<string, unknown>) => void): number {
  const bytes = chipBytes(chip);
  kernel.ioctl(vm, KVM_GET_IRQCHIP, bytes);
  const codec = chip === 2 ? kvm_ioapic_state : kvm_pic_state;
  const state = codec.decode(bytes.subarray(CHIP)) as unknown as Record<string, unknown>;
  if (chip === 2) state['redirtbl'] = (state['redirtbl'] as { bits: bigint }[]).map(({ bits }) => ({ bits }));
  edit(state);
  bytes.set(codec.encode(state as never), CHIP);
  return kernel.ioctl(vm, KVM_SET_IRQCHIP, bytes);
}

export function line(kernel: Kernel, vm: number, irq: number, level: number): number {
  return kernel.ioctl(vm, KVM_IRQ_LINE, kvm_irq_level.encode({ irq, level } as never));
}

/** KVM_IRQ_LINE_STATUS: the status. */
function status(kernel: Kernel, vm: number, irq: number, level: number): number {
  const bytes = kvm_irq_level.encode({ irq, level } as never);
  kernel.ioctl(vm, KVM_IRQ_LINE_STATUS, bytes);
  return new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true);
}

export interface IrqGuest {
  readonly kernel: Kernel;
  readonly vm: number;
  readonly vcpu: number;
  readonly run: RunPage;
}

/**
 * A real-mode guest with in-kernel controllers: DS begins at the IOAPIC, ES at the local APIC, each with 64 KiB, SS and the vectors lie in RAM.
 * `handlers`: code by vector, put at 0x2000 + 0x40 × their place.
 */
export function irqGuest(
  kernel: Kernel,
  code: readonly number[],
  handlers: Readonly<Record<number, readonly number[]>> = {},
  made: { vm: number; vcpu: number } = irqchipVm(kernel),
): IrqGuest {
  const { vm, vcpu } = made;
  const ram = addRam(kernel, vm, 0, 0n, 0x10000);
  ram.write(0x1000, Uint8Array.from(code));
  for (const [at, [vector, bytes]] of Object.entries(handlers).entries()) {
    const entry = 0x2000 + 0x40 * at;
    ram.write(entry, Uint8Array.from(bytes));
    ram.write(Number(vector) * 4, Uint8Array.from([entry & 0xff, entry >> 8, 0, 0]));
  }
  setSregs(kernel, vcpu, (sregs) => {
    Object.assign(sregs.cs, { base: 0n, selector: 0 });
    Object.assign(sregs.ds, { base: 0xfec0_0000n });
    Object.assign(sregs.es, { base: 0xfee0_0000n });
  });
  setRegs(kernel, vcpu, { rip: 0x1000n, rflags: 2n, rsp: 0x8000n });
  return { kernel, vm, vcpu, run: new RunPage(mapRun(kernel, vcpu)) };
}

/** Runs to the next port write that nobody in the kernel takes: `port: value`. `budget` in milliseconds, for a guest that never makes one. */
export function next({ kernel, vcpu, run }: IrqGuest, budget?: number): string {
  const returned = kernel.run(vcpu, budget === undefined ? {} : { budget });
  if (returned < 0) return `error ${returned}`;
  const reason = Number(run.get('exit_reason'));
  if (reason !== 2) return `exit reason ${reason}`;
  const size = Number(run.get('io.size'));
  const data = run.slice(Number(run.get('io.data_offset')), size).reduceRight((value, byte) => value * 256 + byte, 0);
  return `${hex(Number(run.get('io.port')))}: ${hex(data)}`;
}

/** mov al, value; out port, al */
const out = (port: number, value: number): number[] => [0xb0, value, 0xe6, port];
/** in al, port; out 0xe9, al: shows what is read. */
const show = (port: number): number[] => [0xe4, port, 0xe6, 0xe9];
const AGAIN = 0xe8;

/** ICW1–4 of both chips: master at 0x20, slave at 0x28, 8086 mode; everything unmasked. */
export const initPics: readonly number[] = [
  ...[...out(0x20, 0x11), ...out(0x21, 0x20), ...out(0x21, 4), ...out(0x21, 1)],
  ...[...out(0xa0, 0x11), ...out(0xa1, 0x28), ...out(0xa1, 2), ...out(0xa1, 1)],
  ...[...out(0x21, 0), ...out(0xa1, 0)],
];

/** sti; again: out 0xe8, al; jmp again */
export const reportForever: readonly number[] = [0xfb, 0xe6, AGAIN, 0xeb, 0xfc];

/** out 0xe9, al with this value; EOI to the chips; iret */
export function handler(value: number, slave = false): number[] {
  return [0x50, ...out(0xe9, value), ...(slave ? out(0xa0, 0x20) : []), ...out(0x20, 0x20), 0x58, 0xcf];
}

/** mov dword [REGSEL], register; mov dword [WINDOW], value */
function ioapicWrite(register: number, value: number): number[] {
  const le = [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
  return [0x66, 0xc7, 0x06, 0, 0, register, 0, 0, 0, 0x66, 0xc7, 0x06, 0x10, 0, ...le];
}

/** The same, read: mov eax, [WINDOW]; out dx, eax with dx 0xe9 */
function ioapicShow(register: number): number[] {
  return [0x66, 0xc7, 0x06, 0, 0, register, 0, 0, 0, 0x66, 0xa1, 0x10, 0, 0xba, 0xe9, 0, 0x66, 0xef];
}

export const irqchipCases: Case[] = [
  define('kvm/irqchip/create', section, (kernel, see) => {
    const vm = newVm(kernel);
    see.call('CREATE_IRQCHIP', () => kernel.ioctl(vm, KVM_CREATE_IRQCHIP, 7));
    see.call('again', () => kernel.ioctl(vm, KVM_CREATE_IRQCHIP));
    see.call('a vCPU', () => kernel.ioctl(vm, KVM_CREATE_VCPU, 0) >= 0);
    see.call('after a vCPU, again', () => kernel.ioctl(vm, KVM_CREATE_IRQCHIP));
    const late = newVm(kernel);
    kernel.ioctl(late, KVM_CREATE_VCPU, 0);
    see.call('after a vCPU', () => kernel.ioctl(late, KVM_CREATE_IRQCHIP));
    see.call('of a split one', () => kernel.ioctl(splitVm(kernel), KVM_CREATE_IRQCHIP));
  }),

  define('kvm/irqchip/state', section, (kernel, see) => {
    const none = newVm(kernel);
    for (const [name, vm] of [
      ['none', none],
      ['split', splitVm(kernel)],
      ['full', irqchipVm(kernel).vm],
    ] as const) {
      see.call(`${name}: GET_IRQCHIP, pointer 0`, () => kernel.ioctl(vm, KVM_GET_IRQCHIP, 0));
      see.call(`${name}: SET_IRQCHIP, pointer 0`, () => kernel.ioctl(vm, KVM_SET_IRQCHIP, 0));
      for (const chip of [0, 1, 2, 3, 0xffffffff]) {
        see.call(`${name}: GET_IRQCHIP of ${hex(chip)}`, () => kernel.ioctl(vm, KVM_GET_IRQCHIP, chipBytes(chip)));
        if (chip > 2 || name !== 'full') {
          see.call(`${name}: SET_IRQCHIP of ${hex(chip)}`, () => kernel.ioctl(vm, KVM_SET_IRQCHIP, chipBytes(chip)));
        }
      }
    }
  }),

  define('kvm/irqchip/initial', section, (kernel, see) => {
    const { vm } = irqchipVm(kernel);
    for (const chip of [0, 1, 2] as const) {
      see.note(`chip ${chip}`, chipState(kernel, vm, chip));
      const bytes = chipBytes(chip, 0x5a);
      kernel.ioctl(vm, KVM_GET_IRQCHIP, bytes);
      const size = chip === 2 ? kvm_ioapic_state.size : kvm_pic_state.size;
      see.note(
        `chip ${chip}, what is beyond its state`,
        bytes.subarray(CHIP + size).every((byte) => byte === 0x5a),
      );
    }
  }),

  define('kvm/irqchip/set-and-get', section, (kernel, see) => {
    const { vm } = irqchipVm(kernel);
    for (const chip of [0, 1] as const) {
      const bytes = chipBytes(chip);
      for (let i = 0; i < kvm_pic_state.size; i++) bytes[CHIP + i] = 0x11 * (i + 1);
      see.call(`SET_IRQCHIP ${chip}`, () => kernel.ioctl(vm, KVM_SET_IRQCHIP, bytes));
      see.note(`chip ${chip}`, chipState(kernel, vm, chip));
    }
    see.note('the master after it', chipState(kernel, vm, 0));
    see.call('SET_IRQCHIP 2', () =>
      setChip(kernel, vm, 2, (state) => {
        Object.assign(state, { base_address: 0x1234_5000n, ioregsel: 0x1ff, id: 0x1f, irr: 0x00ff_ffff, pad: 9 });
        const table = state['redirtbl'] as { bits: bigint }[];
        table.forEach((entry, pin) => {
          entry.bits = 0xffff_ffff_ffff_ffffn >> BigInt(pin);
        });
      }),
    );
    see.note('chip 2', chipState(kernel, vm, 2));
  }),

  define('kvm/irqchip/irq-line', section, (kernel, see) => {
    const none = newVm(kernel);
    see.call('without a controller', () => line(kernel, none, 0, 1));
    see.call('without a controller, pointer 0', () => kernel.ioctl(none, KVM_IRQ_LINE, 0));
    see.call('split', () => line(kernel, splitVm(kernel), 0, 1));
    const { vm } = irqchipVm(kernel);
    see.call('pointer 0', () => kernel.ioctl(vm, KVM_IRQ_LINE, 0));
    see.call('STATUS, pointer 0', () => kernel.ioctl(vm, KVM_IRQ_LINE_STATUS, 0));
    for (const irq of [0, 2, 4, 8, 15, 16, 23, 24, 4095, 4096, 0xffffffff]) {
      for (const [at, level] of [1, 1, 2, 0, 0, 1, 0].entries()) {
        see.note(`gsi ${hex(irq)}, step ${at}, level ${level}`, String(status(kernel, vm, irq, level)));
      }
    }
    see.note('master', chipState(kernel, vm, 0));
    see.note('slave', chipState(kernel, vm, 1));
    see.note('ioapic', chipState(kernel, vm, 2));
  }),

  define('kvm/irqchip/line-and-masks', section, (kernel, see) => {
    const { vm } = irqchipVm(kernel);
    setChip(kernel, vm, 0, (state) => Object.assign(state, { imr: 0x10, elcr: 0x20 }));
    for (const irq of [4, 5, 6]) {
      for (const [at, level] of [1, 1, 0, 0].entries()) {
        see.note(`gsi ${irq}, step ${at}, level ${level}`, String(status(kernel, vm, irq, level)));
        see.note(`gsi ${irq}, step ${at}, master`, chipState(kernel, vm, 0));
      }
    }
    // Fixed, vector 0x40 + pin, to APIC 0, which is disabled by software: taken by none.
    setChip(kernel, vm, 2, (state) => {
      (state['redirtbl'] as { bits: bigint }[]).forEach((entry, pin) => {
        entry.bits = BigInt(0x40 + pin) | (pin & 1 ? 0x8000n : 0n);
      });
    });
    for (const irq of [16, 17]) {
      for (const [at, level] of [1, 1, 0, 0, 1].entries()) {
        see.note(`gsi ${irq}, step ${at}, level ${level}`, String(status(kernel, vm, irq, level)));
        see.note(`gsi ${irq}, step ${at}, ioapic irr`, (chipState(kernel, vm, 2) as Record<string, unknown>)['irr'] ?? 0);
      }
    }
  }),

  define('kvm/irqchip/pic-ports', section, (kernel, see) => {
    const guest = irqGuest(kernel, [
      ...[...show(0x20), ...show(0x21), ...show(0xa0), ...show(0xa1)],
      ...initPics,
      ...[...show(0x20), ...show(0x21)],
      ...out(0x21, 0xfb),
      ...[...show(0x21), 0xe5, 0x20, 0xe7, 0xe9],
      // in ax, 0x20 (above); out 0x20, ax: accesses wider than a byte
      ...[0xb8, 0x11, 0x11, 0xe7, 0x20],
      // ELCR: mov dx, 0x4d0; mov al, 0xff; out dx, al; in al, dx; out 0xe9, al; inc dx; again
      ...[0xba, 0xd0, 0x04, 0xb0, 0xff, 0xee, 0xec, 0xe6, 0xe9, 0x42, 0xb0, 0xff, 0xee, 0xec, 0xe6, 0xe9],
      // OCW3: read ISR, special mask, poll
      ...[...out(0x20, 0x0b), ...show(0x20), ...out(0x20, 0x68), ...out(0x20, 0x0c), ...show(0x20)],
      ...out(0xe9, 0xff),
    ]);
    for (let at = 1; at <= 13; at++) {
      const said = next(guest);
      see.note(`exit ${at}`, said);
      if (said === '0xe9: 0xff' && at > 9) break;
    }
    see.note('master', chipState(kernel, guest.vm, 0));
    see.note('slave', chipState(kernel, guest.vm, 1));
  }),

  define('kvm/irqchip/pic-interrupts', section, (kernel, see) => {
    const guest = irqGuest(kernel, [...initPics, ...reportForever], {
      32: handler(0x20),
      35: handler(0x23),
      36: handler(0x24),
      43: handler(0x2b, true),
    });
    const { vm } = guest;
    see.note('first', next(guest));
    const raise = (label: string, ...irqs: number[]): void => {
      for (const irq of irqs) {
        line(kernel, vm, irq, 1);
        line(kernel, vm, irq, 0);
      }
      see.note(`${label}: master`, chipState(kernel, vm, 0));
      for (let at = 1; at <= irqs.length + 1; at++) see.note(`${label}: exit ${at}`, next(guest));
      see.note(`${label}: master afterwards`, chipState(kernel, vm, 0));
    };
    raise('gsi 4', 4);
    raise('gsi 4 and 3', 4, 3);
    raise('gsi 11', 11);
    raise('gsi 4, 11 and 0', 4, 11, 0);
  }),

  define('kvm/irqchip/pic-level', section, (kernel, see) => {
    // ELCR: gsi 5 is level-triggered
    const guest = irqGuest(kernel, [0xba, 0xd0, 0x04, 0xb0, 0x20, 0xee, ...initPics, ...reportForever], { 37: handler(0x25) });
    see.note('first', next(guest));
    line(kernel, guest.vm, 5, 1);
    for (let at = 1; at <= 3; at++) see.note(`high, exit ${at}`, next(guest));
    line(kernel, guest.vm, 5, 0);
    for (let at = 1; at <= 3; at++) see.note(`low, exit ${at}`, next(guest));
  }),

  define('kvm/irqchip/pic-modes', section, (kernel, see) => {
    // Automatic EOI with rotation: OCW2 0x80, ICW4 3; the handler sends no EOI.
    const code = [
      ...[...out(0x20, 0x11), ...out(0x21, 0x20), ...out(0x21, 4), ...out(0x21, 3), ...out(0x21, 0), ...out(0x20, 0x80)],
      ...reportForever,
    ];
    const silent = (value: number): number[] => [0x50, ...out(0xe9, value), 0x58, 0xcf];
    const guest = irqGuest(kernel, code, { 35: silent(0x23), 36: silent(0x24) });
    see.note('first', next(guest));
    for (const round of [1, 2]) {
      for (const irq of [3, 4]) {
        line(kernel, guest.vm, irq, 1);
        line(kernel, guest.vm, irq, 0);
      }
      for (let at = 1; at <= 3; at++) see.note(`round ${round}, exit ${at}`, next(guest));
      see.note(`round ${round}, master`, chipState(kernel, guest.vm, 0));
    }
  }),

  define('kvm/irqchip/ioapic-registers', section, (kernel, see) => {
    const guest = irqGuest(kernel, [
      ...[...ioapicShow(0), ...ioapicShow(1), ...ioapicShow(2), ...ioapicShow(3), ...ioapicShow(0x10), ...ioapicShow(0x11)],
      ...[...ioapicWrite(0, 0xffffffff), ...ioapicShow(0), ...ioapicWrite(1, 0), ...ioapicShow(1)],
      ...[...ioapicWrite(0x10, 0xffffffff), ...ioapicShow(0x10), ...ioapicWrite(0x11, 0xffffffff), ...ioapicShow(0x11)],
      ...[...ioapicWrite(0x10, 0), ...ioapicShow(0x10), ...ioapicShow(0x3f), ...ioapicShow(0x40), ...ioapicShow(0xff)],
      // mov al, [0]; out 0xe9, al: a byte of the select register; mov eax, [4]: no register there
      ...[0xa0, 0, 0, 0xe6, 0xe9, 0x66, 0xa1, 4, 0, 0x66, 0xe7, 0xe9],
      // mov eax, [0x100]: behind the IOAPIC
      ...[0x66, 0xa1, 0, 1],
    ]);
    for (let at = 1; at <= 16; at++) see.note(`exit ${at}`, next(guest));
    see.note('at its end', next(guest));
    see.note('chip', chipState(kernel, guest.vm, 2));
  }),

  define('kvm/irqchip/ioapic-interrupts', section, (kernel, see) => {
    // es: mov dword [0xf0], 0x1ff enables the local APIC; EOI is es: mov dword [0xb0], 0
    const enable = [0x26, 0x66, 0xc7, 0x06, 0xf0, 0, 0xff, 1, 0, 0];
    const eoi = [0x26, 0x66, 0xc7, 0x06, 0xb0, 0, 0, 0, 0, 0];
    const apicHandler = (value: number): number[] => [0x50, ...out(0xe9, value), ...eoi, 0x58, 0xcf];
    const guest = irqGuest(
      kernel,
      [...enable, ...ioapicWrite(0x10 + 2 * 17, 0x51), ...ioapicWrite(0x10 + 2 * 18, 0x8052), ...reportForever],
      { 81: apicHandler(0x51), 82: apicHandler(0x52) },
    );
    const { vm } = guest;
    const irr = (): unknown => (chipState(kernel, vm, 2) as Record<string, unknown>)['irr'] ?? 0;
    see.note('first', next(guest));
    see.note('edge', String(status(kernel, vm, 17, 1)));
    see.note('edge again', String(status(kernel, vm, 17, 1)));
    for (let at = 1; at <= 3; at++) see.note(`edge, exit ${at}`, next(guest));
    see.note('edge, irr', irr());
    see.note('edge low', String(status(kernel, vm, 17, 0)));
    see.note('level', String(status(kernel, vm, 18, 1)));
    see.note('level again', String(status(kernel, vm, 18, 1)));
    for (let at = 1; at <= 4; at++) see.note(`level, exit ${at}`, next(guest));
    see.note('level, irr', irr());
    see.note('level low', String(status(kernel, vm, 18, 0)));
    for (let at = 1; at <= 3; at++) see.note(`level low, exit ${at}`, next(guest));
    see.note('chip', chipState(kernel, vm, 2));
  }),

  define('kvm/irqchip/bad-pointers', section, (kernel, see) => {
    const { vm } = irqchipVm(kernel);
    const readOnly = kernel.mmap({ length: 0x1000, prot: 1 });
    see.call('GET_IRQCHIP into read-only memory', () => kernel.ioctl(vm, KVM_GET_IRQCHIP, readOnly.address, UNSAFE));
    see.call('IRQ_LINE_STATUS into read-only memory', () => kernel.ioctl(vm, KVM_IRQ_LINE_STATUS, readOnly.address, UNSAFE));
  }),
];
