/** What a write to configuration space is for a TDI: PCI Express Base Specification, chapter 11, "TDI configuration registers". */
import * as r from '../../../uapi/pci-regs.ts';
import type { TdiEvent } from './events.ts';

/** A write to a function's configuration space, and what it did. */
export interface ConfigWrite {
  /** All of the space, 256 or 4096 bytes. */
  readonly before: Uint8Array;
  readonly after: Uint8Array;
  readonly offset: number;
  readonly written: Uint8Array;
}

/** Of the bytes written: `cleared`: a bit of the mask went from one to zero; `changed`: one changed; `written`: always; `set`: a one was written. */
type How = 'cleared' | 'changed' | 'written' | 'set';

interface Rule {
  readonly event: TdiEvent;
  readonly how: How;
  /** From the start of the header, or of the capability. */
  readonly at: number;
  /** Bytes; absent: to the end of the capability. */
  readonly length?: number;
  /** Of the number these bytes are; absent: all bits. */
  readonly mask?: number;
  /** Without it the bits mean nothing. */
  readonly if?: (bytes: DataView, capability: number) => boolean;
}

const HEADER: readonly Rule[] = [
  { event: 'memory-space-clear', how: 'cleared', at: r.PCI_COMMAND, length: 2, mask: r.PCI_COMMAND_MEMORY },
  { event: 'bus-master-clear', how: 'cleared', at: r.PCI_COMMAND, length: 2, mask: r.PCI_COMMAND_MASTER },
  { event: 'bar-write', how: 'written', at: r.PCI_BIST, length: 1 },
  { event: 'bar-write', how: 'written', at: r.PCI_BASE_ADDRESS_0, length: 24 },
  { event: 'bar-write', how: 'written', at: r.PCI_ROM_ADDRESS, length: 4 },
];

const D3HOT = 3;
const TAGS = r.PCI_EXP_DEVCTL_EXT_TAG | r.PCI_EXP_DEVCTL_PHANTOM | r.PCI_EXP_DEVCTL_NOSNOOP_EN;

const STANDARD: Readonly<Record<number, readonly Rule[]>> = {
  [r.PCI_CAP_ID_PM]: [
    {
      event: 'power-loss',
      how: 'changed',
      at: r.PCI_PM_CTRL,
      length: 2,
      mask: r.PCI_PM_CTRL_STATE_MASK,
      if: (after, at) => {
        const control = after.getUint16(at + r.PCI_PM_CTRL, true);
        return (control & r.PCI_PM_CTRL_STATE_MASK) === D3HOT && (control & r.PCI_PM_CTRL_NO_SOFT_RESET) === 0;
      },
    },
  ],
  [r.PCI_CAP_ID_EXP]: [
    {
      event: 'flr',
      how: 'set',
      at: r.PCI_EXP_DEVCTL,
      length: 2,
      mask: r.PCI_EXP_DEVCTL_BCR_FLR,
      if: (after, at) => (after.getUint32(at + r.PCI_EXP_DEVCAP, true) & r.PCI_EXP_DEVCAP_FLR) !== 0,
    },
    { event: 'tag-change', how: 'changed', at: r.PCI_EXP_DEVCTL, length: 2, mask: TAGS },
    { event: 'tag-change', how: 'changed', at: r.PCI_EXP_DEVCTL2, length: 2, mask: r.PCI_EXP_DEVCTL2_10BIT_TAG_REQ_EN },
  ],
  [r.PCI_CAP_ID_MSIX]: [{ event: 'msix-change', how: 'changed', at: 2 }],
  [r.PCI_CAP_ID_AF]: [
    {
      event: 'flr',
      how: 'set',
      at: r.PCI_AF_CTRL,
      length: 1,
      mask: r.PCI_AF_CTRL_FLR,
      if: (after, at) => (after.getUint8(at + r.PCI_AF_CAP) & r.PCI_AF_CAP_TP_FLR) === r.PCI_AF_CAP_TP_FLR,
    },
  ],
  [r.PCI_CAP_ID_EA]: [{ event: 'capability-change', how: 'changed', at: 2 }],
};

const ANY_CHANGE: readonly Rule[] = [{ event: 'capability-change', how: 'changed', at: 4 }];

const EXTENDED: Readonly<Record<number, readonly Rule[]>> = {
  [r.PCI_EXT_CAP_ID_ARI]: ANY_CHANGE,
  [r.PCI_EXT_CAP_ID_SRIOV]: ANY_CHANGE,
  [r.PCI_EXT_CAP_ID_MCAST]: ANY_CHANGE,
  [r.PCI_EXT_CAP_ID_PRI]: ANY_CHANGE,
  [r.PCI_EXT_CAP_ID_REBAR]: ANY_CHANGE,
  [r.PCI_EXT_CAP_ID_PASID]: ANY_CHANGE,
  [r.PCI_EXT_CAP_ID_VF_REBAR]: ANY_CHANGE,
  [r.PCI_EXT_CAP_ID_IDE]: [{ event: 'ide-insecure', how: 'changed', at: 4 }],
  [r.PCI_EXT_CAP_ID_DEV3]: [
    { event: 'tag-change', how: 'changed', at: r.PCI_DEV3_CTL, length: 4, mask: r.PCI_DEV3_CTL_14BIT_TAG_REQ_EN },
  ],
};

/** A capability found, and where the next thing after it begins. */
interface Found {
  readonly at: number;
  readonly end: number;
  readonly rules: readonly Rule[];
}

/**
 * The events a write is, each once; none: registers that may change freely, or values that did not. What the write
 * leads to elsewhere, a function level reset say, is in the event. Type 0 headers. The MSI-X table and its pending bits lie in a BAR, and a
 * write there is `msix-change`; whether it matters is the TDI's lock to say.
 */
export function configWriteEvents({ before, after, offset, written }: ConfigWrite): TdiEvent[] {
  const events = new Set<TdiEvent>();
  const view = new DataView(after.buffer, after.byteOffset, after.length);
  const sees = ({ how, length, mask, if: condition }: Rule, at: number, end: number, capability: number): boolean => {
    for (let i = 0; at + i < (length === undefined ? end : at + length); i++) {
      const bits = mask === undefined ? 0xff : (mask >>> (8 * i)) & 0xff;
      const byte = written[at + i - offset];
      if (byte === undefined) continue;
      const [was, is] = [before[at + i]!, after[at + i]!];
      const hit = { cleared: was & ~is & bits, changed: (was ^ is) & bits, written: 1, set: byte & bits };
      if (hit[how] !== 0) return condition?.(view, capability) ?? true;
    }
    return false;
  };
  for (const { at, end, rules } of [{ at: 0, end: 0x40, rules: HEADER }, ...capabilities(before)])
    for (const rule of rules) if (sees(rule, at + rule.at, end, at)) events.add(rule.event);
  return [...events];
}

/** The capabilities that have rules. One ends where the next one begins, wherever the list goes. */
function capabilities(config: Uint8Array): Found[] {
  const view = new DataView(config.buffer, config.byteOffset, config.length);
  const standard = new Map<number, readonly Rule[]>();
  if ((view.getUint16(r.PCI_STATUS, true) & r.PCI_STATUS_CAP_LIST) !== 0)
    for (let at = config[r.PCI_CAPABILITY_LIST]! & 0xfc; at >= 0x40 && !standard.has(at); at = config[at + 1]! & 0xfc)
      standard.set(at, STANDARD[config[at]!] ?? []);
  const extended = new Map<number, readonly Rule[]>();
  const room = config.length - 4;
  for (let at = r.PCI_CFG_SPACE_SIZE; at >= r.PCI_CFG_SPACE_SIZE && at <= room && !extended.has(at); ) {
    const header = view.getUint32(at, true);
    extended.set(at, EXTENDED[header & 0xffff] ?? []);
    at = (header >>> 20) & 0xffc;
  }
  return [...ends(standard, r.PCI_CFG_SPACE_SIZE), ...ends(extended, config.length)];
}

function ends(found: ReadonlyMap<number, readonly Rule[]>, last: number): Found[] {
  const starts = [...found.keys()].sort((a, b) => a - b);
  return starts.map((at, i) => ({ at, end: starts[i + 1] ?? last, rules: found.get(at)! }));
}
