/** A machine of some PCI functions, for white-box tests below VFIO. */
import type { DmaTarget, IommuDomain } from '../../../src/sim/hardware/dma-target.ts';
import type { FunctionSpec } from '../../../src/sim/hardware/function-spec.ts';
import type { IommuMachine, PciPlacement } from '../../../src/sim/hardware/machine-pci.ts';
import { PciFunction } from '../../../src/sim/hardware/pci-function.ts';
import { PAGE_SIZE, PageStore } from '../../../src/sim/mm/pages.ts';
import type { PciDev } from '../../../src/sim/pci/pci-dev.ts';
import type { PciPlug } from '../../../src/sim/pci/pci-subsystem.ts';
import { System } from '../../../src/sim/system.ts';
import { plainMachine } from '../machine.ts';

/** VT-d as QEMU emulates it. */
export const vtd: IommuMachine = {
  kind: 'vtd',
  pageSizes: 0x4020_1000n,
  aperture: [0n, 0xffff_ffff_ffffn],
  coherent: true,
  enforceCoherency: false,
  interruptRemapping: true,
  reserved: [{ start: 0xfee0_0000n, last: 0xfeef_ffffn, type: 'msi' }],
  dirtyTracking: false,
  pasidBits: 20,
  defaultType: 'DMA',
};

export function machine(
  devices: readonly PciPlug[],
  { pci = [], iommu = vtd }: { pci?: readonly PciPlacement[]; iommu?: IommuMachine | null } = {},
): System {
  return new System({ ...plainMachine, pci, ...(iommu === null ? {} : { iommu }) }, { pci: devices });
}

/** The same machine and its only device, enabled, as a bus master. */
export function alone<F extends PciFunction>(fn: F, at = '0000:00:02.0', options?: Parameters<typeof machine>[1]) {
  const system = machine([{ at, device: fn }], options);
  const dev = system.pci.find(at)!;
  dev.enableDevice();
  dev.setMaster(true);
  return { system, dev, fn };
}

/** A function whose BAR 0 is memory, and which remembers what was done to it. */
export class Memory extends PciFunction {
  readonly bytes = new DataView(new ArrayBuffer(0x1000));
  readonly resets: string[] = [];

  constructor(spec: Partial<FunctionSpec> = {}) {
    super({
      vendor: 0x1234,
      device: 0x5678,
      class: 0x088000,
      interruptPin: 1,
      bars: { 0: { size: 0x1000, space: 'mem32' } },
      ...spec,
    });
  }

  override read(_bar: number, offset: number, width: 1 | 2 | 4 | 8): number | bigint {
    if (width === 8) return this.bytes.getBigUint64(offset, true);
    return width === 4
      ? this.bytes.getUint32(offset, true)
      : width === 2
        ? this.bytes.getUint16(offset, true)
        : this.bytes.getUint8(offset);
  }

  override write(_bar: number, offset: number, width: 1 | 2 | 4 | 8, value: number | bigint): void {
    if (width === 8) this.bytes.setBigUint64(offset, BigInt(value), true);
    else if (width === 4) this.bytes.setUint32(offset, Number(value), true);
    else if (width === 2) this.bytes.setUint16(offset, Number(value), true);
    else this.bytes.setUint8(offset, Number(value));
  }

  override reset(kind: string): void {
    this.resets.push(kind);
  }
}

/** Pages at IOVAs; `readOnly` ones cannot be written. */
export class Pages implements IommuDomain {
  readonly store = new PageStore(1024);
  readonly #pages = new Map<bigint, { index: number; readOnly: boolean }>();

  map(iova: bigint, index: number, readOnly = false): this {
    this.#pages.set(iova / BigInt(PAGE_SIZE), { index, readOnly });
    return this;
  }

  translate(iova: bigint, length: number, write: boolean): DmaTarget | undefined {
    const found = this.#pages.get(iova / BigInt(PAGE_SIZE));
    if (found === undefined || (write && found.readOnly)) return undefined;
    const within = Number(iova % BigInt(PAGE_SIZE));
    const page = this.store.page(found.index, true)!;
    return { page, at: page.offset + within, length: Math.min(length, PAGE_SIZE - within) };
  }
}

/** Attaches pages to the device's group, as an owner. */
export function attach(dev: PciDev, pages: Pages): object {
  const owner = {};
  const group = dev.iommuGroup!;
  if (group.claimDma(owner) !== 0 || group.attach(pages) !== 0) throw new Error('the group is taken');
  return owner;
}
