import { getStruct, setStruct, withWord } from '../kernel/handle.ts';
import { withRoom } from '../kernel/temporary.ts';
import {
  KVM_GET_CLOCK,
  KVM_GET_NR_MMU_PAGES,
  KVM_GET_STATS_FD,
  KVM_GET_TSC_KHZ,
  KVM_MSR_FILTER_MAX_RANGES,
  KVM_SET_CLOCK,
  KVM_SET_PMU_EVENT_FILTER,
  KVM_SET_TSC_KHZ,
  KVM_X86_SET_MSR_FILTER,
  kvm_clock_data,
  kvm_msr_filter,
  kvm_pmu_event_filter,
} from '../uapi/kvm.ts';
import type { Input } from '../uapi/struct.ts';
import { KvmStats } from './stats.ts';
import { VmArm64 } from './vm-arm64.ts';

/** MSRs from `base` on, a bit each in `bitmap`: 1 is allowed. */
export interface MsrRange {
  /** KVM_MSR_FILTER_READ, KVM_MSR_FILTER_WRITE: which accesses it speaks of. */
  flags: number;
  base: number;
  /** Default: as many as the bitmap has bits. */
  nmsrs?: number;
  bitmap: Uint8Array;
}

/** The MSRs a guest may reach. */
export interface MsrFilter {
  /** KVM_MSR_FILTER_DEFAULT_ALLOW (default) or KVM_MSR_FILTER_DEFAULT_DENY: what no range speaks of. */
  flags?: number;
  /** At most 16; the first that has the MSR decides. */
  ranges?: readonly MsrRange[];
}

/** Clock, TSC, statistics and filters of a VM. */
export abstract class VmState extends VmArm64 {
  /**
   * KVM_GET_CLOCK: `clock` in nanoseconds, 0 when the VM was made. `flags` has KVM_CLOCK_TSC_STABLE, and tells whether `realtime` and `host_tsc`
   * are there, once the master clock is in use.
   */
  getClock(): kvm_clock_data {
    return getStruct(this, KVM_GET_CLOCK, kvm_clock_data);
  }

  /**
   * KVM_SET_CLOCK. With KVM_CLOCK_REALTIME in `flags` the time since `realtime` is added; EINVAL for flags other than those of KVM_GET_CLOCK.
   */
  setClock(clock: Input<kvm_clock_data>): void {
    setStruct(this, KVM_SET_CLOCK, kvm_clock_data, clock);
  }

  /** KVM_GET_TSC_KHZ: of vCPUs that will be made. KVM_CAP_VM_TSC_CONTROL is not needed to ask. */
  getTscKhz(): number {
    return this.ioctl(KVM_GET_TSC_KHZ);
  }

  /** KVM_SET_TSC_KHZ for the vCPUs that will be made; 0 is the host's rate. EINVAL once there is one, and above what the CPU scales. */
  setTscKhz(khz: number): void {
    withWord(this, KVM_SET_TSC_KHZ, khz, 'khz');
  }

  /**
   * KVM_GET_NR_MMU_PAGES: what KVM_SET_NR_MMU_PAGES asked for, or what the kernel computed from the memslots. x86 only.
   */
  getNrMmuPages(): number {
    return this.ioctl(KVM_GET_NR_MMU_PAGES);
  }

  /** KVM_GET_STATS_FD: the VM's statistics. KVM_CAP_BINARY_STATS_FD. */
  getStatsFd(): KvmStats {
    return new KvmStats(this.kernel, this.ioctl(KVM_GET_STATS_FD));
  }

  /**
   * KVM_X86_SET_MSR_FILTER: which MSRs the guest reaches; a denied access is #GP, or KVM_EXIT_X86_RDMSR and _WRMSR with
   * KVM_CAP_X86_USER_SPACE_MSR. Userspace is not filtered, nor are x2APIC's MSRs. EINVAL: nothing would be allowed, a range speaks of no access
   * or has more than 0x600 bytes. KVM_CAP_X86_MSR_FILTER.
   */
  setMsrFilter({ flags = 0, ranges = [] }: MsrFilter): void {
    const size = ranges.reduce((sum, { bitmap }) => sum + padded(bitmap), 0);
    withRoom(this.kernel, size, (room) => {
      let at = 0;
      const rows = ranges.map(({ flags: access, base, nmsrs, bitmap }) => {
        room.write(at, bitmap);
        const row = { flags: access, nmsrs: nmsrs ?? bitmap.length * 8, base, bitmap: room.address + BigInt(at) };
        at += padded(bitmap);
        return row;
      });
      const none = Array.from({ length: KVM_MSR_FILTER_MAX_RANGES - rows.length }, () => ({
        flags: 0,
        nmsrs: 0,
        base: 0,
        bitmap: 0n,
      }));
      setStruct(this, KVM_X86_SET_MSR_FILTER, kvm_msr_filter, { flags, ranges: [...rows, ...none] });
    });
  }

  /** KVM_SET_PMU_EVENT_FILTER (`nevents` may be left out). EINVAL: an unknown action, flag or bit of a masked event; E2BIG above 300 events. */
  setPmuEventFilter(filter: Omit<Input<kvm_pmu_event_filter>, 'nevents'> & { readonly nevents?: number }): void {
    const whole = { nevents: filter.events.length, ...filter };
    setStruct(this, KVM_SET_PMU_EVENT_FILTER, kvm_pmu_event_filter, whole);
  }
}

/** The kernel reads bitmaps in whole longs. */
const padded = (bitmap: Uint8Array): number => Math.ceil(bitmap.length / 8) * 8;
