// The KVM-VFIO device as it was posted in 2013, and as SEV-TIO v1 extended it, beside mainline's attributes.
import { describe, expect, test } from 'vitest';
import { openSim, type TeeIo } from '../../../src/sim/index.ts';
import { machineOf } from '../../../src/sim/profiles.ts';
import * as u from '../../../src/uapi/index.ts';
import { O_RDWR } from '../../../src/uapi/sys.ts';
import { bind } from '../vfio/pci/kit.ts';
import { ACCELERATOR, answer, Guest, kernelOf, Scene } from './scene.ts';

const { KVM_DEV_VFIO_ADD_GROUP: ADD_GROUP, KVM_DEV_VFIO_DEL_GROUP: DEL_GROUP } = u.teeIo.kvmVfio2013;
const {
  KVM_DEV_VFIO_DEVICE: DEVICE,
  KVM_DEV_VFIO_DEVICE_TDI_BIND: TDI_BIND,
  KVM_DEV_VFIO_DEVICE_TDI_UNBIND: TDI_UNBIND,
} = u.teeIo.aikV1;

/** KVM_SET_DEVICE_ATTR, or KVM_HAS_DEVICE_ATTR. */
function attr(
  guest: Guest,
  group: number,
  attr: number | bigint,
  addr: bigint | number,
  request: number = u.KVM_SET_DEVICE_ATTR,
): unknown {
  const bytes = u.kvm_device_attr.encode({ flags: 0, group, attr: BigInt(attr), addr: BigInt.asUintN(64, BigInt(addr)) });
  return answer(() => guest.kernel.ioctl(guest.vfio, request, bytes, { unsafe: true }));
}

const has = (guest: Guest, ...which: readonly (readonly [group: number, attr: number])[]): unknown[] =>
  which.map(([group, number]) => attr(guest, group, number, 0, u.KVM_HAS_DEVICE_ATTR));

function groupOf(guest: Guest, bdf: string = ACCELERATOR): number {
  bind(guest.kernel, bdf);
  const link = guest.kernel.readlink(`/sys/bus/pci/devices/${bdf}/iommu_group`);
  return guest.kernel.open(`/dev/vfio/${link.slice(link.lastIndexOf('/') + 1)}`, O_RDWR);
}

describe('ADD_GROUP, DEL_GROUP', () => {
  test('are groups with the descriptor in addr; a VFIO group, once, until it is deleted', () => {
    const guest = new Guest(kernelOf());
    const group = groupOf(guest);
    const notVfio = guest.kernel.memfd('x');
    expect(attr(guest, ADD_GROUP, 0, group)).toBe(0);
    expect(attr(guest, ADD_GROUP, 0, group)).toBe('EEXIST');
    expect(attr(guest, ADD_GROUP, 0, 999)).toBe('EBADF');
    expect(attr(guest, ADD_GROUP, 0, -1)).toBe('EBADF');
    expect(attr(guest, ADD_GROUP, 0, notVfio)).toBe('EINVAL');
    expect(attr(guest, DEL_GROUP, 0, notVfio)).toBe('ENOENT');
    expect(attr(guest, DEL_GROUP, 0, 999)).toBe('EBADF');
    expect(attr(guest, DEL_GROUP, 0, group)).toBe(0);
    expect(attr(guest, DEL_GROUP, 0, group)).toBe('ENOENT');
  });

  test("a VFIO device's own file is no group; mainline's attributes are beside them, and list the same files", () => {
    const scene = new Scene({ fileAdd: false });
    const guest = scene.guest!;
    expect(attr(guest, ADD_GROUP, 0, scene.fd)).toBe('EINVAL');
    expect(guest.file(u.KVM_DEV_VFIO_FILE_ADD, scene.fd)).toBe(0);
    expect(attr(guest, DEL_GROUP, 0, scene.fd)).toBe(0);
    expect(guest.file(u.KVM_DEV_VFIO_FILE_DEL, scene.fd)).toBe('ENOENT');
  });

  test('the close of the device fd gives the group back, and its DMA decides about WBINVD meanwhile', () => {
    for (const enforceCoherency of [true, false]) {
      const machine = machineOf('tee-io-7.2');
      const kernel = openSim({ machine: { ...machine, iommu: { ...machine.iommu!, enforceCoherency } } });
      const guest = new Guest(kernel);
      const group = groupOf(guest);
      const file = kernel.process.fds.get(group)!;
      const { vm } = guest;
      attr(guest, ADD_GROUP, 0, group);
      expect([file.references, vm.noncoherentDma]).toEqual([2, enforceCoherency ? 0 : 1]);
      kernel.process.fds.close(guest.vfio);
      expect([file.references, vm.noncoherentDma]).toEqual([1, 0]);
    }
  });

  test('kvmVfioDialect decides who is known', () => {
    const which = [
      [1, 0],
      [1, 1],
      [1, 2],
      [1, 3],
      [2, 0],
      [2, 1],
      [3, 0],
    ] as const;
    const known = (switches: Partial<TeeIo>): unknown[] => has(new Guest(kernelOf(switches)), ...which);
    const X = 'ENXIO';
    expect(known({})).toEqual([0, 0, 0, X, 0, X, X]);
    expect(known({ kvmVfioDialect: 'mainline' })).toEqual([X, 0, 0, X, X, X, X]);
    expect(known({ kvmVfioDialect: '2013' })).toEqual([0, 0, 0, 0, 0, 0, X]);
    expect(known({ dialects: ['aik-v1'] })).toEqual([0, 0, 0, X, 0, 0, X]);
    expect(has(new Guest(kernelOf('off')), ...which)).toEqual([X, 0, 0, X, X, X, X]);
    const guest = new Guest(kernelOf({ kvmVfioDialect: '2013' }));
    expect(attr(guest, ADD_GROUP, 77n, groupOf(guest))).toBe(0);
  });
});

describe('TDI_BIND, TDI_UNBIND', () => {
  function sceneOf(teeIo: Partial<TeeIo> = {}): { scene: Scene; guest: Guest; tdi: (which: number, devfd?: number) => unknown } {
    const scene = new Scene({ teeIo: { vendor: 'sev', dialects: ['aik-v1'], ...teeIo } });
    const guest = scene.guest!;
    const memory = scene.kernel.guestRam(4096);
    const tdi = (which: number, devfd = scene.fd): unknown => {
      memory.write(0, u.teeIo.aikV1.kvm_vfio_tsm_bind.encode({ guest_rid: 0x10, devfd }));
      return attr(guest, DEVICE, which, memory.address);
    };
    return { scene, guest, tdi };
  }

  test('bind and lock, keep the file, unbind', () => {
    const { scene, guest, tdi } = sceneOf();
    const file = scene.kernel.process.fds.get(scene.fd)!;
    const before = file.references;
    expect(tdi(TDI_UNBIND)).toBe('ENOENT');
    expect([tdi(TDI_BIND), scene.state, file.references]).toEqual([0, 'LOCKED bound', before + 1]);
    expect([...guest.vm.tdis].map(({ door, virtId }) => [door, virtId])).toEqual([['kvm-vfio', 0x10n]]);
    expect([tdi(TDI_BIND), file.references]).toEqual([0, before + 1]);
    expect([tdi(TDI_UNBIND), scene.state, file.references]).toEqual([0, 'UNLOCKED', before]);
  });

  test('refusals in their order', () => {
    const { scene, guest, tdi } = sceneOf();
    expect(attr(guest, DEVICE, TDI_BIND, 8)).toBe('EFAULT');
    expect(tdi(TDI_BIND, 999)).toBe('EBADF');
    expect(tdi(TDI_BIND, scene.iommufd)).toBe('ENOENT');
    const plain = sceneOf({ dialects: [] });
    expect(plain.tdi(TDI_BIND)).toBe('ENXIO');
    expect(sceneOf({ vendor: 'tdx' }).tdi(TDI_BIND)).toBe('EOPNOTSUPP');
  });

  test('the close of the KVM-VFIO device unbinds', () => {
    const { scene, guest, tdi } = sceneOf();
    tdi(TDI_BIND);
    const file = scene.kernel.process.fds.get(scene.fd)!;
    scene.kernel.process.fds.close(guest.vfio);
    expect([scene.state, file.references, guest.vm.tdis.size]).toEqual(['UNLOCKED', 1, 0]);
  });

  test("a device's own door ends it too, and what was kept is given back", () => {
    const { scene, tdi } = sceneOf();
    const file = scene.kernel.process.fds.get(scene.fd)!;
    const before = file.references;
    tdi(TDI_BIND);
    expect([scene.tsmUnbind(), scene.state, file.references]).toEqual([0, 'UNLOCKED', before]);
    expect(tdi(TDI_UNBIND)).toBe('ENOENT');
  });
});
