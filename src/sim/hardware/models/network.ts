import type { Width } from '../../../kernel/memory.ts';
import * as r from '../../../uapi/pci-regs.ts';
import type { FunctionSpec } from '../function-spec.ts';
import { PciFunction } from '../pci-function.ts';

/** Network cards as far as their configuration space goes: the registers behind their BARs read as all ones. */

/** How old the emulation is that this is compared with: QEMU before 8 does not mask errors, nor has it extended tags. */
export interface QemuOptions {
  readonly extendedTag?: boolean;
}

export interface E1000eOptions extends QemuOptions {
  /** With a ROM BAR. */
  readonly rom?: boolean;
}

const deviceCapabilities = ({ extendedTag = true }: QemuOptions): number => (extendedTag ? 0x8020 : 0x8000);
const uncorrectableMask = ({ extendedTag = true }: QemuOptions): number => (extendedTag ? 0x0240_0000 : 0);

const INTEL_BARS: FunctionSpec['bars'] = {
  0: { size: 0x2_0000, space: 'mem32' },
  1: { size: 0x2_0000, space: 'mem32' },
  2: { size: 0x20, space: 'io' },
  3: { size: 0x4000, space: 'mem32' },
};

/** Intel 82574L, 8086:10d3, as QEMU's e1000e has it: INTx, MSI, MSI-X; resets by power management. */
export class E1000e extends PciFunction {
  constructor(options: E1000eOptions = {}) {
    super({
      vendor: 0x8086,
      device: 0x10d3,
      subsystemVendor: 0x8086,
      class: 0x020000,
      interruptPin: 1,
      bars: INTEL_BARS!,
      ...(options.rom === false ? {} : { romSize: 0x4_0000 }),
      pm: { at: 0xc8, capabilities: 0x22, control: 0x1f03 },
      msi: { at: 0xd0, vectors: 1 },
      msix: { at: 0xa0, vectors: 5, tableBar: 3, table: 0, pbaBar: 3, pba: 0x2000 },
      express: { at: 0xe0, version: 1, deviceCapabilities: deviceCapabilities(options), deviceControl: 0, linkControl: 0 },
      chain: [0xc8, 0xd0, 0xe0, 0xa0],
      aer: { uncorrectableMask: uncorrectableMask(options), maskable: options.extendedTag ?? true },
      // Of AER, whose last registers are a root port's.
      registers: [{ at: 0x138, bytes: new Uint8Array(16) }],
      extended: [{ id: r.PCI_EXT_CAP_ID_DSN, at: 0x140, bytes: Uint8Array.of(0x56, 0x34, 0x12, 0xff, 0xff, 0x00, 0x54, 0x52) }],
      gaps: 'writable',
    });
  }

  /** BAR 3 has the MSI-X table and nothing else. */
  override read(bar: number, offset: number, width: Width): number | bigint {
    if (bar !== 3) return super.read(bar, offset, width);
    return width === 8 ? 0n : 0;
  }
}

const VF_BAR = { size: 0x4000, space: 'mem64', prefetchable: true } as const;

/** Intel 82576, 8086:10c9, after QEMU's igb: eight virtual functions. */
export class Igb extends PciFunction {
  constructor(options: QemuOptions = {}) {
    super({
      vendor: 0x8086,
      device: 0x10c9,
      subsystemVendor: 0x8086,
      subsystemDevice: 0xa03c,
      class: 0x020000,
      revision: 1,
      interruptPin: 1,
      bars: INTEL_BARS!,
      pm: { at: 0x40, capabilities: 0x23, control: 0x1f03 },
      msi: { at: 0x50, vectors: 1, maskable: true },
      msix: { at: 0x70, vectors: 10, tableBar: 3, table: 0, pbaBar: 3, pba: 0x2000 },
      express: { at: 0xa0, deviceCapabilities: deviceCapabilities(options), deviceCapabilities2: 0x30_0000 },
      flr: true,
      chain: [0x40, 0x50, 0x70, 0xa0],
      aer: { uncorrectableMask: uncorrectableMask(options) },
      extended: [{ id: r.PCI_EXT_CAP_ID_ARI, at: 0x150, bytes: new Uint8Array(4) }],
      sriov: {
        at: 0x160,
        totalVfs: 8,
        firstOffset: 0x80,
        stride: 2,
        vfDevice: 0x10ca,
        vfBars: { 0: VF_BAR, 3: VF_BAR },
        create: () => new IgbVf(),
      },
      gaps: 'writable',
    });
  }
}

/** A virtual function of an Igb: vendor and device read as all ones, its BARs are the physical function's. */
export class IgbVf extends PciFunction {
  constructor() {
    super({
      vendor: 0xffff,
      device: 0xffff,
      subsystemVendor: 0x8086,
      subsystemDevice: 0xa03c,
      class: 0x020000,
      revision: 1,
      virtual: true,
      msix: { at: 0x70, vectors: 3, tableBar: 3, table: 0, pbaBar: 3, pba: 0x2000 },
      express: { at: 0xa0, deviceCapabilities2: 0x30_0000 },
      flr: true,
      chain: [0x70, 0xa0],
      aer: true,
      extended: [{ id: r.PCI_EXT_CAP_ID_ARI, at: 0x150, bytes: new Uint8Array(4) }],
    });
  }
}
