// Who holds whom, and what is left in which order: VFIO's descriptor (V), iommufd's (I), the VM's (K), that of KVM-VFIO (D), a dma-buf's (B).
import { describe, expect, test } from 'vitest';
import type { DmaBufFile } from '../../../src/sim/dma-buf.ts';
import type { TdiContext } from '../../../src/sim/hardware/tsm/tdi-context.ts';
import type { VmFile } from '../../../src/sim/kvm/vm.ts';
import * as u from '../../../src/uapi/index.ts';
import { answer, BIND, Scene, word, words } from './scene.ts';

const GPA = 0x8000_0000n;
const BAR = 2;
const LENGTH = 0x1000;

type Descriptor = 'V' | 'I' | 'K' | 'D' | 'B';

/** What one can see of it all, from outside of every descriptor. */
interface Left {
  readonly bound: boolean;
  readonly state: string;
  readonly vm: 'alive' | 'gone';
  readonly iommufd: 'open' | 'released';
}

class Stage {
  readonly scene: Scene;
  readonly tdi: TdiContext;
  readonly vm: VmFile['vm'];
  readonly dmaBuf: DmaBufFile;
  readonly fds: Readonly<Record<Descriptor, number>>;
  readonly #iommufd;
  /** What happened, in order. */
  readonly log: string[] = [];

  constructor(options: { bind: 'vfio' | 'iommufd'; kvmFd?: boolean; state?: 'LOCKED' | 'RUN' | 'ERROR'; whose?: 'xm' | 'an' }) {
    const scene = new Scene({ teeIo: { bindRefPolicy: options.whose ?? 'an' } });
    this.scene = scene;
    this.tdi = scene.tdi;
    this.vm = scene.guest!.vm;
    if (options.kvmFd) {
      scene.destroy(scene.vdevice);
      scene.viommuAlloc({ flags: 1, kvm: scene.guest!.fd });
      scene.vdeviceAlloc();
    }
    const data = new Uint8Array(new Uint32Array([BAR, 2, 0, 1, 0, 0, LENGTH, 0]).buffer);
    const b = scene.feature(u.VFIO_DEVICE_FEATURE_GET | u.VFIO_DEVICE_FEATURE_DMA_BUF, data) as number;
    this.dmaBuf = scene.kernel.process.fds.get(b) as DmaBufFile;
    expect(this.#slot(b)).toBe(0);
    expect(options.bind === 'vfio' ? scene.tsmBind() : scene.op(BIND)).toBe(0);
    if (options.state !== 'LOCKED' && options.state !== undefined) {
      expect(this.tdi.request({ op: 'set-tdi-state', state: 2 }).errno).toBe(0);
      if (options.state === 'ERROR') this.tdi.tdi.happens('bus-master-clear');
    }
    this.fds = { V: scene.fd, I: scene.iommufd, K: scene.guest!.fd, D: scene.guest!.vfio, B: b };
    this.#iommufd = scene.kernel.process.fds.get(scene.iommufd)!;
    const [binding] = this.vm.tdis;
    const { revoke, ended } = binding!;
    Object.assign(binding!, {
      revoke: () => {
        this.log.push('revoke');
        revoke.call(binding);
      },
      ended: () => {
        this.log.push(this.vm.alive ? 'unbound' : 'unbound too late');
        ended.call(binding);
      },
    });
  }

  #slot(fd: number, size = BigInt(LENGTH)): unknown {
    const region = u.kvm_userspace_memory_region2.alloc();
    const view = u.kvm_userspace_memory_region2.view(region);
    view.slot = 5;
    view.flags = u.teeIo.xuJan25.KVM_MEM_VFIO_DMABUF;
    view.guest_phys_addr = GPA;
    view.memory_size = size;
    view.guest_memfd = fd;
    return answer(() => this.scene.kernel.ioctl(this.scene.guest!.fd, u.KVM_SET_USER_MEMORY_REGION2, region));
  }

  close(which: Descriptor): Left {
    this.scene.kernel.close(this.fds[which]);
    return this.left;
  }

  get left(): Left {
    return {
      bound: this.tdi.binding !== undefined,
      state: ['UNLOCKED', 'LOCKED', 'RUN', 'ERROR'][this.tdi.tdi.state]!,
      vm: this.vm.alive ? 'alive' : 'gone',
      iommufd: this.#iommufd.references > 0 ? 'open' : 'released',
    };
  }

  /** The slot’s page, as KVM would find it. */
  get page(): unknown {
    const place = this.dmaBuf.exporter.place!(0);
    return typeof place === 'number' ? place : 'there';
  }
}

const orders: readonly (readonly Descriptor[])[] = ['VIK', 'VKI', 'IVK', 'IKV', 'KVI', 'KIV'].map(
  (order) => [...order] as Descriptor[],
);
const states = ['LOCKED', 'RUN', 'ERROR'] as const;
const doors = ['vfio', 'iommufd'] as const;

describe.each(doors)('bound by %s, KVM-VFIO closed', (bind) => {
  test.each(orders.flatMap((order) => states.map((state) => ({ order, state }))))('$order, in $state', ({ order, state }) => {
    const stage = new Stage({ bind, state });
    stage.close('D');
    stage.close('B');
    const seen: Left[] = [];
    const closed = new Set<Descriptor>();
    for (const which of order) {
      const left = stage.close(which);
      closed.add(which);
      const gone = closed.has('V');
      expect(left).toEqual({
        bound: !gone,
        state: gone ? 'UNLOCKED' : state,
        vm: gone && closed.has('K') ? 'gone' : 'alive',
        iommufd: gone && closed.has('I') ? 'released' : 'open',
      });
      if (gone) expect(stage.page).toBe(-u.ENODEV);
      seen.push(left);
    }
    expect(stage.log.filter((one) => one.startsWith('unbound'))).toEqual(['unbound']);
    expect([seen.at(-1), stage.vm.tdis.size, stage.dmaBuf.references]).toEqual([
      ...[{ bound: false, state: 'UNLOCKED', vm: 'gone', iommufd: 'released' }, 0, 0],
    ]);
  });

  test.each(orders)('%s %s %s with KVM-VFIO open: nothing goes before that is closed', (...order) => {
    const stage = new Stage({ bind, state: 'RUN' });
    for (const which of order)
      expect(stage.close(which)).toMatchObject({ bound: true, state: 'RUN', vm: 'alive', iommufd: 'open' });
    stage.close('B');
    expect(stage.close('D')).toEqual({ bound: false, state: 'UNLOCKED', vm: 'gone', iommufd: 'released' });
    expect([stage.log.filter((one) => one.startsWith('unbound')), stage.dmaBuf.references]).toEqual([['unbound'], 0]);
  });
});

describe('with the VM in the vIOMMU', () => {
  test.each(orders)('%s %s %s: it is held until iommufd’s objects go', (...order) => {
    const stage = new Stage({ bind: 'iommufd', kvmFd: true });
    stage.close('D');
    stage.close('B');
    const closed = new Set<Descriptor>();
    for (const which of order) {
      const left = stage.close(which);
      closed.add(which);
      const gone = closed.has('V');
      const released = gone && closed.has('I');
      expect(left).toMatchObject({
        bound: !gone,
        iommufd: released ? 'released' : 'open',
        vm: released && closed.has('K') ? 'gone' : 'alive',
      });
    }
  });
});

describe('closing the device', () => {
  test('unbinds, lets go of the BARs, revokes the dma-bufs for good, tombstones the vDEVICE: in this order', () => {
    const stage = new Stage({ bind: 'vfio', state: 'RUN' });
    stage.close('D');
    const { scene } = stage;
    stage.dmaBuf.attach({ allowPeer2Peer: true, byPage: true, moveNotify: () => stage.log.push(`moved: ${stage.page}`) });
    stage.log.length = 0;
    stage.close('V');
    expect(stage.log).toEqual(['revoke', `moved: ${-u.ENODEV}`, 'moved: there', 'unbound', `moved: ${-u.ENODEV}`]);
    expect([scene.destroy(scene.vdevice), scene.destroy(scene.devId), scene.destroy(scene.viommu)]).toEqual([
      'ENOENT',
      'ENOENT',
      0,
    ]);
  });

  test('the same where the vDEVICE must not be destroyed while it is bound', () => {
    const stage = new Stage({ bind: 'vfio', whose: 'xm' });
    stage.close('D');
    expect(stage.close('V')).toMatchObject({ bound: false, state: 'UNLOCKED' });
    expect([stage.scene.destroy(stage.scene.vdevice), stage.scene.destroy(stage.scene.viommu)]).toEqual(['ENOENT', 0]);
  });

  test('it is an ordinary device again, for whoever opens it next', () => {
    const stage = new Stage({ bind: 'vfio', state: 'ERROR' });
    const { kernel } = stage.scene;
    for (const which of ['V', 'D', 'I', 'K'] as const) stage.close(which);
    const again = new Scene({ kernel });
    expect([typeof again.read(BigInt(BAR) << 40n, 4), again.state]).toEqual(['string', 'UNLOCKED']);
    again.close();
  });
});

describe('single objects of a bound TDI', () => {
  test('KVM_DEV_VFIO_FILE_DEL does not touch it', () => {
    const stage = new Stage({ bind: 'vfio', state: 'RUN' });
    expect(stage.scene.guest!.file(u.KVM_DEV_VFIO_FILE_DEL, stage.scene.fd)).toBe(0);
    expect([stage.left.bound, stage.left.state, stage.scene.tsmUnbind()]).toEqual([true, 'RUN', 0]);
  });

  test('DETACH_IOMMUFD_PT does not touch it', () => {
    const stage = new Stage({ bind: 'vfio', state: 'RUN' });
    expect(stage.scene.call(u.VFIO_DEVICE_DETACH_IOMMUFD_PT, words(4, 8, 0))).toBe(0);
    expect(stage.left).toMatchObject({ bound: true, state: 'RUN' });
  });

  test('one dma-buf descriptor less is nothing: the slot has it', () => {
    const stage = new Stage({ bind: 'vfio' });
    stage.close('B');
    expect([stage.left.bound, stage.page]).toEqual([true, 'there']);
  });

  test('a second device of the VM is bound and unbound for itself', () => {
    const stage = new Stage({ bind: 'vfio' });
    const { guest, kernel } = stage.scene;
    const other = new Scene({ kernel, guest: guest!, bdf: '0000:02:00.0' });
    expect([other.op(BIND), stage.vm.tdis.size]).toEqual([0, 2]);
    stage.scene.tsmUnbind();
    expect([stage.vm.tdis.size, other.state]).toEqual([1, 'LOCKED bound']);
  });

  test('disconnecting the device ends it; the next bind is refused until it is connected', () => {
    const stage = new Stage({ bind: 'vfio', state: 'RUN' });
    stage.tdi.connected = false;
    expect([stage.left.bound, stage.left.state, stage.scene.tsmBind()]).toEqual([false, 'UNLOCKED', 'EINVAL']);
    expect(typeof stage.scene.read(BigInt(BAR) << 40n, 4)).toBe('string');
  });
});

test('an iommufd id of a closed device is not given out again', () => {
  const stage = new Stage({ bind: 'iommufd' });
  const { scene } = stage;
  stage.close('D');
  stage.close('V');
  const ioas = words(4, 12, 0, 0);
  const ids = Array.from({ length: 8 }, () => {
    scene.iommu(u.IOMMU_IOAS_ALLOC, ioas);
    return word(ioas, 8);
  });
  expect(ids.includes(scene.vdevice)).toBe(false);
});
