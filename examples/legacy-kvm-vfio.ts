// The KVM-VFIO device as it was posted in September 2013 (RFC): groups where mainline has attributes, and the descriptor itself where mainline has its address; beside what was merged. Simulated.
import { bindDriver, Kvm, type KvmVfio, pciDevice, VfioContainer, VfioGroup } from 'kvio';
import { openSim } from 'kvio/sim';
import * as u from 'kvio/uapi';
import { outcome } from './parts/timeline.ts';

const bdf = '0000:01:00.0';
const { KVM_DEV_VFIO_ADD_GROUP, KVM_DEV_VFIO_DEL_GROUP } = u.teeIo.kvmVfio2013;

for (const kvmVfioDialect of ['both', '2013', 'mainline'] as const) {
  console.log(`— ${kvmVfioDialect}`);
  const kernel = openSim({ machine: 'tee-io-7.2', teeIo: { kvmVfioDialect } });
  bindDriver(kernel, bdf, 'vfio-pci');
  const vm = Kvm.open(kernel).createVm();
  const kvmVfio: KvmVfio = vm.createDevice(u.KVM_DEV_TYPE_VFIO);
  console.log(`a second one: ${outcome(() => vm.createDevice(u.KVM_DEV_TYPE_VFIO))}`);
  const has = (group: number, attr: bigint): string => (kvmVfio.hasDeviceAttr({ group, attr }) ? 'yes' : 'no');
  console.log(
    `ADD_GROUP ${has(KVM_DEV_VFIO_ADD_GROUP, 0n)}, DEL_GROUP ${has(KVM_DEV_VFIO_DEL_GROUP, 0n)}, FILE_ADD ${has(u.KVM_DEV_VFIO_FILE, BigInt(u.KVM_DEV_VFIO_FILE_ADD))}`,
  );

  const path = pciDevice(kernel, bdf).vfio_group!;
  const group = VfioGroup.open(kernel, path);
  group.setContainer(VfioContainer.open(kernel));
  console.log(`ADD_GROUP of the group’s descriptor: ${outcome(() => kvmVfio.addGroup(group.fd))}`);
  console.log(`again: ${outcome(() => kvmVfio.addGroup(group.fd))}`);
  console.log(`of a number nobody has: ${outcome(() => kvmVfio.addGroup(999))}`);
  console.log(`of an eventfd: ${outcome(() => kvmVfio.addGroup(kernel.eventfd()))}`);
  console.log(`FILE_ADD, of the same group: ${outcome(() => kvmVfio.addFile(group.fd))}`);
  console.log(`DEL_GROUP: ${outcome(() => kvmVfio.delGroup(group.fd))}`);
  console.log(`DEL_GROUP again: ${outcome(() => kvmVfio.delGroup(group.fd))}`);

  outcome(() => kvmVfio.addGroup(group.fd));
  group.close();
  console.log(`closed, and opened again: ${outcome(() => VfioGroup.open(kernel, path).close())}`);
  kvmVfio.close();
  console.log(`without the KVM-VFIO device: ${outcome(() => VfioGroup.open(kernel, path).close())}`);
  kernel.close();
}
