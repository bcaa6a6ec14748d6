// A small NVMe driver: identifies the disk, writes blocks and reads them through an I/O queue in DMA memory, by interrupts.
import { type Eventfd, type Memory, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY, type Ram } from 'kvio';
import { VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX } from 'kvio/uapi';
import type { OpenedDevice } from './open-device.ts';

// Registers of the controller (NVM Express base specification, 3.1).
const CAP = 0x00;
const CC = 0x14;
const CC_ENABLE = 1;
/** Submission entries of 2^6 bytes, completion entries of 2^4. */
const CC_SIZES = (6 << 16) | (4 << 20);
const CSTS = 0x1c;
const CSTS_READY = 1;
const AQA = 0x24;
const ASQ = 0x28;
const ACQ = 0x30;
const DOORBELLS = 0x1000;

const ADMIN_CREATE_SQ = 0x01;
const ADMIN_CREATE_CQ = 0x05;
const ADMIN_IDENTIFY = 0x06;
const IDENTIFY_NAMESPACE = 0;
const IDENTIFY_CONTROLLER = 1;
const NVM_FLUSH = 0x00;
const NVM_WRITE = 0x01;
const NVM_READ = 0x02;

export const PAGE = 0x1000;
/** Where the driver's memory is for the device. */
export const IOVA = 0x10_0000n;
/** Its pages: two rings of each queue, one for answers, one for a list of pages, and the rest for blocks. */
const RINGS = 0;
const ANSWER = 4;
const LIST = 5;
export const DATA = 6;
export const DATA_PAGES = 16;
const ENTRIES = 16;

interface Command {
  opcode: number;
  nsid?: number;
  /** What is read or written: pages of the driver's memory from this one on. */
  page?: number;
  pages?: number;
  /** Command dwords 10 to 15. */
  dwords?: readonly number[];
}

/** A submission and a completion ring, and the interrupt that says that there is a completion. */
class Queue {
  readonly id: number;
  readonly #ram: Ram;
  readonly #registers: Memory;
  readonly #stride: number;
  readonly #interrupt: Eventfd;
  #tail = 0;
  #head = 0;
  /** What the phase bit of a new completion is: it changes with every turn of the ring. */
  #phase = 1;

  constructor(id: number, ram: Ram, registers: Memory, interrupt: Eventfd) {
    this.id = id;
    this.#ram = ram;
    this.#registers = registers;
    this.#stride = 4 << Number((registers.read64(CAP) >> 32n) & 0xfn);
    this.#interrupt = interrupt;
  }

  /** Page of the driver's memory; the completion ring's is the next. */
  get page(): number {
    return RINGS + 2 * this.id;
  }

  /** One command, to its end. Returns the completion's first dword. */
  async execute({ opcode, nsid = 0, page = 0, pages = 1, dwords = [] }: Command): Promise<number> {
    const entry = new Uint32Array(16);
    entry[0] = opcode | (this.#tail << 16); // its identifier is its place
    entry[1] = nsid;
    entry[6] = Number(iovaOf(page));
    entry[8] = pages > 2 ? this.#listPages(page + 1, pages - 1) : pages === 2 ? Number(iovaOf(page + 1)) : 0;
    entry.set(dwords, 10);
    this.#ram.write(this.page * PAGE + this.#tail * 64, new Uint8Array(entry.buffer));
    this.#tail = (this.#tail + 1) % ENTRIES;
    this.#registers.write32(DOORBELLS + 2 * this.id * this.#stride, this.#tail);
    return this.#completion();
  }

  /** More than two pages are named by a list of them. */
  #listPages(first: number, count: number): number {
    for (let i = 0; i < count; i++) this.#ram.write64(LIST * PAGE + i * 8, iovaOf(first + i));
    return Number(iovaOf(LIST));
  }

  async #completion(): Promise<number> {
    const at = (this.page + 1) * PAGE + this.#head * 16;
    while (((this.#ram.read32(at + 12) >>> 16) & 1) !== this.#phase) {
      await this.#interrupt.wait({ signal: AbortSignal.timeout(60_000) });
    }
    const status = (this.#ram.read32(at + 12) >>> 17) & 0x7ff; // type and code; above them what says whether to try again
    const result = this.#ram.read32(at);
    this.#head = (this.#head + 1) % ENTRIES;
    if (this.#head === 0) this.#phase ^= 1;
    this.#registers.write32(DOORBELLS + (2 * this.id + 1) * this.#stride, this.#head);
    if (status !== 0) throw new Error(`the command failed with status 0x${status.toString(16)}`);
    return result;
  }
}

const iovaOf = (page: number): bigint => IOVA + BigInt(page * PAGE);

export class Nvme {
  readonly #opened: OpenedDevice;
  readonly #registers: Memory;
  readonly #ram: Ram;
  readonly #admin: Queue;
  readonly #io: Queue;

  private constructor(opened: OpenedDevice) {
    this.#opened = opened;
    const { device } = opened;
    device.config.setCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    this.#registers = device.region(VFIO_PCI_BAR0_REGION_INDEX).mmap();
    this.#ram = device.kernel.guestRam((DATA + DATA_PAGES) * PAGE);
    opened.map(this.#ram, IOVA);
    const [first, second] = device.irqs(VFIO_PCI_MSIX_IRQ_INDEX).enable(2) as [Eventfd, Eventfd];
    this.#admin = new Queue(0, this.#ram, this.#registers, first);
    this.#io = new Queue(1, this.#ram, this.#registers, second);
  }

  /** Resets the controller and makes the queues. */
  static async start(opened: OpenedDevice): Promise<Nvme> {
    const nvme = new Nvme(opened);
    nvme.#enable(false);
    nvme.#registers.write32(AQA, ((ENTRIES - 1) << 16) | (ENTRIES - 1));
    nvme.#registers.write64(ASQ, iovaOf(nvme.#admin.page));
    nvme.#registers.write64(ACQ, iovaOf(nvme.#admin.page + 1));
    nvme.#enable(true);
    const { id, page } = nvme.#io;
    const size = ((ENTRIES - 1) << 16) | id;
    const contiguous = 1;
    const interrupts = 2 | (1 << 16); // on, vector 1
    await nvme.#admin.execute({ opcode: ADMIN_CREATE_CQ, page: page + 1, dwords: [size, contiguous | interrupts] });
    await nvme.#admin.execute({ opcode: ADMIN_CREATE_SQ, page, dwords: [size, contiguous | (id << 16)] });
    return nvme;
  }

  #enable(on: boolean): void {
    this.#registers.write32(CC, on ? CC_ENABLE | CC_SIZES : 0);
    const deadline = Date.now() + 60_000;
    while ((this.#registers.read32(CSTS) & CSTS_READY) !== Number(on)) {
      if (Date.now() > deadline) throw new Error(`the controller does not get ${on ? 'ready' : 'off'}`);
    }
  }

  async identify(): Promise<{ serial: string; blocks: bigint; blockSize: number }> {
    await this.#admin.execute({ opcode: ADMIN_IDENTIFY, page: ANSWER, dwords: [IDENTIFY_CONTROLLER] });
    const serial = Buffer.from(this.#ram.read(ANSWER * PAGE + 4, 20))
      .toString('latin1')
      .trim();
    await this.#admin.execute({ opcode: ADMIN_IDENTIFY, nsid: 1, page: ANSWER, dwords: [IDENTIFY_NAMESPACE] });
    const answer = ANSWER * PAGE;
    const format = this.#ram.read8(answer + 26) & 0xf;
    return { serial, blocks: this.#ram.read64(answer), blockSize: 1 << this.#ram.read8(answer + 128 + 4 * format + 2) };
  }

  async write(block: number, blockSize: number, bytes: Uint8Array): Promise<void> {
    this.#ram.write(DATA * PAGE, bytes);
    await this.#move(NVM_WRITE, block, bytes.length, blockSize);
    await this.#io.execute({ opcode: NVM_FLUSH, nsid: 1 });
  }

  async read(block: number, blockSize: number, length: number): Promise<Uint8Array> {
    await this.fetch(block, blockSize, length);
    return this.#ram.read(DATA * PAGE, length);
  }

  /** Has blocks written to where page DATA of the driver's memory is for the device. */
  fetch(block: number, blockSize: number, length: number): Promise<void> {
    return this.#move(NVM_READ, block, length, blockSize);
  }

  async #move(opcode: number, block: number, length: number, blockSize: number): Promise<void> {
    const dwords = [block, 0, length / blockSize - 1];
    await this.#io.execute({ opcode, nsid: 1, page: DATA, pages: Math.ceil(length / PAGE), dwords });
  }

  stop(): void {
    this.#enable(false);
    this.#registers.close();
    this.#opened.device.irqs(VFIO_PCI_MSIX_IRQ_INDEX).disable();
    this.#opened.unmap(this.#ram, IOVA);
    this.#opened.close();
  }
}
