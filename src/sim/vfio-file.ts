import type { AssignedFunction } from './assigned-function.ts';
import type { File } from './file.ts';

/** A VM as a VFIO file may know it: something to hold while a device that was opened with it is open. */
export interface KvmReference {
  /** kvm_get_kvm_safe. */
  get(): unknown;
  put(): void;
}

/** What KVM asks of a VFIO group or device file (vfio_file_is_valid and its neighbours), and all it knows of VFIO. */
export interface VfioOperations {
  /** vfio_file_enforced_coherent: every device behind the file has an IOMMU that enforces cache coherency. */
  enforcedCoherent(): boolean;
  /** vfio_file_set_kvm. A device takes its reference when it is opened for the first time after this; null: forget the VM. */
  setKvm(kvm: KvmReference | null): void;
  /** RFC: it is a group's file. */
  readonly isGroup?: boolean;
  /** RFC: the TDI behind an open device. */
  readonly assigned?: AssignedFunction | undefined;
}

export interface VfioFile extends File {
  readonly vfio: VfioOperations;
}

/** vfio_file_is_valid: a group, or a device, however it was opened. Containers and iommufds are not. */
export function isVfioFile(file: File): file is VfioFile {
  return 'vfio' in file;
}
