/** KVM_CAP_X86_DISABLE_EXITS: what a guest does without KVM being asked. */
import type { Kernel } from 'kvio';
import {
  KVM_CAP_X86_DISABLE_EXITS,
  KVM_CHECK_EXTENSION,
  KVM_CREATE_IRQCHIP,
  KVM_CREATE_VCPU,
  KVM_ENABLE_CAP,
  KVM_X86_DISABLE_EXITS_HLT,
  KVM_X86_DISABLE_EXITS_PAUSE,
} from 'kvio/uapi';
import { type Case, define } from '../case.ts';
import { newVm } from '../machine.ts';
import { enableCap, irqGuest, next } from './irqchip.ts';

const section = 'Capabilities that are enabled';

function vmWith(kernel: Kernel, exits: bigint, irqchip: boolean): { vm: number; vcpu: number } {
  const vm = newVm(kernel);
  if (irqchip) kernel.ioctl(vm, KVM_CREATE_IRQCHIP);
  kernel.ioctl(vm, KVM_ENABLE_CAP, enableCap(KVM_CAP_X86_DISABLE_EXITS, [exits]));
  return { vm, vcpu: kernel.ioctl(vm, KVM_CREATE_VCPU, 0) };
}

/** hlt; mov al, 1; out 0xe9, al; pause; mov al, 2; out 0xe9, al */
const CODE = [0xf4, 0xb0, 1, 0xe6, 0xe9, 0xf3, 0x90, 0xb0, 2, 0xe6, 0xe9];

export const disableExitsCases: Case[] = [
  define('kvm/disable-exits/checks', section, (kernel, see) => {
    const vm = newVm(kernel);
    const can = kernel.ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_X86_DISABLE_EXITS);
    const missing = BigInt(~can & 0xff);
    for (const [name, bits] of [
      ['none', 0n],
      ['all there are', BigInt(can)],
      ['one there is not', missing & -missing],
      ['above 32 bits', 1n << 32n],
    ] as const)
      see.call(name, () => kernel.ioctl(vm, KVM_ENABLE_CAP, enableCap(KVM_CAP_X86_DISABLE_EXITS, [bits])));
    kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
    see.call('after a vCPU', () => kernel.ioctl(vm, KVM_ENABLE_CAP, enableCap(KVM_CAP_X86_DISABLE_EXITS, [0n])));
  }),
  ...([false, true] as const).flatMap((irqchip) =>
    [KVM_X86_DISABLE_EXITS_HLT, KVM_X86_DISABLE_EXITS_PAUSE].map((bit) =>
      define(
        `kvm/disable-exits/${bit === KVM_X86_DISABLE_EXITS_HLT ? 'hlt' : 'pause'}${irqchip ? '-with-an-apic' : ''}`,
        section,
        (kernel, see) => {
          // With an APIC and HLT's exits the first HLT would sleep for ever.
          const code = irqchip && bit !== KVM_X86_DISABLE_EXITS_HLT ? CODE.slice(1) : CODE;
          const guest = irqGuest(kernel, code, {}, vmWith(kernel, BigInt(bit), irqchip));
          for (let at = 1; at <= 2; at++) see.note(`exit ${at}`, next(guest, 300));
        },
        { needs: { features: ['kick'] } },
      ),
    ),
  ),
];
