import { KvioError } from '../../../kernel/errors.ts';
import type { TdispHeader } from './messages.ts';

/** `short`: no whole header. `protocol`, `version`, `type`: a byte that is not TDISP 1.0's. `length`: more or fewer bytes than the message has. */
export type TdispFormatReason = 'short' | 'protocol' | 'version' | 'type' | 'length';

/** Bytes that are no TDISP message. What decoding throws, and nothing else. */
export class TdispFormatError extends KvioError {
  readonly reason: TdispFormatReason;
  /** As far as it could be read: present unless the reason is `short` or `protocol`. */
  readonly header: TdispHeader | undefined;

  constructor(reason: TdispFormatReason, message: string, header?: TdispHeader) {
    super('ERR_KVIO_TDISP_FORMAT', `TDISP: ${message}`);
    this.name = 'TdispFormatError';
    this.reason = reason;
    this.header = header;
  }
}
