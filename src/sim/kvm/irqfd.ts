import { KVM_IRQFD_FLAG_DEASSIGN, KVM_IRQFD_FLAG_RESAMPLE, kvm_irqfd } from '../../uapi/kvm.ts';
import { EBUSY, EFAULT, EINVAL, POLLHUP, POLLIN } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { type EventfdFile, eventfdOf } from '../eventfd.ts';
import type { Process } from '../process.ts';
import { KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID, KVM_USERSPACE_IRQ_SOURCE_ID } from './irq-line.ts';
import type { AckNotifier } from './irq-routing.ts';
import type { Vm } from './vm.ts';

/** Eventfds that serve an irqfd, in any VM. */
const served = new WeakSet<EventfdFile>();

/** `struct kvm_kernel_irqfd`. It holds neither the VM nor the eventfd's file: it goes with the last close of either. */
class Irqfd {
  readonly eventfd: EventfdFile;
  readonly gsi: number;
  readonly #vm: Vm;
  readonly #leave: () => void;

  constructor(vm: Vm, eventfd: EventfdFile, gsi: number) {
    this.#vm = vm;
    this.eventfd = eventfd;
    this.gsi = gsi;
    served.add(eventfd);
    this.#leave = eventfd.wait.add({ wake: (events) => this.#wake(events) }, 'priority');
  }

  /** irqfd_wakeup: takes the count, whatever it is, and makes one pulse of it. */
  #wake(events: number): boolean {
    if (events & POLLIN) {
      this.eventfd.consume();
      this.inject();
    }
    if (events & POLLHUP) this.#vm.irqfds.remove(this);
    return (events & POLLIN) !== 0;
  }

  inject(): void {
    const { routing } = this.#vm;
    routing.setIrq(KVM_USERSPACE_IRQ_SOURCE_ID, this.gsi, true);
    routing.setIrq(KVM_USERSPACE_IRQ_SOURCE_ID, this.gsi, false);
  }

  /** irqfd_shutdown: eventfd_ctx_remove_wait_queue takes what is in the counter along. */
  close(): void {
    this.#leave();
    this.eventfd.consume();
    served.delete(this.eventfd);
  }
}

/** An irqfd of a level-triggered device: its line stays up until the guest has ended the interrupt, and the device is then asked again. */
class ResamplingIrqfd extends Irqfd {
  readonly #resampler: Resampler;
  readonly resamplefd: EventfdFile;

  constructor(vm: Vm, eventfd: EventfdFile, gsi: number, resamplefd: EventfdFile, resampler: Resampler) {
    super(vm, eventfd, gsi);
    this.resamplefd = resamplefd;
    this.#resampler = resampler;
    resampler.irqfds.add(this);
  }

  override inject(): void {
    this.#resampler.raise();
  }

  override close(): void {
    super.close();
    this.#resampler.drop(this);
  }
}

/** `struct kvm_kernel_irqfd_resampler`: one for all resampling irqfds of a GSI. */
class Resampler implements AckNotifier {
  readonly gsi: number;
  readonly irqfds: Set<ResamplingIrqfd> = new Set();
  readonly #vm: Vm;

  constructor(vm: Vm, gsi: number) {
    this.#vm = vm;
    this.gsi = gsi;
    vm.routing.ackNotifiers.add(this);
  }

  raise(): void {
    this.#vm.routing.setIrq(KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID, this.gsi, true);
  }

  /** irqfd_resampler_ack: the line is let go before the devices are asked. */
  acked(): void {
    this.#vm.routing.setIrq(KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID, this.gsi, false);
    for (const { resamplefd } of this.irqfds) resamplefd.signal();
  }

  drop(irqfd: ResamplingIrqfd): void {
    this.irqfds.delete(irqfd);
    if (this.irqfds.size > 0) return;
    this.#vm.routing.ackNotifiers.delete(this);
    this.#vm.routing.setIrq(KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID, this.gsi, false);
    this.#vm.irqfds.resamplers.delete(this.gsi);
  }
}

/** The irqfds of a VM. */
export class Irqfds {
  readonly #vm: Vm;
  readonly #all: Set<Irqfd> = new Set();
  readonly resamplers: Map<number, Resampler> = new Map();

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  /** KVM_IRQFD. The GSI is never looked at. */
  ioctl(p: Process, arg: bigint): number {
    const bytes = p.mm.copyFrom(arg, kvm_irqfd.size);
    if (bytes === null) return -EFAULT;
    const { fd, gsi, flags, resamplefd } = kvm_irqfd.decode(bytes);
    if (flags & ~(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE)) return -EINVAL;
    if (flags & KVM_IRQFD_FLAG_DEASSIGN) return this.#deassign(eventfdOf(p, fd | 0), gsi);
    return this.#assign(p, fd | 0, gsi, flags & KVM_IRQFD_FLAG_RESAMPLE ? resamplefd | 0 : undefined);
  }

  #assign(p: Process, fd: number, gsi: number, resamplefd: number | undefined): number {
    const { mode } = this.#vm.irqchip;
    if (mode === 'none' || (resamplefd !== undefined && mode !== 'kernel')) return -EINVAL;
    const eventfd = eventfdOf(p, fd);
    if (typeof eventfd === 'number') return eventfd;
    const resample = resamplefd === undefined ? undefined : eventfdOf(p, resamplefd);
    if (typeof resample === 'number') return resample;
    const taken = has(this.#vm.machine, 'irqfdOfOneVm')
      ? served.has(eventfd)
      : [...this.#all].some((one) => one.eventfd === eventfd);
    if (taken) return -EBUSY;
    const irqfd =
      resample === undefined
        ? new Irqfd(this.#vm, eventfd, gsi)
        : new ResamplingIrqfd(this.#vm, eventfd, gsi, resample, this.#resampler(gsi));
    this.#all.add(irqfd);
    // What was written before is an interrupt too, but stays in the counter.
    if (eventfd.count > 0n) irqfd.inject();
    return 0;
  }

  #resampler(gsi: number): Resampler {
    let resampler = this.resamplers.get(gsi);
    if (resampler === undefined) this.resamplers.set(gsi, (resampler = new Resampler(this.#vm, gsi)));
    return resampler;
  }

  #deassign(eventfd: EventfdFile | number, gsi: number): number {
    if (typeof eventfd === 'number') return eventfd;
    for (const irqfd of this.#all) if (irqfd.eventfd === eventfd && irqfd.gsi === gsi) this.remove(irqfd);
    return 0;
  }

  remove(irqfd: Irqfd): void {
    if (this.#all.delete(irqfd)) irqfd.close();
  }

  /** kvm_irqfd_release: the last descriptor of the VM was closed. */
  release(): void {
    for (const irqfd of this.#all) this.remove(irqfd);
  }
}
