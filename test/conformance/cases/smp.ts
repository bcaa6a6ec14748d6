/** Several vCPUs: bring-up by INIT and SIPI, IPIs between running vCPUs, and who takes what is sent where. */
import type { Kernel, Memory } from 'kvio';
import { KVM_CREATE_VCPU, KVM_NMI, KVM_SET_MP_STATE } from 'kvio/uapi';
import {
  aim,
  apicRam,
  ENABLE,
  EOI,
  exitFact,
  getLapic,
  hlt,
  iret,
  irqchipVm,
  le16,
  mpState,
  setApicCpuid,
  setLapic,
  sti,
  story,
  write,
  x2apicApi,
} from '../apic-guest.ts';
import { type Case, define, type Fact, hex } from '../case.ts';
import { mapRun, RunPage, setMsr, u32, withU32 } from '../machine.ts';

const section = 'SMP';
const together = { needs: { features: ['async', 'kick'] } } as const;
const alone = { needs: { features: ['kick'] } } as const;

interface Cpu {
  readonly kernel: Kernel;
  readonly vm: number;
  readonly vcpu: number;
  readonly run: RunPage;
}

interface Smp {
  readonly cpus: readonly Cpu[];
  readonly ram: Memory;
}

const X2APIC = 0xfee00c00n;

/** vCPUs with these ids and common RAM, each with its code at 0x1000, 0x1800 …, in real mode with DS on its APIC. */
function smp(
  kernel: Kernel,
  codes: Readonly<Record<number, readonly number[]>>,
  handlers: Readonly<Record<number, readonly number[]>> = {},
): Smp {
  const vm = irqchipVm(kernel, 'kernel');
  const ram = apicRam(kernel, vm, handlers);
  const cpus = Object.entries(codes).map(([id, code], at) => {
    const entry = 0x1000 + at * 0x800;
    ram.write(entry, Uint8Array.from(code));
    const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, Number(id));
    aim(kernel, vcpu, entry, undefined, false, 0x800 - at * 0x80);
    return { kernel, vm, vcpu, run: new RunPage(mapRun(kernel, vcpu)) };
  });
  return { cpus, ram };
}

/** KVM_RUN again and again, until the guest says port 0xff or somebody ends it. */
async function play(cpu: Cpu, most = 20): Promise<Fact[]> {
  const facts: Fact[] = [];
  for (let at = 0; at < most; at++) {
    const fact = exitFact(cpu, await cpu.kernel.runAsync(cpu.vcpu, { budget: 4000 }));
    facts.push(fact);
    if (String(fact).startsWith('EINTR') || String(fact).startsWith('out 0xff')) break;
  }
  return facts;
}

/** An instruction on cs:[address], which is RAM. */
const ram = (opcode: readonly number[], address: number, ...rest: number[]): number[] => [
  0x2e,
  ...opcode,
  ...le16(address),
  ...rest,
];
/** inc byte cs:[address] */
const count = (address: number): number[] => ram([0xfe, 0x06], address);
/** l: cmp byte cs:[address], value; jne l */
const until = (address: number, value: number): number[] => [...ram([0x80, 0x3e], address, value), 0x75, 0xf8];
const toId = (id: number): number[] => write(0x310, id << 24);

/** The vectors each vCPU has requested. */
function requested(cpus: readonly Cpu[]): Fact {
  return cpus.map(({ kernel, vcpu }) => {
    const regs = getLapic(kernel, vcpu);
    const has = (vector: number): boolean => ((u32(regs, 0x200 + (vector >> 5) * 16) >>> (vector & 31)) & 1) === 1;
    return Array.from({ length: 256 }, (_, vector) => vector)
      .filter(has)
      .map(hex);
  });
}

function enable({ kernel, vcpu }: Cpu, edit: (view: DataView) => void = () => {}): void {
  setLapic(kernel, vcpu, (view) => {
    view.setUint32(0xf0, 0x1ff, true);
    edit(view);
  });
}

/** What becomes of messages that a guest on the first of three vCPUs sends, each with a vector of its own from 0x41 on. */
function sent(
  kernel: Kernel,
  messages: readonly (readonly [dest: number, icr: number])[],
  ...edits: readonly (((view: DataView) => void) | undefined)[]
): Fact {
  const code = [...messages.flatMap(([dest, icr], at) => [...toId(dest), ...write(0x300, icr | (0x41 + at))]), 0xe6, 0xff];
  const { cpus } = smp(kernel, { 0: code, 1: [], 2: [] });
  for (const [at, cpu] of cpus.entries()) enable(cpu, edits[at]);
  story(cpus[0]!, 1, 5000);
  return requested(cpus);
}

export const smpCases: Case[] = [
  define(
    'kvm/smp/bring-up',
    section,
    async (kernel, see) => {
      const wake = [...write(0x300, 0x4400), ...until(0x602, 1)];
      const boot = [
        ...ENABLE,
        ...toId(1),
        ...write(0x300, 0x4500),
        ...write(0x300, 0x4609),
        ...until(0x600, 1),
        0xe6,
        0x90,
        ...until(0x601, 1),
        ...wake,
        0xe6,
        0xff,
      ];
      const { cpus, ram: memory } = smp(kernel, { 0: boot, 1: [] }, { 2: [...count(0x602), iret] });
      const [bsp, ap] = cpus as [Cpu, Cpu];
      // The AP has CS 0x900 and DS 0: mov byte [0x600], 1; out 0x91, al; mov byte [0x601], 1; hlt; out 0xff, al. Its NMI handler has CS 0.
      memory.write(0x9000, Uint8Array.from([0xc6, 0x06, 0, 6, 1, 0xe6, 0x91, 0xc6, 0x06, 1, 6, 1, hlt, 0xe6, 0xff]));
      see.note(
        'MP states before',
        cpus.map(({ vcpu }) => mpState(kernel, vcpu)),
      );
      const [first, second] = await Promise.all([play(bsp), play(ap)]);
      see.note('BSP', first);
      see.note('AP', second);
      see.note(
        'MP states after',
        cpus.map(({ vcpu }) => mpState(kernel, vcpu)),
      );
      see.note('signs', memory.read(0x600, 3));
    },
    together,
  ),
  define(
    'kvm/smp/ipi-ping-pong',
    section,
    async (kernel, see) => {
      const send = (id: number, vector: number): number[] => [...toId(id), ...write(0x300, 0x4000 | vector)];
      const handlers = {
        // On the AP: count, answer. On the BSP: count.
        81: [...count(0x600), ...send(0, 0x52), ...EOI, iret],
        82: [...count(0x601), ...EOI, iret],
      };
      // cli; send; sti; hlt; cmp byte cs:[0x601], 10; jne again
      const round = [0xfa, ...send(1, 0x51), sti, hlt, ...ram([0x80, 0x3e], 0x601, 10)];
      const bsp = [...ENABLE, ...until(0x602, 1), ...round, 0x75, 0x100 - round.length - 2, 0xe6, 0xff];
      const ap = [...ENABLE, ...count(0x602), sti, hlt, 0xeb, 0xfd];
      const { cpus, ram: memory } = smp(kernel, { 0: bsp, 1: ap }, handlers);
      const [first, second] = cpus as [Cpu, Cpu];
      kernel.ioctl(second.vcpu, KVM_SET_MP_STATE, withU32(0));
      const other = play(second);
      see.note('BSP', await play(first));
      kernel.kick(second.vcpu);
      see.note('AP', await other);
      see.note('IPIs to the AP, answers', memory.read(0x600, 2));
    },
    together,
  ),
  define(
    'kvm/smp/one-after-the-other',
    section,
    (kernel, see) => {
      // Without any concurrency: messages wait until their vCPU is run.
      const { cpus } = smp(
        kernel,
        {
          0: [...ENABLE, ...toId(1), ...write(0x300, 0x4041), ...write(0x300, 0x4400), 0xe6, 0xff],
          1: [sti, hlt, 0xe6, 0x91, 0xeb, 0xfb],
        },
        { 2: [0xe6, 0x82, iret] },
      );
      const [bsp, ap] = cpus as [Cpu, Cpu];
      enable(ap);
      kernel.ioctl(ap.vcpu, KVM_SET_MP_STATE, withU32(0));
      see.note('the sender', story(bsp));
      see.note('the receiver', story(ap, 4, 50));
      see.call('NMI', () => kernel.ioctl(ap.vcpu, KVM_NMI));
      see.note('woken', story(ap, 4, 50));
    },
    alone,
  ),
  define(
    'kvm/smp/destinations',
    section,
    (kernel, see) => {
      const [PHYSICAL, LOGICAL] = [0x4000, 0x4800];
      const ldr = (value: number) => (view: DataView) => view.setUint32(0xd0, value << 24, true);
      const cluster = (value: number) => (view: DataView) => {
        view.setUint32(0xe0, 0x0fff_ffff, true);
        view.setUint32(0xd0, value << 24, true);
      };
      const to = (mode: number, ...dests: number[]): [number, number][] => dests.map((dest) => [dest, mode]);
      see.note('physical 0, 1, 2, 3, 0xff', sent(kernel, to(PHYSICAL, 0, 1, 2, 3, 0xff)));
      see.note(
        'self, all, all but self',
        sent(kernel, [
          [0, 0x44000],
          [0, 0x84000],
          [0, 0xc4000],
        ]),
      );
      see.note('logical flat 1, 2, 3, 4, 7, 8, 0xff', sent(kernel, to(LOGICAL, 1, 2, 3, 4, 7, 8, 0xff), ldr(1), ldr(2), ldr(4)));
      see.note('logical flat, two with one bit: 1, 2, 3', sent(kernel, to(LOGICAL, 1, 2, 3), ldr(1), ldr(2), ldr(2)));
      see.note('logical flat, one with two bits: 1, 2, 4', sent(kernel, to(LOGICAL, 1, 2, 4), ldr(1), ldr(6), ldr(8)));
      see.note(
        'cluster 0x11, 0x13, 0x21, 0x2f, 0xf1, 0xff',
        sent(kernel, to(LOGICAL, 0x11, 0x13, 0x21, 0x2f, 0xf1, 0xff), cluster(0x11), cluster(0x12), cluster(0x21)),
      );
      see.note('flat and cluster: 1, 0x11, 0x22', sent(kernel, to(LOGICAL, 1, 0x11, 0x22), ldr(1), cluster(0x11), cluster(0x22)));
      see.note(
        'one software disabled: all, 2',
        sent(kernel, [...to(LOGICAL, 2, 7), [0, 0x84000]], ldr(1), (view) => view.setUint32(0xf0, 0xff, true), ldr(4)),
      );
      see.note(
        'two with one id: 1, 2',
        sent(kernel, to(PHYSICAL, 0, 1, 2), undefined, undefined, (view) => view.setUint32(0x20, 1 << 24, true)),
      );
      const lowest = Array.from({ length: 6 }, (): [number, number] => [7, LOGICAL | 0x100]);
      see.note('lowest priority among three', sent(kernel, lowest, ldr(1), ldr(2), ldr(4)));
      see.note(
        'lowest priority among two',
        sent(
          kernel,
          lowest.map(([, icr]) => [6, icr]),
          ldr(1),
          ldr(2),
          ldr(4),
        ),
      );
      see.note(
        'lowest priority, no bits',
        sent(
          kernel,
          lowest.map(([, icr]) => [8, icr]),
          ldr(1),
          ldr(2),
          ldr(4),
        ),
      );
      see.note('lowest priority, two with one bit', sent(kernel, lowest, ldr(1), ldr(2), ldr(2)));
      see.note('lowest priority, physical 1', sent(kernel, to(PHYSICAL | 0x100, 1)));
      see.note('lowest priority, physical 0xff', sent(kernel, to(PHYSICAL | 0x100, 0xff)));
      see.note(
        'lowest priority, all',
        sent(kernel, [
          [0, 0x84100],
          [0, 0x84100],
        ]),
      );
    },
    alone,
  ),
  define('kvm/smp/x2apic-destinations', section, (kernel, see) => {
    // The first vCPU sends by KVM_SET_MSRS; the others are in x2APIC mode, or not.
    for (const api of [0n, 1n, 2n, 3n]) {
      for (const [name, modes] of [
        ['all x2APIC', [true, true, true]],
        ['one in xAPIC mode', [true, false, true]],
      ] as const) {
        const vm = irqchipVm(kernel, 'kernel');
        x2apicApi(kernel, vm, api);
        const cpus = [0, 1, 17].map((id, at) => {
          const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, id);
          setApicCpuid(kernel, vcpu);
          const cpu: Cpu = { kernel, vm, vcpu, run: new RunPage(mapRun(kernel, vcpu)) };
          if (modes[at]) setMsr(kernel, vcpu, 0x1b, X2APIC);
          enable(cpu);
          return cpu;
        });
        const dests = [0n, 1n, 17n, 0xffn, 0xffff_ffffn, 0x1_0001n, 0x2n, 0x3n, 0x1_ffffn];
        const messages = [0x4000n, 0x4800n].flatMap((mode) => dests.map((dest) => (dest << 32n) | mode));
        for (const [at, message] of messages.entries()) setMsr(kernel, cpus[0]!.vcpu, 0x830, message | BigInt(0x41 + at));
        see.note(`${name}, API ${hex(api)}`, requested(cpus));
        kernel.close(vm);
      }
    }
  }),
  define('kvm/smp/map-is-stale', section, (kernel, see) => {
    // A vCPU is not in the map of destinations until something has it made anew.
    const vm = irqchipVm(kernel, 'kernel');
    const first = kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
    setApicCpuid(kernel, first);
    setMsr(kernel, first, 0x1b, X2APIC);
    const second = kernel.ioctl(vm, KVM_CREATE_VCPU, 1);
    const state = (): number => mpState(kernel, second);
    const init = (dest: bigint): number => setMsr(kernel, first, 0x830, (dest << 32n) | 0x4500n);
    see.note('INIT to the newest', [init(1n), state()]);
    see.note('a broadcast reaches it', [setMsr(kernel, first, 0x830, 0xc4500n), state()]);
    kernel.ioctl(second, KVM_SET_MP_STATE, withU32(1));
    kernel.ioctl(vm, KVM_CREATE_VCPU, 2);
    see.note('INIT, once another was made', [init(1n), state()]);
  }),
];
