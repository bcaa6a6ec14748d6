import type { Door } from './hardware/tsm/binding.ts';
import type { TdiContext } from './hardware/tsm/tdi-context.ts';
import type { Tvm } from './hardware/tsm/tvm.ts';

/** RFC. Who asks for a TDI to be bound, and to whom it shall belong. */
export interface BindRequest {
  readonly door: Door;
  readonly kvm: Tvm;
  /** The requester id the guest knows the function by. */
  readonly virtId: bigint;
  /** The host is to stay out of the BARs while it is bound. */
  readonly exclusive: boolean;
  /** It is not bound any more, whoever ended that. */
  ended(): void;
}

/** RFC. An assigned PCI function as those see it who bind its TDI: VFIO's driver stands between them and the function, for it alone knows who reaches the BARs. */
export interface AssignedFunction {
  /** The VM the device was opened with (KVM_DEV_VFIO_FILE_ADD before that). */
  readonly kvm: Tvm | undefined;
  /** Undefined: the function has no TEE-IO. */
  readonly tdi: TdiContext | undefined;
  /** 0, also where it is bound to this VM already, or −errno. */
  bind(request: BindRequest): number;
  /** Nothing where it is not bound. Never fails. */
  unbind(): void;
}
