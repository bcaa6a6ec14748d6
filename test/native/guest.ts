// A real-mode guest by raw ioctls: the smallest thing that can be run, kicked and torn down.
import { accessSync, constants } from 'node:fs';
import type { Kernel } from '../../src/kernel/kernel.ts';
import type { Memory } from '../../src/kernel/memory.ts';
import { loadAddon } from '../../src/native/index.ts';

export const KVM_CREATE_VM = 0xae01;
export const KVM_CREATE_VCPU = 0xae41;
export const KVM_SET_USER_MEMORY_REGION = 0x4020ae46;
export const KVM_GET_REGS = 0x8090ae81;
export const KVM_SET_REGS = 0x4090ae82;
export const KVM_GET_SREGS = 0x8138ae83;
export const KVM_SET_SREGS = 0x4138ae84;

export const KVM_EXIT_IO = 2;
export const KVM_EXIT_HLT = 5;
export const EINTR = -4;

/** `jmp $`. */
export const spin: readonly number[] = [0xeb, 0xfe];
/** `mov dx,0x3f8; mov al,'H'; out dx,al; hlt`. */
export const hello: readonly number[] = [0xba, 0xf8, 0x03, 0xb0, 0x48, 0xee, 0xf4];
/** `mov dx,0x3f8; l: out dx,al; jmp l`. */
export const ports: readonly number[] = [0xba, 0xf8, 0x03, 0xee, 0xeb, 0xfd];

/** Why the tests of the real kernel cannot run here, or undefined. */
export function missing(): string | undefined {
  const loaded = loadAddon();
  if ('reason' in loaded) return loaded.reason;
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

export interface Guest {
  readonly vm: number;
  readonly vcpu: number;
  readonly ram: Memory;
  readonly run: Memory;
  readonly exitReason: number;
  readonly immediateExit: number;
}

export function makeGuest(kernel: Kernel, code: readonly number[]): Guest {
  const kvm = kernel.open('/dev/kvm');
  const vm = kernel.ioctl(kvm, KVM_CREATE_VM);
  kernel.close(kvm);
  const ram = kernel.guestRam(0x1000);
  ram.write(0, Uint8Array.from(code));
  const region = new DataView(new ArrayBuffer(32));
  region.setBigUint64(8, 0x1000n, true);
  region.setBigUint64(16, 0x1000n, true);
  region.setBigUint64(24, ram.address, true);
  kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, region);
  const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU);
  const run = kernel.mmap({ length: 12288, fd: vcpu });
  const sregs = new DataView(new ArrayBuffer(312));
  kernel.ioctl(vcpu, KVM_GET_SREGS, sregs);
  sregs.setBigUint64(0, 0n, true);
  sregs.setUint16(12, 0, true);
  kernel.ioctl(vcpu, KVM_SET_SREGS, sregs);
  const regs = new DataView(new ArrayBuffer(144));
  regs.setBigUint64(128, 0x1000n, true);
  regs.setBigUint64(136, 2n, true);
  kernel.ioctl(vcpu, KVM_SET_REGS, regs);
  return {
    vm,
    vcpu,
    ram,
    run,
    get exitReason() {
      return run.read32(8);
    },
    get immediateExit() {
      return run.read8(1);
    },
  };
}
