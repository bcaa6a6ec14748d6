/** What VFIO of a released kernel answers to the requests and flags of confidential device assignment that exist as posted series only, and KVM to VFIO's descriptors under them. */
import { Iommufd as Iommu, type Kernel, Kvm, listTsmDevices, Tdi, Vdevice, VfioDevice } from 'kvio';
import * as u from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { Iommufd } from '../../iommufd.ts';
import { newVm, PAGE, setRegion2, UNSAFE } from '../../machine.ts';
import { byOlderSeries, explained } from '../../rfc.ts';
import { attempt, cdevOf, feature, groupPath, join, openDevice, regionInfo, s32, u32s, view, withDevices } from '../../vfio.ts';

const { teeIo } = u;
const section = 'TEE-IO';
const NEEDS = { needs: { devices: ['/dev/iommu'], iommu: true } };
const NEEDS_KVM = { needs: { devices: ['/dev/iommu', '/dev/kvm'], iommu: true } };
const GET = u.VFIO_DEVICE_FEATURE_GET | u.VFIO_DEVICE_FEATURE_DMA_BUF;

/** VFIO_DEVICE_BIND_IOMMUFD: what it returned; the id it gave, where it gave one. */
function bind(kernel: Kernel, device: number, iommufd: number, argsz = 24, flags = 0): string | number {
  const bytes = join(u32s(argsz, flags), s32(iommufd), u32s(0, 0, 0));
  const returned = attempt(() => kernel.ioctl(device, u.VFIO_DEVICE_BIND_IOMMUFD, bytes, UNSAFE));
  return returned === 0 ? view(bytes).getUint32(12, true) : returned;
}

/** VFIO_DEVICE_TSM_BIND and …_UNBIND: before the device is bound to an iommufd, after it, and on the other descriptors of VFIO. */
function requests(kernel: Kernel, see: Observer, [edu, second]: string[]): void {
  const { VFIO_DEVICE_TSM_BIND, VFIO_DEVICE_TSM_UNBIND } = teeIo.xuMay25;
  const ask = (label: string, fd: number): void => {
    for (const [name, request, length] of [
      ['TSM_BIND', VFIO_DEVICE_TSM_BIND, 16],
      ['TSM_UNBIND', VFIO_DEVICE_TSM_UNBIND, 8],
    ] as const) {
      see.call(`${label}: ${name}`, () => kernel.ioctl(fd, request, u32s(length, 0, 1, 0), UNSAFE));
      see.call(`${label}: ${name}, argsz 0`, () => kernel.ioctl(fd, request, new Uint8Array(16), UNSAFE));
      see.call(`${label}: ${name}, pointer 0`, () => kernel.ioctl(fd, request, 0, UNSAFE));
    }
    see.call(`${label}: 0x3b79`, () => kernel.ioctl(fd, 0x3b79, 0, UNSAFE));
    see.call(`${label}: 0x3b7c`, () => kernel.ioctl(fd, 0x3b7c, 0, UNSAFE));
  };
  const device = kernel.open(cdevOf(kernel, edu!));
  ask('not bound', device);
  bind(kernel, device, kernel.open('/dev/iommu'));
  ask('bound', device);
  const opened = openDevice(kernel, second!);
  ask('of a group', opened.device);
  ask('the group', opened.group);
  ask('the container', opened.container);
}

/** Flag 1 with 16 bytes was VFIO_DEVICE_BIND_IOMMUFD_PRIVATE; in mainline it says that a token is given, whose pointer the 16 bytes have not. */
function bindPrivate(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { VFIO_DEVICE_BIND_IOMMUFD_PRIVATE } = teeIo.xuJan25;
  const iommufd = kernel.open('/dev/iommu');
  const device = kernel.open(cdevOf(kernel, edu!));
  see.note('flag 1, argsz 16', bind(kernel, device, iommufd, 16, VFIO_DEVICE_BIND_IOMMUFD_PRIVATE));
  see.note('flag 1, argsz 16, no iommufd', bind(kernel, device, -1, 16, VFIO_DEVICE_BIND_IOMMUFD_PRIVATE));
  see.note('flag 2, argsz 16', bind(kernel, device, iommufd, 16, 2));
  see.note('it is not bound', bind(kernel, device, iommufd));
  see.note(
    'regions',
    [0, 1, 6, 7].map((index) => regionInfo(kernel, device, index).flags),
  );
}

/** VFIO_DEVICE_FEATURE_DMA_BUF as it was posted, where each range has its BAR. */
function dmaBufLayout(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { device } = openDevice(kernel, edu!);
  const ask = (
    label: string,
    flags: number,
    open_flags: number,
    ...ranges: (readonly [region: number, length: bigint])[]
  ): void => {
    const dma_ranges = ranges.map(([region_index, length]) => ({ region_index, __pad: 0, offset: 0n, length }));
    const data = teeIo.xuJan25.vfio_device_feature_dma_buf.encode({ open_flags, nr_ranges: ranges.length, dma_ranges });
    const returned = attempt(() => feature(kernel, device, join(u32s(8 + data.length, flags), data)));
    see.note(label, typeof returned === 'number' && flags === GET ? 'a descriptor' : returned);
  };
  const OPEN = u.O_RDWR | u.O_CLOEXEC;
  ask('PROBE', GET | u.VFIO_DEVICE_FEATURE_PROBE, OPEN, [0, PAGE]);
  ask('no range', GET, OPEN);
  ask('one range', GET, OPEN, [0, PAGE]);
  ask('one range of BAR 1', GET, OPEN, [1, PAGE]);
  ask('two ranges', GET, OPEN, [0, PAGE], [0, PAGE]);
  ask('one range, open_flags a BAR', GET, 0, [0, PAGE]);
}

/** The types and the flag of vIOMMUs, behind the machine's IOMMU. */
function viommu(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const iommufd = new Iommufd(kernel);
  const device = kernel.open(cdevOf(kernel, edu!));
  const dev_id = Number(bind(kernel, device, iommufd.fd));
  const hwpt_id = iommufd.hwpt({ dev_id, pt_id: iommufd.ioas(), flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT });
  see.note('a page table to nest in', typeof hwpt_id === 'number' ? 'made' : hwpt_id);
  const pt = typeof hwpt_id === 'number' ? hwpt_id : iommufd.mustHwpt({ dev_id, pt_id: iommufd.ioas() });
  for (const type of [
    u.IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
    teeIo.aikV2.IOMMU_VIOMMU_TYPE_TSM,
    teeIo.ccaV4.IOMMU_VIOMMU_TYPE_ARM_REALM_SMMUV3,
  ])
    see.note(`type ${type}`, iommufd.viommu({ type, dev_id, hwpt_id: pt }));
  see.note('KVM_FD', iommufd.viommu({ type: 1, dev_id, hwpt_id: pt, flags: teeIo.aneeshV1.IOMMU_VIOMMU_KVM_FD }));
  const { IOMMU_OPTION_EXCLUSIVE_RANGES } = teeIo.aneeshV1;
  see.note('EXCLUSIVE_RANGES of the device', iommufd.option(IOMMU_OPTION_EXCLUSIVE_RANGES, u.IOMMU_OPTION_OP_SET, dev_id, 1n));
}

/** A dma-buf of VFIO where a memslot has its guest_memfd. */
function memslot(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { device } = openDevice(kernel, edu!);
  const ranges = [{ offset: 0n, length: PAGE }];
  const data = u.vfio_device_feature_dma_buf.encode({
    ...{ region_index: 0, open_flags: u.O_RDWR | u.O_CLOEXEC, flags: 0, nr_ranges: 1, dma_ranges: ranges },
  });
  const dmaBuf = see.descriptor('a dma-buf', () => feature(kernel, device, join(u32s(8 + data.length, GET), data)));
  const kvm = kernel.open('/dev/kvm');
  const protectedVm = see.descriptor('CREATE_VM(SW_PROTECTED)', () =>
    kernel.ioctl(kvm, u.KVM_CREATE_VM, u.KVM_X86_SW_PROTECTED_VM),
  );
  for (const [name, vm] of [
    ['a VM', newVm(kernel)],
    ['a SW_PROTECTED one', protectedVm],
  ] as const) {
    const ask = (flags: number): unknown => {
      const region = { slot: 1, flags, guest_phys_addr: 0x10000n, memory_size: PAGE, guest_memfd: dmaBuf };
      return attempt(() => setRegion2(kernel, vm, region));
    };
    see.note(`${name}: VFIO_DMABUF`, ask(teeIo.xuJan25.KVM_MEM_VFIO_DMABUF));
    see.note(`${name}: GUEST_MEMFD`, ask(u.KVM_MEM_GUEST_MEMFD));
    see.note(`${name}: both`, ask(teeIo.xuJan25.KVM_MEM_VFIO_DMABUF | u.KVM_MEM_GUEST_MEMFD));
  }
}

/** Descriptors of VFIO, given to the KVM-VFIO device as it was in 2013, and as SEV-TIO v1 had it. */
function kvmVfio(kernel: Kernel, see: Observer, [edu, second]: string[]): void {
  const bytes = u.kvm_create_device.encode({ type: u.KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 });
  kernel.ioctl(newVm(kernel), u.KVM_CREATE_DEVICE, bytes);
  const { fd } = u.kvm_create_device.decode(bytes);
  const ask = (label: string, group: number, attr: number, addr: bigint): unknown =>
    see.call(label, () =>
      kernel.ioctl(fd, u.KVM_SET_DEVICE_ATTR, u.kvm_device_attr.encode({ flags: 0, group, attr: BigInt(attr), addr }), UNSAFE),
    );
  const group = kernel.open(groupPath(kernel, edu!));
  ask('ADD_GROUP of a group, by value', teeIo.kvmVfio2013.KVM_DEV_VFIO_ADD_GROUP, 0, BigInt(group));
  ask('DEL_GROUP of a group, by value', teeIo.kvmVfio2013.KVM_DEV_VFIO_DEL_GROUP, 0, BigInt(group));
  const device = kernel.open(cdevOf(kernel, second!));
  bind(kernel, device, kernel.open('/dev/iommu'));
  const memory = kernel.guestRam(0x1000);
  memory.write(0, teeIo.aikV1.kvm_vfio_tsm_bind.encode({ guest_rid: 0x10, devfd: device }));
  const { KVM_DEV_VFIO_DEVICE, KVM_DEV_VFIO_DEVICE_TDI_BIND, KVM_DEV_VFIO_DEVICE_TDI_UNBIND } = teeIo.aikV1;
  ask('TDI_BIND of a device', KVM_DEV_VFIO_DEVICE, KVM_DEV_VFIO_DEVICE_TDI_BIND, memory.address);
  ask('TDI_UNBIND of a device', KVM_DEV_VFIO_DEVICE, KVM_DEV_VFIO_DEVICE_TDI_UNBIND, memory.address);
}

/** The same by the objects: what a released kernel answers, and the series that would take it. */
function objects(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const ask = explained(see);
  const iommufd = Iommu.open(kernel);
  const device = VfioDevice.open(kernel, cdevOf(kernel, edu!));
  ask('bindIommufd, private', () => device.bindIommufd({ iommufd, private: true }));
  const dev_id = device.bindIommufd({ iommufd });
  ask('tsmBind', () => device.tsmBind({ vdevice: 1 }));
  ask('tsmUnbind', () => device.tsmUnbind());
  const dma_ranges = [{ offset: 0n, length: PAGE }];
  ask('getDmaBuf, a BAR for each range', () => device.getDmaBuf({ dma_ranges: [{ region_index: 0, ...dma_ranges[0]! }] }));
  const dma_buf = device.getDmaBuf({ region_index: 0, dma_ranges });
  const vm = Kvm.open(kernel).createVm();
  ask('a memslot of a dma-buf', () => vm.setUserMemoryRegion2({ slot: 1, guest_phys_addr: 0x10000n, dma_buf }));
  const kvmVfio = vm.createDevice(u.KVM_DEV_TYPE_VFIO);
  ask('addGroup', () => kvmVfio.addGroup(device.fd));
  ask('delGroup', () => kvmVfio.delGroup(device.fd));
  ask('tdiBind', () => kvmVfio.tdiBind({ guest_rid: 0x10, devfd: device.fd }));
  ask('a vIOMMU of a VM', () => iommufd.viommuAlloc({ type: 1, dev_id, hwpt: 1, vm }));
  ask('setExclusiveRanges', () => iommufd.setExclusiveRanges(dev_id, true));
  const vdevice = new Vdevice(iommufd, dev_id);
  ask('a vdevice’s tsmBind', () => vdevice.tsmBind());
  ask('tsmMap', () => vdevice.tsmMap({ start_gpa: 0n, end_gpa: PAGE }));
  for (const layout of ['type48', 'scope40', 'op48'] as const) {
    const tdi = new Tdi({ device, vdevice, layout });
    ask(`a request, ${layout}`, () => tdi.setTdiState(2));
  }
  byOlderSeries(ask, { device, vdevice: new Vdevice(iommufd, dev_id, { viommu_id: dev_id, dev_id }), vm, kvmVfio });
  see.note('TSMs', listTsmDevices(kernel).length);
}

export const teeIoVfioCases: readonly Case[] = [
  withDevices('vfio/tee-io/requests', section, ['edu', 'second edu'], requests, NEEDS),
  withDevices('vfio/tee-io/bind-private', section, ['edu'], bindPrivate, NEEDS),
  withDevices('vfio/tee-io/dma-buf-layout', section, ['edu'], dmaBufLayout),
  withDevices('vfio/tee-io/viommu', section, ['edu'], viommu, NEEDS),
  withDevices('vfio/tee-io/memslot', section, ['edu'], memslot, NEEDS_KVM),
  withDevices('vfio/tee-io/kvm-vfio', section, ['edu', 'second edu'], kvmVfio, NEEDS_KVM),
  withDevices('vfio/tee-io/objects', section, ['edu'], objects, NEEDS_KVM),
];
