/** What KVM of a released kernel answers to the numbers of confidential device assignment that exist as posted series only: flags, attributes, capabilities, words. */
import { Iommufd, type Kernel, Kvm, listTsmDevices, Tdi, Vdevice, VfioDevice } from 'kvio';
import {
  KVM_CHECK_EXTENSION,
  KVM_CREATE_DEVICE,
  KVM_CREATE_VCPU,
  KVM_DEV_TYPE_VFIO,
  KVM_HAS_DEVICE_ATTR,
  KVM_MEM_GUEST_MEMFD,
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_MEM_READONLY,
  KVM_MEMORY_ENCRYPT_OP,
  KVM_PRE_FAULT_MEMORY,
  KVM_SET_DEVICE_ATTR,
  KVM_X86_SW_PROTECTED_VM,
  kvm_create_device,
  kvm_device_attr,
  kvm_memory_attributes,
  teeIo,
} from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { newVm, openKvm, PAGE, setRegion, setRegion2, UNSAFE } from '../../machine.ts';
import { guestMemfd, protectedVm } from '../../private.ts';
import { byOlderSeries, explained } from '../../rfc.ts';

const section = 'TEE-IO';
const { KVM_MEM_VFIO_DMABUF } = teeIo.xuJan25;

/** Memslots with bit 3, which is KVM_MEM_VFIO_DMABUF in one series and KVM_MEM_USERFAULT in another. */
function slots(kernel: Kernel, see: Observer, vm: number, memfd: number): void {
  const ram = kernel.guestRam(0x1000);
  const ask = (label: string, flags: number, more: object = {}): unknown =>
    see.call(label, () =>
      setRegion2(kernel, vm, {
        ...{ slot: 1, flags, guest_phys_addr: 0x10000n, memory_size: PAGE, userspace_addr: ram.address },
        ...{ guest_memfd: memfd >>> 0, ...more },
      }),
    );
  see.call('SET_USER_MEMORY_REGION, bit 3', () =>
    setRegion(kernel, vm, {
      ...{ slot: 1, flags: KVM_MEM_VFIO_DMABUF, guest_phys_addr: 0x10000n, memory_size: PAGE, userspace_addr: ram.address },
    }),
  );
  ask('bit 3', KVM_MEM_VFIO_DMABUF);
  ask('bit 3 and GUEST_MEMFD', KVM_MEM_VFIO_DMABUF | KVM_MEM_GUEST_MEMFD);
  ask('bit 3 and READONLY', KVM_MEM_VFIO_DMABUF | KVM_MEM_READONLY);
  ask('bit 3 and LOG_DIRTY_PAGES', KVM_MEM_VFIO_DMABUF | KVM_MEM_LOG_DIRTY_PAGES);
  ask('bit 3, a descriptor nobody has', KVM_MEM_VFIO_DMABUF, { guest_memfd: 999 });
  ask('bit 3, an eventfd', KVM_MEM_VFIO_DMABUF, { guest_memfd: kernel.eventfd() });
  ask('bit 3, an offset', KVM_MEM_VFIO_DMABUF, { guest_memfd_offset: PAGE });
  ask('bit 3, no size', KVM_MEM_VFIO_DMABUF, { memory_size: 0n });
  ask('bit 4', 1 << 4);
}

function plainSlots(kernel: Kernel, see: Observer): void {
  slots(kernel, see, newVm(kernel), -1);
}

function protectedSlots(kernel: Kernel, see: Observer): void {
  const vm = protectedVm(kernel, see);
  slots(kernel, see, vm, guestMemfd(kernel, vm, PAGE));
}

/** The KVM-VFIO device: groups of 2013 (attribute 0, the descriptor by value) and the group SEV-TIO v1 adds. */
function kvmVfio(kernel: Kernel, see: Observer): void {
  const bytes = kvm_create_device.encode({ type: KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 });
  kernel.ioctl(newVm(kernel), KVM_CREATE_DEVICE, bytes);
  const { fd } = kvm_create_device.decode(bytes);
  const ask = (label: string, request: number, group: number, attr: number, addr = 0n): unknown =>
    see.call(label, () =>
      kernel.ioctl(fd, request, kvm_device_attr.encode({ flags: 0, group, attr: BigInt(attr), addr }), UNSAFE),
    );
  for (let group = 0; group < 4; group++)
    for (let attr = 0; attr < 5; attr++) ask(`HAS group ${group} attribute ${attr}`, KVM_HAS_DEVICE_ATTR, group, attr);
  const other = BigInt(kernel.eventfd());
  const { KVM_DEV_VFIO_ADD_GROUP, KVM_DEV_VFIO_DEL_GROUP } = teeIo.kvmVfio2013;
  ask('ADD_GROUP by value', KVM_SET_DEVICE_ATTR, KVM_DEV_VFIO_ADD_GROUP, 0, other);
  ask('DEL_GROUP by value', KVM_SET_DEVICE_ATTR, KVM_DEV_VFIO_DEL_GROUP, 0, other);
  const { KVM_DEV_VFIO_DEVICE, KVM_DEV_VFIO_DEVICE_TDI_BIND, KVM_DEV_VFIO_DEVICE_TDI_UNBIND, kvm_vfio_tsm_bind } = teeIo.aikV1;
  const memory = kernel.guestRam(0x1000);
  memory.write(0, kvm_vfio_tsm_bind.encode({ guest_rid: 0x10, devfd: Number(other) }));
  ask('TDI_BIND', KVM_SET_DEVICE_ATTR, KVM_DEV_VFIO_DEVICE, KVM_DEV_VFIO_DEVICE_TDI_BIND, memory.address);
  ask('TDI_UNBIND', KVM_SET_DEVICE_ATTR, KVM_DEV_VFIO_DEVICE, KVM_DEV_VFIO_DEVICE_TDI_UNBIND, memory.address);
}

/** The capabilities of guest_memfd by the numbers v13 gave them and by those that were merged. */
function capabilities(kernel: Kernel, see: Observer): void {
  const kvm = openKvm(kernel);
  const vm = newVm(kernel);
  for (const capability of [230, 231, 232, 233, 234, 235, 236, 244])
    see.note(
      `capability ${capability}`,
      [kvm, vm].map((fd) => kernel.ioctl(fd, KVM_CHECK_EXTENSION, capability)),
    );
}

function protectedCapabilities(kernel: Kernel, see: Observer): void {
  const vm = protectedVm(kernel, see);
  for (const capability of [230, 231, 232, 233, 234, 235, 236, 244])
    see.call(`capability ${capability}`, () => kernel.ioctl(vm, KVM_CHECK_EXTENSION, capability));
}

/** Words of series, and of mainline where a series gave them another meaning. */
function words(kernel: Kernel, see: Observer): void {
  const vm = newVm(kernel);
  const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
  const attributes = kvm_memory_attributes.encode({ address: 0n, size: PAGE, attributes: 0n, flags: 0n });
  see.call('SET_MEMORY_ATTRIBUTES as v12 had it', () =>
    kernel.ioctl(vm, teeIo.guestMemfdV12.KVM_SET_MEMORY_ATTRIBUTES, attributes, UNSAFE),
  );
  see.call('SET_MEMORY_ATTRIBUTES2', () =>
    kernel.ioctl(vm, teeIo.attributes2.KVM_SET_MEMORY_ATTRIBUTES2, new Uint8Array(128), UNSAFE),
  );
  const command = new Uint8Array(24);
  new DataView(command.buffer).setUint32(0, teeIo.aikV2.KVM_SEV_SNP_MMIO_RMP_UPDATE, true);
  see.call('MEMORY_ENCRYPT_OP 103', () => kernel.ioctl(vm, KVM_MEMORY_ENCRYPT_OP, command, UNSAFE));
  see.call('PRE_FAULT_MEMORY on the VM', () => kernel.ioctl(vm, KVM_PRE_FAULT_MEMORY, new Uint8Array(64), UNSAFE));
  const { VFIO_DEVICE_TSM_BIND } = teeIo.xuMay25;
  const { IOMMU_VDEVICE_TSM_MAP, IOMMU_VDEVICE_TSM_OP } = teeIo.aneeshV1;
  for (const request of [VFIO_DEVICE_TSM_BIND, IOMMU_VDEVICE_TSM_OP, IOMMU_VDEVICE_TSM_MAP])
    see.note(
      `0x${request.toString(16)} on a VM and a vCPU`,
      [vm, vcpu].map((fd) => kernel.tryIoctl(fd, request, new Uint8Array(64), UNSAFE)),
    );
}

/** By the objects, where all that is not KVM’s is missing: what they say, and that they name the series. */
function objects(kernel: Kernel, see: Observer): void {
  const ask = explained(see);
  const vm = Kvm.open(kernel).createVm();
  const kvmVfio = vm.createDevice(KVM_DEV_TYPE_VFIO);
  const fd = kernel.eventfd();
  ask('a memslot of a dma-buf', () =>
    vm.setUserMemoryRegion2({ slot: 1, guest_phys_addr: 0x10000n, dma_buf: fd, memory_size: PAGE }),
  );
  ask('addGroup', () => kvmVfio.addGroup(fd));
  ask('delGroup', () => kvmVfio.delGroup(fd));
  ask('tdiBind', () => kvmVfio.tdiBind({ guest_rid: 0x10, devfd: fd }));
  ask('tdiUnbind', () => kvmVfio.tdiUnbind({ guest_rid: 0x10, devfd: fd }));
  const device = new VfioDevice(kernel, kernel.eventfd());
  const vdevice = new Vdevice(new Iommufd(kernel, kernel.eventfd()), 1, { viommu_id: 1, dev_id: 1 });
  const newest = new Tdi({ device, vdevice });
  ask('bind', () => newest.bind());
  ask('a request', () => newest.setTdiState(2));
  ask('unbind', () => newest.unbind());
  ask('bind by iommufd', () => vdevice.tsmBind());
  ask('tsmMap', () => vdevice.tsmMap({ start_gpa: 0n, end_gpa: PAGE }));
  byOlderSeries(ask, { device, vdevice, vm, kvmVfio });
  see.note('TSMs', listTsmDevices(kernel).length);
}

const PROTECTED = { needs: { vmType: KVM_X86_SW_PROTECTED_VM } };

export const teeIoKvmCases: readonly Case[] = [
  define('kvm/tee-io/slots', section, plainSlots),
  define('kvm/tee-io/protected-slots', section, protectedSlots, PROTECTED),
  define('kvm/tee-io/kvm-vfio', section, kvmVfio),
  define('kvm/tee-io/capabilities', section, capabilities),
  define('kvm/tee-io/protected-capabilities', section, protectedCapabilities, PROTECTED),
  define('kvm/tee-io/words', section, words),
  define('kvm/tee-io/objects', section, objects),
];
