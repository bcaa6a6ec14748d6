import { kvm_pic_state } from '../../uapi/kvm.ts';
import type { IoDevice } from './io-bus.ts';
import { IrqLine } from './irq-line.ts';
import type { PicOutput } from './irqchip.ts';
import type { Vm } from './vm.ts';

/** The input of the master that the slave's output drives. */
const CASCADE = 2;
const SPURIOUS = 7;

/** `struct kvm_kpic_state`: one 8259A, its fields named and ordered as userspace sees them. */
export class Pic8259 {
  last_irr = 0;
  irr = 0;
  imr = 0;
  isr = 0;
  priority_add = 0;
  irq_base = 0;
  read_reg_select = 0;
  poll = 0;
  special_mask = 0;
  init_state = 0;
  auto_eoi = 0;
  rotate_on_auto_eoi = 0;
  special_fully_nested_mode = 0;
  /** ICW1: four command words will come. */
  init4 = 0;
  /** Edge/level control; only the bits of `elcr_mask` can be level-triggered. */
  elcr = 0;
  elcr_mask: number;
  readonly #master: boolean;

  constructor(master: boolean) {
    this.#master = master;
    this.elcr_mask = master ? 0xf8 : 0xde;
  }

  get master(): boolean {
    return this.#master;
  }

  /** pic_set_irq1: −1 masked, 0 already latched, 1 taken. */
  set(pin: number, level: boolean): number {
    const mask = 1 << pin;
    let result = 1;
    if (level) {
      if (this.elcr & mask || !(this.last_irr & mask)) {
        result = this.irr & mask ? 0 : 1;
        this.irr |= mask;
      }
      this.last_irr |= mask;
    } else {
      if (this.elcr & mask) this.irr &= ~mask;
      this.last_irr &= ~mask;
    }
    return this.imr & mask ? -1 : result;
  }

  /** Distance of the highest of these from the top of the rotation; 8: there is none. */
  #priority(mask: number): number {
    if (mask === 0) return 8;
    let priority = 0;
    while (!(mask & (1 << ((priority + this.priority_add) & 7)))) priority++;
    return priority;
  }

  /** pic_get_irq: the pin that would interrupt now, or −1. */
  pending(): number {
    const priority = this.#priority(this.irr & ~this.imr);
    if (priority === 8) return -1;
    const inService = this.special_fully_nested_mode && this.master ? this.isr & ~(1 << CASCADE) : this.isr;
    return priority < this.#priority(inService) ? (priority + this.priority_add) & 7 : -1;
  }

  /** pic_intack: true when the pin's service has ended with it (automatic EOI). */
  acknowledge(pin: number): boolean {
    this.isr |= 1 << pin;
    if (!(this.elcr & (1 << pin))) this.irr &= ~(1 << pin);
    if (!this.auto_eoi) return false;
    if (this.rotate_on_auto_eoi) this.priority_add = (pin + 1) & 7;
    this.isr &= ~(1 << pin);
    return true;
  }

  /** ICW1. Returns the pins whose edge was forgotten. */
  reset(init4: number): number {
    const edges = this.irr & ~this.elcr;
    this.init4 = init4;
    this.last_irr = 0;
    this.irr &= this.elcr;
    this.imr = 0;
    this.priority_add = 0;
    this.special_mask = 0;
    this.read_reg_select = 0;
    if (!init4) {
      this.special_fully_nested_mode = 0;
      this.auto_eoi = 0;
    }
    this.init_state = 1;
    return edges;
  }

  /** The pin in service with the highest priority; −1: none. */
  inService(): number {
    const priority = this.#priority(this.isr);
    return priority === 8 ? -1 : (priority + this.priority_add) & 7;
  }

  load(bytes: Uint8Array): void {
    Object.assign(this, kvm_pic_state.decode(bytes));
  }

  store(): Uint8Array {
    return kvm_pic_state.encode(this);
  }
}

/** `struct kvm_pic`: the pair at ports 0x20, 0xa0 and 0x4d0. Accesses of more than a byte are taken and do nothing. */
export class Pics implements PicOutput {
  readonly chips: readonly [Pic8259, Pic8259] = [new Pic8259(true), new Pic8259(false)];
  output = false;
  readonly #vm: Vm;
  readonly #lines: readonly IrqLine[] = Array.from({ length: 16 }, () => new IrqLine());

  constructor(vm: Vm) {
    this.#vm = vm;
    for (const [base, device] of [
      [0x20n, this.#ports(0)],
      [0xa0n, this.#ports(1)],
      [0x4d0n, this.#elcr()],
    ] as const)
      vm.pioBus.register(base, 2, device);
  }

  /** kvm_pic_set_irq. */
  setIrq(pin: number, source: number, level: boolean): number {
    const result = this.chips[pin >> 3]!.set(pin & 7, this.#lines[pin]!.set(source, level));
    this.update();
    return result;
  }

  /** pic_update_irq: the slave drives the master's cascade input; the master's output is what vCPUs see. */
  update(): void {
    const [master, slave] = this.chips;
    if (slave.pending() >= 0) {
      master.set(CASCADE, true);
      master.set(CASCADE, false);
    }
    const output = master.pending() >= 0;
    if (output === this.output) return;
    this.output = output;
    for (const { lapic } of this.#vm.vcpus.values()) lapic?.kick();
  }

  readIrq(): number {
    const [master, slave] = this.chips;
    const pin = master.pending();
    let vector = master.irq_base + SPURIOUS;
    if (pin >= 0) {
      if (master.acknowledge(pin)) this.#acked(pin);
      vector = master.irq_base + pin;
      if (pin === CASCADE) {
        const inner = slave.pending();
        if (inner >= 0 && slave.acknowledge(inner)) this.#acked(8 + inner);
        vector = slave.irq_base + (inner < 0 ? SPURIOUS : inner);
      }
    }
    this.update();
    return vector;
  }

  #acked(pin: number): void {
    this.#vm.routing.notifyAcked(pin >> 3, pin & 7);
  }

  #clearIsr(chip: Pic8259, pin: number): void {
    chip.isr &= ~(1 << pin);
    this.#acked(chip.master ? pin : pin + 8);
  }

  #ports(index: 0 | 1): IoDevice {
    const chip = this.chips[index];
    return {
      read: (_vcpu, port, data) => {
        data.fill(0);
        if (data.length === 1) data[0] = this.#read(chip, port & 1);
        return true;
      },
      write: (_vcpu, port, data) => {
        if (data.length === 1) this.#write(chip, port & 1, data[0]!);
        return true;
      },
    };
  }

  #elcr(): IoDevice {
    return {
      read: (_vcpu, port, data) => {
        data.fill(0);
        if (data.length === 1) data[0] = this.chips[port & 1]!.elcr;
        return true;
      },
      write: (_vcpu, port, data) => {
        const chip = this.chips[port & 1]!;
        if (data.length === 1) chip.elcr = data[0]! & chip.elcr_mask;
        return true;
      },
    };
  }

  #read(chip: Pic8259, register: number): number {
    if (chip.poll) {
      chip.poll = 0;
      return this.#poll(chip);
    }
    if (register === 1) return chip.imr;
    return chip.read_reg_select ? chip.isr : chip.irr;
  }

  /** A poll acknowledges and ends an interrupt at once. */
  #poll(chip: Pic8259): number {
    const pin = chip.pending();
    if (pin < 0) {
      this.update();
      return SPURIOUS;
    }
    if (!chip.master) {
      const [master] = this.chips;
      master.isr &= ~(1 << CASCADE);
      master.irr &= ~(1 << CASCADE);
    }
    chip.irr &= ~(1 << pin);
    this.#clearIsr(chip, pin);
    if (!chip.master || pin !== CASCADE) this.update();
    return pin | 0x80;
  }

  #write(chip: Pic8259, register: number, value: number): void {
    if (register === 1) this.#writeData(chip, value);
    else if (value & 0x10) this.#icw1(chip, value);
    else if (value & 0x08) {
      // OCW3
      if (value & 0x04) chip.poll = 1;
      if (value & 0x02) chip.read_reg_select = value & 1;
      if (value & 0x40) chip.special_mask = (value >> 5) & 1;
    } else this.#ocw2(chip, value);
  }

  /** Edges that are forgotten count as acknowledged where some vCPU takes interrupts from the PIC. */
  #icw1(chip: Pic8259, value: number): void {
    const edges = chip.reset(value & 1);
    if (![...this.#vm.vcpus.values()].some(({ lapic }) => lapic?.acceptsPic)) return;
    for (let pin = 0; pin < 8; pin++) if (edges & (1 << pin)) this.#clearIsr(chip, pin);
  }

  #ocw2(chip: Pic8259, value: number): void {
    const command = value >> 5;
    if (command === 0 || command === 4) {
      chip.rotate_on_auto_eoi = command >> 2;
      return;
    }
    if (command === 2) return;
    if (command === 6) {
      chip.priority_add = (value + 1) & 7;
      this.update();
      return;
    }
    const specific = (command & 2) !== 0;
    const pin = specific ? value & 7 : chip.inService();
    if (pin < 0) return;
    if (command & 4) chip.priority_add = (pin + 1) & 7;
    this.#clearIsr(chip, pin);
    this.update();
  }

  /** OCW1, or the command words that follow ICW1. */
  #writeData(chip: Pic8259, value: number): void {
    if (chip.init_state === 0) {
      const changed = chip.imr ^ value;
      chip.imr = value;
      for (let pin = 0; pin < 8; pin++)
        if (changed & (1 << pin)) this.#vm.routing.notifyMask(chip.master ? 0 : 1, pin, (value & (1 << pin)) !== 0);
      this.update();
    } else if (chip.init_state === 1) {
      chip.irq_base = value & 0xf8;
      chip.init_state = 2;
    } else if (chip.init_state === 2) chip.init_state = chip.init4 ? 3 : 0;
    else {
      chip.special_fully_nested_mode = (value >> 4) & 1;
      chip.auto_eoi = (value >> 1) & 1;
      chip.init_state = 0;
    }
  }
}
