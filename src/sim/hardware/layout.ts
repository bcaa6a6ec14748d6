import { rangeError } from '../../kernel/errors.ts';
import * as r from '../../uapi/pci-regs.ts';
import { ConfigSpace, type RegisterBits } from './config-space.ts';
import { expressRegisters } from './express.ts';
import { extendedPieces, type Piece } from './extended.ts';
import type { BarSpec, FunctionSpec } from './function-spec.ts';
import { le16, le32 } from './little-endian.ts';

/** Where the capabilities are; 0: not there. */
export interface Positions {
  readonly pm: number;
  readonly msi: number;
  readonly msix: number;
  readonly express: number;
  readonly af: number;
  readonly aer: number;
  readonly acs: number;
  readonly sriov: number;
  readonly pri: number;
}

/** Configuration space of a function, from its description. */
export function layOut(spec: FunctionSpec): { config: ConfigSpace; positions: Positions } {
  const config = new ConfigSpace(spec.express !== undefined && spec.express !== false ? 4096 : 256);
  if (spec.gaps === 'writable') config.define(0x40, filled(config.size - 0x40));
  // There is a header at 0x100, also of no capability.
  if (config.size > 0x100) config.define(0x100, { bytes: new Uint8Array(4) });
  header(config, spec);
  for (const { at, bytes, writable } of spec.registers ?? []) config.define(at, { bytes, writable });
  const places = chain(config, spec, standard(spec));
  const extended = chainExtended(config, extendedPieces(spec));
  const sriov = extended.get(r.PCI_EXT_CAP_ID_SRIOV);
  if (sriov !== undefined && spec.sriov !== undefined) bars(config, sriov + r.PCI_SRIOV_BAR, spec.sriov.vfBars, 6);
  const positions = {
    pm: places.get(r.PCI_CAP_ID_PM) ?? 0,
    msi: places.get(r.PCI_CAP_ID_MSI) ?? 0,
    msix: places.get(r.PCI_CAP_ID_MSIX) ?? 0,
    express: places.get(r.PCI_CAP_ID_EXP) ?? 0,
    af: places.get(r.PCI_CAP_ID_AF) ?? 0,
    aer: extended.get(r.PCI_EXT_CAP_ID_ERR) ?? 0,
    acs: extended.get(r.PCI_EXT_CAP_ID_ACS) ?? 0,
    sriov: sriov ?? 0,
    pri: extended.get(r.PCI_EXT_CAP_ID_PRI) ?? 0,
  };
  return { config, positions };
}

function filled(length: number): RegisterBits {
  return { bytes: new Uint8Array(length), writable: new Uint8Array(length).fill(0xff) };
}

function header(config: ConfigSpace, spec: FunctionSpec): void {
  const bridge = spec.bridge === true;
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  view.setUint16(r.PCI_VENDOR_ID, spec.vendor, true);
  view.setUint16(r.PCI_DEVICE_ID, spec.device, true);
  view.setUint16(r.PCI_STATUS, spec.status ?? 0, true);
  view.setUint32(r.PCI_CLASS_REVISION, spec.class * 0x100 + (spec.revision ?? 0), true);
  bytes[r.PCI_HEADER_TYPE] =
    (bridge ? r.PCI_HEADER_TYPE_BRIDGE : 0) | (spec.multifunction === true ? r.PCI_HEADER_TYPE_MULTI : 0);
  bytes[r.PCI_INTERRUPT_PIN] = spec.interruptPin ?? 0;
  if (!bridge) {
    view.setUint16(r.PCI_SUBSYSTEM_VENDOR_ID, spec.subsystemVendor ?? 0, true);
    view.setUint16(r.PCI_SUBSYSTEM_ID, spec.subsystemDevice ?? 0, true);
  }
  config.define(0, { bytes });
  const command =
    r.PCI_COMMAND_IO | r.PCI_COMMAND_MEMORY | r.PCI_COMMAND_MASTER | r.PCI_COMMAND_SERR | r.PCI_COMMAND_INTX_DISABLE;
  config.allow(r.PCI_COMMAND, 2, spec.virtual === true ? r.PCI_COMMAND_MASTER : command);
  config.allow(r.PCI_CACHE_LINE_SIZE, 1, 0xff);
  config.allow(r.PCI_INTERRUPT_LINE, 1, 0xff);
  config.clearing(r.PCI_STATUS, 2, r.PCI_STATUS_RW1C);
  if (bridge) bridgeHeader(config);
  if (spec.virtual !== true) bars(config, r.PCI_BASE_ADDRESS_0, spec.bars ?? {}, bridge ? 2 : 6);
  if (spec.rom !== undefined || spec.romSize !== undefined) {
    const size = spec.romSize ?? Math.max(2048, 2 ** Math.ceil(Math.log2(spec.rom!.length)));
    config.allow(bridge ? r.PCI_ROM_ADDRESS1 : r.PCI_ROM_ADDRESS, 4, (~(size - 1) | r.PCI_ROM_ADDRESS_ENABLE) >>> 0);
  }
}

function bridgeHeader(config: ConfigSpace): void {
  config.allow(r.PCI_PRIMARY_BUS, 4, 0xffff_ffff);
  config.define(r.PCI_PREF_MEMORY_BASE, { bytes: Uint8Array.of(1, 0, 1, 0) });
  config.allow(r.PCI_IO_BASE, 2, 0xf0f0);
  config.allow(r.PCI_MEMORY_BASE, 4, 0xfff0_fff0);
  config.allow(r.PCI_PREF_MEMORY_BASE, 4, 0xfff0_fff0);
  config.allow(r.PCI_PREF_BASE_UPPER32, 4, 0xffff_ffff);
  config.allow(r.PCI_PREF_LIMIT_UPPER32, 4, 0xffff_ffff);
  config.allow(r.PCI_BRIDGE_CONTROL, 2, 0x0bff);
  config.clearing(r.PCI_BRIDGE_CONTROL, 2, 0x0400);
  config.clearing(r.PCI_SEC_STATUS, 2, r.PCI_STATUS_RW1C);
}

/** BAR registers: the address bits below the size are not there. */
function bars(config: ConfigSpace, at: number, specs: Readonly<Record<number, BarSpec>>, count: number): void {
  for (const [key, { size, space, prefetchable = false }] of Object.entries(specs)) {
    const index = Number(key);
    const least = space === 'io' ? 4 : 16;
    if (!(Math.log2(size) % 1 === 0 && size >= least))
      throw rangeError(`bars[${key}].size must be a power of two from ${least}, not ${size}`);
    if (index < 0 || index + (space === 'mem64' ? 1 : 0) >= count) throw rangeError(`bars[${key}]: there are ${count} BARs`);
    const mask = ~(BigInt(size) - 1n);
    const kind =
      space === 'io'
        ? r.PCI_BASE_ADDRESS_SPACE_IO
        : (space === 'mem64' ? r.PCI_BASE_ADDRESS_MEM_TYPE_64 : 0) | (prefetchable ? r.PCI_BASE_ADDRESS_MEM_PREFETCH : 0);
    config.define(at + 4 * index, { bytes: Uint8Array.from(le32(kind)) });
    config.allow(at + 4 * index, 4, Number(BigInt.asUintN(32, mask)));
    if (space === 'mem64') config.allow(at + 4 * index + 4, 4, Number(BigInt.asUintN(32, mask >> 32n)));
  }
}

function standard(spec: FunctionSpec): Piece[] {
  const pieces: Piece[] = [];
  const { pm, msi, msix } = spec;
  const add = (id: number, at: number | undefined, bits: RegisterBits): void => {
    pieces.push({ id, at, version: 0, ...bits });
  };
  if (pm !== undefined) {
    const { capabilities = 0x0003, noSoftReset = false } = pm;
    const pme = (capabilities & 0xf800) !== 0;
    const control = pm.control ?? (pme ? 0x103 : 0x003);
    const bytes = Uint8Array.from([...le16(capabilities), ...le16(noSoftReset ? r.PCI_PM_CTRL_NO_SOFT_RESET : 0), 0, 0]);
    const writable = Uint8Array.from([0, 0, ...le16(control)]);
    add(r.PCI_CAP_ID_PM, pm.at, { bytes, writable, clearable: Uint8Array.of(0, 0, 0, pme ? 0x80 : 0) });
  }
  if (msi !== undefined) add(r.PCI_CAP_ID_MSI, msi.at, msiRegisters(msi.vectors, msi.wide ?? true, msi.maskable ?? false));
  if (msix !== undefined) {
    const bytes = Uint8Array.from([
      ...le16(msix.vectors - 1),
      ...le32(msix.table | msix.tableBar),
      ...le32(msix.pba | msix.pbaBar),
    ]);
    add(r.PCI_CAP_ID_MSIX, msix.at, { bytes, writable: Uint8Array.of(0, 0xc0) });
  }
  if (spec.express !== undefined && spec.express !== false) {
    const express = spec.express === true ? {} : spec.express;
    add(r.PCI_CAP_ID_EXP, express.at, expressRegisters(express, spec.flr === true));
  } else if (spec.flr === true) {
    add(r.PCI_CAP_ID_AF, undefined, {
      bytes: Uint8Array.of(6, r.PCI_AF_CAP_TP_FLR, 0, 0),
      writable: Uint8Array.of(0, 0, r.PCI_AF_CTRL_FLR),
    });
  }
  for (const { id, at, bytes, writable, clearable } of spec.capabilities ?? []) add(id, at, { bytes, writable, clearable });
  return pieces;
}

function msiRegisters(vectors: number, wide: boolean, maskable: boolean): RegisterBits {
  const power = Math.log2(vectors);
  if (!Number.isInteger(power) || power > 5) throw rangeError(`msi.vectors must be a power of two up to 32, not ${vectors}`);
  const flags = (power << 1) | (wide ? r.PCI_MSI_FLAGS_64BIT : 0) | (maskable ? r.PCI_MSI_FLAGS_MASKBIT : 0);
  const address = wide ? [0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff] : [0xfc, 0xff, 0xff, 0xff];
  const writable = [r.PCI_MSI_FLAGS_ENABLE | r.PCI_MSI_FLAGS_QSIZE, 0, ...address, 0xff, 0xff];
  if (maskable) writable.push(0, 0, ...le32(2 ** vectors - 1), 0, 0, 0, 0);
  const bytes = new Uint8Array(writable.length);
  bytes.set(le16(flags));
  return { bytes, writable: Uint8Array.from(writable) };
}

/** Places the standard capabilities and links them in the order of `spec.chain`, else in that of their places. */
function chain(config: ConfigSpace, spec: FunctionSpec, pieces: readonly Piece[]): Map<number, number> {
  const placed = place(pieces, 0x40, 0x100, 2);
  if (placed.length === 0) return new Map();
  const order = spec.chain ?? placed.map(({ at }) => at);
  const linked = order.map((at) => {
    const piece = placed.find((one) => one.at === at);
    if (piece === undefined) throw rangeError(`chain: there is no capability at 0x${at.toString(16)}`);
    return piece;
  });
  linked.forEach((piece, index) => {
    config.define(piece.at, { bytes: Uint8Array.of(piece.id, linked[index + 1]?.at ?? 0) });
    config.define(piece.at + 2, piece);
  });
  config.define(r.PCI_CAPABILITY_LIST, { bytes: Uint8Array.of(linked[0]!.at) });
  const status = config.peek(r.PCI_STATUS, 2) | r.PCI_STATUS_CAP_LIST;
  config.define(r.PCI_STATUS, { bytes: Uint8Array.from(le16(status)), clearable: Uint8Array.from(le16(r.PCI_STATUS_RW1C)) });
  return new Map(linked.toReversed().map(({ id, at }) => [id, at]));
}

function chainExtended(config: ConfigSpace, pieces: readonly Piece[]): Map<number, number> {
  const placed = place(pieces, 0x100, 0x1000, 4);
  if (placed.length > 0 && config.size === 256) throw rangeError('extended capabilities need `express`');
  if (placed.length > 0 && placed[0]!.at !== 0x100) throw rangeError('the first extended capability is at 0x100');
  placed.forEach((piece, index) => {
    const next = placed[index + 1]?.at ?? 0;
    config.define(piece.at, { bytes: Uint8Array.from(le32((piece.id | (piece.version << 16) | (next << 20)) >>> 0)) });
    config.define(piece.at + 4, piece);
  });
  return new Map(placed.toReversed().map(({ id, at }) => [id, at]));
}

/** Gives those without a place the next free one; ascending. */
function place(pieces: readonly Piece[], from: number, to: number, header: number): (Piece & { at: number })[] {
  const taken: { at: number; end: number; piece: Piece }[] = [];
  const add = (piece: Piece, at: number): void => {
    const end = at + header + piece.bytes.length;
    const other = taken.find((one) => at < one.end && one.at < end);
    if (other !== undefined || at < from || end > to || at % 4 !== 0) {
      throw rangeError(`the capability 0x${piece.id.toString(16)} cannot be at 0x${at.toString(16)}`);
    }
    taken.push({ at, end, piece });
  };
  for (const piece of pieces) if (piece.at !== undefined) add(piece, piece.at);
  for (const piece of pieces) {
    if (piece.at !== undefined) continue;
    const length = header + piece.bytes.length;
    let at = from;
    for (let hit = taken[0]; hit !== undefined; ) {
      hit = taken.find((one) => at < one.end && one.at < at + length);
      if (hit !== undefined) at = (hit.end + 3) & ~3;
    }
    add(piece, at);
  }
  return taken.sort((a, b) => a.at - b.at).map(({ at, piece }) => ({ ...piece, at }));
}
