import { NotModelled } from '../../../kernel/errors.ts';
import type { Width } from '../../../kernel/memory.ts';
import type { PageRef } from '../../mm/pages.ts';
import type { Smmu, SmmuCommand } from './smmu.ts';

/** What NVIDIA's Tegra241 puts beside an SMMUv3 (CMDQ-V), by its PARAM register: interfaces for VMs, each with command queues, and StreamIDs it replaces. */
export interface CmdqvMachine {
  readonly version: number;
  readonly log2vintfs: number;
  /** Of all interfaces together. */
  readonly log2vcmdqs: number;
  /** Of each interface. */
  readonly log2vsids: number;
}

/** Bytes of registers of a queue in an interface's first page, and that page's. */
const QUEUE_SPAN = 0x80;
export const VINTF_PAGE0 = 0x1_0000;

const CONS = 0x00;
const PROD = 0x04;
const CONFIG = 0x08;
const STATUS = 0x0c;
const GERROR = 0x10;
const GERRORN = 0x14;
const REGISTERS: readonly number[] = [CONS, PROD, CONFIG, STATUS, GERROR, GERRORN];

const ENABLE = 1;
const COMMAND = 16;
const CMDQ_ERR = 1;
const CERROR_ILL = 1 << 24;

const OPCODE = 0xffn;
const TLBI_NH_ASID = 0x11n;
const TLBI_NH_VA = 0x12n;
const ATC_INV = 0x40n;
const CMD_SYNC = 0x46n;
/** CMD_SYNC.CS: how its completion is signalled; 0: not. */
const SYNC_SIGNAL = 3n << 12n;
const VMID = 0xffffn << 32n;
const LOW = 0xffff_ffffn;

/** Where a queue of a VM lies: pages of its memory, the first command's offset in the first of them. */
export interface QueuePlace {
  page(index: number): PageRef;
  readonly offset: number;
  /** Base-2 logarithm of its commands. */
  readonly log2: number;
}

/** A command queue of an interface (a logical VCMDQ): the VM writes commands and PROD, the hardware carries them out as soon as it is told of them. */
class Lvcmdq {
  readonly #vintf: Vintf;
  readonly #number: number;
  readonly #place: QueuePlace;
  #cons = 0;
  #prod = 0;
  #error = 0;
  #enabled = false;
  #gerror = 0;
  #gerrorn = 0;

  constructor(vintf: Vintf, number: number, place: QueuePlace) {
    this.#vintf = vintf;
    this.#number = number;
    this.#place = place;
  }

  get failed(): boolean {
    return this.#gerror !== this.#gerrorn;
  }

  load(register: number): number {
    if (register === CONS) return (this.#error | this.#cons) >>> 0;
    if (register === PROD) return this.#prod;
    if (register === CONFIG || register === STATUS) return this.#enabled ? ENABLE : 0;
    return register === GERROR ? this.#gerror : this.#gerrorn;
  }

  store(register: number, value: number): void {
    if (register === STATUS || register === GERROR) return;
    if (register === CONFIG) this.#enabled = (value & ENABLE) !== 0;
    else if (register === PROD) this.#prod = value & this.#wrapping;
    else if (register === GERRORN) this.#gerrorn = value & CMDQ_ERR;
    else if (this.#enabled) throw new NotModelled('a Tegra241 VCMDQ whose CONS is written while it is enabled');
    else this.#cons = value & this.#wrapping;
    this.#run();
  }

  /** Index and wrap bit. */
  get #wrapping(): number {
    return 2 ** (this.#place.log2 + 1) - 1;
  }

  /** Carries out what there is. A command it does not take stops it, until the error is acknowledged: then it is read again. */
  #run(): void {
    if (!this.#enabled) return;
    const size = 2 ** this.#place.log2;
    if (((this.#prod - this.#cons) & this.#wrapping) > size)
      throw new NotModelled('a Tegra241 VCMDQ with more commands than it has room for');
    while (!this.failed && this.#cons !== this.#prod) {
      this.#error = 0;
      if (!this.#vintf.carryOut(this.#command(this.#cons & (size - 1)))) {
        this.#error = CERROR_ILL;
        this.#gerror ^= CMDQ_ERR;
        this.#vintf.failed(this.#number);
        return;
      }
      this.#cons = (this.#cons + 1) & this.#wrapping;
    }
  }

  #command(index: number): SmmuCommand {
    const at = this.#place.offset + index * COMMAND;
    const page = this.#place.page(Math.floor(at / 4096));
    const view = new DataView(page.u8.buffer, page.u8.byteOffset + page.offset + (at % 4096), COMMAND);
    return [view.getBigUint64(0, true), view.getBigUint64(8, true)];
  }
}

/** A virtual interface: what a VM has of it. */
export class Vintf {
  readonly index: number;
  readonly queues: Map<number, Lvcmdq> = new Map();
  /** SID_MATCH and SID_REPLACE by slot. */
  readonly streams: Map<number, { readonly virtual: number; readonly physical: number }> = new Map();
  readonly #smmu: Smmu;
  readonly #vmid: bigint;
  readonly #report: (map: BigUint64Array) => void;

  /** `report`: the interrupt for its errors, with the map of queues that have one. */
  constructor(index: number, smmu: Smmu, vmid: number, report: (map: BigUint64Array) => void) {
    this.index = index;
    this.#smmu = smmu;
    this.#vmid = BigInt(vmid) << 32n;
    this.#report = report;
  }

  /** A queue begins empty and disabled: enabling is the VM's. */
  map(number: number, place: QueuePlace): void {
    this.queues.set(number, new Lvcmdq(this, number, place));
  }

  load(offset: number, width: Width): number {
    const { queue, register } = this.#register(offset, width);
    return queue.load(register);
  }

  store(offset: number, width: Width, value: number | bigint): number {
    const { queue, register } = this.#register(offset, width);
    queue.store(register, Number(BigInt.asUintN(32, BigInt(value))));
    return 0;
  }

  /** A command with the tag of the VM, or the device's own StreamID. False: none that a VM may give. */
  carryOut([first, second]: SmmuCommand): boolean {
    const opcode = first & OPCODE;
    if (opcode === CMD_SYNC) {
      if ((first & SYNC_SIGNAL) !== 0n) throw new NotModelled('a CMD_SYNC on a Tegra241 VCMDQ that signals its completion');
      return true;
    }
    if (opcode === TLBI_NH_ASID || opcode === TLBI_NH_VA) this.#smmu.issue([[(first & ~VMID) | this.#vmid, second]]);
    else if (opcode === ATC_INV) this.#smmu.issue([[(first & LOW) | (this.#replaced(first >> 32n) << 32n), second]]);
    else return false;
    return true;
  }

  failed(number: number): void {
    const map = new BigUint64Array(2);
    for (const [index, queue] of this.queues) if (queue.failed || index === number) map[index >> 6]! |= 1n << BigInt(index & 63);
    this.#report(map);
  }

  #replaced(virtual: bigint): bigint {
    for (const stream of this.streams.values()) if (BigInt(stream.virtual) === virtual) return BigInt(stream.physical);
    throw new NotModelled('an ATC_INV on a Tegra241 VCMDQ for a StreamID the VM has no device of');
  }

  #register(offset: number, width: Width): { queue: Lvcmdq; register: number } {
    const number = Math.floor(offset / QUEUE_SPAN);
    const register = offset % QUEUE_SPAN;
    const queue = this.queues.get(number);
    if (queue === undefined) throw new NotModelled(`registers of a Tegra241 VCMDQ that is not allocated (${number})`);
    if (width !== 4 || !REGISTERS.includes(register))
      throw new NotModelled(`register 0x${register.toString(16)} of a Tegra241 VCMDQ, ${width} bytes wide`);
    return { queue, register };
  }
}
