import { createHash } from 'node:crypto';
import type { PciFunction } from '../pci-function.ts';
import { TSM_OBJECT, type TsmObject } from './requests.ts';

/** SPDM 1.2 (DSP0274). */
const VERSION = 0x12;
const NONCE_LENGTH = 32;

const sha384 = (...parts: readonly (string | Uint8Array)[]): Uint8Array => {
  const hash = createHash('sha384');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};

const little = (value: number, length: number): number[] => Array.from({ length }, (_, i) => (value >>> (8 * i)) & 0xff);

/** DER of a tag and its contents, shorter than 64 KiB. */
function der(tag: number, contents: Uint8Array): Uint8Array {
  const { length } = contents;
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Uint8Array.of(tag, ...size, ...contents);
}

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

/**
 * What a guest looks at before it trusts a device: the objects of a TSM, made when they are asked for and kept until they are made anew. They have the forms of SPDM and TDISP, but nothing
 * signs them: a device here has no key. A certificate is a DER sequence of the device's name and a key's digest.
 */
export class Evidence {
  readonly #fn: PciFunction;
  readonly #fetchReport: () => Uint8Array | undefined;
  #report: Uint8Array | undefined;
  #measurements: Uint8Array | undefined;
  /** What the firmware of the device calls itself: measured. */
  firmware = '1.0';

  constructor(fn: PciFunction, fetchReport: () => Uint8Array | undefined) {
    this.#fn = fn;
    this.#fetchReport = fetchReport;
  }

  /** Undefined: there is no such object, or none now: no report before LOCK. */
  object(id: number): Uint8Array | undefined {
    const objects: Readonly<Record<TsmObject, () => Uint8Array | undefined>> = {
      [TSM_OBJECT.VCA]: () => vca,
      [TSM_OBJECT.CERT]: () => this.#certificates(),
      [TSM_OBJECT.MEASUREMENT]: () => (this.#measurements ??= this.#measure(new Uint8Array(NONCE_LENGTH))),
      [TSM_OBJECT.REPORT]: () => this.#report,
    };
    return objects[id as TsmObject]?.();
  }

  /** Measurements with a nonce of 32 bytes, the report from the device once more. False: not these, not so, not now. */
  regenerate(id: number, nonce: Uint8Array | undefined): boolean {
    if (nonce !== undefined && nonce.length !== NONCE_LENGTH) return false;
    if (id === TSM_OBJECT.MEASUREMENT) {
      this.#measurements = this.#measure(nonce ?? new Uint8Array(NONCE_LENGTH));
      return true;
    }
    const report = id === TSM_OBJECT.REPORT ? this.#fetchReport() : undefined;
    if (report !== undefined) this.#report = report;
    return report !== undefined;
  }

  /** LOCK: the report is that of this lock, and measurements are taken anew. */
  locked(): void {
    this.#report = this.#fetchReport();
    this.#measurements = undefined;
  }

  unlocked(): void {
    this.#report = undefined;
  }

  /** Another session. */
  forget(): void {
    this.#measurements = undefined;
  }

  #identity(): string {
    const { vendor, device, revision = 0 } = this.#fn.spec;
    return [vendor, device, revision].map((id) => id.toString(16).padStart(4, '0')).join(':');
  }

  /** SPDM's certificate chain: its length, the root's digest, the certificates. */
  #certificates(): Uint8Array {
    const subject = der(0x0c, utf8(`kvio simulated device ${this.#identity()}`));
    const root = der(0x30, Uint8Array.of(...subject, ...der(0x04, sha384('key', this.#identity()))));
    const digest = sha384(root);
    const length = 4 + digest.length + root.length;
    return Uint8Array.of(...little(length, 2), 0, 0, ...digest, ...root);
  }

  /** MEASUREMENTS without a signature: firmware, and the hardware's configuration as the report of the lock has it. */
  #measure(nonce: Uint8Array): Uint8Array {
    const blocks = [
      block(1, 1, sha384('firmware', this.#identity(), this.firmware)),
      block(2, 2, sha384('configuration', this.#report ?? new Uint8Array(0))),
    ];
    const record = blocks.flatMap((bytes) => [...bytes]);
    return Uint8Array.of(VERSION, 0x60, 0, 0, blocks.length, ...little(record.length, 3), ...record, ...nonce, 0, 0);
  }
}

/** A measurement block of the DMTF's form: index, kind of value, digest. */
function block(index: number, kind: number, digest: Uint8Array): Uint8Array {
  return Uint8Array.of(index, 1, ...little(digest.length + 3, 2), kind, ...little(digest.length, 2), ...digest);
}

/** VERSION (1.2 alone), CAPABILITIES (certificates, measurements, encrypted sessions) and ALGORITHMS (SHA-384, ECDSA P-384), as the device has answered them. */
const vca: Uint8Array = Uint8Array.of(
  ...[0x10, 0x04, 0, 0, 0, 1, 0x00, VERSION],
  ...[VERSION, 0x61, 0, 0, 0, 0, 0, 0, ...little(0x2d2, 4), ...little(4096, 4), ...little(4096, 4)],
  ...[VERSION, 0x63, 0, 0, ...little(36, 2), 1, 0, ...little(4, 4), ...little(0x80, 4), ...little(2, 4)],
  ...new Uint8Array(16),
);
