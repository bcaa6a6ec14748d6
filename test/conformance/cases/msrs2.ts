/** RDMSR and WRMSR of a guest: which MSRs there are for it, and why an access fails, as KVM_CAP_X86_USER_SPACE_MSR tells. */
import { KVM_CAP_X86_USER_SPACE_MSR, KVM_ENABLE_CAP, KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR, kvm_enable_cap } from 'kvio/uapi';
import { type Case, define, hex } from '../case.ts';
import { startGuest } from '../guest.ts';
import { setRegs } from '../machine.ts';

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);

/** MSRs KVM has rules for, and some it has none for. Not those that would take the guest away: EFER, APICBASE, the bases of segments. */
const groups: Readonly<Record<string, readonly number[]>> = {
  old: [0x0, 0x1, 0x10, 0x11, 0x12, 0x17, 0x2a, 0x2c, 0x34, 0x3b, 0x8b, 0xcd, 0xce, 0xfe, 0x11e, 0x198, 0x199, 0x1a0, 0x1fc],
  system: [0x174, 0x175, 0x176, 0xc0000081, 0xc0000083, 0xc0000084, 0xc0000102, 0xc0000103, 0x140],
  mtrr: [...range(0x200, 0x203), 0x20f, 0x210, 0x250, 0x251, 0x258, 0x268, 0x26f, 0x277, 0x2ff],
  mce: [0x179, 0x17a, 0x17b, 0x280, 0x29f, 0x2a0, 0x400, 0x401, 0x402, 0x403, 0x47f, 0x480],
  kvm: [...range(0x4b564d00, 0x4b564d09)],
  amd: [0xc0010010, 0xc0010055, 0xc0010058, 0xc001001b, 0xc001001f, 0xc0010112, 0xc0010113, 0xc0011022, 0xc001102a, 0xc001102c],
  none: [0x2, 0x100, 0xdead, 0x1000, 0xc0000200, 0xc0020000, 0xffffffff],
};

/** At 0x1000 rdmsr, at 0x1100 wrmsr, each with an OUT behind it. */
const code = (): number[] => [0x0f, 0x32, 0xe6, 0x10, ...new Array<number>(0xfc).fill(0x90), 0x0f, 0x30, 0xe6, 0x10];

export const guestMsrCases: Case[] = Object.entries(groups).map(([name, indices]) =>
  define(`kvm/msrs2/${name}`, 'MSRs', (kernel, see) => {
    for (const index of indices) {
      const guest = startGuest(kernel, code());
      const cap = { cap: KVM_CAP_X86_USER_SPACE_MSR, flags: 0, args: [3n, 0n, 0n, 0n], pad: new Uint8Array(64) };
      kernel.ioctl(guest.vm, KVM_ENABLE_CAP, kvm_enable_cap.encode(cap));
      const access = (at: bigint, value: bigint): string => {
        const [rax, rdx] = [value & 0xffffffffn, value >> 32n];
        setRegs(kernel, guest.vcpu, { rip: at, rcx: BigInt(index), rax, rdx, rflags: 2n });
        guest.run.set('immediate_exit', 0);
        if (kernel.run(guest.vcpu) < 0) return 'an error';
        const reason = guest.run.get('exit_reason');
        const failed = reason === KVM_EXIT_X86_RDMSR || reason === KVM_EXIT_X86_WRMSR;
        const why = failed
          ? (['?', 'invalid', 'unknown'][Number(guest.run.get('msr.reason'))] ?? '?')
          : reason === 2
            ? 'done'
            : 'an exit';
        guest.run.set('immediate_exit', 1);
        kernel.run(guest.vcpu);
        return why;
      };
      see.note(hex(index), [
        `read: ${access(0x1000n, 0n)}`,
        ...[0n, 1n, (1n << 64n) - 1n].map((value) => `${hex(value)}: ${access(0x1100n, value)}`),
      ]);
    }
  }),
);
