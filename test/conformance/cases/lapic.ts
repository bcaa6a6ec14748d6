/** The local APIC in the kernel: its state as userspace sees it. */
import type { Kernel } from 'kvio';
import {
  KVM_CAP_SPLIT_IRQCHIP,
  KVM_CREATE_IRQCHIP,
  KVM_CREATE_VCPU,
  KVM_ENABLE_CAP,
  KVM_GET_LAPIC,
  KVM_SET_LAPIC,
  KVM_SET_VAPIC_ADDR,
  KVM_TPR_ACCESS_REPORTING,
} from 'kvio/uapi';
import { enableCap, getLapic, irqchipVm, lapicRegisters, mpState, setApicCpuid, setLapic, x2apicApi } from '../apic-guest.ts';
import { type Case, define, failure, hex } from '../case.ts';
import { addRam, getMsr, getSregs, newVcpu, newVm, setMsr, setSregs, u32 } from '../machine.ts';

const section = 'LAPIC';
const _guest = { needs: { features: ['kick'] } } as const;

const APIC_BASE = 0x1b;
/** Registers of 16 bytes each. */
const _ALL_REGISTERS: readonly number[] = Array.from({ length: 64 }, (_, at) => at * 16);

/** The version of a split irqchip's APIC; on kernels that do not know the flags of X2APIC_API, what refuses them. */
function versionWith(kernel: Kernel, flags: bigint): string {
  const vm = irqchipVm(kernel, 'split');
  try {
    x2apicApi(kernel, vm, flags);
  } catch (error) {
    return failure(error);
  }
  const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
  setApicCpuid(kernel, vcpu);
  return hex(u32(getLapic(kernel, vcpu), 0x30));
}

export const lapicCases: Case[] = [
  define('kvm/lapic/irqchip-modes', section, (kernel, see) => {
    const vm = newVm(kernel);
    see.call('CREATE_IRQCHIP', () => kernel.ioctl(vm, KVM_CREATE_IRQCHIP));
    see.call('again', () => kernel.ioctl(vm, KVM_CREATE_IRQCHIP));
    see.call('split after it', () => enableCap(kernel, vm, KVM_CAP_SPLIT_IRQCHIP, 24n));
    see.call('split after it, too many pins', () => enableCap(kernel, vm, KVM_CAP_SPLIT_IRQCHIP, 4097n));
    const late = newVcpu(kernel).vm;
    see.call('CREATE_IRQCHIP after a vCPU', () => kernel.ioctl(late, KVM_CREATE_IRQCHIP));
    see.call('split after a vCPU', () => enableCap(kernel, late, KVM_CAP_SPLIT_IRQCHIP, 24n));
    see.call('split after a vCPU, too many pins', () => enableCap(kernel, late, KVM_CAP_SPLIT_IRQCHIP, 4097n));
    const split = newVm(kernel);
    see.call('split, flags 1', () => enableCap(kernel, split, KVM_CAP_SPLIT_IRQCHIP, 24n, 1));
    see.call('split, 1 << 32 pins', () => enableCap(kernel, split, KVM_CAP_SPLIT_IRQCHIP, 1n << 32n));
    see.call('split, 4096 pins', () => enableCap(kernel, split, KVM_CAP_SPLIT_IRQCHIP, 4096n));
    see.call('split again', () => enableCap(kernel, split, KVM_CAP_SPLIT_IRQCHIP, 4096n));
    see.call('CREATE_IRQCHIP after split', () => kernel.ioctl(split, KVM_CREATE_IRQCHIP));
    see.call('split, no pins', () => enableCap(kernel, newVm(kernel), KVM_CAP_SPLIT_IRQCHIP, 0n));
    see.call('ENABLE_CAP, pointer 0', () => kernel.ioctl(vm, KVM_ENABLE_CAP, 0));
    see.call('ENABLE_CAP, an unknown capability', () => enableCap(kernel, vm, 0xffff));
    see.call('ENABLE_CAP, one that cannot be enabled', () => enableCap(kernel, vm, 0));
    const { vcpu } = newVcpu(kernel);
    see.call('vCPU: ENABLE_CAP, pointer 0', () => kernel.ioctl(vcpu, KVM_ENABLE_CAP, 0));
    see.call('vCPU: flags 1', () => enableCap(kernel, vcpu, 190, 0n, 1));
    see.call('vCPU: a capability of the VM', () => enableCap(kernel, vcpu, KVM_CAP_SPLIT_IRQCHIP, 24n));
    see.call('vCPU: an unknown capability', () => enableCap(kernel, vcpu, 0xffff));
  }),
  define('kvm/lapic/x2apic-api', section, (kernel, see) => {
    for (const irqchip of ['none', 'kernel', 'split'] as const) {
      for (const flags of [0n, 1n, 2n, 3n, 4n, 8n, 12n, 16n, 1n << 32n, 0xfn]) {
        const vm = irqchipVm(kernel, irqchip);
        see.call(`${irqchip}: ${hex(flags)}`, () => x2apicApi(kernel, vm, flags));
        kernel.close(vm);
      }
    }
    const { vm } = newVcpu(kernel);
    see.call('after a vCPU', () => x2apicApi(kernel, vm, 3n));
    see.call('flags 1', () => enableCap(kernel, vm, 129, 3n, 1));
  }),
  define('kvm/lapic/none', section, (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    see.call('GET_LAPIC, pointer 0', () => kernel.ioctl(vcpu, KVM_GET_LAPIC, 0));
    see.call('GET_LAPIC', () => kernel.ioctl(vcpu, KVM_GET_LAPIC, new Uint8Array(1024)));
    see.call('SET_LAPIC, pointer 0', () => kernel.ioctl(vcpu, KVM_SET_LAPIC, 0));
    see.call('SET_LAPIC', () => kernel.ioctl(vcpu, KVM_SET_LAPIC, new Uint8Array(1024)));
    see.call('SET_VAPIC_ADDR, pointer 0', () => kernel.ioctl(vcpu, KVM_SET_VAPIC_ADDR, 0));
    see.call('TPR_ACCESS_REPORTING, pointer 0', () => kernel.ioctl(vcpu, KVM_TPR_ACCESS_REPORTING, 0));
    see.call('TPR_ACCESS_REPORTING on', () => kernel.ioctl(vcpu, KVM_TPR_ACCESS_REPORTING, tprReporting(1)));
    see.note('TSC_DEADLINE', getMsr(kernel, vcpu, 0x6e0) ?? 'none');
    see.note('x2APIC id', getMsr(kernel, vcpu, 0x802) ?? 'none');
    see.note('an APIC base in x2APIC mode', setMsr(kernel, vcpu, APIC_BASE, 0xfee00c00n));
    setApicCpuid(kernel, vcpu);
    see.note('an APIC base in x2APIC mode, with CPUID', setMsr(kernel, vcpu, APIC_BASE, 0xfee00c00n));
    see.note('x2APIC id in x2APIC mode', getMsr(kernel, vcpu, 0x802) ?? 'none');
    // A vCPU keeps what it was made with; this VM cannot have an irqchip any more.
    see.call('CREATE_IRQCHIP', () => kernel.ioctl(vm, KVM_CREATE_IRQCHIP));
  }),
  define('kvm/lapic/fresh', section, (kernel, see) => {
    for (const irqchip of ['kernel', 'split'] as const) {
      const vm = irqchipVm(kernel, irqchip);
      for (const id of [0, 1, 5]) {
        const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, id);
        const name = `${irqchip}, vCPU ${id}`;
        see.note(`${name}: registers`, lapicRegisters(getLapic(kernel, vcpu)));
        see.note(`${name}: MP state`, mpState(kernel, vcpu));
        see.note(`${name}: apic_base`, getSregs(kernel, vcpu).apic_base);
        setApicCpuid(kernel, vcpu);
        see.note(`${name}: version with x2APIC in CPUID`, hex(u32(getLapic(kernel, vcpu), 0x30)));
      }
      const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, 300);
      see.note(`${irqchip}, vCPU 300: id`, hex(u32(getLapic(kernel, vcpu), 0x20)));
      see.call(`${irqchip}: GET_LAPIC, pointer 0`, () => kernel.ioctl(vcpu, KVM_GET_LAPIC, 0));
      see.call(`${irqchip}: SET_LAPIC, pointer 0`, () => kernel.ioctl(vcpu, KVM_SET_LAPIC, 0));
    }
    for (const flags of [0n, 4n, 8n]) {
      see.note(`split, X2APIC_API ${hex(flags)}: version`, versionWith(kernel, flags));
    }
  }),
  define('kvm/lapic/set-and-get', section, (kernel, see) => {
    for (const irqchip of ['kernel', 'split'] as const) {
      for (const [name, pattern] of [
        ['all ones', 0xffff_ffff],
        ['a pattern', 0x1234_5678],
        ['zeros', 0],
      ] as const) {
        const vcpu = kernel.ioctl(irqchipVm(kernel, irqchip), KVM_CREATE_VCPU, 3);
        setApicCpuid(kernel, vcpu);
        const put = setLapic(kernel, vcpu, (view) => {
          // Not the timer, which would run.
          for (let at = 0; at < 1024; at += 4) if (at !== 0x380) view.setUint32(at, pattern, true);
        });
        see.note(`${irqchip}, ${name}: SET_LAPIC`, put);
        see.note(`${irqchip}, ${name}: GET_LAPIC`, lapicRegisters(getLapic(kernel, vcpu)));
        see.note(`${irqchip}, ${name}: cr8`, getSregs(kernel, vcpu).cr8);
      }
    }
  }),
  define('kvm/lapic/set-x2apic', section, (kernel, see) => {
    for (const format of [0n, 1n]) {
      const vm = irqchipVm(kernel, 'split');
      x2apicApi(kernel, vm, format);
      const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, 5);
      setApicCpuid(kernel, vcpu);
      const name = format === 0n ? '8-bit ids' : '32-bit ids';
      see.note(`${name}: x2APIC mode`, setMsr(kernel, vcpu, APIC_BASE, 0xfee00c00n));
      see.note(`${name}: registers`, lapicRegisters(getLapic(kernel, vcpu)));
      see.note(`${name}: ICR`, setMsr(kernel, vcpu, 0x830, 0x12_0000_00fen));
      see.note(`${name}: registers after ICR`, lapicRegisters(getLapic(kernel, vcpu)));
      see.call(`${name}: SET_LAPIC with what GET gave`, () => setLapic(kernel, vcpu, () => {}));
      for (const id of [0, 5, 6, 0x500_0000]) {
        see.call(`${name}: SET_LAPIC, id ${hex(id)}`, () =>
          setLapic(kernel, vcpu, (view) => {
            view.setUint32(0x20, id, true);
            view.setUint32(0xd0, 0x77, true);
            view.setUint32(0xf0, 0x1aa, true);
          }),
        );
        const after = getLapic(kernel, vcpu);
        see.note(`${name}: id, LDR, SPIV after ${hex(id)}`, [u32(after, 0x20), u32(after, 0xd0), u32(after, 0xf0)]);
      }
      see.note(`${name}: back to xAPIC`, setMsr(kernel, vcpu, APIC_BASE, 0xfee00800n));
      see.note(`${name}: registers in xAPIC mode again`, lapicRegisters(getLapic(kernel, vcpu)));
    }
  }),
  define('kvm/lapic/apic-base', section, (kernel, see) => {
    const vcpu = kernel.ioctl(irqchipVm(kernel, 'kernel'), KVM_CREATE_VCPU, 1);
    const values = [
      0xfee00800n,
      0xfee00900n,
      0xfee00000n,
      0xfee00400n,
      0xfee00c00n,
      0xfee00a00n,
      0xfee00801n,
      0x12345800n,
      1n << 36n,
    ];
    for (const cpuid of [false, true]) {
      if (cpuid) setApicCpuid(kernel, vcpu);
      for (const value of values) {
        const name = `${cpuid ? 'with' : 'without'} CPUID, ${hex(value)}`;
        see.note(`${name}: SET_MSRS`, setMsr(kernel, vcpu, APIC_BASE, value));
        const regs = getLapic(kernel, vcpu);
        see.note(`${name}: base, id, LDR`, [
          getMsr(kernel, vcpu, APIC_BASE) ?? 'none',
          hex(u32(regs, 0x20)),
          hex(u32(regs, 0xd0)),
        ]);
      }
      // Each transition, from each mode.
      for (const from of [0xfee00000n, 0xfee00800n, 0xfee00c00n]) {
        for (const to of [0xfee00000n, 0xfee00800n, 0xfee00c00n]) {
          setMsr(kernel, vcpu, APIC_BASE, from);
          see.call(`${cpuid ? 'with' : 'without'} CPUID, ${hex(from)} → ${hex(to)}: SET_SREGS`, () =>
            setSregs(kernel, vcpu, (sregs) => {
              sregs.apic_base = to;
            }),
          );
        }
      }
    }
  }),
  define('kvm/lapic/x2apic-msrs', section, (kernel, see) => {
    for (const irqchip of ['kernel', 'split'] as const) {
      const vcpu = kernel.ioctl(irqchipVm(kernel, irqchip), KVM_CREATE_VCPU, 2);
      setApicCpuid(kernel, vcpu);
      see.note(
        `${irqchip}: in xAPIC mode`,
        [0x802, 0x808, 0x80f].map((index) => getMsr(kernel, vcpu, index) ?? 'none'),
      );
      setMsr(kernel, vcpu, APIC_BASE, 0xfee00c00n);
      setMsr(kernel, vcpu, 0x80f, 0x1ffn);
      const reads: Record<string, string> = {};
      for (let index = 0x800; index < 0x900; index++) {
        const value = getMsr(kernel, vcpu, index);
        if (value !== undefined) reads[hex(index)] = hex(value);
      }
      see.note(`${irqchip}: readable`, reads);
      for (const value of [0n, 0x1ffn, 0xffff_ffffn, 1n << 32n]) {
        const writes: string[] = [];
        for (let index = 0x800; index < 0x900; index++) {
          // Not ICR and SELF IPI, which send, nor the timer's count.
          if (index === 0x830 || index === 0x83f || index === 0x838) continue;
          if (setMsr(kernel, vcpu, index, value) === 1) writes.push(hex(index));
        }
        see.note(`${irqchip}: takes ${hex(value)}`, writes);
        see.note(`${irqchip}: registers after ${hex(value)}`, lapicRegisters(getLapic(kernel, vcpu)));
      }
      setMsr(kernel, vcpu, 0x80f, 0x1ffn);
      for (const icr of [0x40n, 0x1000n, 0x2000n, 0x10000n, 0x20000n, 0x100000n, 0x8000_0000n, 0x7_0000_4000n])
        see.note(`${irqchip}: ICR ${hex(icr)}`, [setMsr(kernel, vcpu, 0x830, icr), getMsr(kernel, vcpu, 0x830) ?? 'none']);
      see.note(`${irqchip}: SELF IPI 0x1ff`, setMsr(kernel, vcpu, 0x83f, 0x1ffn));
      see.note(`${irqchip}: SELF IPI 0x41`, setMsr(kernel, vcpu, 0x83f, 0x41n));
      see.note(`${irqchip}: IRR after it`, hex(getMsr(kernel, vcpu, 0x822) ?? 0n));
    }
  }),
  define('kvm/lapic/tpr-and-cr8', section, (kernel, see) => {
    const vcpu = kernel.ioctl(irqchipVm(kernel, 'kernel'), KVM_CREATE_VCPU, 0);
    const tpr = (): readonly [string, string, bigint] => {
      const regs = getLapic(kernel, vcpu);
      return [hex(u32(regs, 0x80)), hex(u32(regs, 0xa0)), getSregs(kernel, vcpu).cr8];
    };
    see.note('at first: TPR, PPR, cr8', tpr());
    for (const cr8 of [5n, 15n, 16n, 0n]) {
      setSregs(kernel, vcpu, (sregs) => {
        sregs.cr8 = cr8;
      });
      see.note(`SET_SREGS cr8 ${cr8}: TPR, PPR, cr8`, tpr());
    }
    for (const value of [0x5a, 0xff, 0x1_2345]) {
      see.call(`SET_LAPIC TPR ${hex(value)}`, () => setLapic(kernel, vcpu, (view) => view.setUint32(0x80, value, true)));
      see.note(`TPR ${hex(value)}: TPR, PPR, cr8`, tpr());
    }
    setLapic(kernel, vcpu, (view) => {
      view.setUint32(0x80, 0x35, true);
      view.setUint32(0x100 + 0x20, 1 << 6, true);
    });
    see.note('vector 0x46 in service: TPR, PPR, cr8', tpr());
    setSregs(kernel, vcpu, (sregs) => {
      sregs.cr8 = 4n;
    });
    see.note('and cr8 4: TPR, PPR, cr8', tpr());
  }),
  define('kvm/lapic/vapic-and-tpr-reporting', section, (kernel, see) => {
    const vm = irqchipVm(kernel, 'kernel');
    const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
    const address = (value: bigint): Uint8Array => new Uint8Array(new BigUint64Array([value]).buffer);
    see.call('SET_VAPIC_ADDR, pointer 0', () => kernel.ioctl(vcpu, KVM_SET_VAPIC_ADDR, 0));
    see.call('without memory', () => kernel.ioctl(vcpu, KVM_SET_VAPIC_ADDR, address(0x1000n)));
    see.call('0', () => kernel.ioctl(vcpu, KVM_SET_VAPIC_ADDR, address(0n)));
    addRam(kernel, vm, 0, 0x1000n, 0x1000);
    for (const at of [0x1000n, 0x1003n, 0x1ffdn, 0x1ffcn, 0x2000n, 0x1000n + (1n << 52n)])
      see.call(`at ${hex(at)}`, () => kernel.ioctl(vcpu, KVM_SET_VAPIC_ADDR, address(at)));
    see.call('TPR_ACCESS_REPORTING, pointer 0', () => kernel.ioctl(vcpu, KVM_TPR_ACCESS_REPORTING, 0));
    see.call('flags 1', () => kernel.ioctl(vcpu, KVM_TPR_ACCESS_REPORTING, tprReporting(1, 1)));
    for (const enabled of [1, 2, 0]) {
      const bytes = tprReporting(enabled);
      see.call(`enabled ${enabled}`, () => kernel.ioctl(vcpu, KVM_TPR_ACCESS_REPORTING, bytes));
      see.note(`enabled ${enabled}: the struct`, bytes.subarray(0, 16));
    }
  }),
];

function tprReporting(enabled: number, flags = 0): Uint8Array {
  const bytes = new Uint8Array(40);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, enabled, true);
  view.setUint32(4, flags, true);
  view.setUint32(8, 0x77, true);
  return bytes;
}
