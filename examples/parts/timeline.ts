// A line for each step of a story: who made which call on which descriptor, what came of it, and then the state of the TDI and who may reach what.
import { KernelError, pciDevice } from 'kvio';
import type { SimKernel } from 'kvio/sim';

const STATES = ['UNLOCKED', 'LOCKED', 'RUN', 'ERROR'];
const WIDTH = 62;

export class Timeline {
  readonly #kernel: SimKernel;
  readonly #bdf: string;
  readonly #quiet: boolean;

  constructor(kernel: SimKernel, bdf: string, quiet = false) {
    this.#kernel = kernel;
    this.#bdf = bdf;
    this.#quiet = quiet;
  }

  /** A call of the VMM's on a descriptor (K VM, C vCPU, D KVM-VFIO, V VFIO, I iommufd): what it gives, or throws, which is told too. */
  readonly vmm = <T>(descriptor: string, what: string, make: () => T): T => {
    try {
      const value = make();
      this.#tell('vmm', descriptor, what);
      return value;
    } catch (error) {
      this.#tell('vmm', descriptor, `${what} — ${codeOf(error)}`);
      throw error;
    }
  };

  /** The same of a call that is expected to fail. */
  attempt(descriptor: string, what: string, make: () => unknown): void {
    try {
      this.vmm(descriptor, what, make);
    } catch (error) {
      if (!KernelError.isKernelError(error)) throw error;
    }
  }

  guest(what: string): void {
    this.#tell('guest', '', what);
  }

  host(what: string): void {
    this.#tell('host', '', what);
  }

  /** The back door: the state, who the device serves when its memory is read, and what its DMA reaches. */
  get access(): string {
    const { tdi, dmaEnabled } = context({ kernel: this.#kernel, bdf: this.#bdf });
    const address = pciDevice(this.#kernel, this.#bdf).resource[0]!.start;
    const served = [tdi.serves(address, { t: false }) && 'all', tdi.serves(address, { t: true }) && 'guest'];
    const dma = { ordinary: 'shared', none: '–', tee: dmaEnabled ? 'private' : 'shared' }[tdi.dma];
    const mmio = served.filter(Boolean).join('+') || '–';
    return `${STATES[tdi.state]!.padEnd(9)}MMIO ${mmio.padEnd(6)}DMA ${dma}`;
  }

  #tell(who: string, descriptor: string, what: string): void {
    if (this.#quiet) return;
    console.log(`${who.padEnd(6)}${descriptor.padEnd(2)}${what.padEnd(WIDTH)} ${this.access}`);
  }
}

/** What the TSM of the simulated machine knows of the device: the back door. */
export function context({ kernel, bdf }: { kernel: SimKernel; bdf: string }) {
  return kernel.tdi(bdf)!;
}

/** What a call comes to: 'done', or the errno. */
export function outcome(make: () => unknown): string {
  try {
    make();
    return 'done';
  } catch (error) {
    return codeOf(error);
  }
}

export const codeOf = (error: unknown): string => (KernelError.isKernelError(error) ? error.code : String(error));
