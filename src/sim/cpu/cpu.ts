export type { CpuBus, CpuEvents, CpuidResult, CpuOptions, InjectKind, Outcome, PageAccess, RamPage } from './bus.ts';
export type { Segment } from './state.ts';

import type { CpuBus, CpuEvents, CpuOptions, InjectKind, Outcome } from './bus.ts';
import { State } from './state.ts';

// INTERFACE FIXED (bodies follow): state accessors storeRegs/loadRegs/storeSregs/loadSregs/rip/flags()/reset() come from State.
export class Cpu extends State {
  /** Instructions (and iterations of string instructions) executed since creation. */
  executed = 0;
  /** The INTR line: while set, `bus.acknowledge` is asked for a vector as soon as IF and the shadow let one through. */
  intr = false;
  /** Ask for an 'irqWindow' outcome as soon as an external interrupt could be taken. */
  windowRequested = false;
  readonly events: CpuEvents;
  /** Interrupt shadow of STI (1) and MOV SS/POP SS (2), as in kvm_vcpu_events.interrupt.shadow. */
  shadow = 0;
  constructor(bus: CpuBus, options: CpuOptions = {}) {
    super();
    void bus;
    void options;
    this.events = {} as CpuEvents;
  }
  /** Executes up to `fuel` instructions. run(0) only finishes what is pending (IN/MMIO data handed over, further MMIO fragments). */
  run(fuel: number): Outcome {
    return { kind: 'notModelled', description: `not there yet: ${fuel}`, bytes: new Uint8Array(0) };
  }
  /** Data for the IN exit just returned: size × count bytes; used by the next `run`. */
  completeIo(data: Uint8Array): void {
    void data;
  }
  /** Data for the MMIO read exit just returned; used by the next `run`. */
  completeMmio(data: Uint8Array): void {
    void data;
  }
  /** True while an exit waits to be completed by the next `run` (IN, MMIO read, further MMIO write fragments, a not yet skipped OUT). */
  get pending(): boolean {
    return false;
  }
  /** IF set, no shadow, nothing injected or pending: `kvm_run.ready_for_interrupt_injection` without an in-kernel PIC. */
  get interruptible(): boolean {
    return false;
  }
  /** Queues an event for delivery at the next `run`, whatever IF says; replaces one of the same kind. */
  inject(vector: number, kind: InjectKind, errorCode?: number): void {
    void [vector, kind, errorCode];
  }
}
