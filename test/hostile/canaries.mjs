/**
 * JavaScript buffers nobody may change: filled with a pattern, checked again and again. On Linux their real addresses are found (each is
 * searched in /proc/self/mem by a signature), so that calls can be given valid addresses of memory that is not `Memory`.
 */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

const SIZE = 64 * 1024;
const COUNT = 8;

export class Canaries {
  #buffers = Array.from({ length: COUNT }, (_, at) => pattern(at));
  /** Addresses inside the canaries. Empty where they could not be found. */
  addresses = [];

  /** Finds the addresses. */
  locate() {
    this.addresses = this.#buffers.flatMap((buffer) => {
      const address = find(buffer.subarray(0, 64));
      return address === undefined ? [] : [address, address + 8n, address + BigInt(SIZE / 2), address + BigInt(SIZE - 8)];
    });
    return this.addresses.length > 0;
  }

  /** The first byte that is not as it was, in words; undefined where all is well. */
  changed() {
    for (const [at, buffer] of this.#buffers.entries()) {
      if (Buffer.compare(buffer, pattern(at)) !== 0) {
        const good = pattern(at);
        const offset = buffer.findIndex((byte, index) => byte !== good[index]);
        return `canary ${at}, byte ${offset}: ${buffer[offset]}, not ${good[offset]}`;
      }
    }
    return undefined;
  }
}

function pattern(seed) {
  const buffer = Buffer.allocUnsafeSlow(SIZE);
  for (let at = 0; at < SIZE; at += 4) buffer.writeUInt32LE(Math.imul(at + 1, 0x9e3779b1 + 2 * seed) >>> 0, at);
  return buffer;
}

/** The address at which these bytes lie in this process, other than where the search itself put them. */
function find(signature) {
  if (process.platform !== 'linux') return undefined;
  const chunk = Buffer.allocUnsafeSlow(1 << 20);
  const memory = openSync('/proc/self/mem', 'r');
  try {
    for (const line of readFileSync('/proc/self/maps', 'latin1').split('\n')) {
      const range = /^([0-9a-f]+)-([0-9a-f]+) rw.p .* 0 *(\[heap\])?$/.exec(line);
      if (range === null) continue;
      const end = BigInt(`0x${range[2]}`);
      for (let at = BigInt(`0x${range[1]}`); at < end; at += BigInt(chunk.length - 64)) {
        const length = Number(end - at < BigInt(chunk.length) ? end - at : BigInt(chunk.length));
        let read = 0;
        try {
          read = readSync(memory, chunk, 0, length, at);
        } catch {
          continue;
        }
        for (let hit = chunk.indexOf(signature); hit >= 0 && hit < read; hit = chunk.indexOf(signature, hit + 1)) {
          const address = at + BigInt(hit);
          // Page-aligned or not, a canary is whole: its last bytes tell it from a copy of its beginning in our own chunk.
          const tail = Buffer.alloc(8);
          if (readSync(memory, tail, 0, 8, address + BigInt(SIZE - 8)) === 8 && isTail(tail, signature)) return address;
        }
      }
    }
  } finally {
    closeSync(memory);
  }
  return undefined;
}

function isTail(tail, signature) {
  for (let seed = 0; seed < COUNT; seed++) {
    const whole = pattern(seed);
    if (whole.subarray(0, 64).equals(signature)) return whole.subarray(SIZE - 8).equals(tail);
  }
  return false;
}
