/** What a hostile caller passes: right things, things that were right a moment ago, and things that never were. */

/** Descriptors of the process that the kernel never gave out. */
const foreign = [0, 1, 2, 3, 4, 5, 10, 20, 63, 1000, 0x7fffffff];

const nonsense = [
  undefined,
  null,
  true,
  '3',
  '',
  {},
  [],
  () => 1,
  Symbol('s'),
  Number.NaN,
  Number.POSITIVE_INFINITY,
  -0,
  1.5,
  2 ** 53,
  -(2 ** 31),
];

const numbers = [
  0,
  1,
  2,
  3,
  7,
  8,
  15,
  16,
  255,
  256,
  4095,
  4096,
  4097,
  0x7fffffff,
  0x80000000,
  0xffffffff,
  2 ** 32,
  2 ** 40,
  2 ** 52,
  -1,
  -4096,
];

const bigints = [
  0n,
  1n,
  8n,
  0xfffn,
  0x1000n,
  0xffffn,
  1n << 31n,
  1n << 32n,
  1n << 47n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 64n) - 1n,
  1n << 64n,
  -1n,
  -(1n << 63n),
];

export class Values {
  constructor(random, world) {
    this.random = random;
    this.world = world;
  }

  nonsense() {
    const one = this.random.pick(nonsense);
    if (one !== undefined || this.random.chance(0.5)) return one;
    return this.trap();
  }

  /** An object whose conversion does something behind the callee's back. */
  trap() {
    const { world, random } = this;
    return {
      valueOf() {
        world.mischief();
        return random.pick(world.fds) ?? 3;
      },
      toString() {
        world.mischief();
        return '/dev/kvm';
      },
    };
  }

  /** Mostly a descriptor that is open, of the wanted kind if one is named. */
  fd(kind) {
    const { random, world } = this;
    const choice = random.below(100);
    if (choice < 62 && kind !== undefined) return random.pick(world.ofKind(kind)) ?? random.pick(world.fds);
    if (choice < 88) return random.pick(world.fds);
    if (choice < 93) return random.pick(world.closedFds) ?? -1;
    if (choice < 97) return random.pick(foreign);
    return this.nonsense();
  }

  integer() {
    const { random } = this;
    const choice = random.below(10);
    if (choice < 5) return random.pick(numbers);
    if (choice < 8) return random.pick(bigints);
    if (choice < 9) return random.next();
    return this.nonsense();
  }

  /** A length or offset that costs no memory. */
  small() {
    return this.random.pick([0, 1, 8, 100, 4095, 4096, 4097, 8192, 0x10000, -1, 1n, 4096n, Number.NaN, '1', undefined]);
  }

  /** A buffer: of about this length, too short, detached, shared, of another type, resizable and resized, or none at all. */
  buffer(length) {
    const { random, world } = this;
    switch (random.below(16)) {
      case 0:
        return random.fill(new Uint8Array(random.below(length + 1)));
      case 1: {
        const bytes = new Uint8Array(length);
        structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
        return bytes;
      }
      case 2:
        return random.fill(new Uint8Array(new SharedArrayBuffer(length)));
      case 3:
        return new DataView(new ArrayBuffer(length + 8), random.below(8), length);
      case 4:
        return new Float64Array((length >> 3) + 1);
      case 5: {
        const resizable = new ArrayBuffer(length + 8, { maxByteLength: length + 64 });
        const view = random.chance(0.5) ? new Uint8Array(resizable) : new Uint8Array(resizable, 4, length);
        resizable.resize(random.below(length + 60));
        return view;
      }
      case 6:
        return new ArrayBuffer(length);
      case 7:
        return random.pick(world.memories);
      case 8:
        // At most some pages: a write of gigabytes to a memfd would be what it says.
        return random
          .pick(world.memories)
          ?.bytes?.subarray(random.below(4096))
          .subarray(0, 2 * length);
      case 9:
        return this.nonsense();
      case 10:
        return Buffer.from('a string in the pool of Buffer');
      default:
        return random.chance(0.4) ? new Uint8Array(length) : random.fill(new Uint8Array(length));
    }
  }

  /** A number where an address is wanted: of live Memory, of canaries, of nothing. */
  address() {
    const { random, world } = this;
    switch (random.below(8)) {
      case 0:
      case 1:
        return random.pick(world.canaries) ?? 0n;
      case 2:
        return world.addressOf(random.pick(world.memories)) + BigInt(random.below(8192));
      case 3:
        return world.addressOf(random.pick(world.closedMemories));
      case 4:
        return BigInt(random.below(0x10000));
      case 5:
        return 0xffff800000000000n + BigInt(random.next());
      case 6:
        return random.u64() & 0x7fffffffffffn;
      default:
        return random.pick(bigints);
    }
  }

  path() {
    return this.random.weighted([
      [6, '/dev/kvm'],
      [2, '/dev/null'],
      [1, '/dev/kvm/x'],
      [1, ''],
      [1, 'a\0b'],
      [1, 'x'.repeat(5000)],
      [1, '\ud800'],
      [1, this.nonsense()],
    ]);
  }
}
