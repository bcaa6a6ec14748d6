/** struct kvm_vcpu_events in parts: what is on its way into the guest. */
import type { Kernel } from 'kvio';
import { KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, kvm_vcpu_events } from 'kvio/uapi';

export type Events = ReturnType<typeof kvm_vcpu_events.decode>;

export interface VcpuEvents {
  flags: number;
  exception: { injected: number; nr: number; has_error_code: number; error_code: number; pending?: number };
  interrupt: { injected: number; nr: number; soft: number };
  nmi: { injected: number; pending: number; masked: number };
  /** Sets KVM_VCPUEVENT_VALID_SHADOW. */
  shadow: number;
  /** Sets KVM_VCPUEVENT_VALID_PAYLOAD. */
  payload: bigint;
  smi: { smm: number; pending: number; smm_inside_nmi: number; latched_init: number };
}

const VALID_SHADOW = 4;
const VALID_SMM = 8;
const VALID_PAYLOAD = 0x10;

export function getEvents(kernel: Kernel, vcpu: number): Events {
  const bytes = kvm_vcpu_events.alloc();
  kernel.ioctl(vcpu, KVM_GET_VCPU_EVENTS, bytes);
  return kvm_vcpu_events.decode(bytes);
}

/** KVM_SET_VCPU_EVENTS with the current values, changed; flags are 0 unless a part needs one. */
export function setEvents(kernel: Kernel, vcpu: number, change: Partial<VcpuEvents>): number {
  const events = getEvents(kernel, vcpu);
  let flags = change.flags ?? 0;
  Object.assign(events.exception, change.exception);
  Object.assign(events.interrupt, change.interrupt);
  Object.assign(events.nmi, change.nmi);
  if (change.shadow !== undefined) {
    flags |= VALID_SHADOW;
    events.interrupt.shadow = change.shadow;
  }
  if (change.smi !== undefined) {
    flags |= VALID_SMM;
    Object.assign(events.smi, change.smi);
  }
  if (change.payload !== undefined) {
    flags |= VALID_PAYLOAD;
    Object.assign(events, { exception_has_payload: 1, exception_payload: change.payload });
  }
  return kernel.ioctl(vcpu, KVM_SET_VCPU_EVENTS, kvm_vcpu_events.encode({ ...events, flags }));
}
