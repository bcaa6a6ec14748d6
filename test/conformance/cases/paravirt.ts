/** What KVM writes into guest memory for its paravirtual MSRs: clock pages, the wall clock, steal time. */
import type { Kernel, Memory } from 'kvio';
import {
  KVM_CAP_ENFORCE_PV_FEATURE_CPUID,
  KVM_CREATE_IRQCHIP,
  KVM_CREATE_VCPU,
  KVM_ENABLE_CAP,
  KVM_GET_CLOCK,
  KVM_GET_REGS,
  KVM_KVMCLOCK_CTRL,
  KVM_SET_CLOCK,
  KVM_SET_CPUID2,
  kvm_clock_data,
  kvm_enable_cap,
} from 'kvio/uapi';
import { type Case, define, hex, type Observer, result, toFact } from '../case.ts';
import { type Guest, startGuest } from '../guest.ts';
import { addRam, cpuidBytes, getMsr, getRegs, newVcpu, newVm, setMsr, setRegs } from '../machine.ts';

const section = 'Paravirtual MSRs';
const WALL_CLOCK = 0x4b564d00;
const SYSTEM_TIME = 0x4b564d01;
const ASYNC_PF_EN = 0x4b564d02;
const STEAL_TIME = 0x4b564d03;
const PV_EOI = 0x4b564d04;
const POLL_CONTROL = 0x4b564d05;
const ASYNC_PF_INT = 0x4b564d06;
const ASYNC_PF_ACK = 0x4b564d07;
const MIGRATION_CONTROL = 0x4b564d08;
const PAGE = 0x5000;
const SECOND = 1_000_000_000n;

/** out 0x10, al; jmp back: an exit a run. */
const loop = (kernel: Kernel): Guest => startGuest(kernel, [0xe6, 0x10, 0xeb, 0xfc]);
/** One exit, begun anew. */
const turn = (guest: Guest): unknown => {
  setRegs(guest.kernel, guest.vcpu, { rip: guest.entry });
  return result(guest.kernel.run(guest.vcpu));
};

/** struct pvclock_vcpu_time_info. */
function clock(
  ram: Memory,
  at: number = PAGE,
): { version: number; tsc: bigint; time: bigint; mul: number; shift: number; flags: number; padding: number } {
  const shift = ram.read8(at + 28);
  return {
    version: ram.read32(at),
    tsc: ram.read64(at + 8),
    time: ram.read64(at + 16),
    mul: ram.read32(at + 24),
    shift: shift > 127 ? shift - 256 : shift,
    flags: ram.read8(at + 29),
    padding: ram.read32(at + 4) + ram.read8(at + 30) + ram.read8(at + 31),
  };
}

function describeClock(see: Observer, label: string, ram: Memory, about: bigint): void {
  const { version, time, mul, shift, flags, padding } = clock(ram);
  see.note(`${label}: version`, version === 0 ? 'not written' : version % 2 === 0 ? 'even' : 'odd');
  see.note(`${label}: flags and padding`, [flags, padding]);
  see.note(`${label}: the time`, time >= about && time < about + 60n * SECOND);
  see.note(`${label}: a rate`, mul >= 0x80000000 || (mul > 0 && shift !== 0));
}

const readClock = (kernel: Kernel, vm: number): { flags: number; clock: bigint } => {
  const bytes = kvm_clock_data.alloc();
  kernel.ioctl(vm, KVM_GET_CLOCK, bytes);
  return kvm_clock_data.decode(bytes);
};
const setClock = (kernel: Kernel, vm: number, value: bigint): number =>
  kernel.ioctl(
    vm,
    KVM_SET_CLOCK,
    kvm_clock_data.encode({ clock: value, flags: 0, pad0: 0, realtime: 0n, host_tsc: 0n, pad: [0, 0, 0, 0] }),
  );

export const paravirtCases: Case[] = [
  define('kvm/paravirt/system-time', section, (kernel, see) => {
    const guest = loop(kernel);
    const { vcpu, vm, ram } = guest;
    see.note('enabled', setMsr(kernel, vcpu, SYSTEM_TIME, BigInt(PAGE) | 1n));
    see.note('the MSR', getMsr(kernel, vcpu, SYSTEM_TIME));
    see.note('its old number', getMsr(kernel, vcpu, 0x12));
    see.note('before a run', clock(ram).version);
    see.note('a run', turn(guest));
    describeClock(see, 'after a run', ram, 0n);
    see.note('flags of KVM_GET_CLOCK', readClock(kernel, vm).flags);
    const before = clock(ram);
    turn(guest);
    see.note('a second run updates nothing', clock(ram).version === before.version || clock(ram).version > before.version + 1);
    setClock(kernel, vm, 5000n * SECOND);
    see.note('KVM_SET_CLOCK alone writes nothing', clock(ram).time < 1000n * SECOND);
    turn(guest);
    describeClock(see, 'after KVM_SET_CLOCK', ram, 5000n * SECOND);
    see.call('KVMCLOCK_CTRL', () => kernel.ioctl(vcpu, KVM_KVMCLOCK_CTRL));
    see.note('its flag comes with a run', clock(ram).flags & 2);
    turn(guest);
    see.note('GUEST_STOPPED', clock(ram).flags & 2);
    ram.write8(PAGE + 29, 0);
    setClock(kernel, vm, 6000n * SECOND);
    turn(guest);
    see.note('the guest has cleared it', clock(ram).flags & 2);
    ram.write8(PAGE + 29, 2);
    setClock(kernel, vm, 7000n * SECOND);
    turn(guest);
    see.note('it is kept until then', clock(ram).flags & 2);
    ram.write32(PAGE, 0x1001);
    setClock(kernel, vm, 8000n * SECOND);
    turn(guest);
    const odd = clock(ram).version;
    see.note('an odd version goes on', odd >= 0x1004 && odd < 0x1100 && odd % 2 === 0);
    see.note('switched off', setMsr(kernel, vcpu, SYSTEM_TIME, BigInt(PAGE)));
    const last = clock(ram);
    setClock(kernel, vm, 9000n * SECOND);
    turn(guest);
    see.note('nothing is written any more', clock(ram).version === last.version && clock(ram).time === last.time);
  }),
  define('kvm/paravirt/system-time addresses', section, (kernel, see) => {
    for (const [label, value] of [
      ['unaligned', 0x5011n],
      ['at an odd multiple of 2', 0x5003n],
      ['across a page', 0x5ff1n],
      ['at the end of a page', 0x5fe1n],
      ['no memory', 0x900001n],
      ['beyond all memory', (1n << 50n) | 1n],
      ['bit 63', (1n << 63n) | 1n],
    ] as const) {
      const guest = loop(kernel);
      see.note(`${label}: set`, setMsr(kernel, guest.vcpu, SYSTEM_TIME, value));
      see.note(`${label}: reads`, getMsr(kernel, guest.vcpu, SYSTEM_TIME));
      see.call(`${label}: KVMCLOCK_CTRL`, () => kernel.ioctl(guest.vcpu, KVM_KVMCLOCK_CTRL));
      see.note(`${label}: run`, turn(guest));
      const at = Number(value & 0xfffen);
      see.note(`${label}: written`, value < 0x10000n && guest.ram.read32(at) !== 0);
    }
  }),
  define('kvm/paravirt/master-clock', section, (kernel, see) => {
    const guest = loop(kernel);
    see.note('before a run', readClock(kernel, guest.vm).flags);
    turn(guest);
    see.note('after one', readClock(kernel, guest.vm).flags);
    kernel.ioctl(guest.vm, KVM_CREATE_VCPU, 1);
    see.note('after a second vCPU', readClock(kernel, guest.vm).flags);
    turn(guest);
    see.note('and a run', readClock(kernel, guest.vm).flags);
  }),
  define('kvm/paravirt/wall-clock', section, (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    const ram = addRam(kernel, vm, 0, 0n, 0x10000);
    const wall = (at: number): { version: number; sec: number; nsec: number } => ({
      version: ram.read32(at),
      sec: ram.read32(at + 4),
      nsec: ram.read32(at + 8),
    });
    const show = (label: string, index: number, value: bigint): void => {
      see.note(label, setMsr(kernel, vcpu, index, value));
      see.note(`${label}: reads`, getMsr(kernel, vcpu, index));
      const at = Number(value & 0xffffn);
      const { version, sec, nsec } = wall(at);
      see.note(`${label}: version`, version);
      see.note(`${label}: a time`, sec > 1_600_000_000 && nsec < 1_000_000_000);
      see.note(`${label}: beyond it`, ram.read32(at + 12));
    };
    show('0x5000', WALL_CLOCK, 0x5000n);
    show('0x5000 again', WALL_CLOCK, 0x5000n);
    show('by its old number', 0x11, 0x5010n);
    see.note('both numbers read the same', getMsr(kernel, vcpu, WALL_CLOCK));
    ram.write32(0x5020, 0x101);
    show('an odd version', WALL_CLOCK, 0x5020n);
    show('unaligned', WALL_CLOCK, 0x5033n);
    show('across a page', WALL_CLOCK, 0x5ffan);
    see.note('no memory', setMsr(kernel, vcpu, WALL_CLOCK, 0x900000n));
    see.note('no memory: reads', getMsr(kernel, vcpu, WALL_CLOCK));
    see.note('0', setMsr(kernel, vcpu, WALL_CLOCK, 0n));
    see.note('0: nothing is written', ram.read32(0));
    setMsr(kernel, vcpu, WALL_CLOCK, 0x5040n);
    setClock(kernel, vm, 100_000n * SECOND);
    setMsr(kernel, vcpu, WALL_CLOCK, 0x5050n);
    const difference = wall(0x5040).sec - wall(0x5050).sec;
    see.note('it is the time at which the clock was 0', difference > 99_900 && difference < 100_100);
  }),
  define(
    'kvm/paravirt/steal-time',
    section,
    (kernel, see) => {
      const guest = loop(kernel);
      const { vcpu, ram } = guest;
      const show = (label: string, least: number): void => {
        // Another process on the host may put the vCPU down once more.
        const version = ram.read32(PAGE + 8);
        see.note(`${label}: version`, version % 2 === 1 ? 'odd' : version >= least && version < least + 100);
        see.note(`${label}: flags and preempted`, [ram.read32(PAGE + 12), ram.read8(PAGE + 16)]);
        see.note(`${label}: steal`, ram.read64(PAGE));
      };
      ram.write64(PAGE, 0x1000_0000_0000n);
      ram.write32(PAGE + 12, 7);
      ram.write8(PAGE + 17, 9);
      see.note('enabled', setMsr(kernel, vcpu, STEAL_TIME, BigInt(PAGE) | 1n));
      show('before a run', 0);
      see.note('a run', turn(guest));
      show('after a run', 2);
      turn(guest);
      show('after two', 4);
      ram.write8(PAGE + 16, 0);
      kernel.ioctl(vcpu, KVM_GET_REGS, new Uint8Array(144));
      see.note('an ioctl puts the vCPU down too: preempted', ram.read8(PAGE + 16));
      ram.write32(PAGE + 8, 0x101);
      turn(guest);
      show('an odd version', 260);
      see.note('padding', ram.read8(PAGE + 17));
      see.note('switched off', setMsr(kernel, vcpu, STEAL_TIME, BigInt(PAGE)));
      const version = ram.read32(PAGE + 8);
      turn(guest);
      see.note('nothing is written any more', ram.read32(PAGE + 8) === version);
      for (const value of [0x900001n, 0x5003n, 0x5021n, 0x503fn, (1n << 63n) | 1n]) {
        see.note(`${hex(value)}`, setMsr(kernel, vcpu, STEAL_TIME, value));
        see.note(`${hex(value)}: reads`, getMsr(kernel, vcpu, STEAL_TIME));
        see.note(`${hex(value)}: run`, turn(guest));
      }
    },
    { volatile: ['*: steal'] },
  ),
  define('kvm/paravirt/values', section, (kernel, see) => {
    for (const lapic of [false, true]) {
      const vm = newVm(kernel);
      if (lapic) kernel.ioctl(vm, KVM_CREATE_IRQCHIP);
      const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
      addRam(kernel, vm, 0, 0n, 0x10000);
      const where = lapic ? 'with a LAPIC' : 'without a LAPIC';
      for (const [name, index, values] of [
        [
          'ASYNC_PF_EN',
          ASYNC_PF_EN,
          [0n, 0x5000n, 0x5001n, 0x5009n, 0x500bn, 0x500fn, 0x5011n, 0x5021n, 0x900009n, 0x900001n, 8n],
        ],
        ['ASYNC_PF_INT', ASYNC_PF_INT, [0n, 0xecn, 0xffn, 0x100n, 1n << 63n]],
        ['ASYNC_PF_ACK', ASYNC_PF_ACK, [0n, 1n, 2n, 1n << 63n]],
        ['PV_EOI', PV_EOI, [0n, 0x5000n, 0x5001n, 0x5002n, 0x5003n, 0x5005n, 0x5ffdn, 0x900001n, 0x900000n]],
        ['POLL_CONTROL', POLL_CONTROL, [0n, 1n, 2n, 3n, 1n << 63n]],
        ['MIGRATION_CONTROL', MIGRATION_CONTROL, [0n, 1n, 2n]],
        ['the next', 0x4b564d09, [0n]],
      ] as const) {
        for (const value of values)
          see.note(`${where}: ${name} ${hex(value)}`, [
            setMsr(kernel, vcpu, index, value),
            toFact(getMsr(kernel, vcpu, index) ?? 'none'),
          ]);
      }
    }
  }),
  define('kvm/paravirt/enforced', section, (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    addRam(kernel, vm, 0, 0n, 0x10000);
    const cap = { cap: KVM_CAP_ENFORCE_PV_FEATURE_CPUID, flags: 0, args: [1n, 0n, 0n, 0n], pad: new Uint8Array(64) };
    kernel.ioctl(vcpu, KVM_ENABLE_CAP, kvm_enable_cap.encode(cap as never));
    const all = [0x11, 0x12, WALL_CLOCK, SYSTEM_TIME, ASYNC_PF_EN, STEAL_TIME, PV_EOI, POLL_CONTROL, ASYNC_PF_INT, ASYNC_PF_ACK];
    const show = (label: string): void => {
      for (const index of all)
        see.note(`${label}: ${hex(index)}`, [
          toFact(getMsr(kernel, vcpu, index) ?? 'none'),
          setMsr(kernel, vcpu, index, 0n),
          setMsr(kernel, vcpu, index, 1n),
        ]);
    };
    show('no CPUID');
    for (const bit of [0, 3, 4, 5, 6, 12, 14, 31]) {
      kernel.ioctl(
        vcpu,
        KVM_SET_CPUID2,
        cpuidBytes([
          { function: 0x40000000, eax: 0x40000001, ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d },
          { function: 0x40000001, eax: (1 << bit) >>> 0 },
        ]),
      );
      show(`feature ${bit}`);
    }
    see.note('registers', getRegs(kernel, vcpu).rip);
  }),
];
