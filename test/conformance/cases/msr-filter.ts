/** KVM_X86_SET_MSR_FILTER and the exits of KVM_CAP_X86_USER_SPACE_MSR. */
import type { Kernel, Memory } from 'kvio';
import {
  KVM_CAP_X86_MSR_FILTER,
  KVM_CAP_X86_USER_SPACE_MSR,
  KVM_CHECK_EXTENSION,
  KVM_ENABLE_CAP,
  KVM_EXIT_X86_RDMSR,
  KVM_EXIT_X86_WRMSR,
  KVM_MSR_FILTER_DEFAULT_DENY,
  KVM_X86_SET_MSR_FILTER,
  kvm_enable_cap,
  kvm_msr_filter,
} from 'kvio/uapi';
import { type Case, define, type Observer, result, toFact } from '../case.ts';
import { type Guest, startGuest } from '../guest.ts';
import { longModeGuest } from '../long-mode.ts';
import { getMsr, getRegs, getSregs, newVm, setMsr, UNSAFE } from '../machine.ts';

const section = 'MSR filter and user-space MSRs';
const READ = 1;
const WRITE = 2;

interface Range {
  readonly flags?: number;
  readonly nmsrs?: number;
  readonly base?: number;
  readonly bitmap?: bigint;
}

function filter(kernel: Kernel, vm: number, flags: number, ranges: readonly Range[]): number {
  const bytes = kvm_msr_filter.encode({
    flags,
    ranges: Array.from({ length: 16 }, (_, i) => ({ flags: 0, nmsrs: 0, base: 0, bitmap: 0n, ...ranges[i] })),
  });
  return kernel.ioctl(vm, KVM_X86_SET_MSR_FILTER, bytes, UNSAFE);
}

const enable = (kernel: Kernel, vm: number, cap: number, ...args: bigint[]): number =>
  kernel.ioctl(
    vm,
    KVM_ENABLE_CAP,
    kvm_enable_cap.encode({ cap, flags: 0, args: [0, 1, 2, 3].map((i) => args[i] ?? 0n), pad: new Uint8Array(64) } as never),
  );

/** mov ecx, msr; rdmsr; or mov eax, …; mov edx, …; wrmsr; then out 0x10, al; hlt. Vector 13 goes to an OUT of its own. */
const rdmsr = (msr: number): number[] => [0x66, 0xb9, ...le(msr), 0x0f, 0x32, 0xe6, 0x10, 0xf4];
const wrmsr = (msr: number, low: number, high: number): number[] => [
  ...[0x66, 0xb9, ...le(msr)],
  ...[0x66, 0xb8, ...le(low)],
  ...[0x66, 0xba, ...le(high)],
  ...[0x0f, 0x30, 0xe6, 0x10, 0xf4],
];
const le = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);

/** #GP lands at 0x3000: out 0x13, al. */
function msrGuest(kernel: Kernel, code: readonly number[]): Guest {
  return startGuest(kernel, code, {
    data: { [13 * 4]: [0x00, 0x30, 0, 0], [0x3000]: [0xe6, 0x13, 0xf4] },
    regs: { rax: 0x1111111111111111n, rdx: 0x2222222222222222n },
  });
}

function step(guest: Guest, see: Observer, label: string): void {
  const { kernel, vcpu, run } = guest;
  see.note(`${label}: KVM_RUN`, result(kernel.run(vcpu)));
  const reason = Number(run.get('exit_reason'));
  const { rip, rax, rcx, rdx } = getRegs(kernel, vcpu);
  const port = reason === 2 ? { port: toFact(run.get('io.port')) } : {};
  const msr =
    reason === KVM_EXIT_X86_RDMSR || reason === KVM_EXIT_X86_WRMSR
      ? Object.fromEntries(['error', 'reason', 'index', 'data'].map((field) => [field, toFact(run.get(`msr.${field}`))]))
      : {};
  see.note(`${label}: exit`, { reason, ...port, ...msr, rip: toFact(rip), rax: toFact(rax), rcx: toFact(rcx), rdx: toFact(rdx) });
}

const bitmap = (kernel: Kernel, bytes: readonly number[]): Memory => {
  const memory = kernel.guestRam(4096);
  memory.write(0, Uint8Array.from(bytes));
  return memory;
};

export const msrFilterCases: Case[] = [
  define('kvm/msr-filter/argument', section, (kernel, see) => {
    const vm = newVm(kernel);
    see.note('capability', kernel.ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_X86_MSR_FILTER));
    const bits = bitmap(kernel, [0xff]).address;
    see.call('pointer 0', () => kernel.ioctl(vm, KVM_X86_SET_MSR_FILTER, 0));
    see.call('flags 2', () => filter(kernel, vm, 2, []));
    see.call('flags 2 and an empty deny', () => filter(kernel, vm, 3, []));
    see.call('empty, deny', () => filter(kernel, vm, KVM_MSR_FILTER_DEFAULT_DENY, []));
    see.call('empty, allow', () => filter(kernel, vm, 0, []));
    see.call('one range', () => filter(kernel, vm, 1, [{ flags: 3, nmsrs: 8, base: 0x174, bitmap: bits }]));
    see.call('a range without flags', () => filter(kernel, vm, 0, [{ flags: 0, nmsrs: 8, base: 0x174, bitmap: bits }]));
    see.call('range flags 4', () => filter(kernel, vm, 0, [{ flags: 5, nmsrs: 8, base: 0x174, bitmap: bits }]));
    see.call('a range without flags and MSRs', () => filter(kernel, vm, 0, [{ flags: 4, nmsrs: 0, base: 0x174, bitmap: 0n }]));
    see.call('the largest bitmap', () => filter(kernel, vm, 0, [{ flags: 1, nmsrs: 0x600 * 8, base: 0, bitmap: bits }]));
    see.call('one more', () => filter(kernel, vm, 0, [{ flags: 1, nmsrs: 0x600 * 8 + 1, base: 0, bitmap: bits }]));
    see.call('nmsrs of all ones', () => filter(kernel, vm, 0, [{ flags: 1, nmsrs: 0xffffffff, base: 0, bitmap: bits }]));
    see.call('a bitmap at 0', () => filter(kernel, vm, 0, [{ flags: 1, nmsrs: 1, base: 0, bitmap: 0n }]));
    see.call('the 16th range is bad', () =>
      filter(
        kernel,
        vm,
        1,
        Array.from({ length: 16 }, (_, i) => ({ flags: i === 15 ? 8 : 1, nmsrs: 1, base: i, bitmap: bits })),
      ),
    );
    see.call('a range beyond 32 bits', () => filter(kernel, vm, 0, [{ flags: 1, nmsrs: 64, base: 0xfffffff0, bitmap: bits }]));
  }),
  define('kvm/msr-filter/guest-without-exits', section, (kernel, see) => {
    // Without USER_SPACE_MSR a denied MSR is #GP.
    const guest = msrGuest(kernel, rdmsr(0x174));
    setMsr(kernel, guest.vcpu, 0x174, 0x77n);
    filter(kernel, guest.vm, 0, [{ flags: READ, nmsrs: 1, base: 0x174, bitmap: bitmap(kernel, [0]).address }]);
    step(guest, see, 'a denied read');
    see.note('userspace is not filtered', getMsr(kernel, guest.vcpu, 0x174));
    const other = msrGuest(kernel, wrmsr(0x174, 5, 0));
    filter(kernel, other.vm, 0, [{ flags: READ, nmsrs: 1, base: 0x174, bitmap: bitmap(kernel, [0]).address }]);
    step(other, see, 'a write where reads are denied');
    see.note('it was written', getMsr(kernel, other.vcpu, 0x174));
  }),
  define('kvm/msr-filter/deny', section, (kernel, see) => {
    const play = (
      label: string,
      code: readonly number[],
      flags: number,
      ranges: readonly Range[],
      answer?: { error: number; data: bigint },
    ): void => {
      const guest = msrGuest(kernel, code);
      setMsr(kernel, guest.vcpu, 0x174, 0x77n);
      see.call(`${label}: ENABLE_CAP`, () => enable(kernel, guest.vm, KVM_CAP_X86_USER_SPACE_MSR, 4n));
      see.call(`${label}: filter`, () => filter(kernel, guest.vm, flags, ranges));
      step(guest, see, `${label}, 1`);
      if (answer === undefined) return;
      guest.run.set('msr.error', answer.error);
      guest.run.set('msr.data', answer.data);
      step(guest, see, `${label}, 2`);
      see.note(`${label}: SYSENTER_CS`, getMsr(kernel, guest.vcpu, 0x174));
    };
    const none = bitmap(kernel, [0, 0]).address;
    const first = bitmap(kernel, [1, 0]).address;
    const denied = [{ flags: READ | WRITE, nmsrs: 9, base: 0x174, bitmap: none }];
    play('a read, answered', rdmsr(0x174), 0, denied, { error: 0, data: 0xaabbccdd11223344n });
    play('a read, refused', rdmsr(0x174), 0, denied, { error: 1, data: 0n });
    play('a write, done', wrmsr(0x174, 0x55667788, 0x11), 0, denied, { error: 0, data: 0n });
    play('a write, refused', wrmsr(0x174, 0x55667788, 0x11), 0, denied, { error: 1, data: 0n });
    play('the first of a bitmap is allowed', rdmsr(0x174), 0, [{ flags: READ, nmsrs: 9, base: 0x174, bitmap: first }]);
    play('the last of it is not', rdmsr(0x17c), 0, [{ flags: READ, nmsrs: 9, base: 0x174, bitmap: first }]);
    play('by default denied', rdmsr(0x175), 1, [{ flags: READ, nmsrs: 1, base: 0x174, bitmap: first }]);
    play('by default denied, but allowed', rdmsr(0x174), 1, [{ flags: READ, nmsrs: 1, base: 0x174, bitmap: first }]);
    play('a range of reads says nothing of writes', wrmsr(0x174, 1, 0), 1, [
      { flags: READ, nmsrs: 1, base: 0x174, bitmap: first },
    ]);
    play('an MSR there is none of, denied', rdmsr(0xdead), 1, [{ flags: READ, nmsrs: 1, base: 0x174, bitmap: first }]);
    play('an x2APIC MSR is never filtered', rdmsr(0x802), 1, [{ flags: READ, nmsrs: 1, base: 0x174, bitmap: first }]);
    play('the first range that has it decides', rdmsr(0x174), 0, [
      { flags: READ, nmsrs: 1, base: 0x174, bitmap: first },
      { flags: READ, nmsrs: 1, base: 0x174, bitmap: none },
    ]);
  }),
  define('kvm/msr-filter/unknown-and-invalid', section, (kernel, see) => {
    for (const [mask, label] of [
      [0n, 'no exits'],
      [1n, 'INVAL'],
      [2n, 'UNKNOWN'],
      [3n, 'both'],
    ] as const) {
      for (const [what, code] of [
        ['read 0xdead', rdmsr(0xdead)],
        ['write 0xdead', wrmsr(0xdead, 1, 2)],
        ['MTRRdefType with a bad type', wrmsr(0x2ff, 2, 0)],
        ['MTRRcap written', wrmsr(0xfe, 1, 0)],
        ['PAT with a bad type', wrmsr(0x277, 0xff, 0)],
        ['EFER with a reserved bit', wrmsr(0xc0000080, 2, 0)],
      ] as const) {
        const guest = msrGuest(kernel, code);
        if (mask !== 0n) enable(kernel, guest.vm, KVM_CAP_X86_USER_SPACE_MSR, mask);
        step(guest, see, `${label}: ${what}`);
      }
    }
  }),
  define('kvm/msr-filter/immediate-exit', section, (kernel, see) => {
    const guest = msrGuest(kernel, rdmsr(0x174));
    enable(kernel, guest.vm, KVM_CAP_X86_USER_SPACE_MSR, 4n);
    filter(kernel, guest.vm, 0, [{ flags: READ, nmsrs: 1, base: 0x174, bitmap: bitmap(kernel, [0]).address }]);
    step(guest, see, 'the exit');
    guest.run.set('msr.data', 0x1234n);
    guest.run.set('immediate_exit', 1);
    step(guest, see, 'finished without the guest');
    guest.run.set('immediate_exit', 0);
    step(guest, see, 'and on');
  }),
  define('kvm/msr-filter/other-instructions', section, (kernel, see) => {
    // swapgs; mov al, 1; out 0xe9, al; hlt: it exchanges an MSR the filter denies.
    const guest = longModeGuest(kernel, [0x0f, 0x01, 0xf8, 0xb0, 1, 0xe6, 0xe9, 0xf4]);
    setMsr(kernel, guest.vcpu, 0xc0000102, 0x1234_5000n);
    const denied = [{ flags: READ | WRITE, nmsrs: 1, base: 0xc0000102, bitmap: bitmap(kernel, [0]).address }];
    see.call('filter', () => filter(kernel, guest.vm, 0, denied));
    kernel.run(guest.vcpu);
    see.note('exit', guest.run.get('exit_reason'));
    see.note('GS base', getSregs(kernel, guest.vcpu).gs.base);
    see.note('KERNEL_GS_BASE', getMsr(kernel, guest.vcpu, 0xc0000102));
  }),
];
