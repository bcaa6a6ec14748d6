/** What holds a context of /dev/iommu, and what its objects hold of one another: descriptors of many kinds, a mapping, DESTROY of each id. */
import type { Kernel, Ram } from 'kvio';
import * as u from 'kvio/uapi';
import { Iommufd, MOCK, op, RW } from '../iommufd.ts';
import { bindToVfio, parts } from '../parts.ts';
import { ASSISTED, ConfigSpace, cdevOf } from '../vfio.ts';
import { answered, around, charges, Descriptor, type Made, type Scene, type Thing } from './scene.ts';

const DATA = 0xdead;
const VIOMMU = 0xdead_beef;
const VEVENTQ = 0xbeef_beef;
const IOVA = 0x200_0000n;
const PAGE = 0x1000n;

/** A mock device on a nested table of a vIOMMU, with what that needs; all ids are of one descriptor. */
function graph(kernel: Kernel, ram: Ram, fault: { readonly flags: number; readonly fault_id: number }, iommufd: Iommufd) {
  const ioas = iommufd.ioas();
  iommufd.mapAt(ioas, ram.address, IOVA, 4n * PAGE);
  const { stdev, idev } = iommufd.mock(ioas);
  const parent = iommufd.mustHwpt({ dev_id: idev, pt_id: ioas, flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT });
  const scratch = kernel.guestRam(0x1000);
  const data = { data_len: 24, data_uptr: scratch.address };
  const viommu = Number(iommufd.viommu({ type: VIOMMU, dev_id: idev, hwpt_id: parent, ...data }));
  const vdevice = Number(iommufd.vdevice(viommu, idev, 0x99n));
  const nested = iommufd.mustHwpt({
    ...{ dev_id: idev, pt_id: viommu, ...fault },
    ...{ data_type: DATA, data_len: 4, data_uptr: scratch.address + 0x100n },
  });
  iommufd.replace(stdev, nested);
  scratch.close();
  return { ioas, stdev, idev, parent, viommu, vdevice, nested };
}

/** DESTROY of one object after the other by the descriptor, as long as that is open. */
const id =
  (kernel: Kernel, iommufd: Descriptor) =>
  (...objects: number[]): Thing => ({ close: () => objects.map((object) => new Iommufd(kernel, iommufd.fd).destroy(object)) });

const IDS = ['iommufd', 'device', 'vDEVICE', 'nested table', 'vIOMMU', 'hardware queue', 'parent'] as const;

function ids(kernel: Kernel): Made<(typeof IDS)[number]> {
  const charged = charges(kernel);
  const ram = kernel.guestRam(0x4000);
  const raw = new Iommufd(kernel);
  const made = graph(kernel, ram, { flags: 0, fault_id: 0 }, raw);
  const { out } = raw.call(u.IOMMU_HW_QUEUE_ALLOC, u.iommu_hw_queue_alloc, {
    ...{ viommu_id: made.viommu, type: VIOMMU, index: 0 },
    ...{ nesting_parent_iova: IOVA, length: PAGE },
  });
  const iommufd = new Descriptor(kernel, raw.fd, () => {
    const { returned, total, alignment } = raw.ranges(made.ioas);
    // Of a device nobody but its driver can dispose; the next free id tells which are taken.
    const next = raw.ioas();
    return [returned, total, alignment, raw.destroy(made.idev), next, raw.destroy(next)];
  });
  const destroy = id(kernel, iommufd);
  return {
    things: {
      iommufd,
      device: destroy(made.stdev),
      vDEVICE: destroy(made.vdevice),
      'nested table': destroy(made.nested),
      vIOMMU: destroy(made.viommu),
      'hardware queue': destroy(out.out_hw_queue_id),
      parent: destroy(made.parent, made.ioas),
    },
    around: charged.use,
    end: () => [charged, ram].map((each) => each.close()),
  };
}

const FILES = ['iommufd', 'cdev', 'fault queue', 'its id', 'veventq', 'mapping', 'access'] as const;

function files(kernel: Kernel): Made<(typeof FILES)[number]> {
  const charged = charges(kernel);
  const ram = kernel.guestRam(0x4000);
  const raw = new Iommufd(kernel);
  const cdev = bound(kernel, raw, ram);
  const faults = raw.faultQueue();
  const made = graph(kernel, ram, { flags: u.IOMMU_HWPT_FAULT_ID_VALID, fault_id: faults.id }, raw);
  const { out } = raw.call(u.IOMMU_VEVENTQ_ALLOC, u.iommu_veventq_alloc, {
    ...{ viommu_id: made.viommu, type: VEVENTQ, veventq_depth: 2 },
  });
  const mapping = kernel.mmap({ fd: raw.fd, offset: 0x1000, length: 0x2000, view: false });
  const access = kernel.adopt(raw.test(op.CREATE_ACCESS, made.ioas, [[20, 1]]).view.getUint32(16, true));
  raw.test(op.ACCESS_PAGES, access, [
    [16, 0],
    [24, IOVA],
    [32, 2n * PAGE],
    [40, ram.address],
  ]);
  const iommufd = new Descriptor(kernel, raw.fd, () => [
    raw.test(op.TRIGGER_IOPF, 0, [
      [16, made.idev],
      [24, 1],
      [28, 1],
      [32, 0xabcd000n],
    ]).returned,
    raw.test(op.TRIGGER_VEVENT, 0, [[16, made.idev]]).returned,
    // EBUSY while the device's own descriptor, or a mapping, has it.
    raw.destroy(cdev.id),
  ]);
  const destroy = id(kernel, iommufd);
  const events = new Descriptor(kernel, out.out_veventq_fd, (fd) => {
    const bytes = new Uint8Array(64);
    return bytes.slice(0, kernel.read(fd, bytes));
  });
  return {
    things: {
      iommufd,
      cdev: cdev.file,
      'fault queue': new Descriptor(kernel, faults.fd, (fd) => faultsOf(kernel, fd)),
      'its id': destroy(faults.id),
      veventq: {
        use: events.use,
        close: () => [events.close() ?? 'done', destroy(out.out_veventq_id).close()],
      },
      mapping: { use: () => mapping.read32(0), close: () => mapping.close() },
      access: new Descriptor(kernel, access, (fd) => reads(kernel, fd)),
    },
    around: around(kernel, parts.edu.at, charged),
    end: () => [charged, ram].map((each) => each.close()),
  };
}

/** edu by its own node, on an address space of its own. */
function bound(kernel: Kernel, iommufd: Iommufd, ram: Ram): { readonly file: Descriptor; readonly id: number } {
  const fd = kernel.open(cdevOf(kernel, parts.edu.at));
  const bind = u.vfio_device_bind_iommufd.encode({
    ...{ argsz: 16, flags: 0, iommufd: iommufd.fd, out_devid: 0, token_uuid_ptr: 0n },
  });
  kernel.ioctl(fd, u.VFIO_DEVICE_BIND_IOMMUFD, bind);
  const pt_id = iommufd.ioas();
  iommufd.map({ ioas_id: pt_id, flags: RW, user_va: ram.address, length: PAGE });
  const attach = u.vfio_device_attach_iommufd_pt.encode({ argsz: 12, flags: 0, pt_id, pasid: 0 });
  const use = (on: number): unknown => [
    kernel.ioctl(on, u.VFIO_DEVICE_ATTACH_IOMMUFD_PT, Uint8Array.from(attach)),
    new ConfigSpace(kernel, on).read16(0),
  ];
  use(fd);
  return { file: new Descriptor(kernel, fd, use), id: u.vfio_device_bind_iommufd.decode(bind).out_devid };
}

/** A page request and its answer; nothing where none came. */
function faultsOf(kernel: Kernel, fd: number): unknown {
  const bytes = new Uint8Array(40);
  if (kernel.read(fd, bytes) === 0) return 'nothing';
  const response = Uint32Array.of(new DataView(bytes.buffer).getUint32(36, true), 0);
  return [bytes, answered(() => kernel.write(fd, new Uint8Array(response.buffer)))];
}

/** An access reads by any descriptor of /dev/iommu. */
function reads(kernel: Kernel, access: number): unknown {
  const into = kernel.guestRam(0x1000);
  const other = new Iommufd(kernel);
  const { returned } = other.test(op.ACCESS_RW, access, [
    [16, IOVA],
    [24, 4n],
    [32, into.address],
    [40, 0],
  ]);
  other.close();
  into.close();
  return returned;
}

export const iommufdIds: Scene<(typeof IDS)[number]> = {
  name: 'iommufd-ids',
  section: 'Lifetime',
  needs: MOCK,
  things: IDS,
  make: ids,
};

export const iommufdFiles: Scene<(typeof FILES)[number]> = {
  name: 'iommufd-files',
  section: 'Lifetime',
  needs: { ...MOCK, ...ASSISTED.needs, devices: ['/dev/vfio/vfio', '/dev/iommu'], pci: ['edu'] },
  things: FILES,
  prepare: (kernel) => bindToVfio(kernel, parts.edu.at),
  make: files,
};
