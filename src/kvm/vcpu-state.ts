import { word } from '../kernel/arguments.ts';
import { KernelError } from '../kernel/errors.ts';
import { getStruct, setStruct, withWord } from '../kernel/handle.ts';
import { withRoom } from '../kernel/temporary.ts';
import {
  KVM_ENABLE_CAP,
  KVM_GET_DEBUGREGS,
  KVM_GET_DEVICE_ATTR,
  KVM_GET_ONE_REG,
  KVM_GET_REG_LIST,
  KVM_GET_STATS_FD,
  KVM_GET_TSC_KHZ,
  KVM_GET_VCPU_EVENTS,
  KVM_GET_XCRS,
  KVM_GET_XSAVE,
  KVM_GET_XSAVE2,
  KVM_HAS_DEVICE_ATTR,
  KVM_KVMCLOCK_CTRL,
  KVM_SET_DEBUGREGS,
  KVM_SET_DEVICE_ATTR,
  KVM_SET_GUEST_DEBUG,
  KVM_SET_ONE_REG,
  KVM_SET_SIGNAL_MASK,
  KVM_SET_TSC_KHZ,
  KVM_SET_VCPU_EVENTS,
  KVM_SET_XCRS,
  KVM_SET_XSAVE,
  KVM_TRANSLATE,
  KVM_X86_SET_MCE,
  KVM_X86_SETUP_MCE,
  kvm_debugregs,
  kvm_device_attr,
  kvm_enable_cap,
  kvm_guest_debug,
  kvm_one_reg,
  kvm_translation,
  kvm_vcpu_events,
  kvm_x86_mce,
  kvm_xcrs,
} from '../uapi/kvm.ts';
import { KVM_REG_SIZE } from '../uapi/macros.ts';
import type { Input } from '../uapi/struct.ts';
import { KvmStats } from './stats.ts';
import { VcpuInterrupts } from './vcpu-interrupts.ts';

/** A page for a value a struct points at. */
const PAGE = 4096;
const XSAVE_SIZE = 4096;
/** REG_LIST's count comes before the ids. */
const MAX_REGISTERS = 1024;

/** State of a vCPU beyond its registers: events, FPU, debugging, machine checks, clock. x86 but for what says otherwise. */
export abstract class VcpuState extends VcpuInterrupts {
  /** KVM_GET_VCPU_EVENTS: exceptions, interrupts, NMIs and SMIs on their way in. */
  getVcpuEvents(): kvm_vcpu_events {
    return getStruct(this, KVM_GET_VCPU_EVENTS, kvm_vcpu_events);
  }

  /**
   * KVM_SET_VCPU_EVENTS. `flags` says which of the optional fields count. EINVAL: an unknown flag, one without its capability, an exception
   * above 31 or of number 2; where it is for SMM or a triple fault, the rest is applied already.
   */
  setVcpuEvents(events: Input<kvm_vcpu_events>): void {
    setStruct(this, KVM_SET_VCPU_EVENTS, kvm_vcpu_events, events);
  }

  /** KVM_GET_DEBUGREGS: the guest's own, also while the host debugs it. */
  getDebugregs(): kvm_debugregs {
    return getStruct(this, KVM_GET_DEBUGREGS, kvm_debugregs);
  }

  /** KVM_SET_DEBUGREGS. EINVAL for flags, and for bits above 31 in DR6 and DR7. */
  setDebugregs(registers: Input<kvm_debugregs>): void {
    setStruct(this, KVM_SET_DEBUGREGS, kvm_debugregs, registers);
  }

  /** KVM_GET_XCRS: one entry, XCR0. */
  getXcrs(): kvm_xcrs {
    return getStruct(this, KVM_GET_XCRS, kvm_xcrs);
  }

  /** KVM_SET_XCRS. EINVAL: more than 16, flags, an XCR0 that processor or guest CPUID do not have. */
  setXcrs(registers: Input<kvm_xcrs>): void {
    setStruct(this, KVM_SET_XCRS, kvm_xcrs, registers);
  }

  /** KVM_GET_XSAVE: the area in the standard format of XSAVE, 4096 bytes. EINVAL where the guest may have more: `getXsave2`. */
  getXsave(): Uint8Array {
    const bytes = new Uint8Array(XSAVE_SIZE);
    this.ioctl(KVM_GET_XSAVE, bytes);
    return bytes;
  }

  /** KVM_GET_XSAVE2: all of `size` bytes, which KVM_CAP_XSAVE2 on the VM tells. */
  getXsave2(size: number = XSAVE_SIZE): Uint8Array {
    const bytes = new Uint8Array(size);
    this.ioctl(KVM_GET_XSAVE2, bytes);
    return bytes;
  }

  /**
   * KVM_SET_XSAVE: what XSTATE_BV does not name returns to its initial state. EINVAL: a component the host does not have, the compacted format,
   * reserved bytes of the header, reserved bits of MXCSR where a component has it.
   */
  setXsave(area: Uint8Array): void {
    this.ioctl(KVM_SET_XSAVE, area);
  }

  /**
   * KVM_TRANSLATE: the guest-physical address of a linear one as the page tables have it now; `valid` 0 where there is none. Accessed bits are
   * set on the way; `writeable` and `usermode` say nothing.
   */
  translate(linear_address: bigint): kvm_translation {
    const bytes = kvm_translation.alloc();
    new DataView(bytes.buffer).setBigUint64(0, word(linear_address, 'linear_address'), true);
    this.ioctl(KVM_TRANSLATE, bytes);
    return kvm_translation.decode(bytes);
  }

  /**
   * KVM_SET_GUEST_DEBUG: `control` of KVM_GUESTDBG_*, `arch.debugreg` the breakpoints and DR7. What happens then comes as a `debug` exit. EBUSY:
   * an exception is to be injected and another is on its way.
   */
  setGuestDebug(debug: Input<kvm_guest_debug>): void {
    setStruct(this, KVM_SET_GUEST_DEBUG, kvm_guest_debug, debug);
  }

  /**
   * KVM_SET_SIGNAL_MASK: the signals blocked during KVM_RUN, bit n − 1 for signal n; undefined: those of the thread. A kick always ends a run. Any
   * architecture.
   */
  setSignalMask(mask: bigint | undefined): void {
    if (mask === undefined) {
      this.ioctl(KVM_SET_SIGNAL_MASK, 0);
      return;
    }
    const bytes = new Uint8Array(12);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 8, true);
    view.setBigUint64(4, word(mask, 'mask'), true);
    this.ioctl(KVM_SET_SIGNAL_MASK, bytes);
  }

  /** KVM_ENABLE_CAP on the vCPU. EINVAL for a capability of the VM. Any architecture. */
  enableCap(cap: Input<kvm_enable_cap>): void {
    setStruct(this, KVM_ENABLE_CAP, kvm_enable_cap, cap);
  }

  /** KVM_X86_SETUP_MCE: MCG_CAP, the number of banks in its low byte. EINVAL: none, more than KVM_CAP_MCE, what the host does not support. */
  setupMce(mcg_cap: bigint): void {
    this.ioctl(KVM_X86_SETUP_MCE, BigUint64Array.of(word(mcg_cap, 'mcg_cap')));
  }

  /** KVM_X86_SET_MCE: reports an error in a bank; one that is uncorrected raises #MC. EINVAL: no such bank, a status that is not valid. */
  setMce(mce: Input<kvm_x86_mce>): void {
    setStruct(this, KVM_X86_SET_MCE, kvm_x86_mce, mce);
  }

  /**
   * KVM_GET_ONE_REG. The id tells the size (KVM_REG_SIZE): 8 to 2048 bits, of which this gives the number. EINVAL (arm64: ENOENT) for an id there is none of.
   * KVM_CAP_ONE_REG. Any architecture.
   */
  getOneReg(id: bigint): bigint {
    return withRoom(this.kernel, PAGE, (memory) => {
      this.ioctl(KVM_GET_ONE_REG, kvm_one_reg.encode({ id, addr: memory.address }));
      let value = 0n;
      for (let at = registerSize(id) - 8; at >= 0; at -= 8) value = (value << 64n) | memory.read64(at);
      return value;
    });
  }

  /** KVM_SET_ONE_REG: a number of the id's size. EINVAL for an id there is none of, and a value it does not take. Any architecture. */
  setOneReg(id: bigint, value: bigint): void {
    withRoom(this.kernel, PAGE, (memory) => {
      const size = registerSize(id);
      const rest = size > 8 ? value >> 64n : 0n;
      memory.write64(0, size > 8 ? BigInt.asUintN(64, value) : word(value, 'value'));
      for (let at = 8, left = rest; at < size; at += 8, left >>= 64n) memory.write64(at, BigInt.asUintN(64, left));
      this.ioctl(KVM_SET_ONE_REG, kvm_one_reg.encode({ id, addr: memory.address }));
    });
  }

  /** KVM_GET_REG_LIST: ids for KVM_GET_ONE_REG that are no MSRs. Any architecture. */
  getRegList(): bigint[] {
    for (let size = MAX_REGISTERS; ; ) {
      const list = new BigUint64Array(1 + size);
      list[0] = BigInt(size);
      try {
        this.ioctl(KVM_GET_REG_LIST, list);
        return [...list.subarray(1, 1 + Number(list[0]))];
      } catch (error) {
        // E2BIG says how many there are.
        if (!KernelError.isKernelError(error) || error.code !== 'E2BIG' || Number(list[0]) <= size) throw error;
        size = Number(list[0]);
      }
    }
  }

  /** KVM_KVMCLOCK_CTRL: the guest shall know that it was stopped. EINVAL without a clock page of the guest. */
  kvmclockCtrl(): void {
    this.ioctl(KVM_KVMCLOCK_CTRL);
  }

  /** KVM_GET_TSC_KHZ. */
  getTscKhz(): number {
    return this.ioctl(KVM_GET_TSC_KHZ);
  }

  /** KVM_SET_TSC_KHZ; 0 is the host's rate. EINVAL for a rate the CPU cannot give. */
  setTscKhz(khz: number): void {
    withWord(this, KVM_SET_TSC_KHZ, khz, 'khz');
  }

  /** KVM_HAS_DEVICE_ATTR: whether the vCPU has this attribute (KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET); false where the kernel says ENXIO. */
  hasDeviceAttr(group: number, attr: bigint): boolean {
    try {
      this.ioctl(KVM_HAS_DEVICE_ATTR, kvm_device_attr.encode({ flags: 0, group, attr, addr: 0n }));
      return true;
    } catch (error) {
      if (KernelError.isKernelError(error) && error.code === 'ENXIO') return false;
      throw error;
    }
  }

  /** KVM_GET_DEVICE_ATTR of a 64-bit attribute. ENXIO for one there is none of. */
  getDeviceAttr(group: number, attr: bigint): bigint {
    return withRoom(this.kernel, PAGE, (memory) => {
      this.ioctl(KVM_GET_DEVICE_ATTR, kvm_device_attr.encode({ flags: 0, group, attr, addr: memory.address }));
      return memory.read64(0);
    });
  }

  /** KVM_SET_DEVICE_ATTR of a 64-bit attribute. ENXIO for one there is none of. */
  setDeviceAttr(group: number, attr: bigint, value: bigint): void {
    withRoom(this.kernel, PAGE, (memory) => {
      memory.write64(0, word(value, 'value'));
      this.ioctl(KVM_SET_DEVICE_ATTR, kvm_device_attr.encode({ flags: 0, group, attr, addr: memory.address }));
    });
  }

  /** KVM_GET_STATS_FD: the vCPU's statistics. KVM_CAP_BINARY_STATS_FD. Any architecture. */
  getStatsFd(): KvmStats {
    return new KvmStats(this.kernel, this.ioctl(KVM_GET_STATS_FD));
  }
}

/** Bytes of a register, in whole words of 64 bits. Sizes there are none of are left to the kernel. */
function registerSize(id: bigint): number {
  return Math.min(PAGE, Math.max(8, KVM_REG_SIZE(word(id, 'id'))));
}
