/** A machine with a TSM, an accelerator that is a bus master, and a VM that is a table. */
import { Accelerator } from '../../../../src/sim/hardware/models/accelerator.ts';
import { RootPort } from '../../../../src/sim/hardware/models/ports.ts';
import type { Door, TdiBinding } from '../../../../src/sim/hardware/tsm/binding.ts';
import type { TsmRequest } from '../../../../src/sim/hardware/tsm/requests.ts';
import { TSM_TDI_STATE } from '../../../../src/sim/hardware/tsm/requests.ts';
import { type TeeIo, teeIoOf } from '../../../../src/sim/hardware/tsm/switches.ts';
import type { TdiContext } from '../../../../src/sim/hardware/tsm/tdi-context.ts';
import type { Tvm } from '../../../../src/sim/hardware/tsm/tvm.ts';
import { type PageRef, PageStore } from '../../../../src/sim/mm/pages.ts';
import type { PciDev } from '../../../../src/sim/pci/pci-dev.ts';
import { System } from '../../../../src/sim/system.ts';
import { plainMachine } from '../../machine.ts';
import { attach, Pages, vtd } from '../kit.ts';

export const { UNLOCKED, LOCKED, RUN } = TSM_TDI_STATE;
export const ERROR = 3;
export const PAGE = 4096n;

/** Frames from 0x100 are private; those with a page can be reached. */
export class FakeVm implements Tvm {
  readonly hasPrivateMemory = true;
  readonly tdis = new Set<TdiBinding>();
  readonly store = new PageStore(4096);
  readonly shared = new Set<number>();
  readonly committed = new Set<number>();
  /** Without a guest_memfd there is no private page. */
  backed = true;
  killed = false;

  get(): void {}
  put(): void {}
  zap(): void {}

  isPrivate(gfn: number): boolean {
    return gfn >= 0x100 && !this.shared.has(gfn);
  }

  commit(gfn: number): number {
    this.committed.add(gfn);
    return 0;
  }

  isCommitted(gfn: number): boolean {
    return this.committed.has(gfn);
  }

  privatePage(gfn: number, populate: boolean): PageRef | null {
    if (!this.backed || (!populate && !this.committed.has(gfn))) return null;
    return this.store.page(gfn, true)!;
  }

  /** Device memory at frames. */
  readonly mmio = new Map<number, bigint>();

  mmioAt(gfn: number): bigint | undefined {
    return this.mmio.get(gfn);
  }

  mapMmio(gpa: bigint, address: bigint, pages: number): void {
    for (let i = 0; i < pages; i++) this.mmio.set(Number(gpa / PAGE) + i, address + BigInt(i) * PAGE);
  }

  kill(): void {
    this.killed = true;
  }
}

/** A binding that remembers what was asked of it, and what state the TDI was in. */
export class FakeBinding implements TdiBinding {
  readonly door: Door;
  readonly kvm: FakeVm;
  readonly virtId = 0x10n;
  readonly log: string[];
  readonly #state: () => number;

  constructor(kvm: FakeVm, door: Door, log: string[], state: () => number) {
    this.kvm = kvm;
    this.door = door;
    this.log = log;
    this.#state = state;
  }

  revoke(): void {
    this.log.push(`revoke ${this.#state()}`);
  }

  restore(): void {
    this.log.push(`restore ${this.#state()}`);
  }

  ended(): void {
    this.log.push(`ended ${this.#state()}`);
  }
}

export interface World {
  readonly system: System;
  readonly dev: PciDev;
  readonly fn: Accelerator;
  readonly tdi: TdiContext;
  readonly vm: FakeVm;
  readonly pages: Pages;
  readonly log: string[];
  readonly bar0: bigint;
  readonly bar2: bigint;
  binding(door?: Door, vm?: FakeVm): FakeBinding;
  /** Binds by VFIO's door, and goes on to a state. */
  enter(state: number): World;
  ask(request: TsmRequest): { errno: number; response: Uint8Array; code: number };
  set(state: number): number;
  validate(gpaBase: bigint, paBase: bigint, pages?: number): { errno: number; code: number };
}

export const AT = '0000:01:00.0';

export function world(switches: Partial<TeeIo> = {}): World {
  const fn = new Accelerator();
  const pci = [
    { at: '0000:00:04.0', device: new RootPort() },
    { at: AT, device: fn },
  ];
  const system = new System({ ...plainMachine, iommu: vtd, teeIo: teeIoOf(switches)! }, { pci });
  const dev = system.pci.find(AT)!;
  dev.enableDevice();
  dev.setMaster(true);
  const pages = new Pages().map(0x2000n, 2).map(0x20_0000n, 3);
  attach(dev, pages);
  const tdi = system.tsm!.tdiOf(fn)!;
  const vm = new FakeVm();
  const log: string[] = [];
  const made: World = {
    system,
    dev,
    fn,
    tdi,
    vm,
    pages,
    log,
    bar0: dev.resources[0]!.start,
    bar2: dev.resources[2]!.start,
    binding: (door = 'vfio', kvm = vm) => new FakeBinding(kvm, door, log, () => tdi.tdi.state),
    enter: (state) => {
      if (tdi.bind(made.binding()) !== 0) throw new Error('bind');
      if (state !== UNLOCKED && tdi.tdi.state === UNLOCKED) made.set(LOCKED);
      if (state === RUN) made.set(RUN);
      if (state === ERROR) tdi.tdi.happens('flr');
      if (tdi.tdi.state !== state) throw new Error(`in ${tdi.tdi.state}, not ${state}`);
      log.length = 0;
      return made;
    },
    ask: (request) => tdi.request(request),
    set: (state) => tdi.request({ op: 'set-tdi-state', state }).errno,
    validate: (gpaBase, paBase, count = 1) =>
      tdi.request({ op: 'validate-mmio', gpaBase, gpaTop: gpaBase + BigInt(count) * PAGE, paBase }),
  };
  return made;
}
