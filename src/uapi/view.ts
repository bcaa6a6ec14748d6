/**
 * Live views: one class per struct, built on first use, whose accessors read and write the bytes in place.
 * They work on shared memory; a view of `kvm_run` follows what the kernel writes.
 */
import { elementSize, encodeField } from './encode.ts';
import type { Field } from './layout.ts';
import { checkBits, fits, misfit } from './scalar.ts';
import type { Struct } from './struct.ts';

/** What every view carries, hidden behind symbols so that only kernel names enumerate. */
const VIEW: unique symbol = Symbol('bytes');
const BASE: unique symbol = Symbol('offset');

interface Live {
  readonly [VIEW]: DataView;
  readonly [BASE]: number;
}

export function makeView(struct: Struct<unknown>): (view: DataView, at: number) => unknown {
  class StructView implements Live {
    readonly [VIEW]: DataView;
    readonly [BASE]: number;
    constructor(view: DataView, at: number) {
      this[VIEW] = view;
      this[BASE] = at;
    }
    /** What console.log and JSON see: the values now. */
    toJSON(): unknown {
      return struct.read(this[VIEW], this[BASE], this[VIEW].byteLength);
    }
    [Symbol.for('nodejs.util.inspect.custom')](): unknown {
      return this.toJSON();
    }
  }
  Object.defineProperty(StructView, 'name', { value: struct.name });
  for (const field of struct.fields) {
    Object.defineProperty(StructView.prototype, field.name, {
      enumerable: true,
      configurable: true,
      ...accessor(field, `${struct.name}.${field.name}`),
    });
  }
  return (view, at) => new StructView(view, at);
}

interface Accessor {
  get(this: Live): unknown;
  set(this: Live, value: unknown): void;
}

function accessor(field: Field, where: string): Accessor {
  const { offset, scalar, type } = field;
  if (field.dims.length > 0) return arrayAccessor(field, where);
  if (field.struct) return nestedAccessor(field, field.struct, where);
  if (field.bits) {
    const { from, count } = field.bits;
    const mask = (2 ** count - 1) << from;
    return {
      get() {
        return ((scalar!.get(this[VIEW], this[BASE] + offset) as number) & mask) >>> from;
      },
      set(value) {
        checkBits(count, value, where);
        const unit = scalar!.get(this[VIEW], this[BASE] + offset) as number;
        scalar!.set(this[VIEW], this[BASE] + offset, (((unit & ~mask) | ((value as number) << from)) >>> 0) as never);
      },
    };
  }
  const { get, set } = scalar!;
  return {
    get() {
      return get(this[VIEW], this[BASE] + offset);
    },
    set(value) {
      if (!fits(scalar!, value)) throw misfit(scalar!, value, where, type);
      set(this[VIEW], this[BASE] + offset, value as never);
    },
  };
}

const octets = (live: Live, at: number, length: number): Uint8Array =>
  new Uint8Array(live[VIEW].buffer, live[VIEW].byteOffset + at, length);

function nestedAccessor(field: Field, struct: Struct<unknown>, where: string): Accessor {
  return {
    get() {
      return struct.viewAt(this[VIEW], this[BASE] + field.offset);
    },
    set(value) {
      octets(this, this[BASE] + field.offset, field.size).set(encodeField(field, value, where, 0));
    },
  };
}

function arrayAccessor(field: Field, where: string): Accessor {
  const room = (live: Live, at: number) => Math.max(0, Math.floor((live[VIEW].byteLength - at) / elementSize(field)));
  return {
    get() {
      const at = this[BASE] + field.offset;
      return liveArray(this, field, field.flex ? [room(this, at)] : field.dims, at, where);
    },
    set(value) {
      const at = this[BASE] + field.offset;
      const bytes = encodeField(field, value, where, room(this, at));
      octets(this, at, bytes.length).set(bytes);
    },
  };
}

/** An array whose elements are the bytes. It has the length it was made with. */
function liveArray(live: Live, field: Field, dims: readonly number[], at: number, where: string): unknown {
  const [length, ...inner] = dims as [number, ...number[]];
  if (inner.length === 0 && field.scalar?.kind === 'u8') return octets(live, at, length);
  const stride = inner.reduce((product, dim) => product * dim, elementSize(field));
  const { struct, scalar } = field;
  const get = (i: number): unknown => {
    if (inner.length > 0) return liveArray(live, field, inner, at + i * stride, `${where}[${i}]`);
    return struct ? struct.viewAt(live[VIEW], at + i * stride) : scalar!.get(live[VIEW], at + i * stride);
  };
  if (struct || inner.length > 0) return Object.freeze(Array.from({ length }, (_, i) => get(i)));
  const put = (i: number, value: unknown): boolean => {
    if (!fits(scalar!, value)) throw misfit(scalar!, value, `${where}[${i}]`, field.type);
    scalar!.set(live[VIEW], at + i * stride, value as never);
    return true;
  };
  const target = new Array<unknown>(length);
  Object.defineProperty(target, Symbol.for('nodejs.util.inspect.custom'), {
    value: () => Array.from({ length }, (_, i) => get(i)),
  });
  return new Proxy(target, {
    get(array, key, receiver) {
      const i = indexOf(key, length);
      return i < 0 ? Reflect.get(array, key, receiver) : get(i);
    },
    has: (array, key) => indexOf(key, length) >= 0 || Reflect.has(array, key),
    getOwnPropertyDescriptor(array, key) {
      const i = indexOf(key, length);
      return i < 0
        ? Reflect.getOwnPropertyDescriptor(array, key)
        : { value: get(i), writable: true, enumerable: true, configurable: true };
    },
    ownKeys: (array) => [
      ...Array.from({ length }, (_, i) => String(i)),
      ...Reflect.ownKeys(array).filter((key) => indexOf(key, length) < 0),
    ],
    set(_array, key, value) {
      const i = indexOf(key, length);
      if (i < 0) throw new RangeError(`${where} has ${length} elements: ${String(key)} cannot be set`);
      return put(i, value);
    },
    defineProperty(_array, key, descriptor) {
      const i = indexOf(key, length);
      return i >= 0 && 'value' in descriptor && put(i, descriptor.value);
    },
    deleteProperty: () => false,
  });
}

function indexOf(key: string | symbol, length: number): number {
  if (typeof key !== 'string' || !/^\d+$/.test(key)) return -1;
  const i = Number(key);
  return i < length ? i : -1;
}
