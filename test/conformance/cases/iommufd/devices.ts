/** Devices and what they are attached to: automatic tables, replacing, PASIDs. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { type Answer, buffer, Iommufd, MOCK, op } from '../../iommufd.ts';

const PAGE = 0x1000n;
const IOVA = 0x2000000n;
const { IOMMU_HWPT_ALLOC_NEST_PARENT: NEST, IOMMU_HWPT_ALLOC_PASID: PASID } = u;

function attach(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  see.note('to nothing', iommufd.mock(99));
  const first = iommufd.mock(ioas);
  see.note('to an IOAS', { ...first });
  see.note('to a device', iommufd.mock(first.idev).returned);
  const second = iommufd.mock(ioas);
  see.note('another shares the automatic table', { ...second });
  const third = iommufd.mock(first.hwpt);
  see.note('and one by its id', { ...third });
  see.note('unknown flags', iommufd.mock(99, 8).returned);
  see.note('flag 2', iommufd.mock(99, 2).returned);
  iommufd.destroy(first.stdev);
  iommufd.destroy(second.stdev);
  see.note('it stays with its last device', iommufd.destroy(first.hwpt));
  iommufd.destroy(third.stdev);
  see.note('and goes with it', iommufd.destroy(first.hwpt));
  const manual = iommufd.mock(ioas);
  const hwpt = iommufd.mustHwpt({ dev_id: manual.idev, pt_id: ioas });
  see.note('a table of its own is never taken by itself', iommufd.mock(ioas).hwpt === hwpt);
}

function replace(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const [ioas, other] = [iommufd.ioas(), iommufd.ioas()];
  const ram = buffer(kernel);
  const mock = iommufd.mock(ioas);
  see.note('mock', { ...mock });
  see.note('of no device', iommufd.replace(99, ioas));
  see.note('by nothing', iommufd.replace(mock.stdev, 99));
  see.note('by a device', iommufd.replace(mock.stdev, mock.idev));
  see.note('by the same IOAS', iommufd.replace(mock.stdev, ioas));
  see.note('by the same table', iommufd.replace(mock.stdev, mock.hwpt));
  see.note('by another IOAS', iommufd.replace(mock.stdev, other));
  see.note('the old table', iommufd.destroy(mock.hwpt));
  see.note('ranges of the old IOAS', iommufd.ranges(ioas).ranges);
  see.note('ranges of the new one', iommufd.ranges(other).ranges);
  iommufd.mapAt(ioas, ram.address, PAGE, PAGE);
  see.note('by one it does not fit', iommufd.replace(mock.stdev, ioas));
  see.note('it is where it was', iommufd.destroy(other));
  see.note('the next id', iommufd.ioas());
  iommufd.unmapAll(ioas);
  iommufd.mapAt(ioas, ram.address, IOVA, PAGE);
  const hwpt = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas });
  see.note('by a manual table', iommufd.replace(mock.stdev, hwpt) === hwpt);
  see.note('which translates', iommufd.checkMap(hwpt, IOVA, PAGE, ram.address));
  see.note('DESTROY of the first IOAS', iommufd.destroy(other));
  see.note('DESTROY of the table', iommufd.destroy(hwpt));
}

function pasids(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const plain = iommufd.mock(ioas);
  const device = iommufd.mock(ioas, 4);
  const fit = iommufd.mustHwpt({ dev_id: device.idev, pt_id: ioas, flags: PASID });
  const parent = iommufd.mustHwpt({ dev_id: device.idev, pt_id: ioas, flags: PASID | NEST });
  const unfit = iommufd.mustHwpt({ dev_id: device.idev, pt_id: ioas });
  const change = (operation: number, stdev: number, pasid: number, pt: number): Answer => {
    const { returned, view } = iommufd.test(operation, stdev, [
      [16, pasid],
      [20, pt],
    ]);
    return returned === 0 ? view.getUint32(20, true) : returned;
  };
  const add = (pasid: number, pt: number, stdev = device.stdev) => change(op.PASID_ATTACH, stdev, pasid, pt);
  const swap = (pasid: number, pt: number, stdev = device.stdev) => change(op.PASID_REPLACE, stdev, pasid, pt);
  const check = (pasid: number, hwpt: number) =>
    iommufd.test(op.PASID_CHECK_HWPT, device.stdev, [
      [16, pasid],
      [20, hwpt],
    ]).returned;
  const drop = (pasid: number, stdev = device.stdev) => iommufd.test(op.PASID_DETACH, stdev, [[16, pasid]]).returned;
  see.note('of no device', [add(100, fit, 99), swap(100, fit, 99), drop(100, 99)]);
  see.note('while the device has a table that is not fit', add(100, fit));
  see.note('the device to a fit one', iommufd.replace(device.stdev, fit) === fit);
  see.note('to an IOAS', add(100, ioas));
  see.note('to an unfit table', add(100, unfit));
  see.note('to nothing', add(100, 99));
  see.note('PASID 0 is the device', add(0, fit));
  see.note('beyond the limit', add(1 << 20, fit));
  see.note('the last', add((1 << 20) - 1, fit) === fit);
  see.note('PASID 100', add(100, fit) === fit);
  see.note('again', add(100, fit));
  see.note('to another', add(100, parent));
  see.note('checked', [check(100, fit), check(100, parent), check(101, 0), check(100, 0), check(100, 99), check(100, ioas)]);
  see.note('the device to an unfit table', iommufd.replace(device.stdev, unfit));
  see.note('the device to the IOAS', iommufd.replace(device.stdev, ioas));
  see.note('replaced', swap(100, parent) === parent);
  see.note('replaced by an unfit one', swap(100, unfit));
  see.note('replaced where there is none', swap(101, fit));
  see.note('DESTROY of the table', iommufd.destroy(parent));
  see.note('detached', [drop(100), drop(100), drop(101)]);
  see.note('DESTROY of the table now', iommufd.destroy(parent));
  see.note('PASID 1024, armed', add(1024, fit) === fit);
  const other = iommufd.mustHwpt({ dev_id: device.idev, pt_id: ioas, flags: PASID });
  see.note('PASID 1024, no memory', swap(1024, other));
  see.note('it has the old table', check(1024, fit));
  see.note('and once more', swap(1024, other) === other);
  see.note('all detached', [drop(1024), drop((1 << 20) - 1)]);
  see.note('the device to the IOAS now', typeof iommufd.replace(device.stdev, ioas));
  see.note('a device without PASIDs to a fit table', iommufd.replace(plain.stdev, fit) === fit);
  see.note('its PASID 1', add(1, fit, plain.stdev));
  see.note('nobody is left', [iommufd.destroy(plain.stdev), iommufd.destroy(device.stdev), iommufd.destroy(fit)]);
}

export const deviceCases: Case[] = [
  define('iommufd/devices/attach', 'Attach', attach, { needs: MOCK }),
  define('iommufd/devices/replace', 'Replace', replace, { needs: MOCK }),
  define('iommufd/devices/pasids', 'PASIDs', pasids, { needs: MOCK }),
];
