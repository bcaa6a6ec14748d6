// An assigned device's BAR in a memslot: what the guest reaches in each state of the TDI, and who hears of a mapping that goes.
import { describe, expect, test } from 'vitest';
import type { GuestAgent, TeeIo } from '../../../src/sim/index.ts';
import * as u from '../../../src/uapi/index.ts';
import { O_CLOEXEC, O_RDWR } from '../../../src/uapi/sys.ts';
import { answer, Guest, join, Scene, words } from './scene.ts';

const { KVM_MEM_VFIO_DMABUF } = u.teeIo.xuMay25;
const GPA = 0xe000_0000n;
const SIZE = 0x10000n;
const PRIVATE = u.KVM_MEMORY_ATTRIBUTE_PRIVATE;
const ONES = 0xffff_ffff;
const COMMAND = 4;

/** A scene whose guest has BAR 2, the accelerator's memory, at GPA. */
class Mapped extends Scene {
  readonly dmaBuf: number;
  readonly vcpu: number;

  constructor(teeIo: Partial<TeeIo> = {}) {
    super({ teeIo });
    const get = u.VFIO_DEVICE_FEATURE_GET | u.VFIO_DEVICE_FEATURE_DMA_BUF;
    this.dmaBuf = this.feature(get, join(words(4, 2, O_RDWR | O_CLOEXEC, 0, 1), words(8, 0, Number(SIZE)))) as number;
    expect(this.slot(SIZE)).toBe(0);
    this.vcpu = this.kernel.ioctl(this.guest!.fd, u.KVM_CREATE_VCPU, 0);
  }

  slot(memory_size: bigint): unknown {
    const region = { slot: 9, flags: KVM_MEM_VFIO_DMABUF, guest_phys_addr: GPA, memory_size, userspace_addr: 0n };
    const bytes = u.kvm_userspace_memory_region2.encode({ ...region, guest_memfd_offset: 0n, guest_memfd: this.dmaBuf });
    return answer(() => this.kernel.ioctl(this.guest!.fd, u.KVM_SET_USER_MEMORY_REGION2, bytes));
  }

  setPrivate(on: boolean, size = SIZE): unknown {
    const bytes = u.kvm_memory_attributes.encode({ address: GPA, size, attributes: on ? PRIVATE : 0n, flags: 0n });
    return answer(() => this.kernel.ioctl(this.guest!.fd, u.KVM_SET_MEMORY_ATTRIBUTES, bytes));
  }

  /** KVM_RUN of a guest that does so, and what came of it. */
  does(agent: GuestAgent): unknown {
    this.kernel.agent(this.vcpu, agent);
    return answer(() => this.kernel.ioctl(this.vcpu, u.KVM_RUN, 0));
  }

  /** What the guest reads at GPA, or how KVM_RUN ends. */
  load(): unknown {
    let value = 0;
    const result = this.does(function* (guest) {
      value = yield* guest.readMmio(GPA, 4);
    });
    return result === 0 ? value : result;
  }

  store(value: number): unknown {
    return this.does(function* (guest) {
      yield* guest.writeMmio(GPA, 4, value);
    });
  }

  /** Locked, private, accepted, RUN. */
  run(): this {
    expect(this.tsmBind()).toBe(0);
    this.setPrivate(true);
    const [range] = this.tdi.reportedMmio.filter(({ rangeId }) => rangeId === 2);
    const accepted = this.tdi.request({
      op: 'validate-mmio',
      gpaBase: GPA,
      gpaTop: GPA + SIZE,
      paBase: range!.firstPage * 4096n,
    });
    const running = this.tdi.request({ op: 'set-tdi-state', state: 2 });
    expect([accepted.errno, running.errno, this.state]).toEqual([0, 0, 'RUN bound']);
    return this;
  }
}

describe('private MMIO', () => {
  test('unlocked it is an ordinary BAR; locked it serves nobody; in RUN it serves the guest, and the host not', () => {
    const scene = new Mapped({ hostMmio: 'reject' });
    expect([scene.store(0x1234), scene.load()]).toEqual([0, 0x1234]);
    scene.run();
    expect([scene.load(), scene.store(0x5678), scene.load()]).toEqual([0x1234, 0, 0x5678]);
    scene.setPrivate(false);
    expect([scene.load(), scene.state, scene.tdi.counters.rejectedAccesses]).toEqual([ONES, 'RUN bound', 1]);
    scene.setPrivate(true);
    expect(scene.load()).toBe(0x5678);
  });

  test("an access without T ends it: hostMmio 'error'", () => {
    const scene = new Mapped().run();
    scene.setPrivate(false);
    expect([scene.load(), scene.state]).toEqual([ONES, 'ERROR bound']);
    scene.setPrivate(true);
    expect([scene.load(), scene.tsmUnbind(), scene.state]).toEqual([ONES, 0, 'UNLOCKED']);
  });

  test('without memory decode: EIO, whatever the frame is', () => {
    const scene = new Mapped();
    scene.setConfig(COMMAND, '0000');
    expect([scene.load(), scene.setPrivate(true), scene.load()]).toEqual(['EIO', 0, 'EIO']);
    scene.setConfig(COMMAND, '0200');
    expect(scene.load()).toBe(ONES);
    scene.setPrivate(false);
    expect(scene.load()).toBe(0);
  });

  test('BIND takes the BAR from everybody for a moment: the guest faults it in anew', () => {
    const scene = new Mapped();
    const { vm } = scene.guest!;
    const before = vm.zapped;
    scene.tsmBind();
    expect(vm.zapped - before).toBe(2);
  });

  test('the last close of the device: the slot stays, dead', () => {
    const scene = new Mapped().run();
    scene.guest!.file(u.KVM_DEV_VFIO_FILE_DEL, scene.fd);
    const { tdi } = scene;
    scene.kernel.close(scene.fd);
    expect([scene.load(), tdi.tdi.state, tdi.binding]).toEqual(['EIO', 0, undefined]);
    expect(scene.slot(0n)).toBe(0);
  });
});

test('another VM with the same dma-buf: its private frames are not mapped to a device that is bound to the first', () => {
  const scene = new Mapped({ hostMmio: 'reject' });
  const { kernel, guest: owner, vcpu } = scene;
  scene.store(0x1234);
  const other = new Guest(kernel);
  const as = (who: Guest, cpu: number): Mapped => Object.create(scene, { guest: { value: who }, vcpu: { value: cpu } }) as Mapped;
  const stranger = as(other, kernel.ioctl(other.fd, u.KVM_CREATE_VCPU, 0));
  expect(Mapped.prototype.slot.call(stranger, SIZE)).toBe(0);
  stranger.setPrivate(true);
  scene.run();
  const { rejectedAccesses } = scene.tdi.counters;
  expect([stranger.load(), stranger.store(0x5678), scene.tdi.counters.rejectedAccesses]).toEqual([
    'EIO',
    'EIO',
    rejectedAccesses,
  ]);
  expect([as(owner!, vcpu).load(), scene.state]).toEqual([0x1234, 'RUN bound']);
  scene.tsmUnbind();
  stranger.setPrivate(false);
  expect([stranger.store(0x9abc), stranger.load()]).toEqual([0, 0x9abc]);
});

describe('KVM takes the mapping away while the TDI is bound', () => {
  /** And how much of it is left. */
  const ways: readonly (readonly [string, (scene: Mapped) => unknown, bigint])[] = [
    ['the slot is deleted', (scene) => scene.slot(0n), 0n],
    ['frames are made shared', (scene) => scene.setPrivate(false, 0x1000n), SIZE - 0x1000n],
  ];

  test.each(ways)('%s: the guest finds it gone', (_name, take, left) => {
    const scene = new Mapped().run();
    const accepted = (): bigint => scene.tdi.accepted.reduce((sum, { gpaBase, gpaTop }) => sum + gpaTop - gpaBase, 0n);
    expect(accepted()).toBe(SIZE);
    expect([take(scene), accepted(), scene.state]).toEqual([0, left, 'RUN bound']);
  });

  test.each(ways)("%s: TDX's firmware refuses, and the VM is dead", (_name, take) => {
    const scene = new Mapped({ vendor: 'tdx' }).run();
    expect(take(scene)).toBe(0);
    expect([scene.load(), scene.setPrivate(true), scene.slot(SIZE), scene.guest!.vm.dead]).toEqual(['EIO', 'EIO', 'EIO', true]);
    expect([scene.tsmUnbind(), scene.state]).toEqual([0, 'UNLOCKED']);
  });

  test.each(ways)('%s after UNBIND: nobody minds', (_name, take) => {
    const scene = new Mapped({ vendor: 'tdx' }).run();
    scene.tsmUnbind();
    expect([take(scene), scene.guest!.vm.dead]).toEqual([0, false]);
  });

  test('shared frames may go at any time, and so may those of a device that is not bound', () => {
    const scene = new Mapped({ vendor: 'tdx' });
    scene.setPrivate(true);
    scene.setPrivate(false);
    scene.tsmBind();
    expect([scene.setPrivate(false), scene.slot(0n), scene.guest!.vm.dead]).toEqual([0, 0, false]);
  });

  test("memory decode is switched off, whileBound 'error': TDX cannot unmap", () => {
    const scene = new Mapped({ vendor: 'tdx', whileBound: 'error' }).run();
    scene.setConfig(COMMAND, '0400');
    expect([scene.guest!.vm.dead, scene.load()]).toEqual([true, 'EIO']);
  });

  test('memory decode is switched off: unbound first, and unmapped then', () => {
    const scene = new Mapped({ vendor: 'tdx' }).run();
    scene.setConfig(COMMAND, '0400');
    expect([scene.state, scene.guest!.vm.dead, scene.load()]).toEqual(['UNLOCKED', false, 'EIO']);
  });
});

describe('SEV-TIO v1: KVM passes requests on', () => {
  test('it leaves while the TDI is not bound, then makes MMIO private and asks the TSM', () => {
    const scene = new Mapped({ vendor: 'sev', dialects: ['aik-v1'] });
    const rets: unknown[] = [];
    const guest_rid = 0x10;
    const agent: GuestAgent = function* (guest) {
      rets.push((yield* guest.vmgexit({ guest_rid }, { op: 'object-info', object: 3 })).response?.response.length);
      const { ret } = yield* guest.vmgexit(
        { guest_rid },
        { op: 'validate-mmio', gpaBase: GPA, gpaTop: GPA + SIZE, paBase: pa() },
      );
      const running = yield* guest.vmgexit({ guest_rid }, { op: 'set-tdi-state', state: 2 });
      rets.push(ret, running.ret, yield* guest.readMmio(GPA, 4, { private: true }));
    };
    const pa = (): bigint => scene.tdi.reportedMmio.find(({ rangeId }) => rangeId === 2)!.firstPage * 4096n;
    const run = scene.kernel.mmap({ length: 4096, fd: scene.vcpu });
    scene.kernel.agent(scene.vcpu, agent);
    const step = (): unknown => [
      answer(() => scene.kernel.ioctl(scene.vcpu, u.KVM_RUN, 0)),
      run.read32(u.kvm_run.offsetOf('exit_reason')),
    ];
    expect(step()).toEqual([0, u.teeIo.aikV1.KVM_EXIT_VMGEXIT]);
    expect(scene.tsmBind()).toBe(0);
    expect(step()).toEqual([0, u.KVM_EXIT_SHUTDOWN]);
    expect([rets, scene.state]).toEqual([[4, 0, 0, 0], 'RUN bound']);
  });
});
