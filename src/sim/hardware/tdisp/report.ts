/** The device interface report: what GET_DEVICE_INTERFACE_REPORT hands out in portions. */
import { rangeError } from '../../../kernel/errors.ts';
import { TdispFormatError } from './codec-error.ts';
import type { TdispMmioRange } from './messages.ts';
import { checkBytes, copyOf, mmioRange, putBytes, u16, u32 } from './wire.ts';

export interface InterfaceReport {
  /** TDISP_INTERFACE_INFO. */
  readonly interfaceInfo: number;
  /** The MSI-X capability's Message Control, 0 without one. */
  readonly msixMessageControl: number;
  readonly lnrControl: number;
  readonly tphControl: number;
  /** In ascending order of BARs. */
  readonly ranges: readonly TdispMmioRange[];
  readonly deviceSpecificInfo: Uint8Array;
}

const RANGES_AT = 16;
const RANGE_COUNT_AT = 12;
const LENGTH_SIZE = 4;
/** Offsets and lengths of portions have 16 bits. */
const LARGEST = 0xffff;

/** The bytes of a report. Throws a RangeError for one that the 16-bit offsets of portions cannot reach, and for fields that do not fit. */
export function encodeInterfaceReport(report: InterfaceReport): Uint8Array {
  const { ranges, deviceSpecificInfo } = report;
  checkBytes(deviceSpecificInfo, 'report.deviceSpecificInfo');
  const infoAt = RANGES_AT + mmioRange.size * ranges.length;
  const size = infoAt + LENGTH_SIZE + deviceSpecificInfo.length;
  if (size > LARGEST) throw rangeError(`a report has at most ${LARGEST} bytes, not ${size}`);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  u16.set(view, 0, report.interfaceInfo, 'report.interfaceInfo');
  u16.set(view, 4, report.msixMessageControl, 'report.msixMessageControl');
  u16.set(view, 6, report.lnrControl, 'report.lnrControl');
  u32.set(view, 8, report.tphControl, 'report.tphControl');
  u32.set(view, RANGE_COUNT_AT, ranges.length, 'report.ranges');
  ranges.forEach((range, i) => {
    mmioRange.set(view, RANGES_AT + mmioRange.size * i, range, `report.ranges[${i}]`);
  });
  u32.set(view, infoAt, deviceSpecificInfo.length, 'report.deviceSpecificInfo');
  putBytes(view, infoAt + LENGTH_SIZE, deviceSpecificInfo);
  return bytes;
}

/** The report bytes are, put together of all portions. Throws TdispFormatError (`length`) when counts and bytes disagree. */
export function decodeInterfaceReport(bytes: Uint8Array): InterfaceReport {
  checkBytes(bytes, 'report');
  const wrong = (least: number): TdispFormatError =>
    new TdispFormatError('length', `this report has ${least} bytes, ${bytes.length} were given`);
  if (bytes.length < RANGES_AT + LENGTH_SIZE) throw wrong(RANGES_AT + LENGTH_SIZE);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const count = u32.get(view, RANGE_COUNT_AT);
  const infoAt = RANGES_AT + mmioRange.size * count;
  if (bytes.length < infoAt + LENGTH_SIZE) throw wrong(infoAt + LENGTH_SIZE);
  const length = u32.get(view, infoAt);
  if (bytes.length !== infoAt + LENGTH_SIZE + length) throw wrong(infoAt + LENGTH_SIZE + length);
  return {
    interfaceInfo: u16.get(view, 0),
    msixMessageControl: u16.get(view, 4),
    lnrControl: u16.get(view, 6),
    tphControl: u32.get(view, 8),
    ranges: Array.from({ length: count }, (_, i) => mmioRange.get(view, RANGES_AT + mmioRange.size * i)),
    deviceSpecificInfo: copyOf(view, infoAt + LENGTH_SIZE, length),
  };
}
