/** What iommufd of a released kernel answers to the requests, flags and types of confidential device assignment that exist as posted series only. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, define, type Needs, type Observer } from '../../case.ts';
import { attempt, IOMMUFD, Iommufd, MOCK, U64_MAX } from '../../iommufd.ts';
import { newVm, UNSAFE } from '../../machine.ts';
import { guestMemfd } from '../../private.ts';

const section = 'TEE-IO';
const { teeIo } = u;
const MOCK_KVM: Needs = { ...MOCK, devices: ['/dev/iommu', '/dev/kvm'] };
const MOCK_TYPE = 0xdeadbeef;

/** Every word of theirs, with the size of each struct that was ever behind it, and all fields ids nobody has. */
function requests(kernel: Kernel, see: Observer): void {
  const { fd } = new Iommufd(kernel);
  const ask = (request: number, size: number): unknown => {
    const bytes = new Uint8Array(64);
    const view = new DataView(bytes.buffer);
    for (let at = 4; at < size; at += 4) view.setUint32(at, 99, true);
    view.setUint32(0, size, true);
    return attempt(() => kernel.ioctl(fd, request, bytes, UNSAFE));
  };
  for (const [what, request, ...sizes] of [
    ['TSM_BIND of SEV-TIO v2', teeIo.aikV2.IOMMU_VDEVICE_TSM_BIND, 4, 24],
    [
      'TSM_GUEST_REQUEST of SEV-TIO v2 and of May 2025, TSM_BIND of May 2025',
      teeIo.xuMay25.IOMMU_VDEVICE_TSM_GUEST_REQUEST,
      8,
      44,
      48,
    ],
    ['TSM_OP', teeIo.aneeshV1.IOMMU_VDEVICE_TSM_OP, 4, 8, 16],
    ['TSM_GUEST_REQUEST, TSM_REQ', teeIo.aneeshV5.IOMMU_VDEVICE_TSM_REQ, 4, 40, 48],
    ['TSM_MAP', teeIo.aneeshV1.IOMMU_VDEVICE_TSM_MAP, 4, 28, 32],
    ['0x98', 0x3b98, 4, 16],
  ] as const)
    for (const size of sizes) see.note(`${what}, ${size} bytes`, ask(request, size));
}

/** Where the table of requests goes on to IOMMU_TEST_CMD, the numbers between are looked at only after the size. */
function insideTheTable(kernel: Kernel, see: Observer): void {
  const { fd } = new Iommufd(kernel);
  for (let nr = 0x95; nr < 0x98; nr++)
    see.call(`0x${nr.toString(16)}, pointer 0`, () => kernel.ioctl(fd, 0x3b00 | nr, 0, UNSAFE));
}

function exclusiveRanges(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const option = teeIo.aneeshV1.IOMMU_OPTION_EXCLUSIVE_RANGES;
  see.note('GET', iommufd.option(option, u.IOMMU_OPTION_OP_GET, 0));
  see.note('SET', iommufd.option(option, u.IOMMU_OPTION_OP_SET, 0, 1n));
  see.note('SET of an object nobody has', iommufd.option(option, u.IOMMU_OPTION_OP_SET, 99, 1n));
  see.note('SET to 2', iommufd.option(option, u.IOMMU_OPTION_OP_SET, 0, 2n));
  see.note('another operation', iommufd.option(option, 2, 0));
}

function exclusiveRangesOfDevice(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const { idev } = iommufd.mock(iommufd.ioas());
  const option = teeIo.aneeshV1.IOMMU_OPTION_EXCLUSIVE_RANGES;
  see.note('GET', iommufd.option(option, u.IOMMU_OPTION_OP_GET, idev));
  see.note('SET', iommufd.option(option, u.IOMMU_OPTION_OP_SET, idev, 1n));
}

/** A vIOMMU with the VM it belongs to: flag 1, in 40 bytes and in 48. */
function viommu(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const { idev } = iommufd.mock(iommufd.ioas());
  const parent = iommufd.mustHwpt({ dev_id: idev, pt_id: iommufd.ioas(), flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT });
  const vm = newVm(kernel);
  const struct = teeIo.aneeshV1.iommu_viommu_alloc;
  const ask = (label: string, fields: object, length: number = struct.size): void => {
    const base = { type: MOCK_TYPE, dev_id: idev, hwpt_id: parent, size: length };
    const { returned, out } = iommufd.call(u.IOMMU_VIOMMU_ALLOC, struct, { ...base, ...fields }, length);
    see.note(label, returned === 0 ? { id: out.out_viommu_id > 0 } : returned);
  };
  const { IOMMU_VIOMMU_KVM_FD } = teeIo.aneeshV1;
  ask('40 bytes', {}, 40);
  ask('48 bytes, zeros behind', {});
  ask('48 bytes, a descriptor behind', { kvm_vm_fd: vm });
  ask('KVM_FD, 40 bytes', { flags: IOMMU_VIOMMU_KVM_FD }, 40);
  ask('KVM_FD', { flags: IOMMU_VIOMMU_KVM_FD, kvm_vm_fd: vm });
  ask('KVM_FD, a descriptor nobody has', { flags: IOMMU_VIOMMU_KVM_FD, kvm_vm_fd: -1 });
  for (const type of [
    u.IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
    teeIo.aikV2.IOMMU_VIOMMU_TYPE_TSM,
    teeIo.ccaV4.IOMMU_VIOMMU_TYPE_ARM_REALM_SMMUV3,
  ])
    ask(`type ${type}`, { type }, 40);
}

/** A guest_memfd is no memory a device can be given … */
function mapGuestMemfd(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas_id = iommufd.ioas();
  const vm = newVm(kernel);
  const fd = see.descriptor('CREATE_GUEST_MEMFD', () => guestMemfd(kernel, vm, 0x4000n));
  see.note('MAP_FILE', iommufd.mapFile({ ioas_id, fd, start: 0n, length: 0x4000n }));
  see.note('MAP_FILE of a VM', iommufd.mapFile({ ioas_id, fd: vm, start: 0n, length: 0x4000n }));
  see.note('what is mapped', iommufd.unmap(ioas_id, 0n, U64_MAX));
}

/** … which shows as soon as there is a page table to be filled. */
function mapGuestMemfdForDevice(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas_id = iommufd.ioas();
  iommufd.mock(ioas_id);
  const fd = guestMemfd(kernel, newVm(kernel), 0x4000n);
  see.note('MAP_FILE', iommufd.mapFile({ ioas_id, fd, start: 0n, length: 0x4000n }));
  const other = iommufd.ioas();
  see.note('MAP_FILE where no device is', iommufd.mapFile({ ioas_id: other, fd, start: 0n, length: 0x4000n }));
  see.note('a device there', iommufd.mock(other).returned);
}

export const teeIoIommufdCases: readonly Case[] = [
  define('iommufd/tee-io/requests', section, requests, { needs: IOMMUFD }),
  define('iommufd/tee-io/inside-the-table', section, insideTheTable, { needs: MOCK }),
  define('iommufd/tee-io/exclusive-ranges', section, exclusiveRanges, { needs: IOMMUFD }),
  define('iommufd/tee-io/exclusive-ranges-of-a-device', section, exclusiveRangesOfDevice, { needs: MOCK }),
  define('iommufd/tee-io/viommu', section, viommu, { needs: MOCK_KVM }),
  define('iommufd/tee-io/map-guest-memfd', section, mapGuestMemfd, { needs: { devices: ['/dev/iommu', '/dev/kvm'] } }),
  define('iommufd/tee-io/map-guest-memfd-for-a-device', section, mapGuestMemfdForDevice, { needs: MOCK_KVM }),
];
