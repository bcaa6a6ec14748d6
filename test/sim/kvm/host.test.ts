import { describe, expect, test } from 'vitest';
import { errnoName } from '../../../src/kernel/errno.ts';
import type { Kernel } from '../../../src/kernel/kernel.ts';
import { loadAddon, openNative } from '../../../src/native/index.ts';
import { DEFAULT_PROFILE, openSim, profiles } from '../../../src/sim/index.ts';
import * as u from '../../../src/uapi/index.ts';
import { likeHost } from '../../fuzz/machine.ts';

/*
 * The simulated KVM against the host's, call by call. It runs where the host is what the default machine was captured from: a PVM
 * backend, which signs itself in an MSR.
 */
const PVM_SIGNATURE = 0x4d5650n;

type Observation = readonly [what: string, value: unknown];

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** One kernel, and what it answered. */
class Witness {
  readonly kernel: Kernel;
  readonly kvm: number;
  readonly seen: Observation[] = [];

  constructor(kernel: Kernel) {
    this.kernel = kernel;
    this.kvm = kernel.open('/dev/kvm');
  }

  note(what: string, value: unknown): void {
    this.seen.push([what, value instanceof Uint8Array ? hex(value) : value]);
  }

  io(what: string, fd: number, request: number, arg?: number | bigint | Uint8Array): void {
    const result = this.kernel.tryIoctl(fd, request, arg, { unsafe: true });
    this.note(what, result < 0 ? errnoName(result) : result);
    if (arg instanceof Uint8Array) this.note(`${what}: bytes`, arg);
  }

  fresh<T>(use: (vm: number, vcpu: number) => T): T {
    const vm = this.kernel.ioctl(this.kvm, u.KVM_CREATE_VM);
    const vcpu = this.kernel.ioctl(vm, u.KVM_CREATE_VCPU, 0);
    try {
      return use(vm, vcpu);
    } finally {
      this.kernel.close(vcpu);
      this.kernel.close(vm);
    }
  }
}

const msr = (index: number, data: bigint): Uint8Array => u.kvm_msrs.encode({ nmsrs: 1, entries: [{ index, reserved: 0, data }] });

function hostIsPvm(): boolean {
  if ('reason' in loadAddon()) return false;
  try {
    const kernel = openNative('test');
    try {
      const signature = msr(0x4b564d11, 0n);
      new Witness(kernel).fresh((_vm, vcpu) => kernel.ioctl(vcpu, u.KVM_GET_MSRS, signature));
      return u.kvm_msrs.decode(signature).entries[0]!.data === PVM_SIGNATURE;
    } finally {
      kernel.close();
    }
  } catch {
    return false;
  }
}

/** Both kernels see the same calls; the first difference is what fails. */
function agree(play: (witness: Witness) => void): void {
  const host = openNative('test');
  const machine = likeHost(profiles[DEFAULT_PROFILE]!, host);
  const answers = [host, openSim({ machine })].map((kernel) => {
    const witness = new Witness(kernel);
    play(witness);
    kernel.close();
    return witness.seen;
  });
  expect(answers[1]!.length).toBeGreaterThan(50);
  for (const [i, real] of answers[0]!.entries()) expect(answers[1]![i]).toEqual(real);
}

/** The same numbers every time. */
function dice(seed: number): (sides: number) => number {
  let state = seed;
  return (sides) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >>> 8) % sides;
  };
}

describe.skipIf(!hostIsPvm())('against the host', () => {
  test('capabilities, lists, MSRs of the system descriptor', () => {
    agree((w) => {
      for (let cap = 0; cap < 260; cap++) w.io(`capability ${cap}`, w.kvm, u.KVM_CHECK_EXTENSION, cap);
      w.fresh((vm) => {
        for (let cap = 0; cap < 260; cap++) w.io(`capability ${cap} of a VM`, vm, u.KVM_CHECK_EXTENSION, cap);
      });
      for (const room of [0, 1, 43, 44, 200]) {
        const list = u.kvm_msr_list.alloc(200);
        new DataView(list.buffer).setUint32(0, room, true);
        w.io(`index list ${room}`, w.kvm, u.KVM_GET_MSR_INDEX_LIST, list);
      }
      for (const room of [0, 3, 4, 300]) {
        const table = u.kvm_cpuid2.alloc(300);
        new DataView(table.buffer).setUint32(0, room, true);
        w.io(`emulated CPUID ${room}`, w.kvm, u.KVM_GET_EMULATED_CPUID, table);
      }
      for (const index of [0x8b, 0x10a, 0x345, 0xce, 0x10, 0x1, 0x999])
        w.io(`feature ${index}`, w.kvm, u.KVM_GET_MSRS, msr(index, 5n));
    });
  });

  test('random memslots', () => {
    agree((w) => {
      const roll = dice(7);
      w.fresh((vm) => {
        for (let i = 0; i < 600; i++) {
          const region = {
            slot: roll(6),
            flags: roll(10) === 0 ? roll(8) : roll(3),
            guest_phys_addr: BigInt(roll(24) * 4096 + (roll(30) ? 0 : 7)),
            memory_size: BigInt(roll(5) * 4096),
            userspace_addr: BigInt(roll(3) * 4096),
          };
          w.io(
            JSON.stringify(region, (_key, value) => String(value)),
            vm,
            u.KVM_SET_USER_MEMORY_REGION,
            u.kvm_userspace_memory_region.encode(region),
          );
        }
      });
    });
  });

  test('every MSR KVM knows, with values of every kind', () => {
    const ranges = [
      [0, 0x300],
      [0x400, 0x408],
      [0x4b564d00, 0x4b564d20],
      [0xc0000080, 0xc0000110],
      [0xc0010000, 0xc0010150],
    ] as const;
    const values = [
      0n,
      1n,
      6n,
      0x100n,
      0x500n,
      0xd01n,
      0x40000n,
      1n << 47n,
      0xffff800000000000n,
      (1n << 64n) - 1n,
      0x0606060606060606n,
    ];
    agree((w) => {
      w.fresh((_vm, vcpu) => {
        for (const [first, end] of ranges) {
          for (let index: number = first; index < end; index++) {
            // The time does not stand still.
            if (index === 0x10) continue;
            w.io(`read ${index.toString(16)}`, vcpu, u.KVM_GET_MSRS, msr(index, 5n));
            for (const value of values) {
              w.io(`${index.toString(16)} = ${value.toString(16)}`, vcpu, u.KVM_SET_MSRS, msr(index, value));
              w.io(`read ${index.toString(16)}`, vcpu, u.KVM_GET_MSRS, msr(index, 5n));
            }
          }
        }
      });
    });
  });

  test('random CPUID tables', () => {
    agree((w) => {
      const roll = dice(3);
      for (let i = 0; i < 150; i++) {
        const entries = Array.from({ length: roll(8) }, () => ({
          function: [1, 7, 13, 0x80000001, 0][roll(5)]!,
          index: [0, 0, 0, 1, 1, 2, 5, 9][roll(8)]!,
          flags: roll(2),
          eax: roll(2 ** 20) & ~0x60000,
          ebx: roll(2 ** 23) * 8,
          ecx: roll(2 ** 23) * 16,
          edx: roll(2 ** 23) * 32,
        }));
        w.fresh((_vm, vcpu) => {
          w.io('set', vcpu, u.KVM_SET_CPUID2, u.kvm_cpuid2.encode({ nent: entries.length, entries }));
          const table = u.kvm_cpuid2.alloc(256);
          new DataView(table.buffer).setUint32(0, 256, true);
          w.io('get', vcpu, u.KVM_GET_CPUID2, table);
        });
      }
    });
  });

  test('special registers, bit by bit', () => {
    agree((w) => {
      for (let n = 0; n < 64; n++) {
        for (const field of ['cr0', 'cr4', 'efer', 'apic_base', 'cr8', 'cr3'] as const) {
          w.fresh((_vm, vcpu) => {
            const bytes = u.kvm_sregs.alloc();
            w.kernel.ioctl(vcpu, u.KVM_GET_SREGS, bytes);
            const sregs = u.kvm_sregs.decode(bytes);
            sregs[field] ^= 1n << BigInt(n);
            w.io(`${field} bit ${n}`, vcpu, u.KVM_SET_SREGS, u.kvm_sregs.encode(sregs));
            w.io('get', vcpu, u.KVM_GET_SREGS, bytes);
          });
        }
      }
    });
  });

  test('random entries into a guest: registers through kvm_run, immediate_exit, completions', () => {
    const at = (path: string): number => u.kvm_run.offsetOf(path);
    agree((w) => {
      const roll = dice(1077);
      const pick = <T>(...of: T[]): T => of[roll(of.length)]!;
      w.fresh((vm, vcpu) => {
        const { kernel } = w;
        const ram = kernel.guestRam(0x2000);
        // in al, 0x10; mov ax, [0x8000]; mov [0x8000], ax; out 0x10, al; sti; jmp to the beginning
        ram.write(0, Uint8Array.from([0xe4, 0x10, 0xa1, 0, 0x80, 0xa3, 0, 0x80, 0xe6, 0x10, 0xfb, 0xeb, 0xf3]));
        const region = { slot: 0, flags: 0, guest_phys_addr: 0x1000n, memory_size: 0x2000n, userspace_addr: ram.address };
        kernel.ioctl(vm, u.KVM_SET_USER_MEMORY_REGION, u.kvm_userspace_memory_region.encode(region));
        const run = kernel.mmap({ length: 8192, fd: vcpu });
        const sregs = u.kvm_sregs.alloc();
        kernel.ioctl(vcpu, u.KVM_GET_SREGS, sregs);
        const flat = u.kvm_sregs.decode(sregs);
        flat.cs.base = 0n;
        flat.cs.selector = 0;
        kernel.ioctl(vcpu, u.KVM_SET_SREGS, u.kvm_sregs.encode(flat));
        const regs = u.kvm_regs.alloc();
        new DataView(regs.buffer).setBigUint64(u.kvm_regs.offsetOf('rip'), 0x1000n, true);
        kernel.ioctl(vcpu, u.KVM_SET_REGS, regs);
        for (let i = 0; i < 300; i++) {
          run.write64(at('kvm_valid_regs'), BigInt(pick(0, 1, 2, 3, 7, 8)));
          run.write64(at('kvm_dirty_regs'), BigInt(pick(0, 0, 1, 2, 3, 16)));
          if (roll(4) === 0) run.write64(at('s.regs.regs.rip'), pick(0x1000n, 0x1002n, 0x1005n, 0x1008n));
          if (roll(4) === 0) run.write64(at('s.regs.regs.rflags'), pick(0x2n, 0x202n, 0x246n, 0xcd7n));
          if (roll(4) === 0) run.write64(at('s.regs.sregs.cr0'), pick(0x60000010n, 0x10n, 0x80000010n));
          if (roll(4) === 0) run.write64(at('s.regs.sregs.cr4'), pick(0n, 0x20n, 1n << 12n));
          run.write64(at('cr8'), pick(0n, 0n, 3n, 16n));
          run.write8(at('immediate_exit'), pick(0, 0, 1));
          run.write16(at('mmio.data'), roll(65536));
          run.write8(4096, roll(256));
          w.note('run', kernel.run(vcpu, { budget: 2000 }));
          w.note('head', run.read(0, 32));
          w.note('exit', run.read(32, 64));
          w.note('dirty', run.read64(at('kvm_dirty_regs')));
          w.note('synced', run.read(at('s.regs.regs'), 144 + 312));
          w.io('regs', vcpu, u.KVM_GET_REGS, regs);
          w.io('sregs', vcpu, u.KVM_GET_SREGS, sregs);
        }
      });
    });
  });
});
