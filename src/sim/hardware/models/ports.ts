import * as r from '../../../uapi/pci-regs.ts';
import { PciBridge } from '../bridge.ts';
import type { FunctionSpec } from '../function-spec.ts';
import { le16 } from '../little-endian.ts';

export interface RootPortOptions {
  /** Physical slot number. */
  readonly slot?: number;
  /** Link speed code: 1 is 2.5 GT/s. From 3 on the link never says that it is up, as QEMU's does not: resets below do not succeed. */
  readonly speed?: number;
  /** Access control services; without them what is below shares a group with the port. Default true. */
  readonly acs?: boolean;
}

const ACS = { bytes: Uint8Array.of(0x5f, 0, 0, 0), writable: Uint8Array.of(0, 0, 0x5f, 0) };
const MSIX_TABLE = { vectors: 1, tableBar: 0, table: 0, pbaBar: 0, pba: 0x800 };

/** QEMU's pcie-root-port, 1b36:000c. */
export class RootPort extends PciBridge {
  constructor({ slot = 1, speed = 1, acs = true }: RootPortOptions = {}) {
    super({
      vendor: 0x1b36,
      device: 0x000c,
      class: 0x060400,
      interruptPin: 1,
      bars: { 0: { size: 0x1000, space: 'mem32' } },
      msix: { ...MSIX_TABLE, at: 0x48 },
      express: {
        at: 0x54,
        type: r.PCI_EXP_TYPE_ROOT_PORT,
        slot: true,
        deviceCapabilities: 0x8000,
        deviceControl: 0xf,
        linkCapabilities: 0x20_0600 | speed,
        slotCapabilities: (slot << 19) | 0x2_007b,
        slotControl: 0x17ff,
        rootControl: 0xf,
        deviceCapabilities2: 0x30_0020,
        deviceControl2: 0x20,
      },
      capabilities: [{ id: r.PCI_CAP_ID_SSVID, at: 0x40, bytes: Uint8Array.of(0, 0, 0x36, 0x1b, 0, 0) }],
      chain: [0x54, 0x48, 0x40],
      aer: { root: true },
      extended: acs ? [{ id: r.PCI_EXT_CAP_ID_ACS, at: 0x148, ...ACS }] : [],
      gaps: 'writable',
    });
    this.config.define(0x54 + r.PCI_EXP_SLTCTL, { bytes: Uint8Array.from(le16(0x1c0)), writable: Uint8Array.of(0xff, 0x17) });
  }
}

/** QEMU's pcie-pci-bridge, 1b36:000e: PCI Express above, a conventional bus below. */
export class PciePciBridge extends PciBridge {
  constructor() {
    super({
      vendor: 0x1b36,
      device: 0x000e,
      class: 0x060400,
      interruptPin: 1,
      status: 0xa0,
      bars: { 0: { size: 0x100, space: 'mem64' } },
      pm: { at: 0x84, control: 0 },
      msi: { at: 0x8c, vectors: 1, maskable: true },
      express: {
        at: 0x48,
        type: r.PCI_EXP_TYPE_PCI_BRIDGE,
        deviceCapabilities: 0x8000,
        deviceControl: 0xf,
        linkControl: 0,
        deviceCapabilities2: 0x30_0020,
        deviceControl2: 0x8020,
      },
      capabilities: [{ id: 0x0c, at: 0x40, bytes: new Uint8Array(6), writable: Uint8Array.of(0xff) }],
      chain: [0x8c, 0x84, 0x48, 0x40],
      aer: { maskable: false },
      // Of AER, whose last registers are a root port's.
      registers: [{ at: 0x138, bytes: new Uint8Array(16) }],
      gaps: 'writable',
      hotplug: true,
    });
    this.config.define(r.PCI_SEC_STATUS, { bytes: Uint8Array.from(le16(0xa0)) });
  }
}

/** An upstream or downstream port of a switch. */
export class SwitchPort extends PciBridge {
  constructor({ kind, acs = true }: { kind: 'upstream' | 'downstream'; acs?: boolean }) {
    const type = kind === 'upstream' ? r.PCI_EXP_TYPE_UPSTREAM : r.PCI_EXP_TYPE_DOWNSTREAM;
    const isolated = acs && kind === 'downstream';
    const spec: FunctionSpec = {
      vendor: 0x104c,
      device: kind === 'upstream' ? 0x8232 : 0x8233,
      class: 0x060400,
      revision: kind === 'upstream' ? 2 : 1,
      pm: {},
      express: { type, slot: kind === 'downstream' },
      aer: true,
      extended: isolated ? [{ id: r.PCI_EXT_CAP_ID_ACS, ...ACS }] : [],
    };
    super(spec);
  }
}

/** A conventional PCI-to-PCI bridge. */
export class PciPciBridge extends PciBridge {
  constructor() {
    super({ vendor: 0x1b36, device: 0x0001, class: 0x060400, interruptPin: 1 });
  }
}
