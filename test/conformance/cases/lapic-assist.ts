/** How a patched guest and KVM spare each other exits: TPR access reporting, the virtual APIC's word, paravirtual EOI. */
import { KVM_SET_VAPIC_ADDR, KVM_TPR_ACCESS_REPORTING } from 'kvio/uapi';
import { apicGuest, ENABLE, getLapic, hlt, iret, le16, nop, read, say, step, sti, story, write } from '../apic-guest.ts';
import { type Case, define, hex } from '../case.ts';
import { getMsr, getRegs, setMsr, u32 } from '../machine.ts';

const section = 'LAPIC';
const guest = { needs: { features: ['kick'] } } as const;
const PV_EOI = 0x4b564d04;
const WORD = 0xf000;

/** mov eax, cs:[address]; out port, eax */
const sayMemory = (address: number, port: number): number[] => [0x2e, 0x66, 0xa1, ...le16(address), ...say(port)];
const setByte = (address: number, value: number): number[] => [0x2e, 0xc6, 0x06, ...le16(address), value];
const selfIpi = (vector: number): number[] => write(0x300, 0x44000 | vector);

export const lapicAssistCases: Case[] = [
  define(
    'kvm/lapic-assist/tpr-access',
    section,
    (kernel, see) => {
      const code = [...ENABLE, ...write(0x80, 0x20), ...read(0x80), ...say(0x90), ...read(0xa0), ...say(0x91), 0xe6, 0xff];
      const played = apicGuest(kernel, code);
      const reporting = new Uint8Array(40);
      reporting[0] = 1;
      kernel.ioctl(played.vcpu, KVM_TPR_ACCESS_REPORTING, reporting);
      for (let at = 1; at <= 5; at++) see.note(`exit ${at}`, [step(played), getRegs(kernel, played.vcpu).rip]);
    },
    guest,
  ),
  define(
    'kvm/lapic-assist/vapic',
    section,
    (kernel, see) => {
      const code = [
        ...[...ENABLE, ...setByte(WORD, 0x60), 0xe6, 0x90],
        ...[...read(0x80), ...say(0x91), ...write(0x80, 0x20), 0xe6, 0x92],
        ...[...selfIpi(0x31), 0xe6, 0x93, ...sayMemory(WORD, 0x94), 0xe6, 0xff],
      ];
      const played = apicGuest(kernel, code);
      kernel.ioctl(played.vcpu, KVM_SET_VAPIC_ADDR, new Uint8Array(new BigUint64Array([BigInt(WORD)]).buffer));
      for (let at = 1; at <= 6; at++) {
        see.note(`exit ${at}`, step(played));
        see.note(`exit ${at}: TPR`, hex(u32(getLapic(kernel, played.vcpu), 0x80)));
      }
    },
    guest,
  ),
  define(
    'kvm/lapic-assist/pv-eoi',
    section,
    (kernel, see) => {
      const play = (clears: boolean, more: readonly number[] = []): unknown => {
        const ends = clears ? setByte(WORD, 0) : [];
        const handler = [0x66, 0x50, ...sayMemory(WORD, 0x80), ...ends, 0x66, 0x58, iret];
        const show = [...read(0x120), ...say(0xd2), ...sayMemory(WORD, 0x91)];
        const code = [
          ...ENABLE,
          ...more,
          sti,
          nop,
          ...selfIpi(0x41),
          nop,
          nop,
          0xe6,
          0x90,
          ...show,
          ...selfIpi(0x42),
          nop,
          nop,
          0xe6,
          0x92,
          ...show,
          0xe6,
          0xff,
        ];
        const played = apicGuest(kernel, code, { handlers: { 65: handler, 66: handler } });
        setMsr(kernel, played.vcpu, PV_EOI, BigInt(WORD) | 1n);
        return story(played);
      };
      see.note('the guest clears its bit', play(true));
      see.note('the guest does not', play(false));
      see.note('two at once', play(true, [...selfIpi(0x43)]));
      const { vcpu } = apicGuest(kernel, [hlt]);
      for (const value of [0x1001n, 0x1002n, 0x1003n, 0xff01n, 0x1_0001n, 0n])
        see.note(`MSR ${hex(value)}`, [setMsr(kernel, vcpu, PV_EOI, value), getMsr(kernel, vcpu, PV_EOI) ?? 'none']);
    },
    guest,
  ),
];
