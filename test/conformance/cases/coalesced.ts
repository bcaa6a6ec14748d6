/** Coalesced MMIO and PIO: which zones are taken, what goes into the ring, and when the guest leaves all the same. */
import type { Kernel } from 'kvio';
import {
  EFD_NONBLOCK,
  KVM_CREATE_VCPU,
  KVM_EXIT_HLT,
  KVM_IOEVENTFD,
  KVM_IOEVENTFD_FLAG_DEASSIGN,
  KVM_MEM_READONLY,
  KVM_REGISTER_COALESCED_MMIO,
  KVM_UNREGISTER_COALESCED_MMIO,
  kvm_coalesced_mmio_zone,
  kvm_ioeventfd,
} from 'kvio/uapi';
import { type Case, define, type Fact, hex, type Observer } from '../case.ts';
import { type Guest, play, startGuest } from '../guest.ts';
import { addRam, mapRun, newVm, RunPage, setRegion, setRegs, setSregs } from '../machine.ts';

const section = 'Coalesced MMIO and PIO';
const RING = 0x2000;
const ENTRIES = 170;
/** DS of the guests: outside RAM. */
const DS = 0x20000n;

interface Zone {
  readonly addr: bigint;
  readonly size?: number;
  readonly pio?: number;
}

const zoneBytes = ({ addr, size = 0, pio = 0 }: Zone): Uint8Array => kvm_coalesced_mmio_zone.encode({ addr, size, pio });
const register = (kernel: Kernel, vm: number, zone: Zone): number =>
  kernel.ioctl(vm, KVM_REGISTER_COALESCED_MMIO, zoneBytes(zone));
const unregister = (kernel: Kernel, vm: number, zone: Zone): number =>
  kernel.ioctl(vm, KVM_UNREGISTER_COALESCED_MMIO, zoneBytes(zone));

/** The ring as bytes of a mapping show it: both indices, and the entries up to `last`. */
function ring(run: RunPage): Fact {
  const page = run.slice(RING, 0x1000);
  const view = new DataView(page.buffer);
  const [first, last] = [view.getUint32(0, true), view.getUint32(4, true)];
  const entries = Array.from({ length: Math.min(last, ENTRIES) }, (_, index) => {
    const at = 8 + 24 * index;
    const len = view.getUint32(at + 8, true);
    const data = Buffer.from(page.subarray(at + 16, at + 24)).toString('hex');
    return `${view.getUint32(at + 12, true) ? 'pio' : 'mmio'} ${hex(view.getBigUint64(at, true))}, ${len}: ${data}`;
  });
  return { first, last, entries };
}

const setIndex = (run: RunPage, which: 'first' | 'last', value: number): void => {
  new DataView(run.bytes.buffer, run.bytes.byteOffset + RING).setUint32(which === 'first' ? 0 : 4, value, true);
};

const start = (kernel: Kernel, code: readonly number[], options: Parameters<typeof startGuest>[2] = {}): Guest =>
  startGuest(kernel, [...code, 0xf4], {
    ...options,
    sregs: (sregs) => {
      Object.assign(sregs.ds, { base: DS, selector: Number(DS >> 4n) });
      options.sregs?.(sregs);
    },
  });

/** mov [offset], al | ax | eax. */
const store = (offset: number, size: 1 | 2 | 4): number[] => [
  ...(size === 4 ? [0x66] : []),
  size === 1 ? 0xa2 : 0xa3,
  offset & 0xff,
  offset >> 8,
];

/** Plays the guest, whose exits are facts, and tells what the ring then holds. */
function playRing(guest: Guest, see: Observer): void {
  play(guest, see);
  see.note('ring', ring(guest.run));
}

export const coalescedCases: Case[] = [
  define('kvm/coalesced/argument', section, (kernel, see) => {
    const vm = newVm(kernel);
    for (const [name, request] of [
      ['REGISTER', KVM_REGISTER_COALESCED_MMIO],
      ['UNREGISTER', KVM_UNREGISTER_COALESCED_MMIO],
    ] as const) {
      const call = (label: string, zone: Zone): void =>
        void see.call(`${name}: ${label}`, () => kernel.ioctl(vm, request, zoneBytes(zone)));
      see.call(`${name}: pointer 0`, () => kernel.ioctl(vm, request, 0));
      for (const pio of [0, 1, 2, 0x100, 0xffffffff]) call(`pio ${pio}`, { addr: 0x1000n, size: 16, pio });
      call('size 0', { addr: 0x1000n });
      call('the whole address space of a u32', { addr: 0n, size: 0xffffffff });
      call('beyond the last address', { addr: (1n << 64n) - 8n, size: 16 });
      call('a port above 16 bits', { addr: 0x12345n, size: 16, pio: 1 });
    }
    see.call('UNREGISTER of what there is none of', () => unregister(kernel, vm, { addr: 0x777000n, size: 8 }));
  }),
  define('kvm/coalesced/no-more', section, (kernel, see) => {
    const vm = newVm(kernel);
    const fill = (pio: number): number => {
      for (let count = 0; ; count++) {
        try {
          register(kernel, vm, { addr: BigInt(count) * 16n, size: 8, pio });
        } catch {
          return count;
        }
      }
    };
    see.note('MMIO zones', fill(0));
    see.call('one more', () => register(kernel, vm, { addr: 0n, size: 8 }));
    see.call('one more with a bad pio', () => register(kernel, vm, { addr: 0n, size: 8, pio: 2 }));
    see.note('PIO zones', fill(1));
    see.call('UNREGISTER of one', () => unregister(kernel, vm, { addr: 160n, size: 8 }));
    see.call('then there is room', () => register(kernel, vm, { addr: 160n, size: 8 }));
    see.call('for one', () => register(kernel, vm, { addr: 160n, size: 8 }));
  }),
  define('kvm/coalesced/mmio', section, (kernel, see) => {
    const guest = start(
      kernel,
      [
        ...[...store(0x100, 1), ...store(0x100, 2), ...store(0x100, 4)],
        // Its last byte, past it, before it, across both borders.
        ...[...store(0x10f, 1), ...store(0x110, 1), ...store(0xff, 1), ...store(0x10f, 2), ...store(0xff, 2)],
        ...store(0x10c, 4),
      ],
      { regs: { rax: 0x44332211n } },
    );
    see.call('REGISTER', () => register(kernel, guest.vm, { addr: DS + 0x100n, size: 16 }));
    playRing(guest, see);
  }),
  define('kvm/coalesced/reads', section, (kernel, see) => {
    // mov al,[0x100]; inc byte [0x100]; xchg [0x102],ax; movsw from RAM.
    const code = [0xa0, 0, 1, 0xfe, 0x06, 0, 1, 0x87, 0x06, 2, 1, 0xbe, 0, 2, 0xbf, 4, 1, 0x2e, 0xa5];
    const guest = start(kernel, code, {
      regs: { rax: 0x5566n },
      sregs: (sregs) => Object.assign(sregs.es, { base: DS, selector: Number(DS >> 4n) }),
      data: { 512: [0xaa, 0xbb] },
    });
    see.call('REGISTER', () => register(kernel, guest.vm, { addr: DS + 0x100n, size: 16 }));
    play(guest, see, { mmio: [[0x10], [0x20], [0x30, 0x31]] });
    see.note('ring', ring(guest.run));
  }),
  define('kvm/coalesced/page-border', section, (kernel, see) => {
    const guest = start(kernel, [...store(0xfff, 2), ...store(0xffe, 4), ...store(0x1ffe, 4), ...store(0x2fff, 2)], {
      regs: { rax: 0x44332211n },
    });
    see.call('a zone below the border', () => register(kernel, guest.vm, { addr: DS + 0xff0n, size: 16 }));
    see.call('a zone above another border', () => register(kernel, guest.vm, { addr: DS + 0x2000n, size: 16 }));
    see.call('a zone across a third', () => register(kernel, guest.vm, { addr: DS + 0x2ff0n, size: 32 }));
    playRing(guest, see);
  }),
  define('kvm/coalesced/memory-first', section, (kernel, see) => {
    const guest = start(kernel, [...store(0, 1), ...store(0x1000, 1), ...store(0x1800, 2)], { regs: { rax: 0x2211n } });
    see.call('REGISTER over everything', () => register(kernel, guest.vm, { addr: 0n, size: 0x7fffffff }));
    const ram = addRam(kernel, guest.vm, 1, DS, 0x1000);
    const rom = addRam(kernel, guest.vm, 2, DS + 0x1000n, 0x1000, KVM_MEM_READONLY);
    playRing(guest, see);
    see.note('RAM', ram.read(0, 2));
    see.note('read-only memory', [rom.read(0, 2), rom.read(0x800, 2)]);
    see.call('the RAM goes', () => setRegion(kernel, guest.vm, { slot: 1 }));
    setRegs(kernel, guest.vcpu, { rip: 0x1000n });
    see.note('again', kernel.run(guest.vcpu));
    see.note('ring after that', ring(guest.run));
  }),
  define('kvm/coalesced/full', section, (kernel, see) => {
    // mov [0x100],al; inc ax; loop
    const guest = start(kernel, [...store(0x100, 1), 0x40, 0xe2, 0xfa], { regs: { rax: 1n, rcx: 400n } });
    const { run, vcpu } = guest;
    register(kernel, guest.vm, { addr: DS + 0x100n, size: 4 });
    const next = (label: string): void => {
      const returned = kernel.run(vcpu);
      const [first, last] = Object.values(ring(run) as Record<string, Fact>);
      const reason = run.get('exit_reason');
      see.note(label, {
        ...{ returned, reason, first: first!, last: last! },
        ...(reason === KVM_EXIT_HLT ? {} : { data: run.get('mmio.data') }),
      });
    };
    next('the ring is full');
    next('and stays so');
    setIndex(run, 'first', 3);
    next('three entries harvested');
    setIndex(run, 'first', 2);
    setIndex(run, 'last', 170);
    next('last is 170');
    setIndex(run, 'last', 0xffffffff);
    next('last is 2^32 - 1');
    setIndex(run, 'last', 169);
    next('last is 169, first 2');
    setIndex(run, 'first', 500);
    setIndex(run, 'last', 0);
    next('first is 500');
    see.note('ring', ring(run));
  }),
  define('kvm/coalesced/pio', section, (kernel, see) => {
    // out 0x80,al; out 0x80,ax; out 0x80,eax; out 0x83,ax; in al,0x80; mov dx,0x81; out dx,al; outsb; rep outsb ×3; out 0x84,al
    const code = [
      ...[0xe6, 0x80, 0xe7, 0x80, 0x66, 0xe7, 0x80, 0xe7, 0x83, 0xe4, 0x80, 0xba, 0x81, 0, 0xee],
      ...[0xbe, 0, 2, 0x2e, 0x6e, 0xb9, 3, 0, 0x2e, 0xf3, 0x6e, 0xe6, 0x84],
    ];
    const guest = start(kernel, code, { regs: { rax: 0x44332211n }, data: { 512: [0xa0, 0xa1, 0xa2, 0xa3] } });
    see.call('REGISTER', () => register(kernel, guest.vm, { addr: 0x80n, size: 4, pio: 1 }));
    see.call('a zone of MMIO at the same number', () => register(kernel, guest.vm, { addr: 0x84n, size: 4 }));
    play(guest, see, { ports: [[0x77]] });
    see.note('ring', ring(guest.run));
  }),
  define('kvm/coalesced/zones', section, (kernel, see) => {
    // One program, told again: 1 byte at 0x100, 2 at 0x104, 4 at 0x108.
    const guest = start(kernel, [...store(0x100, 1), ...store(0x104, 2), ...store(0x108, 4)], { regs: { rax: 0x44332211n } });
    const { vm, vcpu, run } = guest;
    const at = (offset: number, size: number): Zone => ({ addr: DS + BigInt(offset), size });
    let round = 0;
    const then = (label: string, act: () => number): void => {
      see.call(label, act);
      setRegs(kernel, vcpu, { rip: 0x1000n });
      run.bytes.fill(0, RING, RING + 0x1000);
      const exits: Fact[] = [];
      while (kernel.run(vcpu) === 0 && run.get('exit_reason') !== KVM_EXIT_HLT) exits.push(hex(run.get('mmio.phys_addr')));
      see.note(`round ${++round}`, { exits, ring: ring(run) });
    };
    then('none', () => 0);
    then('an empty zone', () => register(kernel, vm, at(0x100, 0)));
    then('one byte', () => register(kernel, vm, at(0x100, 1)));
    then('the same again', () => register(kernel, vm, at(0x100, 1)));
    then('around all three', () => register(kernel, vm, at(0x80, 0x100)));
    then('inside it', () => register(kernel, vm, at(0x104, 2)));
    then('UNREGISTER of one byte inside all that hold it', () => unregister(kernel, vm, at(0x100, 1)));
    then('UNREGISTER of more than there is', () => unregister(kernel, vm, at(0x103, 4)));
    then('UNREGISTER as PIO', () => unregister(kernel, vm, { ...at(0x104, 2), pio: 1 }));
    then('UNREGISTER of nothing inside', () => unregister(kernel, vm, at(0x105, 0)));
    then('a zone of 2^31 bytes', () => register(kernel, vm, { addr: 0n, size: 0x80000000 }));
    then('a zone of 2^32 - 1 bytes', () => register(kernel, vm, { addr: 0n, size: 0xffffffff }));
    then('UNREGISTER of 2^31 bytes', () => unregister(kernel, vm, { addr: 0n, size: 0x80000000 }));
    then('UNREGISTER of one byte', () => unregister(kernel, vm, at(0, 1)));
    then('a zone whose end wraps', () => register(kernel, vm, { addr: (1n << 64n) - 16n, size: 0x7fffffff }));
  }),
  define('kvm/coalesced/ioeventfds', section, (kernel, see) => {
    const guest = start(kernel, [...store(0x100, 1), ...store(0x100, 2), ...store(0x100, 4)], { regs: { rax: 0x44332211n } });
    const { vm, vcpu, run } = guest;
    const events = [1, 2, 4, 0].map((len) => ({ len, fd: kernel.eventfd(0, EFD_NONBLOCK) }));
    const bytes = (fd: number, len: number, flags = 0): Uint8Array =>
      kvm_ioeventfd.encode({ datamatch: 0n, addr: DS + 0x100n, len, fd, flags, pad: new Uint8Array(36) });
    const counts = (): string =>
      events
        .map(({ len, fd }) => {
          const count = new Uint8Array(8);
          return `${len}: ${kernel.poll([{ fd }])[0] ? kernel.read(fd, count) && count[0] : 0}`;
        })
        .join(', ');
    let round = 0;
    const then = (label: string, act: () => number): void => {
      see.call(label, act);
      setRegs(kernel, vcpu, { rip: 0x1000n });
      run.bytes.fill(0, RING, RING + 0x1000);
      const exits: Fact[] = [];
      while (kernel.run(vcpu) === 0 && run.get('exit_reason') !== KVM_EXIT_HLT) exits.push(run.get('mmio.len').toString());
      see.note(`round ${++round}`, { exits, counts: counts(), ring: ring(run) });
    };
    const zone = { addr: DS + 0x100n, size: 2 };
    then('a zone of 2', () => register(kernel, vm, zone));
    then('an eventfd of 1', () => kernel.ioctl(vm, KVM_IOEVENTFD, bytes(events[0]!.fd, 1)));
    then('an eventfd of 4', () => kernel.ioctl(vm, KVM_IOEVENTFD, bytes(events[2]!.fd, 4)));
    then('an eventfd of 2, behind the zone', () => kernel.ioctl(vm, KVM_IOEVENTFD, bytes(events[1]!.fd, 2)));
    then('the zone goes', () => unregister(kernel, vm, zone));
    then('and comes again', () => register(kernel, vm, zone));
    then('the eventfd of 2 goes', () => kernel.ioctl(vm, KVM_IOEVENTFD, bytes(events[1]!.fd, 2, KVM_IOEVENTFD_FLAG_DEASSIGN)));
    then('a zone that begins lower', () => register(kernel, vm, { addr: DS + 0xf0n, size: 0x20 }));
    then('it goes', () => unregister(kernel, vm, { addr: DS + 0xf0n, size: 1 }));
    then('an eventfd of any length', () => kernel.ioctl(vm, KVM_IOEVENTFD, bytes(events[3]!.fd, 0)));
  }),
  define('kvm/coalesced/every-mapping', section, (kernel, see) => {
    const guest = start(kernel, [...store(0x100, 2), 0xf4, ...store(0x102, 2)], { regs: { rax: 0x2211n } });
    const second = kernel.ioctl(guest.vm, KVM_CREATE_VCPU, 1);
    const other = new RunPage(mapRun(kernel, second));
    const again = new RunPage(mapRun(kernel, guest.vcpu));
    const pageAlone = kernel.mmap({ fd: second, offset: 0x2000n, length: 0x1000 });
    register(kernel, guest.vm, { addr: DS + 0x100n, size: 16 });
    see.note('run', kernel.run(guest.vcpu));
    const shown = (): Fact => ({
      ...{ first: ring(guest.run), again: ring(again), second: ring(other) },
      ...{ accessor: other.memory.read32(0x2004), page: pageAlone.read32(4) },
    });
    see.note('one entry', shown());
    setIndex(other, 'first', 1);
    see.note('run again', kernel.run(guest.vcpu));
    see.note('two entries, the first harvested in another mapping', shown());
    setRegs(kernel, second, { rip: 0x1000n, rax: 0x4433n });
    setSregs(kernel, second, (sregs) => {
      Object.assign(sregs.cs, { base: 0n, selector: 0 });
      Object.assign(sregs.ds, { base: DS, selector: Number(DS >> 4n) });
    });
    see.note('the other vCPU runs', kernel.run(second));
    see.note('three entries', shown());
  }),
];
