import type { ConfigWidth } from '../../hardware/pci-function.ts';
import { msiLength, msiPermissions, type Permissions } from './config-tables.ts';

/** Configuration registers: a PCI device's, or what stands for one. */
export interface ConfigRegisters {
  readonly configSize: 256 | 4096;
  readConfig(offset: number, width: ConfigWidth): number;
  writeConfig(offset: number, width: ConfigWidth, value: number): void;
}

export const STD_HEADER_SIZE = 0x40;
export const CFG_SPACE_SIZE = 0x100;
const PCI_STATUS = 6;
const STATUS_CAP_LIST = 0x10;
const CAPABILITY_LIST = 0x34;
/** No capability owns the byte. */
export const INVALID = 0xff;
/** The header's own id in the map. */
export const BASIC = 0;

/** Lengths of standard capabilities by id; a function where it is in the capability. What is not listed is hidden. */
const lengths: ReadonlyMap<number, number | ((map: ConfigMap, at: number) => number)> = new Map<
  number,
  number | ((map: ConfigMap, at: number) => number)
>([
  [0x01, 8],
  [0x02, 12],
  [0x03, 8],
  [0x05, (map, at) => map.msiLength(at)],
  [0x07, (map, at) => map.pcixLength(at)],
  [0x08, (map, at) => (map.registers.readConfig(at + 3, 1) & 0xe0 ? 24 : 28)],
  [0x09, (map, at) => map.registers.readConfig(at + 2, 1)],
  [0x10, (map, at) => map.expressLength(at)],
  [0x11, 12],
  [0x12, (map, at) => ((map.registers.readConfig(at + 4, 1) & 0xf) === 0xf ? 16 : 8)],
  [0x13, 6],
]);

type ExtLength = number | ((registers: ConfigRegisters, at: number) => number);

/** The length that a vendor-specific extended capability and a DVSEC say they have. */
const vendorLength: ExtLength = (registers, at) => registers.readConfig(at + 4, 4) >>> 20;

/** Virtual channels: the ports' registers, a block per channel, the arbitration table. */
const channelLength: ExtLength = (registers, at) => {
  const channels = 1 + (registers.readConfig(at + 4, 4) & 7);
  const capabilities = registers.readConfig(at + 8, 4);
  const phases = capabilities & 8 ? 128 : capabilities & 4 ? 64 : capabilities & 2 ? 32 : 0;
  const length = 0x10 + channels * 0xc;
  return phases === 0 ? length : Math.ceil(length / 16) * 16 + phases / 2;
};

const accessControlLength: ExtLength = (registers, at) => {
  if ((registers.readConfig(at + 4, 2) & 0x20) === 0) return 8;
  const egress = registers.readConfig(at + 5, 1);
  return 8 + (egress === 0 ? 256 : Math.ceil(egress / 32) * 32) / 8;
};

const hintsLength: ExtLength = (registers, at) => {
  const requester = registers.readConfig(at + 4, 4);
  return (requester & 0x600) === 0x200 ? 12 + ((requester >>> 16) & 0x7ff) * 2 + 2 : 12;
};

const extLengths: ReadonlyMap<number, ExtLength> = new Map<number, ExtLength>([
  [0x01, 0x2c],
  [0x02, channelLength],
  [0x03, 12],
  [0x04, 16],
  [0x08, channelLength],
  [0x09, channelLength],
  [0x0b, vendorLength],
  [0x0d, accessControlLength],
  [0x0e, 8],
  [0x0f, 8],
  [0x10, 0x40],
  [0x12, 40],
  [0x13, 16],
  [0x15, (registers, at) => 4 + ((registers.readConfig(at + 8, 1) >>> 5) & 7) * 8],
  [0x16, (registers, at) => 16 + (registers.readConfig(at + 4, 1) & 0x1f) + 1],
  [0x17, hintsLength],
  [0x18, 8],
  [0x23, vendorLength],
]);

/** Which capability each byte belongs to, and the virtual registers: what vfio_config_init makes of a device that is opened. */
export class ConfigMap {
  readonly registers: ConfigRegisters;
  /** Capability id by byte. */
  readonly owner: Uint8Array;
  readonly vconfig: Uint8Array;
  /** Of this device's MSI capability. */
  msi: Permissions | undefined;
  /** A PCI Express or PCI-X 2.0 capability was seen and the first extended header is not 0. */
  #extended = false;

  constructor(registers: ConfigRegisters) {
    this.registers = registers;
    this.owner = new Uint8Array(registers.configSize).fill(INVALID);
    this.owner.fill(BASIC, 0, STD_HEADER_SIZE);
    this.vconfig = new Uint8Array(registers.configSize);
    this.#fill(0, STD_HEADER_SIZE);
  }

  /** vfio_cap_init, vfio_ecap_init. */
  walk(): void {
    this.#walkStandard();
    if (this.#extended) this.#walkExtended();
  }

  /** First byte of the capability around `at`. */
  start(at: number): number {
    const id = this.owner[at];
    if (id === BASIC) return 0;
    const base = at >= CFG_SPACE_SIZE ? CFG_SPACE_SIZE : STD_HEADER_SIZE;
    let start = at;
    while (start > base && this.owner[start - 1] === id) start--;
    return start;
  }

  msiLength(at: number): number {
    const flags = this.registers.readConfig(at + 2, 2);
    this.msi = msiPermissions(flags);
    return msiLength(flags);
  }

  pcixLength(at: number): number {
    if ((this.registers.readConfig(at + 2, 2) & 0x3000) === 0) return 8;
    this.#probeExtended();
    return 24;
  }

  /** By version and type: an endpoint integrated into the root complex has no link. */
  expressLength(at: number): number {
    this.#probeExtended();
    const flags = this.registers.readConfig(at + 2, 2);
    const integrated = ((flags >>> 4) & 0xf) === 9;
    if ((flags & 0xf) === 1) return integrated ? 0xc : 20;
    return integrated ? 0x2c : 0x34;
  }

  #probeExtended(): void {
    if (this.registers.configSize > CFG_SPACE_SIZE) this.#extended = this.registers.readConfig(CFG_SPACE_SIZE, 4) !== 0;
  }

  #walkStandard(): void {
    const { registers, vconfig } = this;
    if ((registers.readConfig(PCI_STATUS, 2) & STATUS_CAP_LIST) === 0) return;
    let link = CAPABILITY_LIST;
    let at = registers.readConfig(CAPABILITY_LIST, 1);
    let visible = 0;
    for (let loops = (CFG_SPACE_SIZE - STD_HEADER_SIZE) / 4; at !== 0 && loops > 0; loops--) {
      const id = registers.readConfig(at, 1);
      const next = registers.readConfig(at + 1, 1);
      const rule = lengths.get(id) ?? 0;
      const length = typeof rule === 'number' ? rule : rule(this, at);
      if (length === 0) {
        vconfig[link] = next;
      } else {
        this.#own(at, length, id);
        link = at + 1;
        visible++;
      }
      at = next;
    }
    if (visible === 0) vconfig[PCI_STATUS]! &= ~STATUS_CAP_LIST;
  }

  #walkExtended(): void {
    const { registers, vconfig } = this;
    const words = new DataView(vconfig.buffer);
    let link = 0;
    let at = CFG_SPACE_SIZE;
    let visible = 0;
    for (let loops = (registers.configSize - CFG_SPACE_SIZE) / 4; at >= CFG_SPACE_SIZE && loops > 0; loops--) {
      const header = registers.readConfig(at, 4);
      const id = header & 0xffff;
      const next = (header >>> 20) & 0xffc;
      const rule = extLengths.get(id) ?? 0;
      const length = typeof rule === 'number' ? rule : rule(registers, at);
      if (length > 0) {
        this.#own(at, length, id);
        visible++;
      } else if (link !== 0) {
        words.setUint32(link, (words.getUint32(link, true) & 0x000f_ffff) | (next << 20), true);
        at = next;
        continue;
      } else {
        // The first one cannot be skipped: it stays as a header without id and version.
        this.#own(at, 4, id);
        words.setUint32(at, next << 20, true);
      }
      link = at;
      at = next;
    }
    if (visible === 0) words.setUint32(CFG_SPACE_SIZE, 0, true);
  }

  #own(at: number, length: number, id: number): void {
    this.owner.fill(id, at, at + length);
    this.#fill(at, length);
  }

  /** vfio_fill_vconfig_bytes. */
  #fill(at: number, length: number): void {
    const end = Math.min(at + length, this.vconfig.length);
    for (let i = at; i < end; i++) this.vconfig[i] = this.registers.readConfig(i, 1);
  }
}
