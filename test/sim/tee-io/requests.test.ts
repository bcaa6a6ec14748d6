import { describe, expect, test } from 'vitest';
import type { Memory } from '../../../src/kernel/memory.ts';
import type { TeeIo } from '../../../src/sim/hardware/tsm/switches.ts';
import { BIND, Guest, join, kernelOf, Scene, UNBIND, word, words } from './scene.ts';

const REPORT = 3;
const OBJECT_SIZE = 1;
const OBJECT_READ = 2;
const SET_TDI_STATE = 6;
const RUN = 2;

/** A scene with buffers for a request and its response. */
class Asking {
  readonly scene: Scene;
  readonly memory: Memory;

  constructor(teeIo: Partial<TeeIo> = {}, bound = true) {
    this.scene = new Scene({ teeIo });
    this.memory = this.scene.kernel.guestRam(8192);
    if (bound) this.scene.tsmBind();
  }

  get request(): bigint {
    return this.memory.address;
  }

  get response(): bigint {
    return this.memory.address + 4096n;
  }

  /** The request's bytes, where they lie, and how long they are. */
  put(bytes: Uint8Array): { at: bigint; length: number } {
    this.memory.write(0, bytes);
    this.memory.write(4096, new Uint8Array(256).fill(0xee));
    return { at: this.request, length: bytes.length };
  }

  got(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.memory.read(4096, bytes);
    return bytes;
  }

  send(request: number, arg: Uint8Array): unknown {
    return this.scene.iommu(request, arg);
  }
}

/** Of 48 bytes with a type. */
function typed(
  asking: Asking,
  blob: Uint8Array,
  room: number,
  { id = asking.scene.vdevice, type = 0, request = 0x3b96, info = 0 } = {},
) {
  const { at, length } = asking.put(blob);
  const infoAt = info === 0 ? 0n : asking.memory.address + 4096n + 512n;
  const arg = join(words(4, 48, id, type, info, length, room), words(8, infoAt, at, asking.response));
  const result = asking.send(request, arg);
  return { result, written: word(arg, 20), code: info === 0 ? 0 : asking.memory.read32(4096 + 512) };
}

function scoped(
  asking: Asking,
  scope: number,
  blob: Uint8Array,
  room: number,
  { id = asking.scene.vdevice, reserved = 0, size = 40 } = {},
): unknown {
  const { at, length } = asking.put(blob);
  return asking.send(0x3b96, join(words(4, size, id, scope, length, room, reserved), words(8, at, asking.response)));
}

function operation(
  asking: Asking,
  op: number,
  payload: Uint8Array,
  room: number,
  { id = asking.scene.vdevice, arch = 2, size = 48, request = 0x3b96 } = {},
) {
  const { at, length } = asking.put(payload);
  const arg = join(words(4, size, id, op, arch, length, room), words(8, at, asking.response, 0xffff_ffff_ffffn));
  const result = asking.send(request, arg);
  return { result, code: new DataView(arg.buffer).getBigUint64(40, true) };
}

describe('IOMMU_VDEVICE_TSM_GUEST_REQUEST with a type', () => {
  test('tells how much of the response was written', () => {
    const asking = new Asking();
    const size = typed(asking, words(4, OBJECT_SIZE, REPORT), 16);
    expect([size.result, size.written]).toEqual([0, 4]);
    const length = word(asking.got(4), 0);
    const whole = typed(asking, join(words(4, OBJECT_READ, REPORT), words(8, 0)), 256);
    expect([whole.result, whole.written]).toEqual([0, length]);
    const all = asking.got(256);
    expect(all.slice(length).every((byte) => byte === 0xee)).toBe(true);
    const piece = typed(asking, join(words(4, OBJECT_READ, REPORT), words(8, 4)), 8);
    expect([piece.result, piece.written, asking.got(8)]).toEqual([0, 8, all.slice(4, 12)]);
  });

  test('reaches RUN, and in ERROR the device refuses', () => {
    const asking = new Asking();
    const run = (): unknown => typed(asking, words(4, SET_TDI_STATE, RUN), 0).result;
    expect([run(), asking.scene.state, run()]).toEqual([0, 'RUN bound', 'EINVAL']);
    asking.scene.tdi.tdi.happens('bus-master-clear');
    const told = typed(asking, words(4, SET_TDI_STATE, RUN), 0, { info: 8 });
    expect([asking.scene.state, told.result, told.code]).toEqual(['ERROR bound', 'EIO', 4]);
  });

  test('checks the id, that it is bound, the type, the buffers', () => {
    const asking = new Asking({}, false);
    const blob = words(4, OBJECT_SIZE, REPORT);
    expect([typed(asking, blob, 4, { id: 99 }).result, typed(asking, blob, 4, { type: 1 }).result]).toEqual(['ENOENT', 'ENXIO']);
    asking.scene.op(BIND);
    expect([typed(asking, blob, 4, { type: 1 }).result, typed(asking, words(4, 77), 4).result]).toEqual(['EINVAL', 'EINVAL']);
    const at = (request: bigint, response: bigint, length = 8): unknown =>
      asking.send(0x3b96, join(words(4, 48, asking.scene.vdevice, 0, 0, length, 4), words(8, 0, request, response)));
    asking.put(blob);
    expect([at(8n, asking.response), at(asking.request, 8n), at(asking.request, asking.response, 5 << 20)]).toEqual([
      ...['EFAULT', 'EFAULT', 'ENOMEM'],
    ]);
    expect(asking.send(0x3b96, words(4, 40, asking.scene.vdevice, ...Array(10).fill(0)))).toBe('EINVAL');
  });

  test('what the TSM does not know may be somebody else’s to answer', () => {
    const asking = new Asking();
    const tsm = asking.scene.kernel.process.system.tsm!;
    tsm.forward = (tdi, blob, length) =>
      blob.length === 3 ? { errno: 0, response: Uint8Array.of(...blob, length, tdi.tdi.state), code: 7 } : undefined;
    const told = typed(asking, Uint8Array.of(1, 2, 3), 4, { info: 8 });
    expect([told.result, told.written, told.code, asking.got(5)]).toEqual([0, 4, 7, Uint8Array.of(1, 2, 3, 4, 0xee)]);
    expect(typed(asking, words(4, OBJECT_SIZE, REPORT), 16).written).toBe(4);
  });
});

describe('IOMMU_VDEVICE_TSM_REQ with a scope', () => {
  const teeIo = { tsmReqLayout: 'scope40' } as const;

  test('returns what was left of the response', () => {
    const asking = new Asking(teeIo);
    expect(scoped(asking, 0, words(4, OBJECT_SIZE, REPORT), 16)).toBe(12);
    const length = word(asking.got(4), 0);
    expect(scoped(asking, 0, join(words(4, OBJECT_READ, REPORT), words(8, 0)), 256)).toBe(256 - length);
    expect([scoped(asking, 1, words(4, SET_TDI_STATE, RUN), 0), asking.scene.state]).toEqual([0, 'RUN bound']);
  });

  test('checks the id, what is reserved, the scope, that it is bound, then the command', () => {
    const asking = new Asking(teeIo, false);
    const blob = words(4, OBJECT_SIZE, REPORT);
    expect([
      scoped(asking, 9, blob, 4, { id: 99, reserved: 1 }),
      scoped(asking, 9, blob, 4, { reserved: 1 }),
      ...[4, 3, 2].map((scope) => scoped(asking, scope, blob, 4)),
      scoped(asking, 0, blob, 4),
    ]).toEqual(['ENOENT', 'EOPNOTSUPP', 'EINVAL', 'EINVAL', 'EINVAL', 'ENXIO']);
    asking.scene.op(BIND);
    expect([scoped(asking, 1, blob, 4), scoped(asking, 0, words(4, SET_TDI_STATE, RUN), 0)]).toEqual(['EINVAL', 'EINVAL']);
    expect([scoped(asking, 0, blob, 4, { size: 39 }), scoped(asking, 0, new Uint8Array(0), 4)]).toEqual(['EINVAL', 'EINVAL']);
  });
});

describe('IOMMU_VDEVICE_TSM_REQ with an operation', () => {
  const teeIo = { tsmReqLayout: 'op48' } as const;
  /** By name, as v7 and as the mail of June number them. */
  const ops = {
    v7: { validate: 1, state: 2, enable: 3, disable: 4, read: 5, regen: 6, info: 7 },
    anj: { validate: 4, state: 5, enable: 6, disable: 7, read: 1, regen: 2, info: 3 },
  } as const;

  test.each(['v7', 'anj'] as const)('numbered as %s', (opNumbering) => {
    const asking = new Asking({ ...teeIo, opNumbering });
    const { scene } = asking;
    const op = ops[opNumbering];
    expect(operation(asking, op.info, words(4, REPORT), 4)).toEqual({ result: 0, code: 0n });
    const length = word(asking.got(4), 0);
    expect(operation(asking, op.read, join(words(4, REPORT, 0), words(8, 0)), 200).result).toBe(200 - length);
    asking.memory.write(2048, new Uint8Array(32).fill(0x5a));
    const regen = join(words(4, 2, 0), words(8, 1, asking.request + 2048n));
    expect(operation(asking, op.regen, regen, 0).result).toBe(0);
    const measurements = operation(asking, op.read, join(words(4, 2, 0), words(8, 0)), 256).result as number;
    expect(Buffer.from(asking.got(256 - measurements)).includes(Buffer.alloc(32, 0x5a))).toBe(true);
    const [range] = scene.tdi.reportedMmio.filter(({ attributes }) => attributes === 0);
    const pa = range!.firstPage * 4096n;
    expect(operation(asking, op.validate, words(8, 0x10_0000, 0x10_1000, pa), 0).result).toBe(0);
    expect(scene.tdi.accepted).toHaveLength(1);
    expect([operation(asking, op.enable, new Uint8Array(0), 0).result, scene.tdi.dmaEnabled]).toEqual([0, true]);
    expect([operation(asking, op.disable, new Uint8Array(0), 0).result, scene.tdi.dmaEnabled]).toEqual([0, false]);
    expect([operation(asking, op.state, words(4, RUN), 0).result, scene.state]).toEqual([0, 'RUN bound']);
    expect([operation(asking, op.state, words(4, 0), 0).result, scene.state]).toEqual([0, 'UNLOCKED bound']);
  });

  test('what the device says is told, whatever came of it', () => {
    const asking = new Asking(teeIo);
    asking.scene.tdi.tdi.happens('bus-master-clear');
    expect(operation(asking, ops.v7.state, words(4, RUN), 0)).toEqual({ result: 'EIO', code: 4n });
  });

  test('checks the id, the architecture, the operation, that it is bound, the length', () => {
    const asking = new Asking(teeIo, false);
    const info = words(4, REPORT);
    const at = (op: number, more: object = {}): unknown => operation(asking, op, info, 4, more).result;
    expect([at(9, { id: 99, arch: 0 }), at(7, { arch: 0 }), at(7, { arch: 4 }), at(0), at(8), at(7)]).toEqual([
      ...['ENOENT', 'EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'ENXIO'],
    ]);
    expect([at(3, { arch: 1 }), at(3)]).toEqual(['EINVAL', 'ENXIO']);
    asking.scene.op(BIND);
    const short = (op: number, length: number, room = 0): unknown => operation(asking, op, new Uint8Array(length), room).result;
    expect([short(1, 23), short(2, 5), short(3, 1), short(5, 12), short(6, 25), short(7, 3, 4), short(7, 4, 5)]).toEqual(
      Array(7).fill('EINVAL'),
    );
    const badNonce = join(words(4, 2, 0), words(8, 1, 8));
    expect(operation(asking, ops.v7.regen, badNonce, 0).result).toBe('EFAULT');
    expect(at(7, { size: 47 })).toBe('EINVAL');
  });

  test('an architecture is its vendor’s', () => {
    for (const [vendor, arch] of [
      ['cca', 1],
      ['sev', 2],
      ['tdx', 3],
    ] as const) {
      const asking = new Asking({ ...teeIo, vendor });
      const results = [1, 2, 3].map((each) => operation(asking, ops.v7.info, words(4, 0), 4, { arch: each }).result);
      expect(results).toEqual([1, 2, 3].map((each) => (each === arch ? 0 : 'EINVAL')));
    }
  });
});

describe('dialects', () => {
  test('the numbers are mainline’s where nobody asked for them', () => {
    const { scene } = new Asking();
    const veventq = words(4, 28, 0, 99, 1, 16, 0, 0, 0);
    expect([scene.iommu(0x3b93, veventq), scene.iommu(0x3b94, words(4, 48, 0, 99, 1, ...Array(8).fill(0)))]).toEqual([
      'ENOENT',
      'EINVAL',
    ]);
  });

  test('aik-v2: bind and guest requests of iommufd, the VM by its descriptor', () => {
    const asking = new Asking({ vendor: 'sev', dialects: ['aik-v2'] }, false);
    const { scene } = asking;
    const bind = ({
      viommu = scene.viommu,
      dev = scene.devId,
      vdevice = scene.vdevice,
      kvm = scene.guest!.fd,
      size = 24,
    } = {}): unknown => scene.iommu(0x3b93, words(4, size, viommu, dev, vdevice, kvm, 0));
    expect([
      bind({ viommu: 99 }),
      bind({ dev: 99 }),
      bind({ vdevice: 99 }),
      bind({ kvm: scene.iommufd }),
      bind({ size: 23 }),
    ]).toEqual([...['ENOENT', 'ENOENT', 'ENOENT', 'EBADF', 'EINVAL']]);
    const ask = (blob: Uint8Array, room: number): unknown => {
      const { at, length } = asking.put(blob);
      const arg = join(
        words(4, 44, scene.viommu, scene.devId, scene.vdevice),
        words(8, at, asking.response),
        words(4, room, length, 0),
      );
      return [scene.iommu(0x3b94, arg), word(arg, 40)];
    };
    expect(ask(words(4, OBJECT_SIZE, REPORT), 4)).toEqual(['ENXIO', 0]);
    expect([bind(), scene.state]).toEqual([0, 'LOCKED bound']);
    expect(ask(words(4, OBJECT_SIZE, REPORT), 4)).toEqual([0, 0]);
    expect(word(asking.got(4), 0)).toBeGreaterThan(0);
    scene.tdi.tdi.happens('bus-master-clear');
    expect(ask(words(4, SET_TDI_STATE, RUN), 0)).toEqual(['EIO', 4]);
    expect([scene.destroy(scene.vdevice), scene.state]).toEqual([0, 'UNLOCKED']);
  });

  test('xu-may25: the request as 0x94, ENOENT where it is not bound', () => {
    const asking = new Asking({ dialects: ['xu-may25'] }, false);
    const blob = words(4, OBJECT_SIZE, REPORT);
    expect(typed(asking, blob, 4, { request: 0x3b94 }).result).toBe('ENOENT');
    asking.scene.tsmBind();
    expect(typed(asking, blob, 4, { request: 0x3b94 })).toMatchObject({ result: 0, written: 4 });
    expect(typed(asking, blob, 4).result).toBe(0);
  });

  test('aneesh-may25: bind and unbind have a number each', () => {
    const { scene } = new Asking({ dialects: ['aneesh-may25'] }, false);
    const call = (request: number, id = scene.vdevice): unknown => scene.iommu(request, words(4, 8, id));
    expect([call(0x3b94, 99), call(0x3b94), scene.state, call(0x3b95), scene.state]).toEqual([
      ...['ENOENT', 0, 'LOCKED bound', 0, 'UNLOCKED'],
    ]);
  });

  test('noiommuGetPa: one number higher, and no TSM_MAP', () => {
    const asking = new Asking({ noiommuGetPa: true }, false);
    const { scene } = asking;
    expect([scene.op(BIND, scene.vdevice, { request: 0x3b96 }), scene.state]).toEqual([0, 'LOCKED bound']);
    expect(typed(asking, words(4, OBJECT_SIZE, REPORT), 4, { request: 0x3b97 }).result).toBe(0);
    expect(() => scene.op(UNBIND)).toThrow(/IOMMU_IOAS_NOIOMMU_GET_PA/);
  });

  test('two series that want one number are not spoken together', () => {
    expect(() => kernelOf({ dialects: ['aik-v2', 'xu-may25'] })).toThrow(/0x94/);
    expect(() => kernelOf({ dialects: ['xu-may25', 'aneesh-may25'] })).toThrow(/0x94/);
    expect(() => kernelOf({ dialects: ['aneesh-may25'], noiommuGetPa: true })).toThrow(/0x95/);
    expect(() => new Guest(kernelOf({ dialects: ['aik-v1', 'aik-v2'], vendor: 'sev' }))).not.toThrow();
  });
});
