import type { File } from './file.ts';
import type { Process } from './process.ts';

/**
 * Why a slice of KVM_RUN stopped. A number: KVM_RUN is over and this is its value (0: an exit is in kvm_run; −errno).
 * 'fuel': the fuel is used up, call again. 'idle': the vCPU sleeps in the kernel (HLT with an in-kernel APIC, UNINITIALIZED …) until an
 * event wakes it; call again after one.
 */
export type Slice = number | 'fuel' | 'idle';

/** A signal that is pending for the thread in KVM_RUN. 'entry': it came before KVM_RUN was entered; 'running': after. */
export type Pending = 'none' | 'entry' | 'running';

/**
 * What the scheduler needs of a vCPU file. `sim/kvm` implements it (and may use `System.runner.run` to serve the raw KVM_RUN ioctl).
 * One KVM_RUN is: any number of `slice` calls, the first with `first` true, until it answers a number.
 */
export interface VcpuLike extends File {
  readonly isVcpu: true;
  /**
   * At most `fuel` instructions of guest execution. `first`: do the entry steps of KVM_RUN (argument already checked). A `pending` signal makes it end
   * as the kernel does: pending work first (completion of I/O), then −EINTR (exit reason INTR, or stale as with immediate_exit on 'entry'),
   * unless an exit comes first.
   */
  slice(p: Process, fuel: number, first: boolean, pending: Pending): Slice;
  /** Instructions executed since creation: what moves simulated time. */
  readonly executed: number;
}

export function isVcpu(file: File | undefined): file is VcpuLike {
  return (file as Partial<VcpuLike> | undefined)?.isVcpu === true;
}
