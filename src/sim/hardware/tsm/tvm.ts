import type { File } from '../../file.ts';
import type { PageRef } from '../../mm/pages.ts';
import type { KvmReference } from '../../vfio-file.ts';
import type { TdiBinding } from './binding.ts';

/** Whether what VFIO holds is a VM the TSM can bind to: every one of KVM's is. */
export function isTvm(kvm: KvmReference | null | undefined): kvm is Tvm {
  return kvm !== null && kvm !== undefined && 'tdis' in kvm;
}

/** A VM whose guest may own TDIs, as the TSM and the hardware know it. */
export interface Tvm extends KvmReference {
  /** kvm_arch_has_private_mem. */
  readonly hasPrivateMemory: boolean;
  /** What is bound to it, from BIND to UNBIND. */
  readonly tdis: Set<TdiBinding>;
  /** KVM_MEMORY_ATTRIBUTE_PRIVATE of a guest frame. */
  isPrivate(gfn: number): boolean;
  /** The page of a private frame is made, and committed to private DMA: 0, −EINVAL where no slot can be private, else −errno of the guest_memfd. */
  commit(gfn: number): number;
  /** Committed, and neither converted nor punched out since. */
  isCommitted(gfn: number): boolean;
  /** The page behind a private frame; null: there is none. `populate` makes one. */
  privatePage(gfn: number, populate: boolean): PageRef | null;
  /** The bus address of the device memory that is mapped at a frame, in a slot whose frames can be private; undefined: another slot's, or it cannot be reached. */
  mmioAt(gfn: number): bigint | undefined;
  /** Every vCPU faults its memory in anew. */
  zap(): void;
  /** Firmware has refused what KVM cannot go on without: every call on its descriptors is EIO from now on. */
  kill(): void;
}

/** The descriptor of a VM, as others hold it. */
export interface TvmFile extends File {
  readonly tvm: Tvm;
}

/** file_is_kvm. */
export function isTvmFile(file: File): file is TvmFile {
  return 'tvm' in file;
}
