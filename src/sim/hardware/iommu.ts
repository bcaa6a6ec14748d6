import { rangeError } from '../../kernel/errors.ts';
import { IOMMU_HW_INFO_TYPE_ARM_SMMUV3 } from '../../uapi/iommufd.ts';
import type { DmaTarget, IommuDomain } from './dma-target.ts';
import type { IommuMachine } from './machine-pci.ts';
import type { PageRequest, PciFunction } from './pci-function.ts';
import { Smmu } from './smmuv3/smmu.ts';

/** An access the IOMMU stopped. */
export interface IommuFault {
  /** The function that asked. */
  readonly bdf: string;
  readonly iova: bigint;
  readonly write: boolean;
  readonly reason: 'blocked' | 'no translation' | 'outside the aperture' | 'no pasid';
  readonly pasid?: number;
  /** The record of an SMMUv3's event queue, by the device's own StreamID, where it recorded one. */
  readonly event?: BigUint64Array;
}

/** What the IOMMU walks for a function: what VFIO or iommufd attached, the mappings of the DMA API (nobody makes any here), nothing at all. */
export type Attachment = IommuDomain | 'default' | 'blocked';

interface Context {
  domain: Attachment;
  readonly pasids: Map<number, IommuDomain>;
}

export type EventHandler = (event: BigUint64Array) => void;
export type PageRequestHandler = (request: PageRequest, answer: (granted: boolean) => void) => void;

/** How many faults are kept, as a fault log has an end. */
const FAULT_LOG = 1024;

/** The IOMMU: it translates, stops and tells. */
export class IommuHardware {
  readonly machine: IommuMachine;
  readonly #contexts = new Map<PciFunction, Context>();
  readonly #faults: IommuFault[] = [];
  /** An SMMUv3 that says what it is (`hwInfo`). */
  readonly smmu: Smmu | undefined;
  readonly #pageRequests = new Map<PciFunction, PageRequestHandler>();
  readonly #events = new Map<PciFunction, EventHandler>();
  readonly #listeners = new Set<(fault: IommuFault) => void>();

  constructor(machine: IommuMachine) {
    this.machine = machine;
    const { kind, nesting, hwInfo } = machine;
    if (kind !== 'smmuv3') return;
    if (hwInfo?.type === IOMMU_HW_INFO_TYPE_ARM_SMMUV3) this.smmu = new Smmu(hwInfo.bytes);
    else if (nesting === true) throw rangeError('machine.iommu: an SMMUv3 with two stages needs its registers (hwInfo, type 2)');
  }

  /** The latest, in order. */
  get faults(): readonly IommuFault[] {
    return this.#faults;
  }

  /** Returns what removes the listener. */
  onFault(listener: (fault: IommuFault) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Context entry of a function. */
  setDomain(fn: PciFunction, domain: Attachment): void {
    this.#context(fn).domain = domain;
  }

  /** PASID entry; undefined: none. */
  setPasid(fn: PciFunction, pasid: number, domain: IommuDomain | undefined): void {
    if (domain === undefined) this.#context(fn).pasids.delete(pasid);
    else this.#context(fn).pasids.set(pasid, domain);
  }

  /** Who answers the page requests of a function; undefined: nobody. */
  setPageRequests(fn: PciFunction, handler: PageRequestHandler | undefined): void {
    if (handler === undefined) this.#pageRequests.delete(fn);
    else this.#pageRequests.set(fn, handler);
  }

  requestPage(fn: PciFunction, request: PageRequest, answer: (granted: boolean) => void): void {
    const handler = this.#pageRequests.get(fn);
    if (handler === undefined) answer(false);
    else handler(request, answer);
  }

  /** Who is told of the events of a function; undefined: nobody. */
  setEvents(fn: PciFunction, handler: EventHandler | undefined): void {
    if (handler === undefined) this.#events.delete(fn);
    else this.#events.set(fn, handler);
  }

  /** A function that is gone. */
  forget(fn: PciFunction): void {
    this.#contexts.delete(fn);
    this.#pageRequests.delete(fn);
    this.#events.delete(fn);
  }

  translate(fn: PciFunction, iova: bigint, length: number, write: boolean, pasid?: number): DmaTarget | undefined {
    const domain = this.#domainOf(fn, pasid);
    let event: BigUint64Array | undefined;
    const stop = (reason: IommuFault['reason']): undefined => {
      const fault = { bdf: fn.place?.bdf ?? '', iova, write, reason, ...(event === undefined ? {} : { event }) };
      this.#record(pasid === undefined ? fault : { ...fault, pasid });
    };
    if (domain === undefined) return stop('no pasid');
    if (domain === 'blocked') return stop('blocked');
    if (domain === 'default') return stop('no translation');
    if (domain.guest === undefined) {
      const [first, last] = this.machine.aperture;
      if (iova < first || iova > last) return stop('outside the aperture');
      const left = last - iova + 1n;
      return domain.translate(iova, left < BigInt(length) ? Number(left) : length, write) ?? stop('no translation');
    }
    const record = (words: BigUint64Array): void => {
      event = words;
      this.#events.get(fn)?.(words);
    };
    const target = domain.translate(iova, length, write, { stream: fn.place?.requester ?? 0, pasid, record });
    if (target === undefined || event !== undefined) stop('no translation');
    return target;
  }

  /** A PASID the host has not installed anything for is the guest's, where it has a table of them. */
  #domainOf(fn: PciFunction, pasid: number | undefined): Attachment | undefined {
    const { domain, pasids } = this.#context(fn);
    if (pasid === undefined) return domain;
    return pasids.get(pasid) ?? (typeof domain === 'object' && domain.guest?.pasids === true ? domain : undefined);
  }

  #context(fn: PciFunction): Context {
    let context = this.#contexts.get(fn);
    if (context === undefined) this.#contexts.set(fn, (context = { domain: 'default', pasids: new Map() }));
    return context;
  }

  #record(fault: IommuFault): undefined {
    this.#faults.push(fault);
    if (this.#faults.length > FAULT_LOG) this.#faults.shift();
    for (const listener of [...this.#listeners]) listener(fault);
  }
}
