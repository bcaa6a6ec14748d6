/** XSAVE state: KVM_GET_XSAVE, KVM_SET_XSAVE, KVM_GET_XSAVE2, extended control registers, and how they meet KVM_GET_FPU. */
import type { Kernel } from 'kvio';
import {
  KVM_CAP_XSAVE2,
  KVM_CHECK_EXTENSION,
  KVM_GET_FPU,
  KVM_GET_SUPPORTED_CPUID,
  KVM_GET_XCRS,
  KVM_GET_XSAVE,
  KVM_GET_XSAVE2,
  KVM_SET_CPUID2,
  KVM_SET_FPU,
  KVM_SET_XCRS,
  KVM_SET_XSAVE,
  kvm_fpu,
  kvm_xcrs,
} from 'kvio/uapi';
import { type Case, define, hex, nonZero } from '../case.ts';
import { cpuidBytes, cpuidEntries, newVcpu, openKvm } from '../machine.ts';

/** Where things are in the area: legacy FXSAVE, XSTATE header, then the extended components. */
const AT = {
  fcw: 0,
  ftw: 4,
  mxcsr: 24,
  mxcsrMask: 28,
  st0: 32,
  xmm0: 160,
  software: 464,
  bv: 512,
  compacted: 520,
  reserved: 528,
  ymm0: 576,
};

const get = (kernel: Kernel, vcpu: number): Uint8Array => {
  const bytes = new Uint8Array(4096);
  kernel.ioctl(vcpu, KVM_GET_XSAVE, bytes);
  return bytes;
};
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const edited = (bytes: Uint8Array, edit: (view: DataView, copy: Uint8Array) => void): Uint8Array => {
  const copy = Uint8Array.from(bytes);
  edit(viewOf(copy), copy);
  return copy;
};
/** What of an area is not zero, outside the bytes that say what the host saves: offset of each such u32 and its value. */
const words = (bytes: Uint8Array): Record<string, string> => {
  const view = viewOf(bytes);
  const found: Record<string, string> = {};
  for (let at = 0; at < bytes.length; at += 4) {
    const value = view.getUint32(at, true);
    if (value !== 0 && (at < AT.software || at >= AT.bv)) found[String(at)] = hex(value);
  }
  return found;
};
/** The vCPU gets all of the host's CPUID. */
const withHostCpuid = (kernel: Kernel): number => {
  const { vcpu } = newVcpu(kernel);
  const table = cpuidBytes([], 256, 256);
  kernel.ioctl(openKvm(kernel), KVM_GET_SUPPORTED_CPUID, table);
  kernel.ioctl(vcpu, KVM_SET_CPUID2, cpuidBytes(cpuidEntries(table)));
  return vcpu;
};
const xcr0 = (value: bigint): Uint8Array =>
  kvm_xcrs.encode({
    nr_xcrs: 1,
    flags: 0,
    xcrs: [{ xcr: 0, reserved: 0, value }, ...Array.from({ length: 15 }, () => ({ xcr: 0, reserved: 0, value: 0n }))],
  });

export const xsaveCases: Case[] = [
  define(
    'kvm/xsave/argument',
    'FPU, XSAVE and XCRs',
    (kernel, see) => {
      const { vm, vcpu } = newVcpu(kernel);
      see.note('XSAVE2 capability', kernel.ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2));
      see.call('GET_XSAVE, pointer 0', () => kernel.ioctl(vcpu, KVM_GET_XSAVE, 0));
      see.call('SET_XSAVE, pointer 0', () => kernel.ioctl(vcpu, KVM_SET_XSAVE, 0));
      see.call('GET_XSAVE2, pointer 0', () => kernel.ioctl(vcpu, KVM_GET_XSAVE2, 0));
      see.note('a new vCPU', words(get(kernel, vcpu)));
      see.note('the software bytes', get(kernel, vcpu).subarray(AT.software, AT.bv));
      const two = new Uint8Array(4096).fill(0xee);
      see.call('GET_XSAVE2', () => kernel.ioctl(vcpu, KVM_GET_XSAVE2, two));
      see.note('it is the same', Buffer.compare(two, get(kernel, vcpu)) === 0);
    },
    { volatile: ['a new vCPU/28', 'the software bytes'] }, // MXCSR's bits and XCR0 of the host's processor
  ),
  define(
    'kvm/xsave/legality',
    'FPU, XSAVE and XCRs',
    (kernel, see) => {
      const { vcpu } = newVcpu(kernel);
      const fresh = get(kernel, vcpu);
      const set = (label: string, edit: (view: DataView, copy: Uint8Array) => void): void => {
        see.call(label, () => kernel.ioctl(vcpu, KVM_SET_XSAVE, edited(fresh, edit)));
        see.note(`${label}: then`, words(get(kernel, vcpu)));
      };
      set('as it was', () => {});
      set('a component there is none of', (view) => view.setBigUint64(AT.bv, 1n << 62n, true));
      set('bit 63', (view) => view.setBigUint64(AT.bv, 1n << 63n, true));
      set('LWP', (view) => view.setBigUint64(AT.bv, 1n << 62n, true));
      set('the compacted format', (view) => view.setBigUint64(AT.compacted, 1n << 63n, true));
      set('xcomp_bv 1', (view) => view.setBigUint64(AT.compacted, 1n, true));
      set('a reserved byte of the header', (view) => view.setUint8(AT.reserved, 1));
      set('the last reserved byte', (view) => view.setUint8(575, 1));
      set('MXCSR with a reserved bit, no component', (view) => view.setUint32(AT.mxcsr, 0x80001f80, true));
      set('MXCSR with a reserved bit, x87', (view) => {
        view.setUint32(AT.mxcsr, 0x80001f80, true);
        view.setBigUint64(AT.bv, 1n, true);
      });
      set('MXCSR with a reserved bit, SSE', (view) => {
        view.setUint32(AT.mxcsr, 0x80001f80, true);
        view.setBigUint64(AT.bv, 2n, true);
      });
      set('MXCSR 0xffff, SSE', (view) => {
        view.setUint32(AT.mxcsr, 0xffff, true);
        view.setBigUint64(AT.bv, 2n, true);
      });
      set('MXCSR 0x1f00, x87 alone', (view) => {
        view.setUint32(AT.mxcsr, 0x1f00, true);
        view.setBigUint64(AT.bv, 1n, true);
      });
      set('software bytes of its own', (_view, copy) => copy.fill(0x5a, AT.software, AT.bv));
      set('padding before them', (_view, copy) => copy.fill(0x5a, 416, AT.software));
    },
    { volatile: ['*: then/28'] },
  ),
  define(
    'kvm/xsave/values',
    'FPU, XSAVE and XCRs',
    (kernel, see) => {
      const { vcpu } = newVcpu(kernel);
      const fresh = get(kernel, vcpu);
      const show = (label: string): void => {
        const fpu = kvm_fpu.alloc();
        kernel.ioctl(vcpu, KVM_GET_FPU, fpu);
        see.note(`${label}: XSAVE`, words(get(kernel, vcpu)));
        see.note(`${label}: FPU`, nonZero(kvm_fpu.decode(fpu)));
      };
      const set = (label: string, bv: bigint, edit: (view: DataView, copy: Uint8Array) => void): void => {
        const bytes = edited(fresh, (view, copy) => {
          view.setBigUint64(AT.bv, bv, true);
          edit(view, copy);
        });
        see.call(label, () => kernel.ioctl(vcpu, KVM_SET_XSAVE, bytes));
        show(label);
      };
      const registers = (view: DataView, copy: Uint8Array): void => {
        view.setUint16(AT.fcw, 0x27f, true);
        view.setUint16(2, 0x3800, true);
        view.setUint8(AT.ftw, 0x80);
        view.setUint16(6, 0x123, true);
        view.setBigUint64(8, 0x1122334455667788n, true);
        view.setBigUint64(16, 0x99aabbccddeeff00n, true);
        view.setUint32(AT.mxcsr, 0x1fa0, true);
        view.setUint32(AT.mxcsrMask, 0xff, true);
        copy.fill(0x11, AT.st0, AT.st0 + 16);
        copy.fill(0x22, AT.xmm0, AT.xmm0 + 16);
        copy.fill(0x33, AT.xmm0 + 240, AT.xmm0 + 256);
      };
      set('x87 and SSE', 3n, registers);
      set('x87 alone', 1n, registers);
      set('SSE alone', 2n, registers);
      set('nothing', 0n, registers);
      const fpu = kvm_fpu.alloc();
      const view = viewOf(fpu);
      fpu.fill(0x44, 0, 16);
      view.setUint16(128, 0x77f, true);
      fpu.fill(0x55, 160, 176);
      see.call('SET_FPU after nothing', () => kernel.ioctl(vcpu, KVM_SET_FPU, fpu));
      show('SET_FPU after nothing');
      set('x87 and SSE again', 3n, registers);
      see.call('SET_FPU over both', () => kernel.ioctl(vcpu, KVM_SET_FPU, fpu));
      show('SET_FPU over both');
    },
    { volatile: ['*: XSAVE/28'] },
  ),
  define('kvm/xsave/avx', 'FPU, XSAVE and XCRs', (kernel, see) => {
    const plain = newVcpu(kernel).vcpu;
    const set = (vcpu: number, label: string): void => {
      const bytes = edited(get(kernel, vcpu), (view, copy) => {
        view.setBigUint64(AT.bv, 7n, true);
        copy.fill(0x66, AT.ymm0, AT.ymm0 + 16);
        copy.fill(0x67, AT.xmm0, AT.xmm0 + 16);
      });
      see.call(label, () => kernel.ioctl(vcpu, KVM_SET_XSAVE, bytes));
      const now = get(kernel, vcpu);
      see.note(`${label}: components`, viewOf(now).getBigUint64(AT.bv, true) & 7n);
      see.note(`${label}: YMM0 and XMM0`, [now.subarray(AT.ymm0, AT.ymm0 + 16), now.subarray(AT.xmm0, AT.xmm0 + 16)]);
    };
    set(plain, 'without CPUID');
    const vcpu = withHostCpuid(kernel);
    set(vcpu, "with the host's CPUID");
    see.note('PKRU of a vCPU with CPUID', viewOf(get(kernel, vcpu)).getBigUint64(AT.bv, true) & 0x200n);
  }),
  define('kvm/xsave/xcrs', 'FPU, XSAVE and XCRs', (kernel, see) => {
    const vcpu = withHostCpuid(kernel);
    const now = (): bigint => {
      const bytes = kvm_xcrs.alloc();
      kernel.ioctl(vcpu, KVM_GET_XCRS, bytes);
      return kvm_xcrs.decode(bytes).xcrs[0]!.value;
    };
    see.note('at first', now());
    for (const value of [3n, 1n, 5n, 7n, 0n, 2n, 0xbn, 0x1bn, 0x27n, 0x67n, 1n << 63n, 0x20001n]) {
      see.call(`XCR0 ${hex(value)}`, () => kernel.ioctl(vcpu, KVM_SET_XCRS, xcr0(value)));
      see.note(`XCR0 ${hex(value)}: then`, now());
    }
  }),
];
