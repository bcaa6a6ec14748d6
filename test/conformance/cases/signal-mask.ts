/** KVM_SET_SIGNAL_MASK: its argument, and that a kick still ends a run under it. */
import { KVM_SET_SIGNAL_MASK } from 'kvio/uapi';
import { type Case, define, result } from '../case.ts';
import { startGuest } from '../guest.ts';
import { newVcpu } from '../machine.ts';

const mask = (length: number, set: bigint, room = 12): Uint8Array => {
  const bytes = new Uint8Array(room);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, length, true);
  if (room >= 12) view.setBigUint64(4, set, true);
  return bytes;
};
const ALL = (1n << 64n) - 1n;

export const signalMaskCases: Case[] = [
  define('kvm/signal-mask/argument', 'SET_SIGNAL_MASK', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    see.call('NULL', () => kernel.ioctl(vcpu, KVM_SET_SIGNAL_MASK, 0));
    see.call('nothing blocked', () => kernel.ioctl(vcpu, KVM_SET_SIGNAL_MASK, mask(8, 0n)));
    see.call('all blocked', () => kernel.ioctl(vcpu, KVM_SET_SIGNAL_MASK, mask(8, ALL)));
    for (const length of [0, 4, 7, 9, 16, 128, 0xffffffff])
      see.call(`len ${length}`, () => kernel.ioctl(vcpu, KVM_SET_SIGNAL_MASK, mask(length, 0n)));
    see.call('NULL again', () => kernel.ioctl(vcpu, KVM_SET_SIGNAL_MASK, 0));
    see.call('a pointer to nowhere', () => kernel.ioctl(vcpu, KVM_SET_SIGNAL_MASK, 0xffff800000000000n));
  }),
  define(
    'kvm/signal-mask/kick',
    'SET_SIGNAL_MASK',
    (kernel, see) => {
      for (const [label, bytes] of [
        ['nothing blocked', mask(8, 0n)],
        ['all blocked', mask(8, ALL)],
        ['none', 0],
      ] as const) {
        const guest = startGuest(kernel, [0xeb, 0xfe]); // jmp $
        see.call(`${label}: SET_SIGNAL_MASK`, () => kernel.ioctl(guest.vcpu, KVM_SET_SIGNAL_MASK, bytes));
        see.note(`${label}: a run of 5 ms`, result(kernel.run(guest.vcpu, { budget: 5 })));
        kernel.kick(guest.vcpu);
        see.note(`${label}: after a kick`, result(kernel.run(guest.vcpu)));
        see.note(`${label}: a second run of 5 ms`, result(kernel.run(guest.vcpu, { budget: 5 })));
      }
    },
    { needs: { features: ['kick'] } },
  ),
];
