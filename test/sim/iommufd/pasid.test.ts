// Address spaces by PASID on a simulated IOMMU that has them: attached, replaced without a gap, detached (drivers/vfio/iommufd.c, drivers/iommu/iommu.c).
import { bindDriver, Iommufd, PCI_COMMAND_MASTER, PCI_EXT_CAP_ID_PASID, pciDevice, VfioDevice } from 'kvio';
import { openSim, PciFunction, profiles } from 'kvio/sim';
import { IOMMU_HWPT_ALLOC_PASID } from 'kvio/uapi';
import { expect, onTestFinished, test } from 'vitest';
import { thrown } from '../../vfio/fake.ts';

class Reader extends PciFunction {
  constructor() {
    super({
      ...{ vendor: 0x1234, device: 0x5678, class: 0xff0000, express: true, bars: { 0: { size: 0x1000, space: 'mem32' } } },
      extended: [{ id: PCI_EXT_CAP_ID_PASID, bytes: Uint8Array.of(0, 0x14, 0, 0) }],
    });
  }

  byte(iova: bigint, pasid?: number): number | undefined {
    return this.dma.read(iova, 1, pasid === undefined ? {} : { pasid })?.[0];
  }
}

test('a PASID is moved from one table to another, and the device’s own stays', () => {
  const [bdf, reader, lab] = ['0000:00:10.0', new Reader(), profiles['lab-vtd-7.2']!];
  const machine = { ...lab, iommu: { ...lab.iommu!, pasidBits: 20 } };
  const kernel = openSim({ machine, pci: [{ at: bdf, device: reader }] });
  onTestFinished(() => kernel.close());
  bindDriver(kernel, bdf, 'vfio-pci');
  const iommufd = Iommufd.open(kernel);
  const device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
  const dev_id = device.bindIommufd({ iommufd });
  device.config.setCommand(PCI_COMMAND_MASTER);
  const [own, first, second] = [0x11, 0x22, 0x33].map((value) => {
    const [ioas, ram] = [iommufd.ioasAlloc(), kernel.guestRam(0x1000)];
    ram.bytes.fill(value);
    ioas.map(ram, { iova: 0n });
    return iommufd.hwptAlloc({ dev_id, pt: ioas, flags: IOMMU_HWPT_ALLOC_PASID });
  });
  const seen = () => [undefined, 7, 8].map((pasid) => reader.byte(0n, pasid));
  device.attachIommufdPt({ pt_id: own! });
  expect(device.attachIommufdPt({ pt_id: first!, pasid: 7 })).toBe(first!.id);
  expect(seen()).toEqual([0x11, 0x22, undefined]);
  expect(device.attachIommufdPt({ pt_id: second!, pasid: 7 })).toBe(second!.id);
  expect(seen()).toEqual([0x11, 0x33, undefined]);
  first!.destroy();
  expect(thrown(() => second!.destroy())).toMatchObject({ code: 'EBUSY' });
  device.detachIommufdPt({ pasid: 7 });
  expect(seen()).toEqual([0x11, undefined, undefined]);
  second!.destroy();
});
