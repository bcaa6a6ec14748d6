/** What holds a device of VFIO: by its group with a container, or by its own node with an iommufd. */
import type { Kernel, Memory } from 'kvio';
import * as u from 'kvio/uapi';
import { NotHere } from '../case.ts';
import { Iommufd, RW } from '../iommufd.ts';
import { bindToVfio, parts } from '../parts.ts';
import {
  ASSISTED,
  attempt,
  ConfigSpace,
  cdevOf,
  feature,
  join,
  mapDma,
  mapRegion,
  openDevice,
  setIrqs,
  setTrigger,
  status,
  taken,
  u32s,
  u64s,
} from '../vfio.ts';
import { around, charges, Descriptor, type Made, type Scene, type Thing } from './scene.ts';

const IOVA = 0x100000n;
const SIZE = 0x4000;
const DEVICE = parts.edu.at;

/** A piece of BAR 0 as a DMA-buf. Its use: whether `other` can map it. */
function exported(kernel: Kernel, device: number, other: Importer): Descriptor {
  const head = u32s(40, u.VFIO_DEVICE_FEATURE_GET | u.VFIO_DEVICE_FEATURE_DMA_BUF, 0, 2, 0, 1);
  const made = attempt(() => feature(kernel, device, join(head, u64s(0, 0x1000))));
  if (typeof made === 'string') throw new NotHere('this kernel exports no DMA-bufs');
  return new Descriptor(kernel, made, (fd) => other.map(fd));
}

/** An iommufd besides, which nobody else has to do with. */
class Importer {
  readonly #iommufd: Iommufd;
  readonly #ioas: number;

  constructor(kernel: Kernel) {
    this.#iommufd = new Iommufd(kernel);
    this.#ioas = this.#iommufd.ioas();
  }

  /** And unmaps again. */
  map(fd: number): string {
    const iova = this.#iommufd.mapFile({ ioas_id: this.#ioas, fd, length: 0x1000n });
    if (typeof iova !== 'bigint') return String(iova);
    this.#iommufd.unmap(this.#ioas, iova, 0x1000n);
    return 'is mapped';
  }

  close(): void {
    this.#iommufd.close();
  }
}

/** A VM’s KVM-VFIO device that holds the file, and nothing else that holds the VM. Its use: whether it knows the file, as long as that is open. */
function kvmVfio(kernel: Kernel, file: Descriptor): Thing {
  const kvm = kernel.open('/dev/kvm');
  const vm = kernel.ioctl(kvm, u.KVM_CREATE_VM, 0);
  const bytes = u.kvm_create_device.encode({ type: u.KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 });
  kernel.ioctl(vm, u.KVM_CREATE_DEVICE, bytes);
  const memory = kernel.guestRam(4096);
  const attr = u.kvm_device_attr.encode({
    flags: 0,
    group: u.KVM_DEV_VFIO_FILE,
    attr: BigInt(u.KVM_DEV_VFIO_FILE_ADD),
    addr: memory.address,
  });
  const device = new Descriptor(kernel, u.kvm_create_device.decode(bytes).fd, (fd) => {
    memory.write32(0, file.fd >>> 0);
    return kernel.ioctl(fd, u.KVM_SET_DEVICE_ATTR, attr);
  });
  device.use();
  for (const each of [vm, kvm]) kernel.close(each);
  return {
    use: device.use,
    close() {
      device.close();
      memory.close();
    },
  };
}

/** Configuration space answers, and its one vector can be triggered. */
const deviceUse = (kernel: Kernel) => (fd: number) => [
  new ConfigSpace(kernel, fd).read16(0),
  setIrqs(kernel, fd, {
    flags: u.VFIO_IRQ_SET_DATA_NONE | u.VFIO_IRQ_SET_ACTION_TRIGGER,
    index: u.VFIO_PCI_MSI_IRQ_INDEX,
    count: 1,
  }),
];

const mapping = (bar: Memory): Thing => ({ use: () => bar.read32(0), close: () => bar.close() });
const memory = (ram: Memory): Thing => ({ use: () => ram.read32(0), close: () => ram.close() });

/** An eventfd the device's vector signals. */
function trigger(kernel: Kernel, device: number): Descriptor {
  const eventfd = kernel.eventfd(0, u.EFD_NONBLOCK);
  setTrigger(kernel, device, u.VFIO_PCI_MSI_IRQ_INDEX, eventfd);
  return new Descriptor(kernel, eventfd, (fd) => taken(kernel, fd));
}

const BY_GROUP = ['container', 'group', 'device', 'eventfd', 'dma-buf', 'KVM-VFIO', 'mapping'] as const;

function byGroup(kernel: Kernel): Made<(typeof BY_GROUP)[number]> {
  const charged = charges(kernel);
  const importer = new Importer(kernel);
  const opened = openDevice(kernel, DEVICE);
  const ram = kernel.guestRam(SIZE);
  const dma = { vaddr: ram.address, iova: IOVA, size: SIZE };
  mapDma(kernel, opened.container, dma);
  const bar = mapRegion(kernel, opened.device, 0);
  mapDma(kernel, opened.container, { vaddr: bar.address, iova: IOVA + 0x10000n, size: 0x1000 });
  const group = new Descriptor(kernel, opened.group, (fd) => status(kernel, fd));
  return {
    things: {
      // EEXIST: what was mapped is mapped still.
      container: new Descriptor(kernel, opened.container, (fd) => mapDma(kernel, fd, dma)),
      group,
      device: new Descriptor(kernel, opened.device, deviceUse(kernel)),
      eventfd: trigger(kernel, opened.device),
      'dma-buf': exported(kernel, opened.device, importer),
      'KVM-VFIO': kvmVfio(kernel, group),
      mapping: mapping(bar),
    },
    around: around(kernel, DEVICE, charged),
    end: () => [charged, importer, ram].map((each) => each.close()),
  };
}

const BY_NODE = ['iommufd', 'device', 'eventfd', 'dma-buf', 'KVM-VFIO', 'mapping', 'memory'] as const;

function byNode(kernel: Kernel): Made<(typeof BY_NODE)[number]> {
  const charged = charges(kernel);
  const importer = new Importer(kernel);
  const iommufd = new Iommufd(kernel);
  const fd = kernel.open(cdevOf(kernel, DEVICE));
  let pt_id = 0;
  const attach = (on: number): unknown => {
    const bytes = u.vfio_device_attach_iommufd_pt.encode({ argsz: 12, flags: 0, pt_id, pasid: 0 });
    kernel.ioctl(on, u.VFIO_DEVICE_ATTACH_IOMMUFD_PT, bytes);
    return u.vfio_device_attach_iommufd_pt.decode(bytes).pt_id;
  };
  const device = new Descriptor(kernel, fd, (on) => [...deviceUse(kernel)(on), attach(on)]);
  const vfio = kvmVfio(kernel, device);
  const bind = { argsz: 16, flags: 0, iommufd: iommufd.fd, out_devid: 0, token_uuid_ptr: 0n };
  kernel.ioctl(fd, u.VFIO_DEVICE_BIND_IOMMUFD, u.vfio_device_bind_iommufd.encode(bind));
  pt_id = iommufd.ioas();
  attach(fd);
  const ram = kernel.guestRam(SIZE);
  iommufd.map({ ioas_id: pt_id, flags: RW, user_va: ram.address, length: BigInt(SIZE) });
  const bar = mapRegion(kernel, fd, 0);
  const eventfd = trigger(kernel, fd);
  const buffer = exported(kernel, fd, importer);
  iommufd.mapFile({ ioas_id: pt_id, flags: RW, fd: buffer.fd, length: 0x1000n });
  return {
    things: {
      iommufd: new Descriptor(kernel, iommufd.fd, () => {
        const { returned, total, alignment } = iommufd.ranges(pt_id);
        return [returned, total, alignment];
      }),
      device,
      eventfd,
      'dma-buf': buffer,
      'KVM-VFIO': vfio,
      mapping: mapping(bar),
      memory: memory(ram),
    },
    around: around(kernel, DEVICE, charged),
    end: () => [charged, importer].map((each) => each.close()),
  };
}

const needs = { ...ASSISTED.needs, pci: ['edu'] as const, devices: ['/dev/vfio/vfio', '/dev/kvm', '/dev/iommu'] };
const section = 'Lifetimes';
const prepare = (kernel: Kernel): void => bindToVfio(kernel, DEVICE);

export const vfioByGroup: Scene<(typeof BY_GROUP)[number]> = {
  name: 'vfio-by-group',
  section,
  needs,
  things: BY_GROUP,
  prepare,
  make: byGroup,
};

export const vfioByNode: Scene<(typeof BY_NODE)[number]> = {
  name: 'vfio-by-node',
  section,
  needs,
  things: BY_NODE,
  prepare,
  make: byNode,
};
