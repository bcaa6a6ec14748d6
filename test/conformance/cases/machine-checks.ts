/** Machine checks, registers by id, and the state of nested guests. */
import type { Kernel } from 'kvio';
import {
  KVM_CAP_MCE,
  KVM_CAP_NESTED_STATE,
  KVM_CHECK_EXTENSION,
  KVM_GET_NESTED_STATE,
  KVM_GET_ONE_REG,
  KVM_GET_REG_LIST,
  KVM_GET_VCPU_EVENTS,
  KVM_SET_NESTED_STATE,
  KVM_SET_ONE_REG,
  KVM_X86_GET_MCE_CAP_SUPPORTED,
  KVM_X86_SET_MCE,
  KVM_X86_SETUP_MCE,
  kvm_one_reg,
  kvm_vcpu_events,
  kvm_x86_mce,
} from 'kvio/uapi';
import { type Case, define, hex, nonZero, toFact } from '../case.ts';
import { startGuest } from '../guest.ts';
import { getMsr, newVcpu, openKvm, setMsr, setSregs, UNSAFE } from '../machine.ts';

const VALID = 1n << 63n;
const UNCORRECTED = 1n << 61n;
const ALL = (1n << 64n) - 1n;

const setup = (kernel: Kernel, vcpu: number, cap: bigint): number =>
  kernel.ioctl(vcpu, KVM_X86_SETUP_MCE, BigUint64Array.of(cap));
const report = (kernel: Kernel, vcpu: number, change: object): number =>
  kernel.ioctl(
    vcpu,
    KVM_X86_SET_MCE,
    kvm_x86_mce.encode({
      status: 0n,
      addr: 0n,
      misc: 0n,
      mcg_status: 0n,
      bank: 0,
      pad1: new Uint8Array(7),
      pad2: [0n, 0n, 0n],
      ...change,
    } as never),
  );
const bank = (kernel: Kernel, vcpu: number, n: number): unknown =>
  [0, 1, 2, 3].map((at) => toFact(getMsr(kernel, vcpu, 0x400 + n * 4 + at) ?? 'none'));
const exception = (kernel: Kernel, vcpu: number): unknown => {
  const bytes = kvm_vcpu_events.alloc();
  kernel.ioctl(vcpu, KVM_GET_VCPU_EVENTS, bytes);
  return nonZero(kvm_vcpu_events.decode(bytes).exception);
};

export const machineCheckCases: Case[] = [
  define('kvm/mce/setup', 'Machine checks', (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    see.note('banks', kernel.ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MCE));
    const cap = new BigUint64Array(1);
    kernel.ioctl(openKvm(kernel), KVM_X86_GET_MCE_CAP_SUPPORTED, cap);
    see.note('supported', cap[0]);
    see.call('SETUP_MCE, pointer 0', () => kernel.ioctl(vcpu, KVM_X86_SETUP_MCE, 0));
    for (const value of [
      0n,
      1n,
      10n,
      32n,
      33n,
      255n,
      0x10an,
      0x100010an,
      0x20an,
      0x40an,
      0x80an,
      0x1_0000_000an,
      0x0a000an,
      VALID | 10n,
    ]) {
      const { vcpu: fresh } = newVcpu(kernel);
      see.call(`SETUP_MCE ${hex(value)}`, () => setup(kernel, fresh, value));
      see.note(
        `${hex(value)}: MCG_CAP and MCG_CTL`,
        [getMsr(kernel, fresh, 0x179), getMsr(kernel, fresh, 0x17b)].map((v) => toFact(v ?? 'none')),
      );
      see.note(`${hex(value)}: bank 0`, bank(kernel, fresh, 0));
      see.note(`${hex(value)}: bank 9`, bank(kernel, fresh, 9));
      see.note(`${hex(value)}: bank 31`, bank(kernel, fresh, 31));
      see.note(`${hex(value)}: MC0_CTL2`, getMsr(kernel, fresh, 0x280) ?? 'none');
    }
  }),
  define('kvm/mce/registers', 'Machine checks', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    see.note('MC31_MISC at reset', getMsr(kernel, vcpu, 0x47f) ?? 'none');
    see.note('MC32_CTL at reset', getMsr(kernel, vcpu, 0x480) ?? 'none');
    setup(kernel, vcpu, 0x1000104n);
    for (const [index, values] of [
      [0x17a, [0n, 7n, ALL]],
      [0x17b, [0n, ALL, 5n]],
      [0x400, [0n, ALL, ALL - 0x400n, ALL - 1n, 5n]],
      [0x401, [0n, VALID, ALL]],
      [0x402, [ALL]],
      [0x403, [ALL]],
      [0x40f, [1n]],
      [0x410, [0n, 1n]],
      [0x280, [0n, 1n, 1n << 30n]],
      [0x284, [0n, 1n]],
    ] as const) {
      for (const value of values) {
        see.note(`${hex(index)} = ${hex(value)}`, [
          setMsr(kernel, vcpu, index, value),
          toFact(getMsr(kernel, vcpu, index) ?? 'none'),
        ]);
      }
    }
  }),
  define('kvm/mce/report', 'Machine checks', (kernel, see) => {
    const fresh = (mce = true): number => {
      const { vcpu } = newVcpu(kernel);
      setup(kernel, vcpu, 0x10an);
      if (mce) setSregs(kernel, vcpu, (sregs) => Object.assign(sregs, { cr4: 0x40n }));
      return vcpu;
    };
    const show = (label: string, vcpu: number, change: object): void => {
      see.call(label, () => report(kernel, vcpu, change));
      const n = (change as { bank?: number }).bank ?? 0;
      see.note(`${label}: bank`, n < 10 ? bank(kernel, vcpu, n) : []);
      see.note(`${label}: MCG_STATUS`, getMsr(kernel, vcpu, 0x17a));
      see.note(`${label}: exception`, exception(kernel, vcpu));
    };
    const vcpu = fresh();
    see.call('pointer 0', () => kernel.ioctl(vcpu, KVM_X86_SET_MCE, 0));
    show('not valid', vcpu, { status: 5n });
    show('bank 10', vcpu, { status: VALID, bank: 10 });
    show('bank 255', vcpu, { status: VALID, bank: 255 });
    show('corrected', vcpu, { status: VALID | 5n, addr: 0x1000n, misc: 0x2000n, mcg_status: 1n });
    show('corrected again', vcpu, { status: VALID | 6n, addr: 0x3000n, misc: 0x4000n });
    show('uncorrected', vcpu, { status: VALID | UNCORRECTED | 7n, addr: 0x5000n, misc: 0x6000n, mcg_status: 5n });
    show('corrected after it', vcpu, { status: VALID | 8n, addr: 0x7000n });
    show('uncorrected in another bank, MCIP set', vcpu, { status: VALID | UNCORRECTED | 7n, bank: 9, mcg_status: 5n });
    show('uncorrected without CR4.MCE', fresh(false), { status: VALID | UNCORRECTED, mcg_status: 4n });
    const masked = fresh();
    setMsr(kernel, masked, 0x400, 0n);
    show('uncorrected, bank off', masked, { status: VALID | UNCORRECTED, mcg_status: 4n });
    show('corrected, bank off', masked, { status: VALID, mcg_status: 4n });
    const off = fresh();
    setMsr(kernel, off, 0x17b, 0n);
    show('uncorrected, MCG_CTL off', off, { status: VALID | UNCORRECTED, mcg_status: 4n });
    const without = newVcpu(kernel).vcpu;
    show('without SETUP_MCE', without, { status: VALID, bank: 9 });
  }),
  define('kvm/mce/nothing-to-be-done', 'Machine checks', (kernel, see) => {
    // Uncorrected, without MCG_STATUS, and none of PCC, S and AR in the bank's: written over anything, and whatever is switched off.
    const S = 1n << 56n;
    const show = (label: string, vcpu: number, change: object): void => {
      see.call(label, () => report(kernel, vcpu, change));
      see.note(`${label}: bank`, bank(kernel, vcpu, 0));
      see.note(`${label}: MCG_STATUS`, getMsr(kernel, vcpu, 0x17a));
      see.note(`${label}: exception`, exception(kernel, vcpu));
    };
    const { vcpu } = newVcpu(kernel);
    show('uncorrected, no SETUP_MCE', vcpu, { status: VALID | UNCORRECTED | 3n, addr: 0x1000n, misc: 0x2000n });
    setup(kernel, vcpu, 0x10an);
    setMsr(kernel, vcpu, 0x17a, 4n);
    show('a corrected one over it', vcpu, { status: VALID | 4n, addr: 0x3000n });
    show('another over it', vcpu, { status: VALID | UNCORRECTED | 6n, addr: 0x5000n });
    show('with S: the bank is on', vcpu, { status: VALID | S | 5n, addr: 0x4000n });
  }),
  define('kvm/mce/a triple fault', 'Machine checks', (kernel, see) => {
    const guest = startGuest(kernel, [0xe6, 0x10, 0xf4]);
    setup(kernel, guest.vcpu, 0xan);
    see.call('uncorrected without CR4.MCE', () => report(kernel, guest.vcpu, { status: VALID | UNCORRECTED, mcg_status: 4n }));
    see.call('KVM_RUN', () => kernel.run(guest.vcpu));
    see.note('exit reason', guest.run.get('exit_reason'));
  }),
  define('kvm/one-reg', 'Registers by id', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const memory = kernel.guestRam(4096);
    setMsr(kernel, vcpu, 0x174, 0x77n);
    see.call('GET, pointer 0', () => kernel.ioctl(vcpu, KVM_GET_ONE_REG, 0));
    see.call('SET, pointer 0', () => kernel.ioctl(vcpu, KVM_SET_ONE_REG, 0));
    see.call('REG_LIST, pointer 0', () => kernel.ioctl(vcpu, KVM_GET_REG_LIST, 0));
    const msr = (index: number): bigint => 0x2030_0002_0000_0000n | BigInt(index);
    const get = (label: string, id: bigint, addr: bigint = memory.address): void => {
      memory.write64(0, 0x1111n);
      see.call(`GET ${label}`, () => kernel.ioctl(vcpu, KVM_GET_ONE_REG, kvm_one_reg.encode({ id, addr }), UNSAFE));
      see.note(`GET ${label}: value`, memory.read64(0));
    };
    const set = (label: string, id: bigint, value: bigint, addr: bigint = memory.address): void => {
      memory.write64(0, value);
      see.call(`SET ${label}`, () => kernel.ioctl(vcpu, KVM_SET_ONE_REG, kvm_one_reg.encode({ id, addr }), UNSAFE));
    };
    get('SYSENTER_CS', msr(0x174));
    get('an MSR there is none of', msr(0xdead));
    get('at 0', msr(0x174), 0n);
    get('another architecture', msr(0x174) ^ (3n << 60n));
    get('32 bits', msr(0x174) ^ (1n << 52n));
    get('a reserved bit', msr(0x174) | (1n << 40n));
    get('another reserved bit', msr(0x174) | (1n << 56n));
    get('type 0', 0x2030_0000_0000_0174n);
    get('type 1', 0x2030_0001_0000_0174n);
    get('type 3, index 0', 0x2030_0003_0000_0000n);
    get('type 3, index 1', 0x2030_0003_0000_0001n);
    get('type 4', 0x2030_0004_0000_0000n);
    set('SYSENTER_CS', msr(0x174), 0x88n);
    see.note('it is set', getMsr(kernel, vcpu, 0x174));
    set('EFER, a reserved bit', msr(0xc0000080), 2n);
    set('an MSR there is none of', msr(0xdead), 0n);
    set('at 0', msr(0x174), 0n, 0n);
    set('type 3, index 0', 0x2030_0003_0000_0000n, 0n);
    for (const room of [0n, 1n, 100n]) {
      const list = new BigUint64Array(101);
      list[0] = room;
      see.call(`REG_LIST with room for ${room}`, () => kernel.ioctl(vcpu, KVM_GET_REG_LIST, list));
      see.note(`room for ${room}: how many`, list[0]);
    }
  }),
  define('kvm/nested', 'Nested guests', (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    const size = kernel.ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_NESTED_STATE);
    see.note('capability', size);
    const bytes = new Uint8Array(Math.max(size, 128));
    new DataView(bytes.buffer).setUint32(4, bytes.length, true);
    see.call('GET', () => kernel.ioctl(vcpu, KVM_GET_NESTED_STATE, bytes));
    see.call('SET', () => kernel.ioctl(vcpu, KVM_SET_NESTED_STATE, bytes));
    see.call('GET, pointer 0', () => kernel.ioctl(vcpu, KVM_GET_NESTED_STATE, 0));
    see.call('SET, pointer 0', () => kernel.ioctl(vcpu, KVM_SET_NESTED_STATE, 0));
  }),
];
