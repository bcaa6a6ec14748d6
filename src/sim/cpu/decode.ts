/** From instruction bytes to an `Insn`, by the table. */
import { Insn, K_IMM, K_M8, K_NONE, K_R8, K_SPECIAL } from './insn.ts';
import { DS, NONE, RBP, RSP, SS } from './state.ts';
import { MAPS, type Opcode, UNDEFINED, variant } from './table.ts';

/** Why there is no instruction: more bytes are needed than the window has, or more than 15. */
export type DecodeFailure = 'more' | 'too long' | { readonly notModelled: string };

const SEGMENT_PREFIX: Record<number, number> = { 38: 0, 46: 1, 54: 2, 62: 3, 100: 4, 101: 5 };
const SEGMENT_NAMES = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS'];
/** 16-bit addressing: base and index register by the r/m field. */
const BASE16 = [3, 3, 5, 5, 6, 7, 5, 3];
const INDEX16 = [6, 7, 6, 7, NONE, NONE, NONE, NONE];

class NeedMore extends Error {}
const NEED_MORE = new NeedMore('decode: window exhausted');

export class Decoder {
  private bytes: Uint8Array = new Uint8Array(0);
  private at = 0;
  private end = 0;
  private modrm = -1;
  /** The operand's memory address has been decoded. */
  private addressed = false;

  /**
   * Decodes the instruction at `bytes[start]`, looking no further than `end`. `size` is the code segment's default operand and
   * address size in bytes; `real` whether instructions for protected mode only are undefined.
   */
  decode(bytes: Uint8Array, start: number, end: number, size: number, real: boolean): Insn | DecodeFailure {
    this.bytes = bytes;
    this.at = start;
    this.end = Math.min(end, start + 15);
    this.modrm = -1;
    this.addressed = false;
    try {
      return this.instruction(start, size, real);
    } catch (e) {
      if (e !== NEED_MORE) throw e;
      return end - start >= 15 ? 'too long' : 'more';
    }
  }

  private instruction(start: number, size: number, real: boolean): Insn | DecodeFailure {
    let osize = size;
    let asize = size;
    let rep = 0;
    let lock = false;
    let has66 = false;
    let segment = -1;
    let byte = this.u8();
    for (;;) {
      const override = SEGMENT_PREFIX[byte];
      if (override !== undefined) segment = override;
      else if (byte === 0x66) {
        osize = size === 2 ? 4 : 2;
        has66 = true;
      } else if (byte === 0x67) asize = size === 2 ? 4 : 2;
      else if (byte === 0xf2 || byte === 0xf3) rep = byte;
      else if (byte === 0xf0) lock = true;
      else break;
      byte = this.u8();
    }
    let map = MAPS.one;
    let name = byte.toString(16).padStart(2, '0');
    if (byte === 0x0f) {
      map = MAPS.two;
      byte = this.u8();
      name = `0f ${byte.toString(16).padStart(2, '0')}`;
    }
    const opcode: Opcode = map[byte]!;
    const prefix = rep === 0xf2 ? 3 : rep === 0xf3 ? 2 : has66 ? 1 : 0;
    let reg = 0;
    let isRegister = false;
    if (opcode.modrm) {
      this.modrm = this.u8();
      reg = (this.modrm >> 3) & 7;
      isRegister = this.modrm >> 6 === 3;
      name += ` /${reg}`;
    }
    let form = opcode.variants[variant(prefix, reg, isRegister)];
    // Behind C4, C5 and 62 with a register form lie VEX and EVEX, which real mode does not have.
    if (form === undefined && real && (name.startsWith('c4') || name.startsWith('c5') || name.startsWith('62'))) form = UNDEFINED;
    if (form === undefined) return { notModelled: `instruction ${name}` };
    if (form.protectedOnly && real) form = UNDEFINED;
    if (form.exec === undefined) return { notModelled: `instruction ${form.name}` };

    const insn = new Insn(form, form.exec);
    insn.osize = osize;
    insn.asize = asize;
    insn.mask = asize === 2 ? 0xffff : -1;
    insn.rep = rep;
    insn.low = byte & 15;
    insn.base = insn.index = NONE;
    // OUT names its port first; its width is that of the accumulator.
    const [first, second] = form.operands;
    insn.width = this.widthOf(second !== undefined && (first === 'DX' || first === 'Ib') ? second : first, osize);
    insn.shift = 32 - 8 * insn.width;
    insn.seg = DS;
    form.operands.forEach((operand, k) => {
      this.operand(insn, operand, k, byte);
    });
    // A row of `ud` may name no operands: its ModRM has no more bytes then, as the fault comes first.
    if (segment >= 0) insn.seg = segment;
    if (lock && !(form.lock && insn.ak >= K_M8 && insn.ak < K_IMM)) {
      insn.form = UNDEFINED;
      insn.exec = UNDEFINED.exec!;
    }
    insn.length = this.at - start;
    return insn;
  }

  /** Width in bytes of an operand code. */
  private widthOf(operand: string | undefined, osize: number): number {
    if (operand === undefined) return osize;
    if (operand === 'AL' || operand === 'CL') return 1;
    // INS, OUTS, IN and OUT have no 64-bit form: d is 2 or 4 there.
    const size = operand[operand.length - 1];
    return size === 'b' ? 1 : size === 'w' ? 2 : operand === 'Rd' || operand === 'Cd' || operand === 'Dd' ? 4 : osize;
  }

  private operand(insn: Insn, code: string, position: number, byte: number): void {
    let kind = K_NONE;
    let n = 0;
    const width = this.widthOf(code, insn.osize);
    const register = (r: number): void => {
      kind = width === 1 ? K_R8 : width === 2 ? K_R8 + 1 : K_R8 + 2;
      n = width === 1 ? (r & 3) * 4 + (r >> 2) : width === 2 ? r * 2 : r;
    };
    const memory = (w: number): void => {
      this.address(insn);
      kind = K_M8 + (w === 1 ? 0 : w === 2 ? 1 : 2);
    };
    switch (code[0]) {
      case 'E':
        if (code === 'ES') {
          kind = K_SPECIAL;
          n = 0;
        } else if (this.modrm >> 6 === 3) register(this.modrm & 7);
        else memory(code === 'Es' ? 2 : width);
        break;
      case 'M':
        memory(width);
        break;
      case 'R':
        register(this.modrm & 7);
        break;
      case 'G':
        if (code === 'GS') {
          kind = K_SPECIAL;
          n = 5;
        } else register((this.modrm >> 3) & 7);
        break;
      case 'Z':
        register(byte & 7);
        break;
      case 'O':
        insn.disp = insn.asize === 2 ? this.u16() : this.s32();
        kind = K_M8 + (width === 1 ? 0 : width === 2 ? 1 : 2);
        break;
      case 'I':
        kind = K_IMM;
        this.immediate(insn, code, position);
        break;
      case 'J':
        kind = K_IMM;
        insn.imm = code === 'Jb' ? this.s8() : insn.osize === 2 ? (this.u16() << 16) >> 16 : this.s32();
        break;
      case 'A':
        if (code === 'AL') register(0);
        else {
          insn.imm = insn.osize === 2 ? this.u16() : this.s32();
          insn.imm2 = this.u16();
        }
        break;
      case 'r':
      case 'e':
        register(0);
        break;
      case '~':
        break;
      default:
        if (code === 'CL') {
          kind = K_R8;
          n = 4;
        } else if (code !== 'DX') {
          kind = K_SPECIAL;
          n = code.length === 2 && SEGMENT_NAMES.includes(code) ? SEGMENT_NAMES.indexOf(code) : (this.modrm >> 3) & 7;
        }
    }
    if (position === 0) {
      insn.ak = kind;
      insn.an = n;
    } else if (position === 1) {
      insn.bk = kind;
      insn.bn = n;
    }
  }

  private immediate(insn: Insn, code: string, position: number): void {
    let value: number;
    if (code === 'Ib') value = this.u8();
    else if (code === 'Is') value = this.s8();
    else if (code === 'Iw' || insn.osize === 2) value = this.u16();
    else value = this.s32();
    // ENTER alone has two.
    if (code === 'Ib' && position === 1 && insn.ak === K_IMM) insn.imm2 = value;
    else insn.imm = value;
  }

  private address(insn: Insn): void {
    if (this.addressed) return;
    this.addressed = true;
    const mod = this.modrm >> 6;
    const rm = this.modrm & 7;
    if (insn.asize === 2) {
      if (mod === 0 && rm === 6) insn.disp = this.u16();
      else {
        insn.base = BASE16[rm]!;
        insn.index = INDEX16[rm]!;
        insn.disp = mod === 0 ? 0 : mod === 1 ? this.s8() : this.u16();
      }
    } else {
      let base = rm;
      if (rm === 4) {
        const sib = this.u8();
        base = sib & 7;
        insn.index = (sib >> 3) & 7;
        insn.scale = sib >> 6;
        if (insn.index === 4) insn.index = NONE;
      }
      if (base === 5 && mod === 0) {
        insn.disp = this.s32();
        base = NONE;
      } else insn.disp = mod === 0 ? 0 : mod === 1 ? this.s8() : this.s32();
      insn.base = base;
    }
    insn.seg = insn.base === RBP || (insn.base === RSP && insn.asize !== 2) ? SS : DS;
  }

  private u8(): number {
    if (this.at >= this.end) throw NEED_MORE;
    return this.bytes[this.at++]!;
  }
  private s8(): number {
    return (this.u8() << 24) >> 24;
  }
  private u16(): number {
    return this.u8() | (this.u8() << 8);
  }
  private s32(): number {
    return this.u16() | (this.u16() << 16);
  }
}
