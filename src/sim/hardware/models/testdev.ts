import type { Width } from '../../../kernel/memory.ts';
import { PciFunction } from '../pci-function.ts';

/** What a test writes to, and what it accepts. */
interface Test {
  readonly name: string;
  readonly offset: number;
  /** Undefined: any value counts. */
  readonly data: number | undefined;
  count: number;
}

const NAMES = ['no-eventfd', 'wildcard-eventfd', 'datamatch-eventfd'];
const MATCH = 0xfa;
const ANY = 0xce;

/** QEMU's pci-testdev, 1b36:0005: counts the writes of a byte to a place it names. Memory tests in BAR 0, port tests in BAR 1. No interrupt. */
export class PciTestdev extends PciFunction {
  readonly #tests: readonly (readonly Test[])[] = [tests('mmio', 2048), tests('portio', 128)];
  #current: Test | undefined;
  #selected = 0;

  constructor({ multifunction = false }: { multifunction?: boolean } = {}) {
    super({
      vendor: 0x1b36,
      device: 0x0005,
      subsystemVendor: 0x1af4,
      subsystemDevice: 0x1100,
      class: 0x00ff00,
      bars: { 0: { size: 0x1000, space: 'mem32' }, 1: { size: 0x100, space: 'io' } },
      gaps: 'writable',
      multifunction,
    });
  }

  override reset(): void {
    this.#current = undefined;
    for (const test of this.#tests.flat()) test.count = 0;
  }

  /** The header of the selected test: number, width, offset, data, count, name. Zeros while none is. */
  override read(_bar: number, offset: number, width: Width): number | bigint {
    const bytes = this.#header();
    let value = 0n;
    for (let i = width - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[offset + i] ?? 0);
    return width === 8 ? value : Number(value);
  }

  /** Byte by byte, as the device takes wider stores. */
  override write(bar: number, offset: number, width: Width, value: number | bigint): void {
    for (let i = 0; i < width; i++) this.#writeByte(bar, offset + i, Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
  }

  #writeByte(bar: number, offset: number, value: number): void {
    if (offset === 0) {
      this.reset();
      this.#selected = value;
      this.#current = this.#tests[bar]?.[value];
      return;
    }
    const test = this.#current;
    if (test === undefined || offset !== test.offset || (test.data !== undefined && value !== test.data)) return;
    test.count++;
  }

  #header(): Uint8Array {
    const test = this.#current;
    if (test === undefined) return new Uint8Array();
    const bytes = new Uint8Array(16 + test.name.length + 1);
    const view = new DataView(bytes.buffer);
    bytes.set([this.#selected, 1]);
    view.setUint32(4, test.offset, true);
    view.setUint32(8, test.data ?? ANY, true);
    view.setUint32(12, test.count, true);
    bytes.set(Buffer.from(test.name), 16);
    return bytes;
  }
}

function tests(space: string, base: number): Test[] {
  return NAMES.map((name, index) => ({
    name: `${space}-${name}`,
    offset: base + index,
    data: name === 'wildcard-eventfd' ? undefined : MATCH,
    count: 0,
  }));
}
