import { EINVAL, ENODEV, ETIMEDOUT } from '../../uapi/sys.ts';
import type { ConfigWidth } from '../hardware/pci-function.ts';

const ADDRESS = 2;
const DATA = 4;
const FLAG = 0x8000;
const MAX_SIZE = 0x8000;
const LARGE = 0x80;
const END_TAG = 0x0f;
/** Reads of the flag before the kernel gives up (125 ms of them). */
const POLLS = 1000;

interface Registers {
  readConfig(offset: number, width: ConfigWidth): number;
  writeConfig(offset: number, width: ConfigWidth, value: number): void;
}

/** Vital product data (drivers/pci/vpd.c): the capability moves four bytes at a time, and turns a flag when it has. How many there are is found at the first transfer, from their tags. */
export class Vpd {
  readonly #registers: Registers;
  /** Where the capability is; 0: there is none, or what it tells makes no sense. */
  #at: number;
  /** 0: not known yet, or the device did not answer. */
  #length = 0;

  constructor(registers: Registers, at: number) {
    this.#registers = registers;
    this.#at = at;
  }

  /** pci_read_vpd: how many bytes there are from there on, at most those of `into`; or −errno. */
  read(position: number, into: Uint8Array): number {
    return this.#available() ? this.#read(position, into, this.#length) : -ENODEV;
  }

  /** pci_write_vpd: all of it, in whole words; or −errno. */
  write(position: number, from: Uint8Array): number {
    if (!this.#available()) return -ENODEV;
    if (position % 4 !== 0 || from.length % 4 !== 0) return -EINVAL;
    if (position + from.length > this.#length) return -EINVAL;
    const words = new DataView(from.buffer, from.byteOffset, from.length);
    for (let done = 0; done < from.length; done += 4) {
      this.#registers.writeConfig(this.#at + DATA, 4, words.getUint32(done, true));
      this.#registers.writeConfig(this.#at + ADDRESS, 2, (position + done) | FLAG);
      if (!this.#wait(false)) return -ETIMEDOUT;
    }
    return from.length;
  }

  #available(): boolean {
    if (this.#at !== 0 && this.#length === 0) {
      const size = this.#size();
      if (size === undefined) this.#at = 0;
      else this.#length = size;
    }
    return this.#at !== 0;
  }

  #read(position: number, into: Uint8Array, end: number): number {
    if (position >= end) return 0;
    const count = Math.min(into.length, end - position);
    for (let done = 0; done < count; ) {
      const at = position + done;
      this.#registers.writeConfig(this.#at + ADDRESS, 2, at & ~3);
      if (!this.#wait(true)) return -ETIMEDOUT;
      const word = this.#registers.readConfig(this.#at + DATA, 4);
      for (let byte = at & 3; byte < 4 && done < count; byte++) into[done++] = word >>> (8 * byte);
    }
    return count;
  }

  /** pci_vpd_size: up to the end tag, or to what makes no sense or is not answered. Undefined: that is the first tag. */
  #size(): number | undefined {
    const [tag, length] = [new Uint8Array(1), new Uint8Array(2)];
    let at = 0;
    while (this.#read(at, tag, MAX_SIZE) === 1) {
      const first = tag[0]!;
      if (at === 0 && (first === 0 || first === 0xff)) return undefined;
      const large = (first & LARGE) !== 0;
      if (large && this.#read(at + 1, length, MAX_SIZE) !== 2) return at || undefined;
      const size = large ? length[0]! + length[1]! * 256 : first & 7;
      if (at + size > MAX_SIZE) return at || undefined;
      at += (large ? 3 : 1) + size;
      if (!large && first >>> 3 === END_TAG) return at;
    }
    return at;
  }

  #wait(flag: boolean): boolean {
    for (let i = 0; i < POLLS; i++) {
      if (((this.#registers.readConfig(this.#at + ADDRESS, 2) & FLAG) !== 0) === flag) return true;
    }
    return false;
  }
}
