/** What a guest's accesses to its local APIC do: registers, the page, IPIs to itself, destinations, x2APIC mode. */
import { KVM_CAP_DISABLE_QUIRKS, KVM_CREATE_VCPU, KVM_X86_QUIRK_LAPIC_MMIO_HOLE, KVM_X86_QUIRK_LINT0_REENABLED } from 'kvio/uapi';
import {
  apicGuest,
  ENABLE,
  EOI,
  enableCap,
  getLapic,
  handler,
  hlt,
  iret,
  irqchipVm,
  lapicRegisters,
  nop,
  rdmsr,
  read,
  say,
  sti,
  story,
  write,
  wrmsr,
} from '../apic-guest.ts';
import { type Case, define, type Fact, hex } from '../case.ts';
import { setSregs, u32 } from '../machine.ts';

const section = 'LAPIC';
const APIC_BASE = 0x1b;
/** Registers of 16 bytes each. */
const ALL_REGISTERS: readonly number[] = Array.from({ length: 64 }, (_, at) => at * 16);
const guest = { needs: { features: ['kick'] } } as const;

export const lapicGuestCases: Case[] = [
  define(
    'kvm/lapic/registers-of-a-guest',
    section,
    (kernel, see) => {
      // Every register: what a guest reads, then what it reads after writing ones and zeros. ICR would send, TMICT run.
      for (const [name, prologue] of [
        ['enabled', ENABLE],
        ['disabled', write(0xf0, 0xff)],
      ] as const) {
        for (const value of [0xffff_ffff, 0]) {
          const registers = ALL_REGISTERS.filter((register) => ![0x300, 0x380, 0xf0].includes(register));
          const code = registers.flatMap((register) => [...write(register, value), ...read(register), ...say(0x10)]);
          const played = apicGuest(kernel, [...prologue, ...code, 0xe6, 0xff]);
          const facts = story(played, 80);
          const found: Record<string, Fact> = {};
          for (const [at, register] of registers.entries()) found[hex(register)] = facts[at] ?? 'nothing';
          see.note(`${name}, ${hex(value)} written`, found);
          see.note(`${name}, ${hex(value)} written: GET_LAPIC`, lapicRegisters(getLapic(kernel, played.vcpu)));
        }
      }
    },
    guest,
  ),
  define(
    'kvm/lapic/spiv',
    section,
    (kernel, see) => {
      const values = [0, 0xff, 0x1ff, 0x3ff, 0x13ff, 0xffff_ffff, 0x100, 0xff];
      for (const [irqchip, cpuid] of [
        ['kernel', true],
        ['split', false],
        ['split', true],
      ] as const) {
        const code = values.flatMap((value) => [
          ...write(0xf0, value),
          ...read(0xf0),
          ...say(0x10),
          ...read(0x320),
          ...say(0x11),
        ]);
        const played = apicGuest(kernel, [...ENABLE, ...write(0x320, 0x40), ...code, 0xe6, 0xff], { irqchip, cpuid });
        see.note(`${irqchip}${cpuid ? ', x2APIC in CPUID' : ''}`, story(played));
      }
    },
    guest,
  ),
  define(
    'kvm/lapic/access-sizes',
    section,
    (kernel, see) => {
      // mov al, [8-bit offset]; mov ax; mov eax, at offsets within the version register and beyond the last.
      const at = (offset: number): number[] => [offset & 0xff, offset >> 8];
      const code: number[] = [];
      for (const offset of [0x30, 0x31, 0x32, 0x33]) code.push(0x31, 0xc0, 0xa0, ...at(offset), ...say(0x10));
      for (const offset of [0x30, 0x31, 0x32]) code.push(0x31, 0xc0, 0xa1, ...at(offset), ...say(0x11));
      code.push(...read(0x30), ...say(0x12), 0xe6, 0xff);
      see.note('reads of the version', story(apicGuest(kernel, code)));
      // Writes of 8 and 16 bits, and unaligned ones, do nothing.
      const writes = [
        [0xc6, 0x06, 0x80, 0x00, 0x55],
        [0xc7, 0x06, 0x80, 0x00, 0x66, 0x00],
        write(0x84, 0x77),
        write(0x81, 0x88),
        write(0x80, 0x99),
      ];
      const tpr = [...read(0x80), ...say(0x13)];
      see.note('writes of TPR', story(apicGuest(kernel, [...writes.flatMap((one) => [...one, ...tpr]), 0xe6, 0xff])));
    },
    guest,
  ),
  define(
    'kvm/lapic/page',
    section,
    (kernel, see) => {
      const version = [...read(0x30), ...say(0x10), 0xe6, 0xff];
      const based = (apic_base: bigint, ds: bigint, code: readonly number[] = version, cpuid = false): Fact => {
        const played = apicGuest(kernel, code, { ds, cpuid });
        setSregs(kernel, played.vcpu, (sregs) => {
          sregs.apic_base = apic_base;
        });
        return story(played, 4);
      };
      see.note('at its place', based(0xfee00900n, 0xfee00000n));
      see.note('moved: the new place', based(0xd000_0900n, 0xd000_0000n));
      see.note('moved: the old place', based(0xd000_0900n, 0xfee00000n));
      see.note('over memory', based(0x900n, 0n));
      see.note('off: read', based(0xfee00100n, 0xfee00000n));
      see.note('off: write, then read', based(0xfee00100n, 0xfee00000n, [...write(0x80, 0x20), ...version]));
      see.note('x2APIC mode: read', based(0xfee00d00n, 0xfee00000n, version, true));
      see.note('the last register and beyond', based(0xfee00900n, 0xfee00000n, [...read(0xffc), ...say(0x10), 0xe6, 0xff]));
      see.note('the page behind', based(0xfee00900n, 0xfee00ff0n, [...read(0x20), ...say(0x10), 0xe6, 0xff]));
      const none = apicGuest(kernel, version, { irqchip: 'none' });
      see.note('without an in-kernel APIC', story(none, 4));
      const quirk = apicGuest(kernel, [...write(0x80, 0x20), ...version], {
        before: (k, vm) => void enableCap(k, vm, KVM_CAP_DISABLE_QUIRKS, BigInt(KVM_X86_QUIRK_LAPIC_MMIO_HOLE)),
      });
      setSregs(kernel, quirk.vcpu, (sregs) => {
        sregs.apic_base = 0xfee00100n;
      });
      see.note('off, without the quirk', story(quirk, 4));
      const lint0 = irqchipVm(kernel, 'kernel');
      enableCap(kernel, lint0, KVM_CAP_DISABLE_QUIRKS, BigInt(KVM_X86_QUIRK_LINT0_REENABLED));
      see.note('LINT0 without the quirk', hex(u32(getLapic(kernel, kernel.ioctl(lint0, KVM_CREATE_VCPU, 0)), 0x350)));
    },
    guest,
  ),
  define(
    'kvm/lapic/self-ipi',
    section,
    (kernel, see) => {
      const mark = [0xe6, 0x30];
      const show = (...registers: number[]): number[] =>
        registers.flatMap((register) => [...read(register), ...say(0xc0 | (register >> 4))]);
      const ipi = (vector: number): number[] => write(0x300, 0x44000 | vector);
      see.note('taken at once', story(apicGuest(kernel, [...ENABLE, sti, nop, ...ipi(0x41), nop, ...mark, 0xe6, 0xff])));
      see.note(
        'IF 0: waits',
        story(
          apicGuest(kernel, [
            ...ENABLE,
            ...ipi(0x41),
            ...ipi(0x41),
            ...show(0x220, 0x120, 0xa0),
            sti,
            nop,
            nop,
            ...show(0x220, 0x120),
            0xe6,
            0xff,
          ]),
        ),
      );
      see.note(
        'by priority, highest first',
        story(apicGuest(kernel, [...ENABLE, ...ipi(0x41), ...ipi(0x61), ...ipi(0x51), sti, nop, nop, 0xe6, 0xff])),
      );
      see.note(
        'TPR holds back its class',
        story(
          apicGuest(kernel, [
            ...ENABLE,
            ...write(0x80, 0x50),
            ...ipi(0x41),
            ...ipi(0x5f),
            ...ipi(0x61),
            sti,
            nop,
            nop,
            ...mark,
            ...write(0x80, 0),
            nop,
            0xe6,
            0xff,
          ]),
        ),
      );
      // A handler without EOI: what is not of a higher class waits.
      const nested = {
        81: handler(0x51, []),
        97: [0x50, 0xb0, 0x61, 0xe6, 0x80, ...write(0x300, 0x44062), ...write(0x300, 0x44071), sti, nop, nop, ...EOI, 0x58, iret],
      };
      see.note(
        'in service',
        story(
          apicGuest(
            kernel,
            [
              ...ENABLE,
              sti,
              nop,
              ...ipi(0x51),
              nop,
              ...mark,
              ...ipi(0x52),
              nop,
              ...mark,
              ...ipi(0x61),
              nop,
              ...mark,
              ...show(0x120, 0x130, 0x220, 0x230, 0xa0),
              ...EOI,
              nop,
              ...mark,
              0xe6,
              0xff,
            ],
            { handlers: nested },
          ),
        ),
      );
      see.note('software disabled: nothing', story(apicGuest(kernel, [sti, nop, ...ipi(0x41), nop, ...show(0x220), 0xe6, 0xff])));
      see.note(
        'vector 0 to 15',
        story(
          apicGuest(kernel, [
            ...ENABLE,
            ...ipi(0),
            ...ipi(0xf),
            ...ipi(0x10),
            ...show(0x200, 0x280),
            sti,
            nop,
            nop,
            ...show(0x200),
            0xe6,
            0xff,
          ]),
        ),
      );
      see.note(
        'to all, to all but itself',
        story(apicGuest(kernel, [...ENABLE, ...write(0x300, 0x84041), ...write(0x300, 0xc4042), ...show(0x220), 0xe6, 0xff])),
      );
      see.note(
        'level, without and with assert',
        story(
          apicGuest(kernel, [
            ...ENABLE,
            ...write(0x300, 0x48043),
            ...show(0x220, 0x1a0),
            ...write(0x300, 0x4c044),
            ...show(0x220, 0x1a0),
            ...write(0x300, 0x44044),
            ...show(0x220, 0x1a0),
            0xe6,
            0xff,
          ]),
        ),
      );
      see.note(
        'ICR reads without the busy bit',
        story(
          apicGuest(kernel, [
            ...ENABLE,
            ...write(0x310, 0xffff_ffff),
            ...write(0x300, 0xfff4_5fff),
            ...show(0x300, 0x310),
            0xe6,
            0xff,
          ]),
        ),
      );
      see.note(
        'lowest priority, ExtINT, remote read',
        story(
          apicGuest(kernel, [
            ...ENABLE,
            ...write(0x300, 0x44141),
            ...show(0x220),
            ...write(0x300, 0x44742),
            ...show(0x220),
            ...write(0x300, 0x44343),
            ...show(0x220),
            0xe6,
            0xff,
          ]),
        ),
      );
      see.note(
        'NMI',
        story(
          apicGuest(kernel, [...ENABLE, ...write(0x300, 0x44400), nop, ...mark, 0xe6, 0xff], { handlers: { 2: handler(2, []) } }),
        ),
      );
    },
    guest,
  ),
  define(
    'kvm/lapic/destinations',
    section,
    (kernel, see) => {
      const show = [...read(0x220), ...say(0x22)];
      const send = (dest: number, icr: number): number[] => [...write(0x310, dest << 24), ...write(0x300, icr), ...show];
      const to = (setup: readonly number[], dests: readonly number[], icr: number): Fact =>
        story(
          apicGuest(kernel, [...ENABLE, ...setup, ...dests.flatMap((dest, at) => send(dest, icr | (0x41 + at))), 0xe6, 0xff]),
        );
      see.note('physical: 0, 1, 0xff', to([], [0, 1, 0xff], 0x4000));
      see.note('physical, its id made 7: 0, 7, 0xff', to(write(0x20, 0x700_0000), [0, 7, 0xff], 0x4000));
      see.note('logical without LDR: 0, 1, 0xff', to([], [0, 1, 0xff], 0x4800));
      see.note('logical flat, LDR 0x12: 1, 2, 0x10, 0xef, 0xff', to(write(0xd0, 0x1200_0000), [1, 2, 0x10, 0xef, 0xff], 0x4800));
      see.note('logical flat, LDR 0x02: 1, 2, 3, 0xfd', to(write(0xd0, 0x200_0000), [1, 2, 3, 0xfd], 0x4800));
      const cluster = [...write(0xe0, 0), ...write(0xd0, 0x3400_0000)];
      see.note(
        'logical cluster, LDR 0x34: 0x34, 0x3f, 0x44, 0xf4, 0x33, 0xff',
        to(cluster, [0x34, 0x3f, 0x44, 0xf4, 0x33, 0xff], 0x4800),
      );
      see.note('lowest priority, physical: 0, 1, 0xff', to([], [0, 1, 0xff], 0x4100));
      see.note('lowest priority, logical flat, LDR 0x02: 2, 4, 0xff', to(write(0xd0, 0x200_0000), [2, 4, 0xff], 0x4900));
      const odd = [...write(0xe0, 0x5fff_ffff), ...write(0xd0, 0x200_0000)];
      see.note('an odd DFR: 2, 0xff', to(odd, [2, 0xff], 0x4800));
    },
    guest,
  ),
  define(
    'kvm/lapic/x2apic-of-a-guest',
    section,
    (kernel, see) => {
      const base = wrmsr(APIC_BASE, 0xfee00d00);
      const show = (...msrs: number[]): number[] =>
        msrs.flatMap((msr) => [...rdmsr(msr), ...say(0x10), 0x66, 0x89, 0xd0, ...say(0x11)]);
      const options = { cpuid: true, handlers: { 13: [0xe6, 0xfe, 0xe6, 0xff, hlt] } };
      // The handler of #GP says 0xfe, and that it is over.
      const play = (...code: number[]): Fact => story(apicGuest(kernel, [...code, 0xe6, 0xff], options), 12);
      see.note('id, version, LDR', play(...base, ...show(0x802, 0x803, 0x80d)));
      see.note('in xAPIC mode', play(...rdmsr(0x802)));
      see.note('self IPI', play(...base, ...wrmsr(0x80f, 0x1ff), sti, nop, ...wrmsr(0x83f, 0x45), nop, 0xe6, 0x30));
      see.note('ICR to itself', play(...base, ...wrmsr(0x80f, 0x1ff), sti, nop, ...wrmsr(0x830, 0x46, 0), nop, 0xe6, 0x30));
      see.note('EOI: 0', play(...base, ...wrmsr(0x80b, 0), 0xe6, 0x30));
      see.note('ICR2', play(...base, ...rdmsr(0x831), 0xe6, 0x30));
      see.note('a reserved ICR bit', play(...base, ...wrmsr(0x830, 0x2046), 0xe6, 0x30));
      see.note('id', play(...base, ...wrmsr(0x802, 1), 0xe6, 0x30));
      see.note('upper half', play(...base, ...wrmsr(0x808, 0x20, 1), 0xe6, 0x30));
      see.note('x2APIC to xAPIC', play(...base, ...wrmsr(APIC_BASE, 0xfee00900), 0xe6, 0x30));
      see.note(
        'x2APIC to off to xAPIC',
        play(...base, ...wrmsr(APIC_BASE, 0xfee00100), ...wrmsr(APIC_BASE, 0xfee00900), ...read(0x20), ...say(0x10)),
      );
      see.note('off to x2APIC', play(...wrmsr(APIC_BASE, 0xfee00100), ...wrmsr(APIC_BASE, 0xfee00d00), 0xe6, 0x30));
      see.note('x2APIC without enable', play(...wrmsr(APIC_BASE, 0xfee00500), 0xe6, 0x30));
      see.note('TSC_DEADLINE in one-shot mode', play(...wrmsr(0x6e0, 5), ...show(0x6e0)));
    },
    guest,
  ),
];
