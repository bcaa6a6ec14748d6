import type { ConfigRegisters } from './config-map.ts';

const FLAG = 0x8000;
const MAX_LENGTH = 0x8000;
const END_TAG = 0x0f;
/** Reads of the flag before the kernel gives up (125 ms of them). */
const POLLS = 1000;

/** The kernel's engine for vital product data (drivers/pci/vpd.c): the capability at `at` moves four bytes, and turns a flag when it has. */
export class Vpd {
  readonly #registers: ConfigRegisters;
  readonly #at: number;
  #length: number | undefined;

  constructor(registers: ConfigRegisters, at: number) {
    this.#registers = registers;
    this.#at = at;
  }

  /** pci_read_vpd of four bytes. Undefined: no data, or the device does not answer; past the end: 0. */
  read(address: number): number | undefined {
    const length = (this.#length ??= this.#size());
    if (length === 0) return undefined;
    let value = 0;
    for (let i = 0; i < 4 && address + i < length; i++) {
      const byte = this.#byte(address + i);
      if (byte === undefined) return undefined;
      value += byte * 2 ** (8 * i);
    }
    return value;
  }

  /** pci_write_vpd of four bytes; false: not written. */
  write(address: number, data: number): boolean {
    const length = (this.#length ??= this.#size());
    if (address % 4 !== 0 || address + 4 > length) return false;
    this.#registers.writeConfig(this.#at + 4, 4, data);
    this.#registers.writeConfig(this.#at + 2, 2, address | FLAG);
    return this.#done(false);
  }

  /** pci_vpd_size: up to the end tag; 0 where what is there makes no sense. */
  #size(): number {
    for (let address = 0; address < MAX_LENGTH; ) {
      const tag = this.#byte(address);
      if (tag === undefined || (address === 0 && (tag === 0 || tag === 0xff))) return 0;
      if ((tag & 0x80) === 0) {
        address += 1 + (tag & 7);
        if (tag >>> 3 === END_TAG) return address;
        continue;
      }
      const low = this.#byte(address + 1);
      const high = this.#byte(address + 2);
      if (low === undefined || high === undefined) return 0;
      address += 3 + low + high * 256;
    }
    return 0;
  }

  #byte(address: number): number | undefined {
    this.#registers.writeConfig(this.#at + 2, 2, address & ~3);
    if (!this.#done(true)) return undefined;
    return (this.#registers.readConfig(this.#at + 4, 4) >>> (8 * (address & 3))) & 0xff;
  }

  #done(flag: boolean): boolean {
    for (let i = 0; i < POLLS; i++) {
      if (((this.#registers.readConfig(this.#at + 2, 2) & FLAG) !== 0) === flag) return true;
    }
    return false;
  }
}
