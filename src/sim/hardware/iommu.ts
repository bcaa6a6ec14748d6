import type { DmaTarget, IommuDomain } from './dma-target.ts';
import type { IommuMachine } from './machine-pci.ts';
import type { PageRequest, PciFunction } from './pci-function.ts';

/** An access the IOMMU stopped. */
export interface IommuFault {
  /** The function that asked. */
  readonly bdf: string;
  readonly iova: bigint;
  readonly write: boolean;
  readonly reason: 'blocked' | 'no translation' | 'outside the aperture' | 'no pasid';
  readonly pasid?: number;
}

/** What the IOMMU walks for a function: what VFIO or iommufd attached, the mappings of the DMA API (nobody makes any here), nothing at all. */
export type Attachment = IommuDomain | 'default' | 'blocked';

interface Context {
  domain: Attachment;
  readonly pasids: Map<number, IommuDomain>;
}

export type PageRequestHandler = (request: PageRequest, answer: (granted: boolean) => void) => void;

/** How many faults are kept, as a fault log has an end. */
const FAULT_LOG = 1024;

/** The IOMMU: it translates, stops and tells. */
export class IommuHardware {
  readonly machine: IommuMachine;
  readonly #contexts = new Map<PciFunction, Context>();
  readonly #faults: IommuFault[] = [];
  readonly #pageRequests = new Map<PciFunction, PageRequestHandler>();
  readonly #listeners = new Set<(fault: IommuFault) => void>();

  constructor(machine: IommuMachine) {
    this.machine = machine;
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

  /** A function that is gone. */
  forget(fn: PciFunction): void {
    this.#contexts.delete(fn);
    this.#pageRequests.delete(fn);
  }

  translate(fn: PciFunction, iova: bigint, length: number, write: boolean, pasid?: number): DmaTarget | undefined {
    const domain = pasid === undefined ? this.#context(fn).domain : this.#context(fn).pasids.get(pasid);
    const stop = (reason: IommuFault['reason']): undefined => {
      const fault = { bdf: fn.place?.bdf ?? '', iova, write, reason };
      this.#record(pasid === undefined ? fault : { ...fault, pasid });
    };
    if (domain === undefined) return stop('no pasid');
    if (domain === 'blocked') return stop('blocked');
    if (domain === 'default') return stop('no translation');
    const [first, last] = this.machine.aperture;
    if (iova < first || iova > last) return stop('outside the aperture');
    const left = last - iova + 1n;
    const target = domain.translate(iova, left < BigInt(length) ? Number(left) : length, write);
    return target ?? stop('no translation');
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
