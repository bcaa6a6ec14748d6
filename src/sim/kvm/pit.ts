import {
  KVM_PIT_FLAGS_HPET_LEGACY,
  KVM_PIT_SPEAKER_DUMMY,
  type kvm_pit_channel_state,
  kvm_pit_config,
  kvm_pit_state,
  kvm_pit_state2,
  kvm_reinject_control,
} from '../../uapi/kvm.ts';
import { EEXIST, EFAULT, ENOENT, ENXIO } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import type { Process } from '../process.ts';
import type { IoDevice } from './io-bus.ts';
import { KVM_PIT_IRQ_SOURCE_ID } from './irq-line.ts';
import type { AckNotifier } from './irq-routing.ts';
import type { Vm } from './vm.ts';

/** Hz. */
const KVM_PIT_FREQ = 1_193_182n;
const NSEC_PER_SEC = 1_000_000_000n;
const KVM_PIT_BASE_ADDRESS = 0x40n;
const KVM_PIT_MEM_LENGTH = 4;
const KVM_SPEAKER_BASE_ADDRESS = 0x61n;
/** Shortest period of the timer, in nanoseconds: module parameter min_timer_period_us. */
const MIN_PERIOD = 200_000n;
/** How a channel is read and written: 1 the low byte, 2 the high byte, 3 both in turn, of which 4 is the second. */
const RW_STATE_MSB = 2;
const RW_STATE_WORD0 = 3;
const RW_STATE_WORD1 = 4;
const NO_MODE = 0xff;

type Channel = kvm_pit_channel_state;

function modulo(a: bigint, b: bigint): bigint {
  return ((a % b) + b) % b;
}

/** `struct kvm_pit`: an 8254 at ports 0x40–0x43 whose channel 0 drives GSI 0. */
export class Pit implements AckNotifier {
  readonly gsi = 0;
  readonly channels: Channel[] = [0, 1, 2].map((n) => ({ ...new8254Channel(), gate: n === 2 ? 0 : 1 }));
  /** HPET_LEGACY, as KVM_SET_PIT2 left it; what KVM_CREATE_PIT2 was given is not kept. */
  flags = 0;
  /** KVM_REINJECT_CONTROL: ticks the guest was too slow for are made up for. */
  #reinject = true;
  #pending = 0;
  #acknowledged = true;
  /** Nanoseconds; 0: channel 0 never ticked. */
  #period = 0n;
  #expires = 0n;
  #cancel: (() => void) | undefined = undefined;
  #speakerOn = 0;
  readonly #vm: Vm;

  constructor(vm: Vm, flags: number) {
    this.#vm = vm;
    for (let n = 0; n < 3; n++) this.#load(n, 0);
    vm.routing.ackNotifiers.add(this);
    vm.routing.maskNotifiers.set(0, (masked) => {
      if (!masked) this.#resetReinject();
    });
    vm.pioBus.register(KVM_PIT_BASE_ADDRESS, KVM_PIT_MEM_LENGTH, this.#ports());
    if (flags & KVM_PIT_SPEAKER_DUMMY) vm.pioBus.register(KVM_SPEAKER_BASE_ADDRESS, 1, this.#speaker());
  }

  // Interrupts.

  setReinject(on: boolean): void {
    if (this.#reinject === on) return;
    this.#reinject = on;
    this.#resetReinject();
  }

  #resetReinject(): void {
    this.#pending = 0;
    this.#acknowledged = true;
  }

  /** kvm_pit_ack_irq. */
  acked(): void {
    this.#acknowledged = true;
    if (!this.#reinject || this.#pending === 0) return;
    if (--this.#pending > 0) this.#inject();
  }

  /** pit_do_work: while the guest has not ended the last one, the tick only counts. */
  #inject(): void {
    if (this.#reinject && !this.#acknowledged) return;
    if (this.#reinject) this.#acknowledged = false;
    this.#vm.routing.setIrq(KVM_PIT_IRQ_SOURCE_ID, 0, true);
    this.#vm.routing.setIrq(KVM_PIT_IRQ_SOURCE_ID, 0, false);
  }

  #start(count: number, periodic: boolean): void {
    if (this.flags & KVM_PIT_FLAGS_HPET_LEGACY) return;
    this.stop();
    this.#period = (BigInt(count) * NSEC_PER_SEC) / KVM_PIT_FREQ;
    if (periodic && this.#period < MIN_PERIOD) this.#period = MIN_PERIOD;
    this.#resetReinject();
    this.#expires = this.#vm.now() + this.#period;
    const tick = (): void => {
      this.#cancel = undefined;
      if (this.#reinject) this.#pending++;
      if (periodic) {
        this.#expires += this.#period;
        this.#cancel = this.#vm.atTime(this.#expires, tick);
      }
      this.#inject();
    };
    this.#cancel = this.#vm.atTime(this.#expires, tick);
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  // Counting.

  #load(n: number, value: number): void {
    const channel = this.channels[n]!;
    channel.count = value === 0 ? 0x10000 : value;
    if (n !== 0) {
      channel.count_load_time = this.#vm.now();
      return;
    }
    if (channel.mode === 0 || channel.mode === 1 || channel.mode === 4) this.#start(channel.count, false);
    else if (channel.mode === 2 || channel.mode === 3) this.#start(channel.count, true);
    else this.stop();
  }

  /** Nanoseconds since the channel was loaded. Channel 0 goes by its timer, and stands still where it never had one. */
  #elapsed(n: number, now: bigint): bigint {
    if (n !== 0) return now - this.channels[n]!.count_load_time;
    if (this.#period === 0n) return 0n;
    return modulo(this.#period - (this.#expires - now), this.#period);
  }

  #ticks(n: number, now: bigint): bigint {
    return (this.#elapsed(n, now) * KVM_PIT_FREQ) / NSEC_PER_SEC;
  }

  #count(n: number, now: bigint): number {
    const { mode, count } = this.channels[n]!;
    const [ticks, full] = [this.#ticks(n, now), BigInt(count)];
    if (mode === 0 || mode === 1 || mode === 4 || mode === 5) return Number(BigInt.asUintN(16, full - ticks));
    return Number(full - modulo(mode === 3 ? 2n * ticks : ticks, full)) & 0xffff;
  }

  #out(n: number, now: bigint): number {
    const { mode, count } = this.channels[n]!;
    const [ticks, full] = [this.#ticks(n, now), BigInt(count)];
    if (mode === 1) return Number(ticks < full);
    if (mode === 2) return Number(ticks % full === 0n && ticks !== 0n);
    if (mode === 3) return Number(ticks % full < (full + 1n) >> 1n);
    if (mode === 4 || mode === 5) return Number(ticks === full);
    return Number(ticks >= full);
  }

  #latchCount(n: number, now: bigint): void {
    const channel = this.channels[n]!;
    if (channel.count_latched) return;
    channel.latched_count = this.#count(n, now);
    channel.count_latched = channel.rw_mode;
  }

  #latchStatus(n: number, now: bigint): void {
    const channel = this.channels[n]!;
    if (channel.status_latched) return;
    channel.status = (this.#out(n, now) << 7) | (channel.rw_mode << 4) | (channel.mode << 1) | channel.bcd;
    channel.status_latched = 1;
  }

  // Ports.

  #ports(): IoDevice {
    return {
      read: (_vcpu, port, data) => {
        const n = port & 3;
        // The control port is taken, and leaves what was there.
        if (n === 3) return true;
        const value = this.#read(n, this.#vm.now());
        for (let i = 0; i < data.length; i++) data[i] = i < 4 ? value >>> (8 * i) : 0;
        return true;
      },
      write: (_vcpu, port, data) => {
        const n = port & 3;
        if (n === 3) this.#control(data[0]!, this.#vm.now());
        else this.#write(n, data[0]!);
        return true;
      },
    };
  }

  #read(n: number, now: bigint): number {
    const channel = this.channels[n]!;
    if (channel.status_latched) {
      channel.status_latched = 0;
      return channel.status;
    }
    if (channel.count_latched) {
      const { count_latched, latched_count } = channel;
      channel.count_latched = count_latched === RW_STATE_WORD0 ? RW_STATE_MSB : 0;
      return count_latched === RW_STATE_MSB ? latched_count >> 8 : latched_count & 0xff;
    }
    const count = this.#count(n, now);
    const { read_state } = channel;
    if (read_state === RW_STATE_WORD0) channel.read_state = RW_STATE_WORD1;
    if (read_state === RW_STATE_WORD1) channel.read_state = RW_STATE_WORD0;
    return read_state === RW_STATE_MSB || read_state === RW_STATE_WORD1 ? count >> 8 : count & 0xff;
  }

  #write(n: number, value: number): void {
    const channel = this.channels[n]!;
    switch (channel.write_state) {
      case RW_STATE_MSB:
        this.#load(n, value << 8);
        return;
      case RW_STATE_WORD0:
        channel.write_latch = value;
        channel.write_state = RW_STATE_WORD1;
        return;
      case RW_STATE_WORD1:
        this.#load(n, channel.write_latch | (value << 8));
        channel.write_state = RW_STATE_WORD0;
        return;
      default:
        this.#load(n, value);
    }
  }

  #control(value: number, now: bigint): void {
    const selected = value >> 6;
    if (selected === 3) {
      for (let n = 0; n < 3; n++) {
        if (!(value & (2 << n))) continue;
        if (!(value & 0x20)) this.#latchCount(n, now);
        if (!(value & 0x10)) this.#latchStatus(n, now);
      }
      return;
    }
    const access = (value >> 4) & 3;
    if (access === 0) {
      this.#latchCount(selected, now);
      return;
    }
    const mode = (value >> 1) & 7;
    Object.assign(this.channels[selected]!, {
      rw_mode: access,
      read_state: access,
      write_state: access,
      mode: mode > 5 ? mode - 4 : mode,
      bcd: value & 1,
    });
  }

  /** Port 0x61: bit 0 the gate of channel 2, bit 1 the speaker; read, bit 4 toggles with time and bit 5 is channel 2's output. */
  #speaker(): IoDevice {
    return {
      read: (_vcpu, _port, data) => {
        const now = this.#vm.now();
        const refresh = Number((now >> 14n) & 1n);
        data.fill(0);
        data[0] = (this.#speakerOn << 1) | this.channels[2]!.gate | (this.#out(2, now) << 5) | (refresh << 4);
        return true;
      },
      write: (_vcpu, _port, data) => {
        this.#speakerOn = (data[0]! >> 1) & 1;
        this.#setGate(data[0]! & 1, this.#vm.now());
        return true;
      },
    };
  }

  /** A rising edge starts channel 2 anew, in the modes that look at it. */
  #setGate(gate: number, now: bigint): void {
    const channel = this.channels[2]!;
    if ([1, 2, 3, 5].includes(channel.mode) && channel.gate < gate) channel.count_load_time = now;
    channel.gate = gate;
  }

  // State.

  /** KVM_SET_PIT and KVM_SET_PIT2: every channel is loaded anew; leaving HPET legacy mode or entering it, channel 0 without its timer. */
  restore(channels: readonly Channel[], flags: number | undefined): void {
    const entersLegacy =
      flags !== undefined && !(this.flags & KVM_PIT_FLAGS_HPET_LEGACY) && (flags & KVM_PIT_FLAGS_HPET_LEGACY) !== 0;
    channels.forEach((channel, n) => void Object.assign(this.channels[n]!, channel));
    if (flags !== undefined) this.flags = flags;
    for (let n = 0; n < 3; n++) {
      const channel = this.channels[n]!;
      const { mode } = channel;
      if (n === 0 && entersLegacy) channel.mode = NO_MODE;
      this.#load(n, channel.count);
      channel.mode = mode;
    }
  }
}

function new8254Channel(): Channel {
  return { ...kvm_pit_state.decode(new Uint8Array(kvm_pit_state.size)).channels[0]!, mode: NO_MODE };
}

/** KVM_CREATE_PIT2, and KVM_CREATE_PIT, which asks for the speaker port. */
export function createPit2(vm: Vm, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_pit_config.size);
  return bytes === null ? -EFAULT : create(vm, kvm_pit_config.decode(bytes).flags);
}

export function createPit(vm: Vm): number {
  return create(vm, KVM_PIT_SPEAKER_DUMMY);
}

function create(vm: Vm, flags: number): number {
  if (vm.pit !== undefined) return -EEXIST;
  if (vm.pics === undefined && has(vm.machine, 'pitNeedsPic')) return -ENOENT;
  vm.pit = new Pit(vm, flags);
  return 0;
}

/** KVM_GET_PIT: the struct is copied in before it is written. */
export function getPit(vm: Vm, p: Process, arg: bigint): number {
  if (p.mm.copyFrom(arg, kvm_pit_state.size) === null) return -EFAULT;
  if (vm.pit === undefined) return -ENXIO;
  return p.mm.copyTo(arg, kvm_pit_state.encode({ channels: vm.pit.channels })) ? 0 : -EFAULT;
}

export function setPit(vm: Vm, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_pit_state.size);
  if (bytes === null) return -EFAULT;
  if (vm.pit === undefined) return -ENXIO;
  vm.pit.restore(kvm_pit_state.decode(bytes).channels, undefined);
  return 0;
}

export function getPit2(vm: Vm, p: Process, arg: bigint): number {
  if (vm.pit === undefined) return -ENXIO;
  const { channels, flags } = vm.pit;
  return p.mm.copyTo(arg, kvm_pit_state2.encode({ channels, flags, reserved: new Array(9).fill(0) })) ? 0 : -EFAULT;
}

export function setPit2(vm: Vm, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_pit_state2.size);
  if (bytes === null) return -EFAULT;
  if (vm.pit === undefined) return -ENXIO;
  const { channels, flags } = kvm_pit_state2.decode(bytes);
  vm.pit.restore(channels, flags);
  return 0;
}

/** KVM_REINJECT_CONTROL. */
export function reinjectControl(vm: Vm, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_reinject_control.size);
  if (bytes === null) return -EFAULT;
  if (vm.pit === undefined) return -ENXIO;
  vm.pit.setReinject(kvm_reinject_control.decode(bytes).pit_reinject !== 0);
  return 0;
}
