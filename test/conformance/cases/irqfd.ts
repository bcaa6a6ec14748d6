/** KVM_IRQFD and KVM_IOEVENTFD: eventfds as interrupts, and writes as eventfds. */
import type { Kernel } from 'kvio';
import { EFD_NONBLOCK, EFD_SEMAPHORE, KVM_CREATE_VCPU, KVM_IOEVENTFD, KVM_IRQFD, kvm_ioeventfd, kvm_irqfd } from 'kvio/uapi';
import { type Case, define, hex } from '../case.ts';
import { startGuest } from '../guest.ts';
import { newVm, type RunPage } from '../machine.ts';
import { chipState, handler, initPics, irqchipVm, irqGuest, next, reportForever, splitVm } from './irqchip.ts';

const irqfdSection = 'Irqfds';
const ioeventfdSection = 'Ioeventfds';
/** No descriptor. */
const NONE = 0xffff_ffff;
const DEASSIGN = 1;
const RESAMPLE = 2;

interface Irqfd {
  fd: number;
  gsi?: number;
  flags?: number;
  resamplefd?: number;
}

function irqfd(kernel: Kernel, vm: number, { fd, gsi = 4, flags = 0, resamplefd = 0 }: Irqfd): number {
  return kernel.ioctl(vm, KVM_IRQFD, kvm_irqfd.encode({ fd, gsi, flags, resamplefd, pad: new Uint8Array(16) }));
}

const eventfd = (kernel: Kernel, count = 0): number => kernel.eventfd(count, EFD_NONBLOCK);

function signal(kernel: Kernel, fd: number, count = 1n): void {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, count, true);
  kernel.write(fd, bytes);
}

/** What a read takes: 0 where it would wait. */
function count(kernel: Kernel, fd: number): number {
  const bytes = new Uint8Array(8);
  try {
    kernel.read(fd, bytes);
  } catch (error) {
    if ((error as { code?: string }).code === 'EAGAIN') return 0;
    throw error;
  }
  return Number(new DataView(bytes.buffer).getBigUint64(0, true));
}

/** How many reads of a semaphore do not wait, of the first ten. */
function reads(kernel: Kernel, fd: number): number {
  let taken = 0;
  while (taken < 10 && count(kernel, fd) > 0) taken++;
  return taken;
}

/** The master's IRR, once the kernel's worker has had time to inject. */
function latched(kernel: Kernel, vm: number, expected: number): unknown {
  let irr: unknown = 0;
  for (let tries = 0; tries < 50; tries++) {
    irr = (chipState(kernel, vm, 0) as Record<string, unknown>)['irr'] ?? 0;
    if (irr === expected) break;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
  }
  return irr;
}

interface Ioeventfd {
  fd: number;
  addr?: bigint;
  len?: number;
  flags?: number;
  datamatch?: bigint;
}
const DATAMATCH = 1;
const PIO = 2;
const IO_DEASSIGN = 4;

function ioeventfd(kernel: Kernel, vm: number, args: Ioeventfd): number {
  const { fd, addr = 0x10000000n, len = 4, flags = 0, datamatch = 0n } = args;
  return kernel.ioctl(vm, KVM_IOEVENTFD, kvm_ioeventfd.encode({ datamatch, addr, len, fd, flags, pad: new Uint8Array(36) }));
}

export const irqfdCases: Case[] = [
  define('kvm/irqfd/checks', irqfdSection, (kernel, see) => {
    const none = newVm(kernel);
    const file = kernel.memfd('not an eventfd');
    const fd = eventfd(kernel);
    see.call('pointer 0', () => kernel.ioctl(none, KVM_IRQFD, 0));
    see.call('flags 4', () => irqfd(kernel, none, { fd, flags: 4 }));
    see.call('no controller, bad descriptor', () => irqfd(kernel, none, { fd: NONE }));
    see.call('no controller', () => irqfd(kernel, none, { fd }));
    see.call('no controller, DEASSIGN', () => irqfd(kernel, none, { fd, flags: DEASSIGN }));
    see.call('no controller, DEASSIGN, bad descriptor', () => irqfd(kernel, none, { fd: NONE, flags: DEASSIGN }));
    const split = splitVm(kernel);
    see.call('split, RESAMPLE', () => irqfd(kernel, split, { fd, flags: RESAMPLE, resamplefd: fd }));
    see.call('split', () => irqfd(kernel, split, { fd }));
    const { vm } = irqchipVm(kernel);
    see.call('an eventfd that has one, in another VM', () => irqfd(kernel, vm, { fd }));
    see.call('split, DEASSIGN of another gsi', () => irqfd(kernel, split, { fd, gsi: 5, flags: DEASSIGN }));
    see.call('it has it still', () => irqfd(kernel, vm, { fd, gsi: 5 }));
    see.call('split, DEASSIGN', () => irqfd(kernel, split, { fd, flags: DEASSIGN | RESAMPLE, resamplefd: NONE }));
    see.call('now', () => irqfd(kernel, vm, { fd }));
    see.call('again, another gsi', () => irqfd(kernel, vm, { fd, gsi: 5 }));
    see.call('another eventfd, the same gsi', () => irqfd(kernel, vm, { fd: eventfd(kernel) }));
    see.call('bad descriptor', () => irqfd(kernel, vm, { fd: NONE }));
    see.call('a memfd', () => irqfd(kernel, vm, { fd: file }));
    for (const gsi of [24, 4095, 4096, 0xffffffff])
      see.call(`gsi ${hex(gsi)}`, () => irqfd(kernel, vm, { fd: eventfd(kernel), gsi }));
    for (const [name, resamplefd] of [
      ['bad', NONE],
      ['a memfd', file],
      ['an eventfd', eventfd(kernel)],
    ] as const) {
      see.call(`RESAMPLE, resamplefd ${name}`, () => irqfd(kernel, vm, { fd: eventfd(kernel), flags: RESAMPLE, resamplefd }));
    }
    see.call('RESAMPLE, one that has an irqfd', () => irqfd(kernel, vm, { fd, flags: RESAMPLE, resamplefd: eventfd(kernel) }));
    see.call('DEASSIGN, a memfd', () => irqfd(kernel, vm, { fd: file, flags: DEASSIGN }));
    see.call('DEASSIGN, none', () => irqfd(kernel, vm, { fd: eventfd(kernel), flags: DEASSIGN }));
  }),

  define('kvm/irqfd/counts', irqfdSection, (kernel, see) => {
    const { vm } = irqchipVm(kernel);
    const fd = eventfd(kernel);
    irqfd(kernel, vm, { fd });
    signal(kernel, fd, 5n);
    see.note('IRR after a write of 5', latched(kernel, vm, 0x10));
    see.note('what is left to read', count(kernel, fd));
    const before = eventfd(kernel, 3);
    irqfd(kernel, vm, { fd: before, gsi: 3 });
    see.note('IRR after assigning one with 3', latched(kernel, vm, 0x18));
    see.note('what is left of the 3', count(kernel, before));
    irqfd(kernel, vm, { fd, flags: DEASSIGN });
    signal(kernel, fd, 2n);
    see.note('after DEASSIGN the count stays', count(kernel, fd));
  }),

  define('kvm/irqfd/left-counts', irqfdSection, (kernel, see) => {
    const { vm, vcpu } = irqchipVm(kernel);
    const [first, second] = [eventfd(kernel, 3), eventfd(kernel, 3)];
    irqfd(kernel, vm, { fd: first, gsi: 3 });
    irqfd(kernel, vm, { fd: first, gsi: 3, flags: DEASSIGN });
    see.note('DEASSIGN takes along what was there before', count(kernel, first));
    irqfd(kernel, vm, { fd: second, gsi: 4 });
    for (const each of [vcpu, vm]) kernel.close(each);
    see.note('so does the VM', count(kernel, second));
  }),

  define('kvm/irqfd/semaphores', irqfdSection, (kernel, see) => {
    const { vm } = irqchipVm(kernel);
    const semaphore = (count: number): number => kernel.eventfd(count, EFD_NONBLOCK | EFD_SEMAPHORE);
    const fd = semaphore(0);
    irqfd(kernel, vm, { fd, gsi: 3 });
    signal(kernel, fd, 5n);
    see.note('IRR after a write of 5', latched(kernel, vm, 8));
    irqfd(kernel, vm, { fd, gsi: 3, flags: DEASSIGN });
    see.note('reads left: the interrupt took one, DEASSIGN another', reads(kernel, fd));
    const none = semaphore(0);
    irqfd(kernel, vm, { fd: none, gsi: 4 });
    irqfd(kernel, vm, { fd: none, gsi: 4, flags: DEASSIGN });
    see.note('reads left where there was nothing to take', reads(kernel, none));
  }),

  define('kvm/irqfd/odd-counts', irqfdSection, (kernel, see) => {
    const { vm, vcpu } = irqchipVm(kernel);
    const [zero, more, full] = [eventfd(kernel), eventfd(kernel, 3), eventfd(kernel)];
    irqfd(kernel, vm, { fd: zero, gsi: 3 });
    signal(kernel, zero, 0n);
    see.note('IRR after a write of 0', latched(kernel, vm, 8));
    irqfd(kernel, vm, { fd: more, gsi: 4 });
    signal(kernel, more, 2n);
    see.note('what is left of 3 before and 2 after', count(kernel, more));
    signal(kernel, full, 0xffff_ffff_ffff_fffen);
    irqfd(kernel, vm, { fd: full, gsi: 5 });
    see.note('IRR after assigning a full one', latched(kernel, vm, 0x38));
    see.call('a write to the full one', () => signal(kernel, full));
    irqfd(kernel, vm, { fd: full, gsi: 5, flags: DEASSIGN });
    see.call('a write once DEASSIGN has taken all', () => signal(kernel, full));
    const [fd, resamplefd] = [eventfd(kernel, 3), eventfd(kernel, 2)];
    irqfd(kernel, vm, { fd, gsi: 6, flags: RESAMPLE, resamplefd });
    irqfd(kernel, vm, { fd, gsi: 6, flags: DEASSIGN });
    see.note('left of a resampling one, and in its resamplefd', [count(kernel, fd), count(kernel, resamplefd)]);
    const last = eventfd(kernel, 3);
    irqfd(kernel, vm, { fd: last, gsi: 7 });
    see.call('an eventfd that has one', () => irqfd(kernel, vm, { fd: last, gsi: 5 }));
    kernel.close(vm);
    see.note('the VM’s descriptor closed, the vCPU’s open', count(kernel, last));
    kernel.close(vcpu);
  }),

  define('kvm/irqfd/lifetimes', irqfdSection, (kernel, see) => {
    const { vm, vcpu } = irqchipVm(kernel);
    const fd = eventfd(kernel);
    const copy = kernel.dup(fd);
    irqfd(kernel, vm, { fd, gsi: 3 });
    kernel.close(fd);
    signal(kernel, copy);
    see.note('through a dup, after the close', latched(kernel, vm, 8));
    kernel.close(copy);
    const next = eventfd(kernel);
    signal(kernel, next);
    see.note('a new eventfd of the same number', count(kernel, next));
    irqfd(kernel, vm, { fd: next, gsi: 4 });
    const second = kernel.dup(vm);
    kernel.close(vm);
    signal(kernel, next);
    see.note('one VM descriptor closed', latched(kernel, second, 0x18));
    kernel.close(second);
    signal(kernel, next);
    see.note('the last VM descriptor closed, the vCPU open', count(kernel, next));
    kernel.close(vcpu);
  }),

  define('kvm/irqfd/guest', irqfdSection, (kernel, see) => {
    const guest = irqGuest(kernel, [...initPics, ...reportForever], { 36: handler(0x24) });
    const fd = eventfd(kernel);
    irqfd(kernel, guest.vm, { fd });
    see.note('first', next(guest));
    for (const round of [1, 2]) {
      signal(kernel, fd);
      latched(kernel, guest.vm, 0x10);
      for (let at = 1; at <= 3; at++) see.note(`round ${round}, exit ${at}`, next(guest));
    }
  }),

  define('kvm/irqfd/resample', irqfdSection, (kernel, see) => {
    // ELCR: gsi 5 is level-triggered
    const guest = irqGuest(kernel, [0xba, 0xd0, 0x04, 0xb0, 0x20, 0xee, ...initPics, ...reportForever], { 37: handler(0x25) });
    const [fd, resamplefd, other, another] = [eventfd(kernel), eventfd(kernel), eventfd(kernel), eventfd(kernel)];
    irqfd(kernel, guest.vm, { fd, gsi: 5, flags: RESAMPLE, resamplefd });
    irqfd(kernel, guest.vm, { fd: other, gsi: 5, flags: RESAMPLE, resamplefd: another });
    see.note('first', next(guest));
    for (const round of [1, 2]) {
      signal(kernel, fd);
      see.note(`round ${round}, IRR`, latched(kernel, guest.vm, 0x20));
      see.note(`round ${round}, exit 1`, next(guest));
      see.note(`round ${round}, before the EOI`, [count(kernel, resamplefd), count(kernel, another)]);
      see.note(`round ${round}, exit 2`, next(guest));
      see.note(`round ${round}, after the EOI`, [count(kernel, resamplefd), count(kernel, another)]);
      see.note(`round ${round}, IRR after it`, latched(kernel, guest.vm, 0));
    }
    signal(kernel, fd);
    latched(kernel, guest.vm, 0x20);
    irqfd(kernel, guest.vm, { fd, gsi: 5, flags: DEASSIGN });
    see.note('deassigned while high, the other remains', latched(kernel, guest.vm, 0x20));
    irqfd(kernel, guest.vm, { fd: other, gsi: 5, flags: DEASSIGN });
    see.note('the last deassigned', latched(kernel, guest.vm, 0));
  }),

  define('kvm/ioeventfd/checks', ioeventfdSection, (kernel, see) => {
    const vm = newVm(kernel);
    const file = kernel.memfd('not an eventfd');
    const fd = eventfd(kernel);
    see.call('pointer 0', () => kernel.ioctl(vm, KVM_IOEVENTFD, 0));
    for (const len of [0, 1, 2, 3, 4, 5, 7, 8, 16, 0xffffffff]) {
      see.call(`len ${hex(len)}, bad descriptor`, () => ioeventfd(kernel, vm, { fd: -1, len }));
    }
    see.call('end wraps', () => ioeventfd(kernel, vm, { fd, addr: 0xffff_ffff_ffff_fffen, len: 4 }));
    see.call('end wraps to 0', () => ioeventfd(kernel, vm, { fd, addr: 0xffff_ffff_ffff_fffcn, len: 4 }));
    see.call('the last 8 bytes but one', () => ioeventfd(kernel, vm, { fd, addr: 0xffff_ffff_ffff_fff7n, len: 8 }));
    for (const flags of [8, 0x10, 0x18, 0x20, 0x80000000]) {
      see.call(`flags ${hex(flags)}`, () => ioeventfd(kernel, vm, { fd, flags, addr: 0x1000n }));
    }
    see.call('len 0 with DATAMATCH', () => ioeventfd(kernel, vm, { fd, len: 0, flags: DATAMATCH }));
    see.call('bad descriptor', () => ioeventfd(kernel, vm, { fd: -1 }));
    see.call('a memfd', () => ioeventfd(kernel, vm, { fd: file }));
    const at = (name: string, args: Omit<Ioeventfd, 'fd'>): void =>
      void see.call(name, () => ioeventfd(kernel, vm, { fd, ...args }));
    at('len 4', {});
    at('len 4 again', {});
    at('len 2 there', { len: 2 });
    at('len 4, datamatch 1', { flags: DATAMATCH, datamatch: 1n });
    at('len 0 there', { len: 0 });
    at('the same as a port', { flags: PIO });
    at('a port above 16 bits', { flags: PIO, addr: 0x1_0000_0000n });
    at('len 4, datamatch 1, elsewhere', { addr: 0x2000n, flags: DATAMATCH, datamatch: 1n });
    at('datamatch 2 there', { addr: 0x2000n, flags: DATAMATCH, datamatch: 2n });
    at('datamatch 1 there again', { addr: 0x2000n, flags: DATAMATCH, datamatch: 1n });
    at('any value there', { addr: 0x2000n });
    at('deassign: another value', { addr: 0x2000n, flags: DATAMATCH | IO_DEASSIGN, datamatch: 3n });
    at('deassign: any value', { addr: 0x2000n, flags: IO_DEASSIGN });
    at('deassign: that value', { addr: 0x2000n, flags: DATAMATCH | IO_DEASSIGN, datamatch: 2n });
    at('deassign: that value again', { addr: 0x2000n, flags: DATAMATCH | IO_DEASSIGN, datamatch: 2n });
    at('deassign: a length of 3', { len: 3, flags: IO_DEASSIGN });
    at('deassign: flags 0x20', { flags: IO_DEASSIGN | 0x20 });
    at('deassign: flags 0x20 again', { flags: IO_DEASSIGN | 0x20 });
    see.call('deassign: another eventfd', () => ioeventfd(kernel, vm, { fd: eventfd(kernel), len: 2, flags: IO_DEASSIGN }));
    see.call('deassign: bad descriptor', () => ioeventfd(kernel, vm, { fd: -1, flags: IO_DEASSIGN }));
    see.call('deassign: a memfd', () => ioeventfd(kernel, vm, { fd: file, flags: IO_DEASSIGN }));
    at('a length of 0', { addr: 0x3000n, len: 0 });
    at('a length of 0 there again', { addr: 0x3000n, len: 0 });
    at('a length of 1 there', { addr: 0x3000n, len: 1 });
  }),

  define('kvm/ioeventfd/ports', ioeventfdSection, (kernel, see) => {
    // mov ax, 0x1234; mov dx, 0x500; out dx, al; out dx, ax; out dx, eax; in al, dx; inc dx; out dx, al; hlt
    const code = [0xb8, 0x34, 0x12, 0xba, 0x00, 0x05, 0xee, 0xef, 0x66, 0xef, 0xec, 0x42, 0xee, 0xf4];
    const hits = (name: string, args: Omit<Ioeventfd, 'fd'>): void => {
      const guest = startGuest(kernel, code);
      const fd = eventfd(kernel);
      ioeventfd(kernel, guest.vm, { fd, addr: 0x500n, ...args, flags: (args.flags ?? 0) | PIO });
      const seen: string[] = [];
      for (let at = 0; at < 8; at++) {
        kernel.run(guest.vcpu);
        const { run } = guest;
        if (run.get('exit_reason') !== 2) break;
        seen.push(`${run.get('io.direction') === 1 ? 'out' : 'in'} ${run.get('io.size')} at ${hex(Number(run.get('io.port')))}`);
      }
      see.note(`${name}: exits`, seen);
      see.note(`${name}: signals`, count(kernel, fd));
    };
    for (const len of [0, 1, 2, 4, 8]) hits(`len ${len}`, { len });
    hits('len 2, the value', { len: 2, flags: DATAMATCH, datamatch: 0x1234n });
    hits('len 2, another value', { len: 2, flags: DATAMATCH, datamatch: 0x34n });
    hits('len 1, the value', { len: 1, flags: DATAMATCH, datamatch: 0x34n });
    hits('len 1, a wider value', { len: 1, flags: DATAMATCH, datamatch: 0x1234n });
    hits('no port', { addr: 0x10500n, len: 1 });
  }),

  define('kvm/ioeventfd/mmio', ioeventfdSection, (kernel, see) => {
    // mov byte [0], 5; mov word [0], 5; mov dword [0], 5; mov al, [0]; mov byte [1], 5; rep stosb of 2 at es:0; hlt
    const code = [
      ...[0xc6, 0x06, 0, 0, 5, 0xc7, 0x06, 0, 0, 5, 0, 0x66, 0xc7, 0x06, 0, 0, 5, 0, 0, 0],
      ...[0xa0, 0, 0, 0xc6, 0x06, 1, 0, 5, 0xb9, 2, 0, 0x31, 0xff, 0xb0, 5, 0xf3, 0xaa, 0xf4],
    ];
    const hits = (name: string, args: Omit<Ioeventfd, 'fd'>, close = false): void => {
      const guest = startGuest(kernel, code, {
        sregs: (sregs) => {
          sregs.ds.base = 0x1000_0000n;
          sregs.es.base = 0x1000_0000n;
        },
      });
      const fd = eventfd(kernel);
      ioeventfd(kernel, guest.vm, { fd, ...args });
      if (close) kernel.close(fd);
      const run: RunPage = guest.run;
      const seen: string[] = [];
      for (let at = 0; at < 12; at++) {
        kernel.run(guest.vcpu);
        if (run.get('exit_reason') !== 6) break;
        seen.push(
          `${run.get('mmio.is_write') === 1 ? 'write' : 'read'} ${run.get('mmio.len')} at ${hex(BigInt(run.get('mmio.phys_addr')))}`,
        );
      }
      see.note(`${name}: exits`, seen);
      if (!close) see.note(`${name}: signals`, count(kernel, fd));
    };
    for (const len of [0, 1, 2, 4, 8]) hits(`len ${len}`, { len });
    hits('len 4, the value', { len: 4, flags: DATAMATCH, datamatch: 5n });
    hits('len 4, another value', { len: 4, flags: DATAMATCH, datamatch: 6n });
    hits('closed', { len: 4 }, true);
  }),

  define('kvm/ioeventfd/to-irqfd', ioeventfdSection, (kernel, see) => {
    // One eventfd as both: the guest's port write is the guest's interrupt.
    const guest = irqGuest(kernel, [...initPics, 0xba, 0, 5, 0xee, ...reportForever], { 36: handler(0x24) });
    const fd = eventfd(kernel);
    irqfd(kernel, guest.vm, { fd });
    ioeventfd(kernel, guest.vm, { fd, addr: 0x500n, len: 1, flags: PIO });
    // The kernel's worker injects it, a little later.
    const seen: string[] = [];
    while (seen.length < 20_000 && !seen.slice(0, -10).includes('0xe9: 0x24')) seen.push(next(guest));
    see.note('its interrupt came so often', seen.filter((said) => said === '0xe9: 0x24').length);
    see.note('what is left to read', count(kernel, fd));
  }),

  define('kvm/ioeventfd/after-the-vcpu', ioeventfdSection, (kernel, see) => {
    const vm = newVm(kernel);
    kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
    const copy = kernel.dup(vm);
    kernel.close(vm);
    see.call('through a dup of the VM', () => ioeventfd(kernel, copy, { fd: eventfd(kernel) }));
  }),
];
