/** The in-kernel 8254: its state, its ports, and its interrupt. */
import type { Kernel } from 'kvio';
import {
  KVM_CREATE_PIT,
  KVM_CREATE_PIT2,
  KVM_GET_PIT,
  KVM_GET_PIT2,
  KVM_REINJECT_CONTROL,
  KVM_SET_PIT,
  KVM_SET_PIT2,
  kvm_pit_config,
  kvm_pit_state,
  kvm_pit_state2,
  kvm_reinject_control,
} from 'kvio/uapi';
import { type Case, define, hex, nonZero } from '../case.ts';
import { newVm } from '../machine.ts';
import { handler, initPics, irqchipVm, irqGuest, next, splitVm } from './irqchip.ts';

const section = 'PIT';

function create(kernel: Kernel, vm: number, flags = 0): number {
  return kernel.ioctl(vm, KVM_CREATE_PIT2, kvm_pit_config.encode({ flags, pad: new Array(15).fill(0xdead) }));
}

function state(kernel: Kernel, vm: number): ReturnType<typeof kvm_pit_state2.decode> {
  const bytes = new Uint8Array(kvm_pit_state2.size).fill(0xff);
  kernel.ioctl(vm, KVM_GET_PIT2, bytes);
  return kvm_pit_state2.decode(bytes);
}

/** The state, times left out: they are the host's clock. */
function facts(kernel: Kernel, vm: number): unknown {
  const { channels, flags, reserved } = state(kernel, vm);
  return nonZero({ channels: channels.map(({ count_load_time: _, ...channel }) => channel), flags, reserved });
}

const out = (port: number, value: number): number[] => [0xb0, value, 0xe6, port];
const show = (port: number): number[] => [0xe4, port, 0xe6, 0xe9];

export const pitCases: Case[] = [
  define('kvm/pit/create', section, (kernel, see) => {
    const none = newVm(kernel);
    see.call('pointer 0', () => kernel.ioctl(none, KVM_CREATE_PIT2, 0));
    see.call('no controller', () => create(kernel, none));
    see.call('no controller, CREATE_PIT', () => kernel.ioctl(none, KVM_CREATE_PIT));
    see.call('split', () => create(kernel, splitVm(kernel)));
    const { vm } = irqchipVm(kernel);
    for (const [name, request, size] of [
      ['GET_PIT', KVM_GET_PIT, kvm_pit_state.size],
      ['SET_PIT', KVM_SET_PIT, kvm_pit_state.size],
      ['GET_PIT2', KVM_GET_PIT2, kvm_pit_state2.size],
      ['SET_PIT2', KVM_SET_PIT2, kvm_pit_state2.size],
      ['REINJECT_CONTROL', KVM_REINJECT_CONTROL, kvm_reinject_control.size],
    ] as const) {
      see.call(`no PIT: ${name}`, () => kernel.ioctl(vm, request, new Uint8Array(size)));
      see.call(`no PIT: ${name}, pointer 0`, () => kernel.ioctl(vm, request, 0));
    }
    see.call('flags 0xff', () => create(kernel, vm, 0xff));
    see.call('again', () => create(kernel, vm));
    see.call('again, CREATE_PIT', () => kernel.ioctl(vm, KVM_CREATE_PIT));
    see.note('initial', facts(kernel, vm));
    for (const [name, request] of [
      ['GET_PIT', KVM_GET_PIT],
      ['SET_PIT', KVM_SET_PIT],
      ['GET_PIT2', KVM_GET_PIT2],
      ['SET_PIT2', KVM_SET_PIT2],
      ['REINJECT_CONTROL', KVM_REINJECT_CONTROL],
    ] as const) {
      see.call(`${name}, pointer 0`, () => kernel.ioctl(vm, request, 0));
    }
    const second = irqchipVm(kernel).vm;
    see.call('CREATE_PIT', () => kernel.ioctl(second, KVM_CREATE_PIT));
    see.note('initial of CREATE_PIT', facts(kernel, second));
  }),

  define('kvm/pit/set-and-get', section, (kernel, see) => {
    const { vm } = irqchipVm(kernel);
    create(kernel, vm);
    const channels = state(kernel, vm).channels.map((channel, n) => ({
      ...channel,
      count: 0x1234 + n,
      latched_count: 0x5678,
      count_latched: 3,
      status_latched: 1,
      status: 0xa5,
      read_state: 4,
      write_state: 2,
      write_latch: 0x99,
      rw_mode: 3,
      mode: 5,
      bcd: 1,
      gate: 7,
    }));
    const words = new Array(9).fill(0x77);
    see.call('SET_PIT2', () =>
      kernel.ioctl(vm, KVM_SET_PIT2, kvm_pit_state2.encode({ channels, flags: 0xabcd, reserved: words })),
    );
    see.note('then', facts(kernel, vm));
    channels[1]!.count = 0;
    see.call('SET_PIT', () => kernel.ioctl(vm, KVM_SET_PIT, kvm_pit_state.encode({ channels })));
    see.note('after SET_PIT', facts(kernel, vm));
    const bytes = kvm_pit_state.alloc();
    see.call('GET_PIT', () => kernel.ioctl(vm, KVM_GET_PIT, bytes));
    see.note(
      'GET_PIT: counts',
      kvm_pit_state.decode(bytes).channels.map(({ count }) => count),
    );
    for (const pit_reinject of [0, 1, 0xff]) {
      const bytes = kvm_reinject_control.encode({ pit_reinject, reserved: new Uint8Array(31).fill(0xee) });
      see.call(`REINJECT_CONTROL ${hex(pit_reinject)}`, () => kernel.ioctl(vm, KVM_REINJECT_CONTROL, bytes));
    }
  }),

  define('kvm/pit/ports', section, (kernel, see) => {
    const made = irqchipVm(kernel);
    create(kernel, made.vm, 1);
    const guest = irqGuest(
      kernel,
      [
        // Channel 1 one-shot of 0xffff, its status read back; channel 2 with its gate shut stays where it is loaded.
        ...[...out(0x43, 0x70), ...out(0x41, 0xff), ...out(0x41, 0xff), ...out(0x43, 0xe4), ...show(0x41)],
        ...[...out(0x43, 0x10), ...out(0x43, 0x72), ...out(0x41, 0xff), ...out(0x41, 0xff), ...out(0x43, 0xe4), ...show(0x41)],
        // Mode 6 is mode 2, mode 7 is mode 3, BCD is kept; the output is left out, since it is up to time.
        ...[...out(0x43, 0xbd), ...out(0x43, 0xe8), 0xe4, 0x42, 0x24, 0x7f, 0xe6, 0xe9],
        ...[...out(0x43, 0xbe), ...out(0x43, 0xe8), 0xe4, 0x42, 0x24, 0x7f, 0xe6, 0xe9],
        // Port 0x61: speaker and gate.
        ...[...out(0x61, 3), 0xe4, 0x61, 0x24, 0x0f, 0xe6, 0xe9],
        ...[...out(0x61, 0), 0xe4, 0x61, 0x24, 0x0f, 0xe6, 0xe9],
        ...out(0xe9, 0xff),
      ],
      {},
      made,
    );
    for (let at = 1; at <= 7; at++) see.note(`exit ${at}`, next(guest));
    const { channels } = state(kernel, made.vm);
    for (const [n, { mode, bcd, rw_mode, count, gate }] of channels.entries())
      see.note(`channel ${n}`, { mode, bcd, rw_mode, count, gate });
  }),

  define('kvm/pit/without-the-speaker', section, (kernel, see) => {
    const made = irqchipVm(kernel);
    create(kernel, made.vm, 0);
    const guest = irqGuest(kernel, [...out(0x61, 3), ...out(0xe9, 1)], {}, made);
    see.note('port 0x61', next(guest));
  }),

  define('kvm/pit/interrupts', section, (kernel, see) => {
    const made = irqchipVm(kernel);
    create(kernel, made.vm, 0);
    // Mode 2, 1193 ticks: a millisecond. The handler counts; after five the guest says so. sti; again: cmp cl, 5; jb again
    const count = [0xfe, 0xc1, 0x50, ...out(0x20, 0x20), 0x58, 0xcf];
    const code = [
      ...[0x31, 0xc9, ...initPics, ...out(0x43, 0x34), ...out(0x40, 0xa9), ...out(0x40, 0x04)],
      ...[0xfb, 0x80, 0xf9, 5, 0x72, 0xfb, 0xfa, ...out(0xe9, 5)],
    ];
    const guest = irqGuest(kernel, code, { 32: count }, made);
    see.note('five ticks', next(guest));
    const { channels } = state(kernel, made.vm);
    see.note('channel 0', nonZero({ ...channels[0], count_load_time: 0n }));
  }),

  define('kvm/pit/one-shot', section, (kernel, see) => {
    const made = irqchipVm(kernel);
    create(kernel, made.vm, 0);
    // Mode 0, 1193 ticks; the guest waits for the handler's CL.
    const code = [
      ...[0x31, 0xc9, ...initPics, ...out(0x43, 0x30), ...out(0x40, 0xa9), ...out(0x40, 0x04)],
      ...[0xfb, 0x84, 0xc9, 0x74, 0xfc, 0xfa, ...out(0xe9, 1)],
    ];
    const guest = irqGuest(kernel, code, { 32: [0xb1, 1, ...handler(0x20)] }, made);
    see.note('its handler', next(guest));
    see.note('then', next(guest));
  }),
];
