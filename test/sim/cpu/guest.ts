/** A flat little machine for white-box tests of the CPU: RAM at 0, everything else MMIO. */
import { Cpu, type CpuBus, type CpuOptions } from '../../../src/sim/cpu/cpu.ts';

export interface Guest {
  readonly cpu: Cpu;
  readonly ram: Uint8Array;
  readonly bus: {
    generation: number;
    /** Stores the bus was told of, and pages it was asked for writing. */
    readonly written: number[];
    readonly writable: number[];
    tellsStores: boolean;
    readOnly: number;
    pages: number;
    msrs: Map<number, { lo: number; hi: number }>;
  };
}

/** `pages` of RAM, CS = 0, IP = 0x1000 with `code` there, SP = 0x8000, interrupt vector n → 0000:0600+n, which is HLT. */
export function guest(code: readonly number[], { pages = 16, options = {} as CpuOptions } = {}): Guest {
  const ram = new Uint8Array(new SharedArrayBuffer(pages * 4096));
  const view = new DataView(ram.buffer);
  for (let n = 0; n < 256; n++) view.setUint32(n * 4, 0x600 + n, true);
  ram.fill(0xf4, 0x600, 0x700);
  ram.set(code, 0x1000);
  const state: Guest['bus'] = {
    generation: 0,
    written: [],
    writable: [],
    tellsStores: false,
    readOnly: -1,
    pages,
    msrs: new Map(),
  };
  const bus: CpuBus = {
    get generation() {
      return state.generation;
    },
    page: (n, access) => {
      if (n >= state.pages || (access === 'write' && n === state.readOnly)) return null;
      if (access === 'write') state.writable.push(n);
      return { view, u8: ram, offset: n * 4096 };
    },
    get tellsStores() {
      return state.tellsStores;
    },
    written: (n) => state.written.push(n),
    cpuid: (leaf, subleaf) => ({ eax: leaf + 1, ebx: subleaf + 2, ecx: 3, edx: 4 }),
    rdmsr: (index) => state.msrs.get(index) ?? null,
    ownMsr: (index) => state.msrs.get(index) ?? null,
    setOwnMsr: (index, lo, hi) => void state.msrs.set(index, { lo, hi }),
    wrmsr: (index, lo, hi) => index === 0x10 && state.msrs.set(index, { lo, hi }) !== undefined,
    tsc: () => 0x1_2345_6789n,
    acknowledge: () => 0x21,
  };
  const cpu = new Cpu(bus, options);
  Object.assign(cpu.segments[1]!, { selector: 0, base: 0n });
  cpu.refresh();
  cpu.rip = 0x1000n;
  cpu.setReg(4, 0x8000n);
  return { cpu, ram, bus: state };
}
