/** KVM_TRANSLATE: the walk of a guest's page tables, without side effects. */
import type { Kernel, Memory } from 'kvio';
import { KVM_SET_CPUID2, KVM_TRANSLATE, kvm_translation } from 'kvio/uapi';
import { type Case, define, type Observer } from '../case.ts';
import { addRam, cpuidBytes, newVcpu, setSregs } from '../machine.ts';

const section = 'TRANSLATE';
const CR0_PE = 1n;
const CR0_PG = 1n << 31n;
const PAE = 1n << 5n;
const PSE = 1n << 4n;
const LME_LMA = 0x500n;

function translate(kernel: Kernel, see: Observer, vcpu: number, label: string, linear: bigint): void {
  const bytes = kvm_translation.encode({
    linear_address: linear,
    physical_address: 0x77n,
    valid: 7,
    writeable: 7,
    usermode: 7,
    pad: new Uint8Array(5).fill(5),
  });
  const returned = kernel.ioctl(vcpu, KVM_TRANSLATE, bytes);
  see.note(label, { returned, ...kvm_translation.decode(bytes) });
}

/** A vCPU with 64 KiB of RAM at 0 and the CPUID that long mode and PSE need. */
function machine(kernel: Kernel): { vcpu: number; ram: Memory } {
  const { vm, vcpu } = newVcpu(kernel);
  kernel.ioctl(
    vcpu,
    KVM_SET_CPUID2,
    cpuidBytes([
      { function: 1, edx: 0x078bfbff },
      { function: 0x80000001, edx: (1 << 29) | (1 << 20) },
      { function: 0x80000008, eax: 0x3028 },
    ]),
  );
  return { vcpu, ram: addRam(kernel, vm, 0, 0n, 0x10000) };
}

export const translateCases: Case[] = [
  define('kvm/translate/unpaged', section, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    see.call('pointer 0', () => kernel.ioctl(vcpu, KVM_TRANSLATE, 0));
    for (const linear of [0n, 0x1234n, 0xfffffff0n, 1n << 32n, 0xffff800000000000n, (1n << 64n) - 1n])
      translate(kernel, see, vcpu, `0x${linear.toString(16)}`, linear);
  }),
  define('kvm/translate/long-mode', section, (kernel, see) => {
    const { vcpu, ram } = machine(kernel);
    // PML4 at 0x1000, PDPT 0x2000, PD 0x3000, PT 0x4000.
    ram.write64(0x1000, 0x2007n);
    ram.write64(0x1000 + 8 * 511, 0x2007n);
    ram.write64(0x1000 + 8, 0x90000007n);
    ram.write64(0x2000, 0x3007n);
    ram.write64(0x2000 + 8, 0x40000087n);
    ram.write64(0x2000 + 16, 0x7n | (1n << 45n));
    ram.write64(0x3000, 0x4007n);
    ram.write64(0x3000 + 8, 0x400087n);
    ram.write64(0x3000 + 16, 0x402087n);
    ram.write64(0x4000 + 8 * 5, 0x8007n);
    ram.write64(0x4000 + 8 * 6, 0x9001n);
    ram.write64(0x4000 + 8 * 7, 0x0n);
    ram.write64(0x4000 + 8 * 8, 0xa007n | (1n << 63n));
    ram.write64(0x4000 + 8 * 9, 0xabcde007n | (1n << 46n));
    see.call('SET_SREGS', () =>
      setSregs(kernel, vcpu, (sregs) => {
        Object.assign(sregs, { cr3: 0x1000n, cr4: PAE, efer: LME_LMA, cr0: CR0_PE | CR0_PG | 0x10n });
        Object.assign(sregs.cs, { l: 1, db: 0, type: 11, present: 1, s: 1, g: 1, limit: 0xffffffff, base: 0n, selector: 8 });
      }),
    );
    const at = (label: string, linear: bigint): void => translate(kernel, see, vcpu, label, linear);
    at('a 4 KiB page', 0x5123n);
    at('a read-only supervisor page', 0x6000n);
    at('not present', 0x7000n);
    at('no-execute without EFER.NX', 0x8000n);
    at('a frame above MAXPHYADDR', 0x9000n);
    at('a 2 MiB page', 0x212345n);
    at('a 2 MiB page with a reserved bit', 0x400000n);
    at('a 1 GiB page without its CPUID', 0x40000123n);
    at('a table entry above MAXPHYADDR', 0x80000000n);
    at('the upper half', 0xffffff8000005123n);
    at('an entry that is not there', 0x600000n);
    at('a table that is not in memory', 1n << 39n);
    at('not canonical', 1n << 47n);
    see.note('accessed bits', [ram.read64(0x1000), ram.read64(0x2000), ram.read64(0x3000), ram.read64(0x4000 + 40)]);
  }),
  define('kvm/translate/two levels', section, (kernel, see) => {
    const { vcpu, ram } = machine(kernel);
    ram.write32(0x1000, 0x2007);
    ram.write32(0x1000 + 4, 0x00800087);
    ram.write32(0x2000 + 4 * 5, 0x8007);
    see.call('SET_SREGS', () =>
      setSregs(kernel, vcpu, (sregs) => {
        Object.assign(sregs, { cr3: 0x1000n, cr4: PSE, cr0: CR0_PE | CR0_PG | 0x10n });
      }),
    );
    translate(kernel, see, vcpu, 'a 4 KiB page', 0x5123n);
    translate(kernel, see, vcpu, 'not present', 0x6123n);
    translate(kernel, see, vcpu, 'a 4 MiB page', 0x412345n);
    translate(kernel, see, vcpu, 'above 4 GiB', (1n << 32n) | 0x5123n);
  }),
  define('kvm/translate/PAE', section, (kernel, see) => {
    const { vcpu, ram } = machine(kernel);
    ram.write64(0x1000, 0x2001n);
    ram.write64(0x1000 + 8, 0x0n);
    ram.write64(0x2000, 0x3007n);
    ram.write64(0x2000 + 8, 0x400087n);
    ram.write64(0x3000 + 8 * 5, 0x8007n);
    see.call('SET_SREGS', () =>
      setSregs(kernel, vcpu, (sregs) => {
        Object.assign(sregs, { cr3: 0x1000n, cr4: PAE, cr0: CR0_PE | CR0_PG | 0x10n });
      }),
    );
    translate(kernel, see, vcpu, 'a 4 KiB page', 0x5123n);
    translate(kernel, see, vcpu, 'a 2 MiB page', 0x212345n);
    translate(kernel, see, vcpu, 'no PDPTE', 0x40000000n);
  }),
];
