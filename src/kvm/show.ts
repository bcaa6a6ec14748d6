import { hex } from '../kernel/inspect.ts';

/** Node's `util.inspect.custom`, by its registered key: nothing of node:util is needed to offer it. */
export const INSPECT: unique symbol = Symbol.for('nodejs.util.inspect.custom') as never;

/** `48 65 6c`, at most `limit` of them. */
function hexBytes(bytes: Uint8Array, limit = 16): string {
  const text = Array.from(bytes.subarray(0, limit), (byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return bytes.length > limit ? `${text} … (${bytes.length} bytes)` : text;
}

const bits = (names: string): readonly (readonly [bigint, string])[] =>
  names.split(' ').map((name) => {
    const [bit, text] = name.split(':') as [string, string];
    return [1n << BigInt(bit), text];
  });

/** Architectural bit names (Intel SDM vol. 3, 2.3–2.5) of the registers that are read bit by bit. */
const flagNames: Readonly<Record<string, readonly (readonly [bigint, string])[]>> = {
  rflags: bits('0:CF 2:PF 4:AF 6:ZF 7:SF 8:TF 9:IF 10:DF 11:OF 14:NT 16:RF 17:VM 18:AC 19:VIF 20:VIP 21:ID'),
  cr0: bits('0:PE 1:MP 2:EM 3:TS 4:ET 5:NE 16:WP 18:AM 29:NW 30:CD 31:PG'),
  cr4: bits(
    '0:VME 1:PVI 2:TSD 3:DE 4:PSE 5:PAE 6:MCE 7:PGE 8:PCE 9:OSFXSR 10:OSXMMEXCPT 11:UMIP 12:LA57 13:VMXE 16:FSGSBASE 17:PCIDE 18:OSXSAVE 20:SMEP 21:SMAP 22:PKE',
  ),
  efer: bits('0:SCE 8:LME 10:LMA 11:NXE 12:SVME 14:FFXSR 15:TCE'),
};

/** `0x246 PF ZF IF` for a register with known bits, else `0x246`. */
export function register(name: string, value: number | bigint): string {
  const set = flagNames[name]?.filter(([bit]) => (BigInt(value) & bit) !== 0n).map(([, text]) => text) ?? [];
  return [hex(value), ...set].join(' ');
}

const PADDING = /^pad(ding)?\d*$|^reserved\d*$/;

function shown(value: unknown, name: string): unknown {
  if (typeof value === 'bigint' || (typeof value === 'number' && value > 9)) return { [INSPECT]: () => register(name, value) };
  if (value instanceof Uint8Array) {
    return { [INSPECT]: () => (value.some((byte) => byte !== 0) ? hexBytes(value) : `${value.length} zero bytes`) };
  }
  if (Array.isArray(value)) return value.map((element) => shown(element, name));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(([key]) => !PADDING.test(key));
  return Object.fromEntries(entries.map(([key, inner]) => [key, shown(inner, key)]));
}

/**
 * Gives a decoded struct the look of a register dump in `console.log`: 64-bit values in hex, flag registers with their bits by
 * name. It stays a plain object: spreading, JSON and comparison see its fields and nothing else.
 */
export function printable<T extends object>(struct: string, value: T): T {
  return Object.defineProperty(value, INSPECT, {
    value: (_depth: number, options: object, inspect: (value: unknown, options: object) => string) =>
      `${struct} ${inspect(shown({ ...value }, ''), { ...options, depth: 3, breakLength: 150, compact: 16 })}`,
  });
}

const suberrors: readonly (string | undefined)[] = [undefined, 'emulation', 'simul_ex', 'delivery_ev', 'unexpected_exit_reason'];

type Fields = Readonly<Record<string, unknown>>;

const io = ({ direction, port, size, count, data }: Fields): string => {
  const bytes = data as Uint8Array;
  const where = `${direction === 1 ? 'out' : 'in'} ${hex(port as number)}`;
  const shape = count === 1 && size === 1 ? '' : ` ${count}×${size}`;
  return direction === 1 ? `${where}${shape} ${hexBytes(bytes)}` : `${where}${shape || ' 1×1'}`;
};

const mmio = ({ phys_addr, len, is_write, data }: Fields): string =>
  is_write
    ? `write ${hex(phys_addr as bigint)} ${hexBytes(data as Uint8Array)}`
    : `read ${hex(phys_addr as bigint)} ${len} bytes`;

const internalError = ({ suberror, insn_bytes, data }: Fields): string => {
  const name = suberrors[suberror as number] ?? `suberror ${suberror}`;
  return insn_bytes ? `${name} at ${hexBytes(insn_bytes as Uint8Array)}` : [name, ...(data as bigint[]).map(hex)].join(' ');
};

const special: Readonly<Record<string, (exit: Fields) => string>> = {
  io,
  mmio,
  internal_error: internalError,
  other: ({ number }) => String(number),
};

function field([name, value]: [string, unknown]): string {
  if (typeof value === 'bigint') return `${name} ${hex(value)}`;
  if (value instanceof Uint8Array) return `${name} ${hexBytes(value)}`;
  if (Array.isArray(value))
    return `${name} [${value.map((element) => (typeof element === 'bigint' ? hex(element) : String(element))).join(' ')}]`;
  if (typeof value === 'object' && value !== null) {
    const plain = 'toJSON' in value ? (value as { toJSON(): object }).toJSON() : value;
    return `${name} { ${Object.entries(plain).map(field).join(', ')} }`;
  }
  return `${name} ${typeof value === 'number' && value > 9 ? hex(value) : String(value)}`;
}

/** One line for an exit: `io out 0x3f8 48`, `mmio read 0xd0000 4 bytes`, `hlt`, `x86_rdmsr error 0, index 0x174, data 0x0, msr_reason 2`. */
export function describeExit(exit: object & { readonly reason: string }): string {
  const { reason, ...fields } = exit as Fields & { readonly reason: string };
  const text =
    special[reason]?.(fields) ??
    Object.entries(fields)
      .filter(([name]) => !/^pad/.test(name))
      .map(field)
      .join(', ');
  return text === '' ? reason : `${reason} ${text}`;
}
