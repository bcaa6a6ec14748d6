import * as r from '../../../uapi/pci-regs.ts';
import type { CapabilitySpec, FunctionSpec } from '../function-spec.ts';
import { Fixture } from './fixture.ts';

/** What a q35 machine has besides: there, without what they do. */

const INTEL = { vendor: 0x8086, subsystemVendor: 0x1af4, subsystemDevice: 0x1100, gaps: 'writable' } as const;
const ICH9 = { ...INTEL, revision: 2 } as const;

export class HostBridge extends Fixture {
  constructor() {
    super({ ...INTEL, device: 0x29c0, class: 0x060000 });
  }
}

export class IsaBridge extends Fixture {
  constructor() {
    super({ ...ICH9, device: 0x2918, class: 0x060100, multifunction: true });
  }
}

export class Ahci extends Fixture {
  constructor() {
    super({
      ...ICH9,
      device: 0x2922,
      class: 0x010601,
      interruptPin: 1,
      bars: { 4: { size: 32, space: 'io' }, 5: { size: 0x1000, space: 'mem32' } },
      msi: { vectors: 1, at: 0x80 },
      registers: [{ at: 0x90, bytes: Uint8Array.of(0x40), writable: Uint8Array.of(0xff) }],
      capabilities: [{ id: 0x12, at: 0xa8, bytes: Uint8Array.of(0x10, 0, 0x48, 0, 0, 0) }],
      multifunction: true,
    });
  }
}

export class SmBus extends Fixture {
  constructor() {
    super({
      ...ICH9,
      device: 0x2930,
      class: 0x0c0500,
      interruptPin: 1,
      bars: { 4: { size: 64, space: 'io' } },
      registers: [{ at: 0x40, bytes: Uint8Array.of(1), writable: Uint8Array.of(0xf7) }],
      multifunction: true,
    });
  }
}

export interface VirtioOptions {
  readonly device?: number;
  readonly subsystem?: number;
  readonly class?: number;
  /** Size of the I/O BAR. */
  readonly ports?: number;
}

/** Where the five structures of a virtio device are: all in BAR 4, the last behind a window of configuration space. */
function structures(): Pick<FunctionSpec, 'capabilities'> {
  const structure = (at: number, type: number, offset: number, more: readonly number[] = []): CapabilitySpec => ({
    id: r.PCI_CAP_ID_VNDR,
    at,
    bytes: Uint8Array.from([0x10 + more.length, type, 4, 0, 0, 0, 0, offset, 0, 0, 0, 0x10, 0, 0, ...more]),
  });
  return {
    capabilities: [
      structure(0x40, 1, 0x00),
      structure(0x50, 3, 0x10),
      structure(0x60, 4, 0x20),
      structure(0x70, 2, 0x30, [4, 0, 0, 0]),
      { id: r.PCI_CAP_ID_VNDR, at: 0x84, bytes: Uint8Array.from([0x14, 5, ...new Array<number>(16).fill(0)]) },
    ],
  };
}

/** A transitional virtio device: the five structures of its configuration, MSI-X. */
export class VirtioPci extends Fixture {
  constructor({ device = 0x1009, subsystem = 0x0009, class: code = 0x000200, ports = 32 }: VirtioOptions = {}) {
    super({
      vendor: 0x1af4,
      device,
      subsystemVendor: 0x1af4,
      subsystemDevice: subsystem,
      class: code,
      interruptPin: 1,
      bars: {
        0: { size: ports, space: 'io' },
        1: { size: 0x1000, space: 'mem32' },
        4: { size: 0x4000, space: 'mem64', prefetchable: true },
      },
      msix: { at: 0x98, vectors: 2, tableBar: 1, table: 0, pbaBar: 1, pba: 0x800 },
      ...structures(),
      chain: [0x98, 0x84, 0x70, 0x60, 0x50, 0x40],
      gaps: 'writable',
    });
  }
}

/** The virtio-iommu's own function: the IOMMU is simulated elsewhere. */
export class VirtioIommu extends Fixture {
  constructor() {
    super({
      vendor: 0x1af4,
      device: 0x1057,
      subsystemVendor: 0x1af4,
      subsystemDevice: 0x1100,
      class: 0x00ff00,
      revision: 1,
      interruptPin: 1,
      bars: { 4: { size: 0x4000, space: 'mem64', prefetchable: true } },
      ...structures(),
      chain: [0x84, 0x70, 0x60, 0x50, 0x40],
      gaps: 'writable',
    });
  }
}
