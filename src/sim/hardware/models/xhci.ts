import { NotModelled } from '../../../kernel/errors.ts';
import type { Width } from '../../../kernel/memory.ts';
import * as r from '../../../uapi/pci-regs.ts';
import { PciFunction } from '../pci-function.ts';
import type { QemuOptions } from './network.ts';

export interface XhciOptions extends QemuOptions {
  /** On the root bus: an endpoint of the root complex. */
  readonly integrated?: boolean;
  readonly rom?: Uint8Array;
}

/** Offset, and what is there: version 1.0, 64 slots, 16 interrupters, four ports of each speed, 64-bit addresses, where doorbells and run-time registers are. */
const CAPABILITIES: readonly number[] = [
  0x0100_0040, 0x0800_1040, 0x0000_000f, 0x0000_0000, 0x0008_0001, 0x0000_2000, 0x0000_1000, 0x0000_0000,
  // Supported protocols: USB 2 on the ports from the fifth on, USB 3 on the first four.
  0x0200_0402, 0x2042_5355, 0x0000_0405, 0x0000_0000, 0x0300_0002, 0x2042_5355, 0x0000_0401, 0x0000_0000,
];

/** NEC's xHCI controller, 1033:0194, as QEMU has it: INTx, MSI with 16 vectors, MSI-X. Of its registers those that say what it is. */
export class NecXhci extends PciFunction {
  constructor({ integrated = false, rom, extendedTag = true }: XhciOptions = {}) {
    super({
      vendor: 0x1033,
      device: 0x0194,
      subsystemVendor: 0x1af4,
      subsystemDevice: 0x1100,
      class: 0x0c0330,
      revision: 3,
      interruptPin: 1,
      bars: { 0: { size: 0x4000, space: 'mem64' } },
      ...(rom === undefined ? {} : { rom }),
      msi: { at: 0x70, vectors: 16 },
      msix: { at: 0x90, vectors: 16, tableBar: 0, table: 0x3000, pbaBar: 0, pba: 0x3800 },
      express: {
        at: 0xa0,
        deviceCapabilities: extendedTag ? 0x8020 : 0x8000,
        deviceControl: 0,
        linkControl: 0,
        deviceCapabilities2: 0x30_0000,
        deviceControl2: 0x8000,
        ...(integrated ? { type: r.PCI_EXP_TYPE_RC_END } : {}),
      },
      registers: [{ at: 0x60, bytes: Uint8Array.of(0x30), writable: Uint8Array.of(0xff) }],
      chain: [0x90, 0xa0, 0x70],
      gaps: 'writable',
    });
  }

  /** Registers are read whole: of one that is read in part the low bits come, and zeros from its middle. */
  override read(_bar: number, offset: number, width: Width): number | bigint {
    if (offset + width > 4 * CAPABILITIES.length)
      throw new NotModelled(`nec-usb-xhci: a read of ${width} bytes at 0x${offset.toString(16)}`);
    const word = (at: number): number => CAPABILITIES[at / 4] ?? 0;
    if (width === 8) return (BigInt(word(offset + 4)) << 32n) | BigInt(word(offset));
    return width === 4 ? word(offset) : word(offset) & (2 ** (8 * width) - 1);
  }

  /** What says what it is cannot be written. */
  override write(_bar: number, offset: number, width: Width): void {
    if (offset + width > 4 * CAPABILITIES.length)
      throw new NotModelled(`nec-usb-xhci: a write of ${width} bytes at 0x${offset.toString(16)}`);
  }
}
