// Whatever is called in whatever order on two devices, two iommufds and two VMs: nothing but errnos, one unbind per bind, nothing left at the end.
import { expect, test } from 'vitest';
import type { TeeIo } from '../../../src/sim/hardware/tsm/switches.ts';
import type { TdiContext } from '../../../src/sim/hardware/tsm/tdi-context.ts';
import type { SimKernel } from '../../../src/sim/index.ts';
import * as u from '../../../src/uapi/index.ts';
import { ACCELERATOR, answer, BIND, Guest, join, kernelOf, OTHER, Scene, UNBIND, words } from './scene.ts';

const SEED = 20261130;
const RUNS = 40;
const STEPS = 40;

/** xorshift32. */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
}

const pick = <T>(next: (below: number) => number, all: readonly T[]): T => all[next(all.length)]!;

function switchesOf(next: (below: number) => number): Partial<TeeIo> {
  return {
    vendor: pick(next, ['sim', 'tdx', 'sev', 'cca']),
    whileBound: pick(next, ['auto-unbind', 'block', 'error']),
    bindRefPolicy: pick(next, ['an', 'xm']),
    hostMmio: pick(next, ['error', 'reject']),
    tsmOpErrno: pick(next, ['v5', 'v1']),
  };
}

interface World {
  readonly kernel: SimKernel;
  readonly guests: Guest[];
  readonly scenes: (Scene | undefined)[];
  readonly descriptors: Set<number>;
}

const BDFS = [ACCELERATOR, OTHER];
const dmaBufOf = (scene: Scene): unknown =>
  scene.feature(
    u.VFIO_DEVICE_FEATURE_GET | u.VFIO_DEVICE_FEATURE_DMA_BUF,
    new Uint8Array(new Uint32Array([2, 2, 0, 1, 0, 0, 0x1000, 0]).buffer),
  );

type Step = (world: World, scene: Scene, next: (below: number) => number) => unknown;

const steps: Readonly<Record<string, Step>> = {
  tsmBind: (_w, scene) => scene.tsmBind(),
  tsmUnbind: (_w, scene) => scene.tsmUnbind(),
  opBind: (_w, scene) => scene.op(BIND),
  opUnbind: (_w, scene) => scene.op(UNBIND),
  run: (_w, scene) => scene.tdi.request({ op: 'set-tdi-state', state: 2 }),
  lock: (_w, scene) => scene.tdi.request({ op: 'set-tdi-state', state: 1 }),
  unlock: (_w, scene) => scene.tdi.request({ op: 'set-tdi-state', state: 0 }),
  event: (_w, scene) => scene.tdi.tdi.happens('bus-master-clear'),
  connection: (_w, scene) => {
    scene.tdi.connected = !scene.tdi.connected;
  },
  vdevice: (_w, scene) => scene.vdeviceAlloc(),
  viommu: (_w, scene) => scene.viommuAlloc(),
  viommuOfVm: ({ guests }, scene, next) => scene.viommuAlloc({ flags: 1, kvm: pick(next, guests).fd }),
  destroyVdevice: (_w, scene) => scene.destroy(scene.vdevice),
  destroyViommu: (_w, scene) => scene.destroy(scene.viommu),
  fileAdd: ({ guests }, scene, next) => pick(next, guests).file(u.KVM_DEV_VFIO_FILE_ADD, scene.fd),
  fileDel: ({ guests }, scene, next) => pick(next, guests).file(u.KVM_DEV_VFIO_FILE_DEL, scene.fd),
  memory: (_w, scene, next) => scene.setConfig(4, pick(next, ['0000', '0200', '0600', '0400'])),
  power: (_w, scene, next) => scene.setConfig(0x44, pick(next, ['0000', '0300'])),
  reset: (_w, scene) => scene.call(u.VFIO_DEVICE_RESET),
  hotReset: (_w, scene) => scene.call(u.VFIO_DEVICE_PCI_HOT_RESET, words(4, 12, 0, 0)),
  lowPower: (_w, scene, next) => {
    const feature = pick(next, [u.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, u.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT]);
    return scene.feature(u.VFIO_DEVICE_FEATURE_SET | feature);
  },
  readBar: (_w, scene) => scene.read(2n << 40n, 4),
  mapBar: ({ kernel }, scene) =>
    answer(() => {
      using bar = kernel.mmap({ fd: scene.fd, length: 4096, offset: 2n << 40n, flags: u.MAP_SHARED, view: false });
      return bar.read32(0);
    }),
  exclusive: (_w, scene, next) => scene.iommu(u.IOMMU_OPTION, join(words(4, 24, 2, 0, scene.devId), words(8, next(2)))),
  slot: ({ kernel, guests, descriptors }, scene, next) => {
    const fd = dmaBufOf(scene);
    if (typeof fd !== 'number') return fd;
    descriptors.add(fd);
    const region = u.kvm_userspace_memory_region2.alloc();
    Object.assign(u.kvm_userspace_memory_region2.view(region), {
      ...{ slot: 5 + next(2), flags: 8, guest_phys_addr: 0x8000_0000n, memory_size: 0x1000n, guest_memfd: fd },
    });
    return answer(() => kernel.ioctl(pick(next, guests).fd, u.KVM_SET_USER_MEMORY_REGION2, region));
  },
  noSlot: ({ kernel, guests }, _scene, next) => {
    const region = u.kvm_userspace_memory_region2.alloc();
    u.kvm_userspace_memory_region2.view(region).slot = 5 + next(2);
    return answer(() => kernel.ioctl(pick(next, guests).fd, u.KVM_SET_USER_MEMORY_REGION2, region));
  },
  reopen: (world, scene, next) => {
    const at = world.scenes.indexOf(scene);
    for (const guest of world.guests) guest.file(u.KVM_DEV_VFIO_FILE_DEL, scene.fd);
    world.kernel.close(scene.fd);
    world.kernel.close(scene.iommufd);
    world.scenes[at] = new Scene({ kernel: world.kernel, guest: pick(next, world.guests), bdf: BDFS[at]! });
  },
};

function tdisOf({ kernel }: World): TdiContext[] {
  return [...kernel.process.system.tsm!.tdis];
}

function check(world: World): void {
  for (const tdi of tdisOf(world)) {
    if (tdi.binding === undefined) continue;
    const { kvm } = tdi.binding;
    expect(kvm.tdis.has(tdi.binding)).toBe(true);
    expect((kvm as Guest['vm']).alive).toBe(true);
  }
}

function play(seed: number): void {
  const next = random(seed);
  const kernel = kernelOf(switchesOf(next));
  const guests = [new Guest(kernel), new Guest(kernel)];
  const vms = guests.map(({ vm }) => vm);
  const scenes = BDFS.map((bdf) => new Scene({ kernel, guest: pick(next, guests), bdf }));
  const world: World = { kernel, guests, scenes, descriptors: new Set() };
  for (let step = 0; step < STEPS; step++) {
    const name = pick(next, Object.keys(steps));
    steps[name]!(world, world.scenes[next(2)]!, next);
    check(world);
  }
  const open = [
    ...guests.flatMap(({ fd, vfio }) => [fd, vfio]),
    ...world.scenes.flatMap((scene) => [scene!.fd, scene!.iommufd]),
    ...world.descriptors,
  ];
  while (open.length > 0) {
    const [fd] = open.splice(next(open.length), 1);
    kernel.close(fd!);
    check(world);
  }
  expect(tdisOf(world).map(({ binding, tdi }) => [binding, tdi.state])).toEqual([
    [undefined, 0],
    [undefined, 0],
  ]);
  expect(vms.map(({ tdis }) => tdis.size)).toEqual([0, 0]);
  kernel.close();
}

test('random calls leave nothing behind', () => {
  for (let run = 0; run < RUNS; run++) {
    try {
      play(SEED + run);
    } catch (error) {
      throw new Error(`seed ${SEED + run}`, { cause: error });
    }
  }
}, 60_000);
