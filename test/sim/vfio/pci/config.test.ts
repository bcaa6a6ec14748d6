import { describe, expect, test } from 'vitest';
import type { ConfigWidth } from '../../../../src/sim/hardware/pci-function.ts';
import type { Resource } from '../../../../src/sim/pci/pci-dev.ts';
import { Vpd } from '../../../../src/sim/pci/vpd.ts';
import { type ConfigOwner, ConfigSpaceView } from '../../../../src/sim/vfio/pci/config.ts';
import { EFAULT } from '../../../../src/uapi/sys.ts';

/** Registers without behaviour: what is written stays, but for masks given. */
class Registers {
  readonly configSize: 256 | 4096;
  readonly bytes: Uint8Array;
  readonly writes: [offset: number, width: number, value: number][] = [];
  readonly vpd = new Vpd(this, 0);
  resources: Resource[];

  constructor(text: Record<number, string>, configSize: 256 | 4096, bars: Record<number, { size: bigint; flags: bigint }> = {}) {
    this.configSize = configSize;
    this.bytes = new Uint8Array(configSize);
    for (const [at, hex] of Object.entries(text)) this.bytes.set(Buffer.from(hex.replaceAll(' ', ''), 'hex'), Number(at));
    this.resources = Array.from({ length: 7 }, (_, i) => {
      const bar = bars[i];
      return bar === undefined
        ? { start: 0n, end: 0n, flags: 0n }
        : { start: 0xfe00_0000n, end: 0xfe00_0000n + bar.size - 1n, flags: bar.flags };
    });
  }

  readConfig(offset: number, width: ConfigWidth): number {
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + this.bytes[offset + i]!;
    return value;
  }

  writeConfig(offset: number, width: ConfigWidth, value: number): void {
    this.writes.push([offset, width, value]);
    for (let i = 0; i < width; i++) this.bytes[offset + i] = value >>> (8 * i);
  }
}

const e1000e = (): Registers =>
  new Registers(
    {
      0: '8680d3100301100000000002',
      16: '000084fe000086fe01c00000000088fe',
      44: '86800000000080fec8',
      60: '0b01',
      160: '110004000300000003200000',
      200: '01d022c800000000',
      208: '05e08000',
      224: '10a0010020800000000000001104000000001100',
      256: '0100021400000000000040023020460000000000 00e00000a0',
      320: '030001005634 12ffff005452',
    },
    4096,
    {
      0: { size: 0x20000n, flags: 0x40200n },
      1: { size: 0x20000n, flags: 0x40200n },
      2: { size: 0x20n, flags: 0x40101n },
      3: { size: 0x4000n, flags: 0x40200n },
      6: { size: 0x40000n, flags: 0x46200n },
    },
  );

interface Told {
  owner: ConfigOwner;
  log: string[];
  set(change: { msiActive?: boolean; msiQmax?: number }): void;
}

function owner(pdev: Registers, more: Partial<ConfigOwner> = {}): Told {
  const log: string[] = [];
  const state = { msiActive: false, msiQmax: 0 };
  const base: ConfigOwner = {
    pdev,
    isVirtualFunction: false,
    ids: [0x8086, 0x10d3],
    noIntx: false,
    brokenIntx: false,
    get msiActive() {
      return state.msiActive;
    },
    get msiQmax() {
      return state.msiQmax;
    },
    maxPayload: 128,
    allowedCommand: (value: number) => value,
    memoryGoesDown: () => void log.push('down'),
    memoryComesUp: () => void log.push('up'),
    setIntxDisabled: (disabled) => void log.push(`intx ${disabled ? 'off' : 'on'}`),
    changePowerState: (to) => void log.push(`D${to}`),
    resetFunction: () => void log.push('reset'),
    setReadRequest: (bytes) => void log.push(`mrrs ${bytes}`),
  };
  return {
    owner: Object.defineProperties(base, Object.getOwnPropertyDescriptors(more)),
    log,
    set: (change) => Object.assign(state, change),
  };
}

function hex(view: ConfigSpaceView, offset: number, length: number): string {
  const into = new Uint8Array(length);
  expect(view.read(into, offset)).toBe(length);
  return Buffer.from(into).toString('hex');
}

const write = (view: ConfigSpaceView, offset: number, text: string): number => view.write(Buffer.from(text, 'hex'), offset);

describe('what a user finds', () => {
  test('the capability chain of an 82574L, without PME_Support', () => {
    const view = new ConfigSpaceView(owner(e1000e()).owner);
    expect(hex(view, 0, 16)).toBe('8680d310030110000000000200000000');
    expect(hex(view, 0xc8, 8)).toBe('01d0220000000000');
    expect(hex(view, 0xe0, 20)).toBe('10a0010020800000000000001104000000001100');
    expect(hex(view, 0x140, 12)).toBe('03000100563412ffff005452');
  });

  test('BARs tell their sizes and move nothing', () => {
    const registers = e1000e();
    const view = new ConfigSpaceView(owner(registers).owner);
    for (const at of [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30]) write(view, at, 'ffffffff');
    expect(hex(view, 0x10, 24)).toBe('0000feff0000feffe1ffffff00c0ffff0000000000000000');
    expect(hex(view, 0x30, 4)).toBe('0100fcff');
    expect(registers.writes).toEqual([]);
  });

  test('an access past the end transfers nothing', () => {
    const view = new ConfigSpaceView(owner(e1000e()).owner);
    expect(view.read(new Uint8Array(2), 0xffe)).toBe(2);
    expect(view.read(new Uint8Array(8), 0xffc)).toBe(-EFAULT);
    expect(view.write(new Uint8Array(1), 0x1000)).toBe(-EFAULT);
  });

  test('hidden capabilities leave the chain and read raw', () => {
    // 40: bridge subsystem id (hidden) → 48: PM → 50: unknown (hidden) → 0
    const registers = new Registers({ 6: '1000', 52: '40', 64: '0d480102', 72: '0150000000000000', 80: '7f00aabb' }, 256);
    const view = new ConfigSpaceView(owner(registers).owner);
    expect(hex(view, 0x34, 1)).toBe('48');
    expect(hex(view, 0x48, 2)).toBe('0100');
    expect(hex(view, 0x50, 4)).toBe('7f00aabb');
    expect(write(view, 0x50, '01020304')).toBe(4);
    expect(registers.writes).toEqual([[0x50, 4, 0x04030201]]);
  });

  test('STATUS has no capability list where all of it is hidden', () => {
    const registers = new Registers({ 6: '1000', 52: '40', 64: '0d00' }, 256);
    expect(hex(new ConfigSpaceView(owner(registers).owner), 6, 2)).toBe('0000');
  });

  test('a hidden first extended capability keeps its next pointer; one in the middle is skipped', () => {
    const pcie = { 6: '1000', 52: '40', 64: '10000200' };
    // 100: PASID (hidden), 110: DSN, 120: RCRB (hidden), 130: LTR
    const chain = { 256: '1b000111', 272: '03000112', 288: '0a000113', 304: '18000100' };
    const view = new ConfigSpaceView(owner(new Registers({ ...pcie, ...chain }, 4096)).owner);
    expect(hex(view, 0x100, 4)).toBe('00000011');
    expect(hex(view, 0x110, 4)).toBe('03000113');
    const none = new ConfigSpaceView(owner(new Registers({ ...pcie, 256: '1b000100' }, 4096)).owner);
    expect(hex(none, 0x100, 4)).toBe('00000000');
  });
});

describe('writes', () => {
  test('COMMAND: DisINTx stays here, decode goes to the hardware', () => {
    const registers = e1000e();
    const { owner: told, log } = owner(registers);
    const view = new ConfigSpaceView(told);
    write(view, 4, '0704');
    expect(hex(view, 4, 2)).toBe('0704');
    expect(registers.bytes[5]).toBe(0);
    expect(log).toEqual(['up', 'intx off']);
    log.length = 0;
    write(view, 4, '0000');
    expect(log).toEqual(['down', 'up', 'intx on']);
    expect(view.memoryEnabled).toBe(false);
  });

  test('decode that is off though the user has it on: the BARs are written again', () => {
    const registers = e1000e();
    const view = new ConfigSpaceView(owner(registers).owner);
    registers.bytes.fill(0, 4, 6);
    registers.bytes.fill(0, 0x10, 0x28);
    write(view, 4, '03');
    expect(registers.readConfig(0x10, 4)).toBe(0xfe840000);
    expect(registers.readConfig(0x30, 4)).toBe(0xfe800000);
  });

  test('the MSI capability is a fiction', () => {
    const registers = e1000e();
    const { owner: told, set } = owner(registers);
    const view = new ConfigSpaceView(told);
    set({ msiActive: true });
    write(view, 0xd2, '7f00');
    expect(hex(view, 0xd2, 2)).toBe('0f00');
    set({ msiActive: false });
    write(view, 0xd2, 'ff00');
    expect(hex(view, 0xd2, 2)).toBe('8e00');
    set({ msiActive: true, msiQmax: 2 });
    write(view, 0xd2, '7f00');
    expect(hex(view, 0xd2, 2)).toBe('2f00');
  });

  test('FLR by Device Control reads 0 and resets where the device can', () => {
    const registers = e1000e();
    const { owner: told, log } = owner(registers);
    const view = new ConfigSpaceView(told);
    write(view, 0xe8, '0080');
    expect(log).toEqual([]);
    registers.bytes[0xe7] = 0x10;
    write(view, 0xe8, '0080');
    expect(hex(view, 0xe8, 2)).toBe('0000');
    expect(log).toEqual(['reset']);
    write(view, 0xe8, '0050');
    expect(log).toEqual(['reset', 'mrrs 4096']);
  });

  test('PMCSR asks for a D-state and does not show it by itself', () => {
    const { owner: told, log } = owner(e1000e());
    const view = new ConfigSpaceView(told);
    write(view, 0xcc, '0381');
    expect(log).toEqual(['D3']);
    expect(hex(view, 0xcc, 2)).toBe('0000');
  });

  /** Registers with an engine for vital product data at 0x40; `answers`: how many transfers it makes. */
  function productData(data: Buffer, answers = Infinity) {
    const registers = new Registers({ 6: '1000', 52: '40', 64: '0300' }, 256);
    let left = answers;
    const hardware: Omit<ConfigOwner['pdev'], 'vpd'> = {
      configSize: 256,
      resources: registers.resources,
      readConfig: (offset, width) => registers.readConfig(offset, width),
      writeConfig(offset, width, value) {
        registers.writeConfig(offset, width, value);
        if (offset !== 0x42 || left-- <= 0) return;
        const at = value & 0x7fff;
        if ((value & 0x8000) !== 0) data.set(registers.bytes.subarray(0x44, 0x48), at);
        else for (let i = 0; i < 4; i++) registers.bytes[0x44 + i] = data[at + i] ?? 0;
        registers.bytes[0x43]! ^= 0x80;
      },
    };
    const pdev = { ...hardware, vpd: new Vpd(hardware, 0x40) };
    const view = new ConfigSpaceView({ ...owner(registers).owner, pdev });
    /** Address and flag as they are afterwards, and the data. */
    const read = (address: string): string => {
      write(view, 0x44, 'eeeeeeee');
      write(view, 0x42, address);
      return hex(view, 0x42, 6);
    };
    return { view, read };
  }

  test('vital product data: the flag turns when a transfer is done; what is beyond the end tag is nothing', () => {
    const data = Buffer.from('82030041424378ff99aa', 'hex');
    const { view, read } = productData(data);
    expect(read('0000')).toBe('008082030041');
    expect(read('0400')).toBe('048042437800');
    expect(read('0800')).toBe('088000000000');
    write(view, 0x44, '82020051');
    write(view, 0x42, '0080');
    expect([hex(view, 0x42, 2), data.toString('hex', 0, 4)]).toEqual(['0000', '82020051']);
    write(view, 0x42, '0480');
    expect(hex(view, 0x42, 2)).toBe('0480');
  });

  test.each([
    [
      'a tag that leads beyond 32 KiB: what is before it',
      '9003004142439effff',
      Infinity,
      ['008090030041', '048042430000', '088000000000'],
    ],
    ['nothing at all: no data, the flag stays', 'ffffffff', Infinity, ['0000eeeeeeee', '0400eeeeeeee']],
    ['no answer: zeros, and the flag turns', '8203004142437800', 0, ['008000000000', '048000000000']],
    ['no answer to the length of the first tag: no data', '8203004142437800', 1, ['0000eeeeeeee']],
    ['no answer any more: the flag stays', '82030041424378', 4, ['008082030041', '0400eeeeeeee']],
  ])('vital product data, %s', (_what, data, answers, expected) => {
    const { read } = productData(Buffer.from(data, 'hex'), answers);
    expect(expected.map((seen) => read(`${seen.slice(0, 2)}00`))).toEqual(expected);
  });
});

test('a virtual function has the ids it is known by and no interrupt pin', () => {
  const registers = new Registers({ 0: 'ffffffff', 60: '0001' }, 256);
  const view = new ConfigSpaceView(owner(registers, { isVirtualFunction: true, ids: [0x1234, 0x5678] }).owner);
  expect(hex(view, 0, 4)).toBe('34127856');
  expect(hex(view, 0x3d, 1)).toBe('00');
  expect(hex(view, 4, 2)).toBe('0200');
});
