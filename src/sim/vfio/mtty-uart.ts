const FIFO = 16;
const RX = 0;
const IER = 1;
const IIR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;

const IER_RDI = 1;
const IER_THRI = 2;
const IER_RLSI = 4;
const IER_MSI = 8;
const LCR_DLAB = 0x80;
const MCR_DTR_RTS = 0x03;
const MCR_OUT2 = 0x08;
const MCR_AFE = 0x20;
const FCR_ENABLE = 1;
const FCR_CLEAR = 6;

/** Bytes of a port in the migration stream. */
export const PORT_SIZE = 36;

/** A 16550 whose transmitter is wired to its receiver (`struct serial_port` of samples/vfio-mdev/mtty.c). */
export class LoopbackUart {
  readonly #interrupt: () => void;
  readonly #registers: Uint8Array = new Uint8Array(8);
  readonly #fifo: Uint8Array = new Uint8Array(FIFO);
  #head = 0;
  #tail = 0;
  #count = 0;
  #dlab = false;
  #overrun = false;
  #divisor = 0;
  #fcr = 0;
  #fifoSize = FIFO;
  /** Bytes at which the receiver interrupts: none until FCR was written, then one, whatever was asked for. */
  #trigger = 0;

  constructor(interrupt: () => void) {
    this.#interrupt = interrupt;
  }

  write(offset: number, data: number): void {
    switch (offset) {
      case RX:
        if (this.#dlab) this.#divisor |= data;
        else this.#transmit(data);
        break;
      case IER:
        if (this.#dlab) {
          this.#divisor |= data << 8;
          break;
        }
        this.#registers[IER] = data;
        if ((data & IER_THRI) !== 0 && this.#empty) this.#interrupt();
        break;
      case IIR:
        this.#writeFcr(data);
        break;
      case LCR:
        this.#dlab = (data & LCR_DLAB) !== 0;
        if (this.#dlab) this.#divisor = 0;
        this.#registers[LCR] = data;
        break;
      case MCR:
        this.#registers[MCR] = data;
        if (!this.#enabled(IER_MSI)) break;
        if ((data & MCR_OUT2) !== 0) this.#interrupt();
        if ((data & MCR_DTR_RTS) !== 0) this.#interrupt();
        break;
      case SCR:
        this.#registers[SCR] = data;
        break;
    }
  }

  read(offset: number): number {
    switch (offset) {
      case RX:
        return this.#dlab ? this.#divisor & 0xff : this.#receive();
      case IER:
        return this.#dlab ? this.#divisor >>> 8 : this.#registers[IER]! & 0x0f;
      case IIR:
        return 0xc0 | (this.#causes() || 1);
      case LSR:
        return (this.#empty ? 0x60 : 1) | (this.#overrun ? 2 : 0);
      case MSR: {
        const clear = (this.#registers[MCR]! & MCR_AFE) === 0 || this.#count < this.#fifoSize;
        return 0xa2 | (clear ? 0x11 : 0);
      }
      case LCR:
      case MCR:
      case SCR:
        return this.#registers[offset]!;
      default:
        return 0;
    }
  }

  /** The state as it lies in the driver's memory. */
  save(): Uint8Array {
    const bytes = new Uint8Array(PORT_SIZE);
    bytes.set(this.#registers);
    bytes.set(this.#fifo, 8);
    bytes.set([this.#head, this.#tail, this.#count, Number(this.#dlab), Number(this.#overrun)], 24);
    bytes.set([this.#divisor & 0xff, this.#divisor >>> 8, this.#fcr, this.#fifoSize, this.#trigger], 30);
    return bytes;
  }

  load(bytes: Uint8Array): void {
    this.#registers.set(bytes.subarray(0, 8));
    this.#fifo.set(bytes.subarray(8, 24));
    this.#head = bytes[24]! % FIFO;
    this.#tail = bytes[25]! % FIFO;
    this.#count = bytes[26]!;
    this.#dlab = bytes[27] !== 0;
    this.#overrun = bytes[28] !== 0;
    this.#divisor = bytes[30]! | (bytes[31]! << 8);
    this.#fcr = bytes[32]!;
    this.#fifoSize = bytes[33]!;
    this.#trigger = bytes[34]!;
  }

  /** Also when it is full: the indexes are all that is compared. */
  get #empty(): boolean {
    return this.#head === this.#tail;
  }

  #enabled(interrupt: number): boolean {
    return (this.#registers[IER]! & interrupt) !== 0;
  }

  #transmit(data: number): void {
    if (this.#count >= this.#fifoSize) {
      this.#overrun = true;
      if (this.#enabled(IER_RLSI)) this.#interrupt();
      return;
    }
    this.#fifo[this.#head] = data;
    this.#count++;
    this.#head = (this.#head + 1) % FIFO;
    this.#overrun = false;
    if (this.#enabled(IER_RDI) && this.#count === this.#trigger) this.#interrupt();
  }

  #receive(): number {
    let data = 0;
    if (!this.#empty) {
      data = this.#fifo[this.#tail]!;
      this.#count--;
      this.#tail = (this.#tail + 1) % FIFO;
    }
    if (this.#empty && this.#enabled(IER_THRI)) this.#interrupt();
    return data;
  }

  #writeFcr(data: number): void {
    this.#fcr = data;
    if ((data & FCR_CLEAR) !== 0) {
      this.#count = 0;
      this.#head = 0;
      this.#tail = 0;
    }
    this.#trigger = 1;
    this.#fifoSize = (data & FCR_ENABLE) === 0 ? 1 : FIFO;
  }

  /** Bits of IIR: line status, data, transmitter empty. A change of the modem's state has none of its own. */
  #causes(): number {
    const line = this.#enabled(IER_RLSI) && this.#overrun ? 6 : 0;
    const data = this.#enabled(IER_RDI) && this.#count >= this.#trigger ? 4 : 0;
    const empty = this.#enabled(IER_THRI) && this.#empty ? 2 : 0;
    return line | data | empty;
  }
}
