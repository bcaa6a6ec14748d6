// The addon itself, called as nobody should: whatever the arguments, an exception or a number, never a dead process.
import { describe, expect, test } from 'vitest';
import type { Addon } from '../../src/native/index.ts';
import { loadAddon, NativeBackend } from '../../src/native/index.ts';
import { bareChild, child, workerSource } from './child.ts';
import { missing } from './guest.ts';

const loaded = loadAddon();

describe.skipIf('reason' in loaded)('the addon', () => {
  const addon = 'addon' in loaded ? loaded.addon : (undefined as never as Addon);

  test('a wrong argument is a TypeError or RangeError that names it', () => {
    const call = addon as unknown as Record<string, (...args: unknown[]) => unknown>;
    const cases: [string, unknown[], typeof TypeError | typeof RangeError, RegExp][] = [
      ['open', [], TypeError, /^path must be a string/],
      ['open', ['/dev/null', 'r'], TypeError, /^flags must be a number/],
      ['open', ['a\0b', 0, 0], TypeError, /^path must not contain NUL/],
      ['close', [1.5], RangeError, /^fd must be a whole number/],
      ['close', [2 ** 40], RangeError, /^fd must be/],
      ['close', [Number.NaN], RangeError, /^fd must be/],
      ['read', [0, 'x'], TypeError, /^into must be a typed array/],
      ['read', [0, new ArrayBuffer(8)], TypeError, /^into must be/],
      ['read', [0, new DataView(new SharedArrayBuffer(8))], TypeError, /^into must be a typed array/],
      ['pread', [0, new Uint8Array(1), 2n ** 64n], RangeError, /^offset must fit 64 bits/],
      ['pread', [0, new Uint8Array(1), 1.5], RangeError, /^offset must be a whole number/],
      ['fstat', [0, new BigUint64Array(9)], RangeError, /^into must be ten/],
      ['fstat', [0, new Uint8Array(90).subarray(1)], RangeError, /^into must be ten/],
      ['poll', [new Int32Array(4), 0], RangeError, /^fds must be/],
      ['attach', [new Uint8Array(64)], TypeError, /^state must lie in a SharedArrayBuffer/],
      ['attach', [new Uint8Array(new SharedArrayBuffer(16))], RangeError, /^state must have/],
      ['map', [4096, 3, 0x32, -1, 0n], RangeError, /^flags must not have MAP_FIXED/],
      ['place', [new Uint8Array(4096), 3, 0x22, -1, 0n, 4096], Error, /^pages must/],
      ['keep', [new Uint8Array(new SharedArrayBuffer(4096))], RangeError, /^pages must cover whole pages/],
      ['load', [12345, 0, 1], RangeError, /^mapping is not the id/],
      ['unmap', [0], RangeError, /^mapping is not the id/],
      ['listen', [5], TypeError, /^listener must be a function/],
      ['own', [-1, true], RangeError, /^fd must be a descriptor/],
      ['kickById', ['1'], TypeError, /^id must be/],
    ];
    for (const [name, args, kind, message] of cases) {
      const thrown = (() => {
        try {
          return call[name]!(...args);
        } catch (error) {
          return error;
        }
      })();
      expect(thrown, name).toBeInstanceOf(kind);
      expect((thrown as Error).message, name).toMatch(message);
      const code = thrown instanceof TypeError ? 'ERR_INVALID_ARG_TYPE' : 'ERR_OUT_OF_RANGE';
      expect(Object.getOwnPropertyDescriptor(thrown, 'code'), name).toEqual({
        value: code,
        writable: true,
        enumerable: true,
        configurable: true,
      });
    }
  });

  test('without a state buffer the hot calls throw', () => {
    const result = bareChild(
      `
      const { addon } = loadAddon();
      const thrown = [[addon.call], [addon.callBytes, new Uint8Array(1)], [addon.callBytes, 1], [addon.run]].map(([call, ...args]) => {
        try { call(...args); } catch ({ name, message, code }) { return [name, message, code]; }
      });
      console.log(JSON.stringify(thrown));`,
      [],
      {},
    );
    const unattached = ['TypeError', 'no state buffer is attached', 'ERR_INVALID_STATE'];
    const wrong = ['TypeError', 'arg must be a typed array', 'ERR_INVALID_ARG_TYPE'];
    expect([result.stderr, JSON.parse(result.stdout)]).toEqual(['', [unattached, unattached, wrong, unattached]]);
  });

  test('what a listener throws is an uncaught exception, whatever it is', () => {
    const result = bareChild(
      `
      const { addon } = loadAddon();
      const thrown = [new RangeError('on purpose'), 'text', undefined, Symbol.iterator, Object.freeze({})];
      const caught = [];
      addon.listen(() => { throw thrown[caught.length]; });
      addon.hold(true);
      process.on('uncaughtException', (error) => {
        caught.push(error);
        if (caught.length === thrown.length) process.exit(caught.every((one, i) => one === thrown[i]) ? 7 : 8);
      });
      for (const _ of thrown) addon.wait(addon.eventfd(1, 0), 1);`,
      ['--force-node-api-uncaught-exceptions-policy=true'],
      {},
    );
    expect([result.status, result.signal, result.stderr]).toEqual([7, null, '']);
  });

  test.each([
    ['process.exit()', 'process.exit(3);', 3],
    ['worker.terminate()', `parentPort.postMessage('inside'); for (;;);`, 1],
  ])('%s inside a listener', (_, end, code) => {
    const worker = workerSource(`
      const { addon } = loadAddon();
      addon.listen(() => { ${end} });
      addon.hold(true);
      addon.wait(addon.eventfd(1, 0), 1);`);
    const result = child(`
      const worker = new Worker(${JSON.stringify(worker)}, { eval: true });
      worker.once('message', () => worker.terminate());
      worker.once('exit', (code) => { process.exitCode = code + 4; });`);
    expect([result.status, result.signal, result.stderr]).toEqual([code + 4, null, '']);
  });

  test('accessors stay inside their mapping', () => {
    const id = addon.map(4096, 3, 0x22, -1, 0n);
    for (const [offset, width] of [
      [4096, 1],
      [4093, 4],
      [2 ** 52, 8],
    ] as const) {
      expect(() => addon.load(id, offset, width)).toThrow(RangeError);
      expect(() => addon.store(id, offset, width, 0)).toThrow(RangeError);
    }
    expect(() => addon.load(id, 0, 3)).toThrow(RangeError);
    expect(() => addon.load(id, -1, 1)).toThrow(RangeError);
    expect(() => addon.copyOut(id, 4000, new Uint8Array(97))).toThrow(RangeError);
    expect(() => addon.copyIn(id, 4097, new Uint8Array(0))).toThrow(RangeError);
    expect(() => addon.protect(id, 0, 8192, 3)).toThrow(RangeError);
    expect(() => addon.protect(id, 0, 4096, 0x01000003)).toThrow(RangeError);
    expect(() => addon.advise(id, 0, 4096, 100)).toThrow(RangeError);
    expect(addon.store(id, 4088, 8, 2n ** 64n - 1n)).toBe(0);
    expect(addon.load(id, 4088, 8)).toBe(2n ** 64n - 1n);
    expect(addon.load(id, 4088, 4)).toBe(0xffff_ffff);
    expect(addon.unmap(id)).toBe(0);
    expect(() => addon.load(id, 0, 1)).toThrow(RangeError);
  });

  test('all 64 bits of an argument, and bytes on any memory', () => {
    const fd = addon.open('/proc/self/exe', 0, 0);
    expect(addon.pread(fd, new Uint8Array(1), -1n)).toBe(-22);
    expect(addon.pread(fd, new Uint8Array(1), 2n ** 63n - 1n)).toBeLessThanOrEqual(0);
    for (const into of [new Uint8Array(4), new Uint8Array(new SharedArrayBuffer(8), 2, 4), new Uint32Array(1), Buffer.alloc(4)]) {
      expect(addon.pread(fd, into as Uint8Array, 0n)).toBe(4);
      expect(Buffer.from(into.buffer, into.byteOffset, 4).toString('latin1')).toBe('\x7fELF');
    }
    addon.close(fd);
  });

  test.skipIf(missing() !== undefined)('an ioctl sees all 64 bits of an integer', () => {
    const backend = new NativeBackend(addon);
    const kvm = backend.open('/dev/kvm', 2, 0);
    // KVM_GET_API_VERSION with anything but 0 is EINVAL.
    for (const arg of [1, -1, 2 ** 32, -(2 ** 32), 2 ** 53 - 1, 1n << 32n, 1n << 63n, -1n]) {
      expect(backend.ioctl(kvm, 0xae00, arg), String(arg)).toBe(-22);
    }
    for (const arg of [0, -0, 0n]) expect(backend.ioctl(kvm, 0xae00, arg)).toBe(12);
    backend.close(kvm);
  });

  test('50 000 calls with garbage in every place', () => {
    const result = bareChild(
      `
      const { addon } = loadAddon();
      const buffer = new ArrayBuffer(4096), gone = new Uint8Array(buffer);
      structuredClone(buffer, { transfer: [buffer] });
      const shrinking = new ArrayBuffer(4096, { maxByteLength: 8192 });
      const outside = new Uint8Array(shrinking, 1024, 1024);
      shrinking.resize(512);
      const memory = new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true });
      const values = [
        undefined, null, true, false, 0, -0, 1, -1, 2.5, NaN, Infinity, -Infinity, 2 ** 31, -(2 ** 31), 2 ** 32, 2 ** 53, -(2 ** 53), 1e300, 1_000_000,
        0n, 1n, -1n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 64n, -(2n ** 63n) - 1n, '', 'x', '/nonexistent', 'a\\0b', 'x'.repeat(70000), '\\ud800', Symbol(), {}, [], () => {}, new Date(),
        new Proxy({}, {}), Object.create(null), { valueOf: () => 1 }, gone, outside, new ArrayBuffer(8), new SharedArrayBuffer(8), new DataView(new ArrayBuffer(8)),
        new Uint8Array(0), new Uint8Array(4096), new Uint8ClampedArray(3), new Int16Array(5), new Float64Array(2), new BigInt64Array(10), new Int32Array(6),
        new Uint8Array(new SharedArrayBuffer(64)), new Uint8Array(memory.buffer), new Uint8Array(memory.buffer, 4096, 8192), new Uint8Array(memory.buffer, 1, 4096),
      ];
      let seed = 12345;
      const random = (n) => { seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff; return (seed >>> 8) % n; };
      // Raw numbers and addresses are the caller's own risk: descriptors 0 to 2 belong to the test, integers are no pointers to give a kernel.
      const skipped = new Set(['call', 'hold']);
      const names = Object.keys(addon).filter((name) => !skipped.has(name));
      const closing = new Set(['close', 'own', 'dup', 'fcntl', 'write', 'read', 'pwrite', 'ftruncate', 'fallocate', 'forget', 'wait', 'poll']);
      let thrown = 0, returned = 0;
      for (let i = 0; i < 50000; i++) {
        const name = names[random(names.length)];
        const args = Array.from({ length: random(7) }, () => values[random(values.length)]);
        if (closing.has(name) && (args[0] === 0 || args[0] === -0 || args[0] === 1)) args[0] = 99999;
        if (name === 'poll') args[1] = 0;
        try { addon[name](...args); returned++; }
        catch (error) {
          if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
          thrown++;
        }
      }
      console.log(JSON.stringify([thrown, returned, names.length]));
      process.exit(7);`,
      [],
      {},
    );
    expect([result.status, result.signal, result.stderr]).toEqual([7, null, '']);
    const [thrown, returned, names] = JSON.parse(result.stdout);
    expect(thrown + returned).toBe(50_000);
    expect(returned).toBeGreaterThan(500);
    expect(names).toBeGreaterThan(35);
  });
});
