import { KvioError } from '../../../kernel/errors.ts';
import { TDISP_ERROR_CODE } from './vocabulary.ts';

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(TDISP_ERROR_CODE).map(([name, code]) => [code, name]));

/** A request the device answers with TDISP_ERROR. The TDI is as it was before. */
export class TdispRefusal extends KvioError {
  /** TDISP_ERROR_CODE. */
  readonly errorCode: number;

  constructor(errorCode: number, why: string) {
    super('ERR_KVIO_TDISP_REFUSED', `TDISP_ERROR ${NAMES.get(errorCode) ?? `0x${errorCode.toString(16)}`}: ${why}`);
    this.name = 'TdispRefusal';
    this.errorCode = errorCode;
  }
}
