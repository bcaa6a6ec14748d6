/** From instruction bytes to an `Insn`, by the table. */
import { Insn, K_IMM, K_IMM64, K_M8, K_NONE, K_R8, K_SPECIAL } from './insn.ts';
import { DS, FS, GS, IP, NONE, RBP, RSP, SS } from './state.ts';
import { ABSENT, MAPS, type Opcode, UNDEFINED, VEX, variant } from './table.ts';

/** Why there is no instruction: more bytes are needed than the window has, or more than 15. */
export type DecodeFailure = 'more' | 'too long' | { readonly notModelled: string };

const SEGMENT_PREFIX: Record<number, number> = { 38: 0, 46: 1, 54: 2, 62: 3, 100: 4, 101: 5 };
const SEGMENT_NAMES = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS'];
/** 16-bit addressing: base and index register by the r/m field. */
const BASE16 = [3, 3, 5, 5, 6, 7, 5, 3];
const INDEX16 = [6, 7, 6, 7, NONE, NONE, NONE, NONE];

const hex = (byte: number): string => byte.toString(16).padStart(2, '0');
/** Position of a width of 1, 2, 4, 8 bytes among the operand kinds. */
const sizeIndex = (width: number): number => (width === 1 ? 0 : width === 2 ? 1 : width === 8 ? 3 : 2);

class NeedMore extends Error {}
const NEED_MORE = new NeedMore('decode: window exhausted');

export class Decoder {
  private bytes: Uint8Array = new Uint8Array(0);
  private at = 0;
  private end = 0;
  private modrm = -1;
  /** The operand's memory address has been decoded. */
  private addressed = false;
  /** Decoding for 64-bit mode, and the REX prefix; 0: none. */
  private long = false;
  private rex = 0;

  /**
   * Decodes the instruction at `bytes[start]`, looking no further than `end`. `size` is the code segment's default operand and
   * address size in bytes, 8 in 64-bit mode; `real` whether instructions for protected mode only are undefined.
   */
  decode(bytes: Uint8Array, start: number, end: number, size: number, real: boolean): Insn | DecodeFailure {
    this.bytes = bytes;
    this.at = start;
    this.end = Math.min(end, start + 15);
    this.modrm = -1;
    this.addressed = false;
    this.long = size === 8;
    this.rex = 0;
    try {
      return this.instruction(start, size, real);
    } catch (e) {
      if (e !== NEED_MORE) throw e;
      return end - start >= 15 ? 'too long' : 'more';
    }
  }

  private instruction(start: number, size: number, real: boolean): Insn | DecodeFailure {
    const { long } = this;
    let osize = long ? 4 : size;
    let asize = size;
    let rep = 0;
    let lock = false;
    let has66 = false;
    let segment = -1;
    let byte = this.u8();
    for (;;) {
      // A REX prefix counts only right before the opcode.
      if (long && byte >> 4 === 4) this.rex = byte;
      else {
        const override = SEGMENT_PREFIX[byte];
        if (override !== undefined) {
          if (!long || override === FS || override === GS) segment = override;
        } else if (byte === 0x66) {
          osize = size === 2 ? 4 : 2;
          has66 = true;
        } else if (byte === 0x67) asize = long ? 4 : size === 2 ? 4 : 2;
        else if (byte === 0xf2 || byte === 0xf3) rep = byte;
        else if (byte === 0xf0) lock = true;
        else break;
        this.rex = 0;
      }
      byte = this.u8();
    }
    const rexed = this.rex;
    if (rexed & 8) osize = 8;
    let map = MAPS.one;
    let name = hex(byte);
    if (byte === 0x0f) {
      map = MAPS.two;
      byte = this.u8();
      name = `0f ${hex(byte)}`;
      if (byte === 0x38) {
        map = MAPS.three;
        byte = this.u8();
        name += ` ${hex(byte)}`;
      }
    }
    let prefix = rep === 0xf2 ? 3 : rep === 0xf3 ? 2 : has66 ? 1 : 0;
    let third = 0;
    if ((byte === 0xc4 || byte === 0xc5) && map === MAPS.one && !real && (long || this.peek() >> 6 === 3)) {
      const vex = this.vex(byte === 0xc4);
      name = `VEX ${vex.map}`;
      if (prefix || lock || rexed) return this.undefined(start);
      const found = vex.map === 2 ? MAPS.vex38 : vex.map === 3 ? MAPS.vex3a : undefined;
      if (found === undefined || vex.long) return { notModelled: `instruction ${name}` };
      ({ prefix } = vex);
      third = long ? vex.third : vex.third & 7;
      this.rex = vex.rex;
      osize = vex.rex & 8 && long ? 8 : 4;
      map = found;
      byte = this.u8();
      name += ` ${hex(byte)}`;
    }
    const opcode: Opcode = map[byte]!;
    let reg = 0;
    let isRegister = false;
    if (opcode.modrm) {
      this.modrm = this.u8();
      reg = (this.modrm >> 3) & 7;
      isRegister = this.modrm >> 6 === 3;
      name += ` /${reg}`;
    }
    let form = opcode[long ? 'long' : 'variants'][variant(prefix, reg, isRegister)];
    const exact = opcode.exact?.get(this.modrm);
    if (exact !== undefined) {
      name += ` (${hex(this.modrm)})`;
      form = exact[long ? 'long' : 'legacy'];
    }
    // 90 is XCHG rAX,rAX, which does nothing; with another register it does.
    if (map === MAPS.one && byte === 0x90 && rexed & 1) form = map[0x91]!.long[variant(prefix, 0, false)];
    // Behind C4, C5 and 62 with a register form lie VEX and EVEX, which real mode does not have.
    if (form === undefined && real && (name.startsWith('c4') || name.startsWith('c5') || name.startsWith('62'))) form = VEX;
    if (form === undefined) return { notModelled: `instruction ${name}` };
    if (form.protectedOnly && real) form = form.absent ? ABSENT : UNDEFINED;
    if (long && form.sized !== '') osize = form.sized === 'near' || !has66 ? 8 : 2;
    const wide = osize === 8 && form.scales;
    const exec = wide ? form.exec64 : form.exec;
    if (exec === undefined) return { notModelled: `instruction ${form.name}${wide ? ' with a 64-bit operand' : ''}` };

    const insn = new Insn(form, exec);
    insn.third = third;
    insn.osize = osize;
    insn.asize = asize;
    insn.mask = asize === 2 ? 0xffff : -1;
    insn.rep = rep;
    insn.low = byte & 15;
    insn.base = insn.index = NONE;
    // OUT names its port first; its width is that of the accumulator.
    const [first, second] = form.operands;
    insn.width = this.widthOf(second !== undefined && (first === 'DX' || first === 'Ib') ? second : first, osize);
    insn.shift = insn.width === 8 ? 0 : 32 - 8 * insn.width;
    insn.seg = DS;
    form.operands.forEach((operand, k) => {
      this.operand(insn, operand, k, byte);
    });
    // A row of `ud` may name no operands: its ModRM has no more bytes then, as the fault comes first.
    if (segment >= 0) insn.seg = segment;
    if (lock && form.name !== 'ud' && !(form.lock && insn.ak >= K_M8 && insn.ak < K_IMM)) {
      insn.form = UNDEFINED;
      insn.exec = UNDEFINED.exec!;
    }
    insn.length = this.at - start;
    return insn;
  }

  /** What follows C4 (`three` bytes in all) or C5: `rex` as the REX prefix of the same bits, `prefix` and `map` by number. */
  private vex(three: boolean): { prefix: number; map: number; third: number; rex: number; long: boolean } {
    const first = this.u8();
    const last = three ? this.u8() : first;
    const inverted = ~first;
    const rex = ((inverted >> 5) & 4) | (three ? ((inverted >> 5) & 2) | ((inverted >> 5) & 1) | ((last >> 4) & 8) : 0);
    return { prefix: last & 3, map: three ? first & 31 : 1, third: (~last >> 3) & 15, rex: 0x40 | rex, long: (last & 4) !== 0 };
  }

  /** #UD, whatever follows. */
  private undefined(start: number): Insn {
    const insn = new Insn(UNDEFINED, UNDEFINED.exec!);
    insn.length = this.at - start;
    return insn;
  }

  private peek(): number {
    if (this.at >= this.end) throw NEED_MORE;
    return this.bytes[this.at]!;
  }

  /** Width in bytes of an operand code. */
  private widthOf(operand: string | undefined, osize: number): number {
    if (operand === undefined) return osize;
    if (operand === 'AL' || operand === 'CL') return 1;
    const size = operand[operand.length - 1];
    if (size === 'b' || size === 'w') return size === 'b' ? 1 : 2;
    if (operand === 'Rd' || operand === 'Cd' || operand === 'Dd') return this.long ? 8 : 4;
    if (size === 'q') return 8;
    if (size === 'l') return 4;
    if (size === 'y') return osize === 2 ? 4 : osize;
    // INS, OUTS, IN and OUT have no 64-bit form: d is 2 or 4 there.
    return operand === 'eAX' || operand === '~d' ? Math.min(osize, 4) : osize;
  }

  private operand(insn: Insn, code: string, position: number, byte: number): void {
    let kind = K_NONE;
    let n = 0;
    const width = this.widthOf(code, insn.osize);
    const register = (r: number): void => {
      kind = K_R8 + sizeIndex(width);
      // With a REX prefix there is no AH, CH, DH, BH.
      n = width === 1 ? (this.rex ? r * 4 : (r & 3) * 4 + (r >> 2)) : width === 2 ? r * 2 : r;
    };
    const memory = (w: number): void => {
      this.address(insn);
      kind = K_M8 + sizeIndex(w);
    };
    const { rex } = this;
    const regBit = (rex & 4) << 1;
    const rmBit = (rex & 1) << 3;
    switch (code[0]) {
      case 'E':
        if (code === 'ES') {
          kind = K_SPECIAL;
          n = 0;
        } else if (this.modrm >> 6 === 3) register((this.modrm & 7) | rmBit);
        else memory(code === 'Es' ? 2 : width);
        break;
      case 'M':
        memory(width);
        break;
      case 'B':
        register(insn.third);
        break;
      case 'R':
        register((this.modrm & 7) | rmBit);
        break;
      case 'G':
        if (code === 'GS') {
          kind = K_SPECIAL;
          n = 5;
        } else register(((this.modrm >> 3) & 7) | regBit);
        break;
      case 'Z':
        register((byte & 7) | rmBit);
        break;
      case 'O':
        insn.disp = insn.asize === 2 ? this.u16() : this.s32();
        insn.dispHigh = insn.asize === 8 ? this.s32() : 0;
        kind = K_M8 + sizeIndex(width);
        break;
      case 'I':
        kind = K_IMM;
        this.immediate(insn, code, position);
        if (insn.osize === 8 && (code === 'Is' || code === 'Iz' || code === 'Iv')) {
          kind = K_IMM64;
          insn.imm2 = code === 'Iv' ? this.s32() : insn.imm >> 31;
        }
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
          n = SEGMENT_NAMES.indexOf(code);
          if (n < 0) n = ((this.modrm >> 3) & 7) | (code[0] === 'S' ? 0 : regBit);
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
      let base = rm | ((this.rex & 1) << 3);
      if (rm === 4) {
        const sib = this.u8();
        base = (sib & 7) | ((this.rex & 1) << 3);
        insn.index = ((sib >> 3) & 7) | ((this.rex & 2) << 2);
        insn.scale = sib >> 6;
        if (insn.index === 4) insn.index = NONE;
      }
      if ((base & 7) === 5 && mod === 0) {
        insn.disp = this.s32();
        // Without SIB the displacement is one from the next instruction, which RIP is at while this one executes.
        base = this.long && rm !== 4 ? IP : NONE;
      } else insn.disp = mod === 0 ? 0 : mod === 1 ? this.s8() : this.s32();
      insn.base = base;
      insn.dispHigh = insn.disp >> 31;
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
