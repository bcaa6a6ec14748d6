// vIOMMUs of AMD's IOMMU as Linux 7.2 has them: of any type, for ids alone. Read: the lab's kernel is built without (CONFIG_AMD_IOMMU_IOMMUFD).
import { bindDriver, Iommufd, pciDevice, VfioDevice } from 'kvio';
import { openSim, profiles } from 'kvio/sim';
import {
  IOMMU_HW_INFO_TYPE_AMD,
  IOMMU_HW_INFO_TYPE_INTEL_VTD,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  iommu_hw_info_amd,
} from 'kvio/uapi';
import { expect, it } from 'vitest';

const [NEST, DIRTY, PASID] = [IOMMU_HWPT_ALLOC_NEST_PARENT, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, IOMMU_HWPT_ALLOC_PASID];
const info = { type: IOMMU_HW_INFO_TYPE_AMD, bytes: iommu_hw_info_amd.encode({ efr: 0x1234n, efr2: 0x5678n }) };

function scene(hwInfo: typeof info | undefined) {
  const lab = profiles['lab-amd-7.2']!;
  const iommu = { ...lab.iommu!, nesting: true, dirtyTracking: true, pasidBits: 16, ...(hwInfo === undefined ? {} : { hwInfo }) };
  const kernel = openSim({ machine: { ...lab, iommu } });
  const bdf = '0000:00:02.0';
  bindDriver(kernel, bdf, 'vfio-pci');
  const iommufd = Iommufd.open(kernel);
  const device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
  const dev_id = device.bindIommufd({ iommufd });
  const ioas = iommufd.ioasAlloc();
  const alloc = (flags: number) => iommufd.hwptAlloc({ dev_id, pt: ioas, flags });
  return { iommufd, dev_id, alloc, device };
}

it('tables of a flag, or of parents that track; not of PASIDs besides', () => {
  const { alloc } = scene(info);
  for (const flags of [0, NEST, DIRTY, NEST | DIRTY, PASID]) expect(alloc(flags).id).toBeGreaterThan(0);
  for (const flags of [NEST | PASID, DIRTY | PASID]) expect(() => alloc(flags)).toThrow(/EOPNOTSUPP/);
});

it('a vIOMMU of any type, over a parent', () => {
  const { iommufd, dev_id, alloc } = scene(info);
  expect(iommufd.getHwInfo(dev_id)).toMatchObject({ type: IOMMU_HW_INFO_TYPE_AMD, amd: { efr: 0x1234n, efr2: 0x5678n } });
  expect(() => iommufd.getHwInfo(dev_id, IOMMU_HW_INFO_TYPE_INTEL_VTD)).toThrow(/EOPNOTSUPP/);
  const parent = alloc(NEST);
  expect(() => iommufd.viommuAlloc({ type: 0, dev_id, hwpt: parent })).toThrow(/EOPNOTSUPP/);
  expect(() => iommufd.viommuAlloc({ type: 7, dev_id, hwpt: alloc(0) })).toThrow(/EINVAL/);
  for (const type of [1, 2, 7]) expect(iommufd.viommuAlloc({ type, dev_id, hwpt: parent }).id).toBeGreaterThan(parent.id);
});

it('it has vDEVICEs and queues of events, which stay empty; neither tables, nor invalidations, nor hardware queues', () => {
  const { iommufd, dev_id, alloc } = scene(info);
  const parent = alloc(NEST);
  const viommu = iommufd.viommuAlloc({ type: 1, dev_id, hwpt: parent });
  viommu.vdeviceAlloc({ dev_id, virt_id: 1n << 40n });
  expect(viommu.veventqAlloc({ type: 1, veventq_depth: 1 }).read()).toEqual([]);
  const amd_guest = { dte: [3n, 0n, 0n, 0n] };
  expect(() => iommufd.hwptAlloc({ dev_id, pt: viommu, data: { amd_guest } })).toThrow(/EOPNOTSUPP/);
  expect(() => iommufd.hwptAlloc({ dev_id, pt: parent, data: { amd_guest } })).toThrow(/EOPNOTSUPP/);
  expect(() => viommu.invalidate({ arm_smmuv3: [{ cmd: [0x10n, 0n] }] })).toThrow(/EOPNOTSUPP/);
  expect(() => viommu.hwQueueAlloc({ type: 1, index: 0, nesting_parent_iova: 0n, length: 4096n })).toThrow(/EOPNOTSUPP/);
});

it('a kernel without them', () => {
  const { iommufd, dev_id, alloc } = scene(undefined);
  expect(iommufd.getHwInfo(dev_id)).toMatchObject({ type: 0, data: new Uint8Array() });
  expect(() => iommufd.viommuAlloc({ type: 1, dev_id, hwpt: alloc(NEST) })).toThrow(/EOPNOTSUPP/);
});

it('structs are named one at a time', () => {
  const { iommufd, dev_id, alloc } = scene(info);
  const both = { amd_guest: { dte: [0n, 0n, 0n, 0n] }, arm_smmuv3: { ste: [0n, 0n] } };
  for (const data of [{}, both, { type: 3 }])
    expect(() => iommufd.hwptAlloc({ dev_id, pt: alloc(NEST), data: data as never })).toThrow(/exactly one/);
  expect(() => iommufd.hwptAlloc({ dev_id, pt: alloc(NEST), data: { arm_smmuv3: {} as never } })).toThrow(TypeError);
  const viommu = iommufd.viommuAlloc({ type: 1, dev_id, hwpt: alloc(NEST) });
  expect(() => viommu.veventqAlloc({ type: 9, veventq_depth: 1 })).toThrow(/dataLength/);
});
