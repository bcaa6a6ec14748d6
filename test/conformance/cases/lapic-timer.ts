/** The local APIC's timer: what fires, how often, and what its registers say. Times are noted as relations only. */
import { KVM_GET_LAPIC, KVM_SET_LAPIC } from 'kvio/uapi';
import {
  type ApicGuest,
  apicGuest,
  cli,
  ENABLE,
  getLapic,
  hlt,
  iret,
  lapicRegisters,
  le32,
  mpState,
  nop,
  rdmsr,
  read,
  say,
  setApicCpuid,
  setLapic,
  step,
  sti,
  story,
  write,
  wrmsr,
} from '../apic-guest.ts';
import { type Case, define, hex } from '../case.ts';
import { getMsr, setMsr, u32 } from '../machine.ts';

const section = 'LAPIC timer';
const guest = { needs: { features: ['kick'] } } as const;

const LVTT = 0x320;
const TMICT = 0x380;
const TMCCT = 0x390;
const TDCR = 0x3e0;
const PERIODIC = 0x20000;
const DEADLINE = 0x40000;
const MASKED = 0x10000;
/** Divide by 1: with KVM's bus of 1 GHz a count is a nanosecond. */
const BY_ONE: readonly number[] = write(TDCR, 0xb);
/** STI; HLT; then a word on a port: the timer has woken it. */
const sleep = (port: number): number[] => [sti, hlt, 0xb0, port, 0xe6, port];

export const lapicTimerCases: Case[] = [
  define(
    'kvm/lapic-timer/one-shot',
    section,
    (kernel, see) => {
      const once = apicGuest(kernel, [
        ...ENABLE,
        ...BY_ONE,
        ...write(LVTT, 0x41),
        ...write(TMICT, 1_000_000),
        ...sleep(0x90),
        ...read(TMCCT),
        ...say(0x91),
        ...read(TMICT),
        ...say(0x92),
        hlt,
      ]);
      see.note('fires once', story(once, 4));
      see.note('then nothing', [step(once, 100), mpState(kernel, once.vcpu)]);
      see.note('registers', lapicRegisters(getLapic(kernel, once.vcpu)));
      // On a slow host it fires before the guest sleeps: until then no interrupt is taken.
      const twice = apicGuest(kernel, [
        ...ENABLE,
        ...BY_ONE,
        ...write(LVTT, 0x41),
        ...[0x90, 0x91].flatMap((port) => [cli, ...write(TMICT, 500_000), ...sleep(port)]),
        0xe6,
        0xff,
      ]);
      see.note('started again', story(twice));
      const stopped = apicGuest(kernel, [
        ...ENABLE,
        ...BY_ONE,
        ...write(LVTT, 0x41),
        ...write(TMICT, 20_000_000),
        ...write(TMICT, 0),
        ...read(TMCCT),
        ...say(0x91),
        sti,
        hlt,
      ]);
      see.note('stopped by 0', [step(stopped), step(stopped, 60), mpState(kernel, stopped.vcpu)]);
    },
    guest,
  ),
  define(
    'kvm/lapic-timer/masked-and-disabled',
    section,
    (kernel, see) => {
      const masked = apicGuest(kernel, [...ENABLE, ...BY_ONE, ...write(LVTT, MASKED | 0x41), ...write(TMICT, 300_000), sti, hlt]);
      see.note('masked', [step(masked, 60), mpState(kernel, masked.vcpu)]);
      see.note('IRR', hex(u32(getLapic(kernel, masked.vcpu), 0x220)));
      // So long that a slow host disables it before it fires.
      const disabled = apicGuest(kernel, [
        ...ENABLE,
        ...BY_ONE,
        ...write(LVTT, 0x41),
        ...write(TMICT, 30_000_000),
        ...write(0xf0, 0xff),
        ...read(LVTT),
        ...say(0x91),
        sti,
        hlt,
      ]);
      see.note('software disabled meanwhile', [step(disabled), step(disabled, 60), mpState(kernel, disabled.vcpu)]);
      const blocked = apicGuest(kernel, [...ENABLE, ...BY_ONE, ...write(LVTT, 0x41), ...write(TMICT, 300_000), hlt]);
      see.note('IF 0', [step(blocked, 60), mpState(kernel, blocked.vcpu), hex(u32(getLapic(kernel, blocked.vcpu), 0x220))]);
    },
    guest,
  ),
  define(
    'kvm/lapic-timer/periodic',
    section,
    (kernel, see) => {
      // A slow host may see it fire more often than the guest sleeps.
      const periodic = (label: string, played: ApicGuest): void => {
        const facts = story(played);
        const fired = facts.filter((fact) => fact === 'out 0x80 0x41').length;
        see.note(
          label,
          facts.filter((fact) => fact !== 'out 0x80 0x41'),
        );
        see.note(
          `${label}: at least once for each sleep`,
          fired >= facts.filter((fact) => String(fact).startsWith('out 0x9')).length,
        );
      };
      const code = [
        ...ENABLE,
        ...BY_ONE,
        ...write(LVTT, PERIODIC | 0x41),
        ...write(TMICT, 2_000_000),
        ...sleep(0x90),
        ...sleep(0x91),
        ...sleep(0x92),
        ...write(TMICT, 0),
        0xe6,
        0xff,
      ];
      const played = apicGuest(kernel, code, { cpuid: true });
      periodic('fires again and again', played);
      // Without CPUID the mode cannot be chosen.
      const none = apicGuest(kernel, [
        ...ENABLE,
        ...BY_ONE,
        ...write(LVTT, PERIODIC | 0x41),
        ...read(LVTT),
        ...say(0x90),
        ...write(TMICT, 500_000),
        ...sleep(0x91),
        hlt,
      ]);
      see.note('without CPUID', [...story(none, 3), step(none, 60)]);
      // So long that a slow host changes the mode before it fires.
      const made = apicGuest(
        kernel,
        [
          ...ENABLE,
          ...BY_ONE,
          ...write(LVTT, 0x41),
          ...write(TMICT, 50_000_000),
          ...write(LVTT, PERIODIC | 0x41),
          ...sleep(0x90),
          ...sleep(0x91),
          ...write(TMICT, 0),
          0xe6,
          0xff,
        ],
        { cpuid: true },
      );
      periodic('made periodic while it runs', made);
    },
    guest,
  ),
  define(
    'kvm/lapic-timer/count',
    section,
    (kernel, see) => {
      const spin = [0xb9, 0xe8, 3, 0xe2, 0xfe]; // mov cx, 1000; loop to itself
      const counts = (tdcr: number, initial: number): (string | boolean)[] => {
        const code = [
          ...ENABLE,
          ...write(TDCR, tdcr),
          ...write(LVTT, 0x41),
          ...write(TMICT, initial),
          ...read(TMCCT),
          ...say(0x90),
          ...spin,
          ...read(TMCCT),
          ...say(0x91),
          0xe6,
          0xff,
        ];
        const [first = 0, second = 0] = story(apicGuest(kernel, code)).map((fact) => Number(String(fact).split(' ')[2]));
        return [`divide ${hex(tdcr)}`, first > 0 && first <= initial, second > 0 && second < first];
      };
      for (const tdcr of [0, 1, 2, 3, 8, 9, 0xa, 0xb]) see.note(`counts down, ${hex(tdcr)}`, counts(tdcr, 0xf000_0000));
      const loaded = apicGuest(kernel, [hlt]);
      setLapic(kernel, loaded.vcpu, (view) => {
        view.setUint32(0xf0, 0x1ff, true);
        view.setUint32(LVTT, 0x41, true);
        view.setUint32(TDCR, 0xb, true);
        view.setUint32(TMICT, 0xf000_0000, true);
        view.setUint32(TMCCT, 0x4000_0000, true);
      });
      const now = u32(getLapic(kernel, loaded.vcpu), TMCCT);
      see.note('SET_LAPIC goes on from its count', now > 0x3000_0000 && now <= 0x4000_0000);
      setLapic(kernel, loaded.vcpu, (view) => {
        view.setUint32(TMICT, 0x1000_0000, true);
        view.setUint32(TMCCT, 0x4000_0000, true);
      });
      see.note('a count above the initial one', u32(getLapic(kernel, loaded.vcpu), TMCCT) <= 0x1000_0000);
      setLapic(kernel, loaded.vcpu, (view) => view.setUint32(TMICT, 0, true));
      see.note('SET_LAPIC with no count', u32(getLapic(kernel, loaded.vcpu), TMCCT));
      see.call('GET_LAPIC', () => kernel.ioctl(loaded.vcpu, KVM_GET_LAPIC, new Uint8Array(1024)));
      see.call('SET_LAPIC', () => kernel.ioctl(loaded.vcpu, KVM_SET_LAPIC, getLapic(kernel, loaded.vcpu)));
    },
    guest,
  ),
  define(
    'kvm/lapic-timer/deadline',
    section,
    (kernel, see) => {
      // The deadline is the TSC of RDMSR with so many ticks added.
      const ahead = (ticks: number): number[] => [
        ...rdmsr(0x10),
        0x66,
        0x05,
        ...le32(ticks),
        0x66,
        0x83,
        0xd2,
        0,
        0x66,
        0xb9,
        ...le32(0x6e0),
        0x0f,
        0x30,
      ];
      const code = [
        ...ENABLE,
        ...write(LVTT, DEADLINE | 0x41),
        ...ahead(2 ** 20),
        ...sleep(0x90),
        ...rdmsr(0x6e0),
        ...say(0x91),
        0xe6,
        0xff,
      ];
      see.note('fires', story(apicGuest(kernel, code, { cpuid: true })));
      const past = apicGuest(
        kernel,
        [...ENABLE, ...write(LVTT, DEADLINE | 0x41), ...wrmsr(0x6e0, 1), ...sleep(0x90), 0xe6, 0xff],
        { cpuid: true },
      );
      see.note('in the past', story(past));
      const unset = apicGuest(
        kernel,
        [
          ...ENABLE,
          ...write(LVTT, DEADLINE | 0x41),
          ...ahead(2 ** 28),
          ...wrmsr(0x6e0, 0),
          ...rdmsr(0x6e0),
          ...say(0x91),
          sti,
          hlt,
        ],
        { cpuid: true },
      );
      // Far enough for a slow host to come to take it back, and near enough to be waited for.
      see.note('taken back', [step(unset), step(unset, 300)]);
      const count = apicGuest(
        kernel,
        [
          ...ENABLE,
          ...write(LVTT, DEADLINE | 0x41),
          ...write(TMICT, 1000),
          ...read(TMICT),
          ...say(0x90),
          ...read(TMCCT),
          ...say(0x91),
          sti,
          hlt,
        ],
        { cpuid: true },
      );
      see.note('TMICT does nothing', [...story(count, 2), step(count, 60)]);
      const left = apicGuest(
        kernel,
        [
          ...ENABLE,
          ...BY_ONE,
          ...write(LVTT, 0x41),
          ...write(TMICT, 50_000_000),
          ...write(LVTT, DEADLINE | 0x41),
          ...read(TMICT),
          ...say(0x90),
          ...write(LVTT, 0x41),
          ...read(TMICT),
          ...say(0x91),
          0xe6,
          0xff,
        ],
        { cpuid: true },
      );
      see.note('the mode changes: TMICT', story(left));
      const host = apicGuest(kernel, [nop, iret], { cpuid: true }).vcpu;
      see.note('SET_MSRS in one-shot mode', [setMsr(kernel, host, 0x6e0, 5n), getMsr(kernel, host, 0x6e0) ?? 'none']);
      setLapic(kernel, host, (view) => {
        view.setUint32(0xf0, 0x1ff, true);
        view.setUint32(LVTT, DEADLINE | MASKED | 0x41, true);
      });
      see.note('SET_MSRS in deadline mode', [setMsr(kernel, host, 0x6e0, 1n << 62n), getMsr(kernel, host, 0x6e0) ?? 'none']);
      setApicCpuid(kernel, host);
      see.note('SET_CPUID2 keeps it', getMsr(kernel, host, 0x6e0) ?? 'none');
    },
    guest,
  ),
];
