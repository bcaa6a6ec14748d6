import { IOMMU_HW_INFO_TYPE_ARM_SMMUV3, iommu_hw_info_arm_smmuv3 } from '../../uapi/iommufd.ts';
import type { IommuMachine } from '../hardware/machine-pci.ts';
import type { Machine } from '../machine.ts';
import { labVtd72 } from './lab-7.2.ts';

/**
 * The devices of 'lab-vtd-7.2' behind an SMMUv3 with everything a VM's own tables need. Read, not observed: the registers are those of no implementation, and what the driver makes of them is that of
 * 7.2. The processor and KVM are still the lab's.
 */

/** Both stages, VMSAv8-64 only, flags of tables by hardware, 16-bit ASIDs and VMIDs, two-level tables, little endian, nothing stalls. */
const IDR0 =
  0x3 |
  (0x2 << 2) |
  (1 << 4) |
  (0x2 << 6) |
  (1 << 10) |
  (1 << 12) |
  (1 << 18) |
  (1 << 19) |
  (0x2 << 21) |
  (0x1 << 24) |
  (0x1 << 27);
/** 16-bit StreamIDs, 20-bit SubstreamIDs, queues of 2^16 entries at most, 2^19 commands. */
const IDR1 = 16 | (20 << 6) | (16 << 11) | (16 << 16) | (19 << 21);
/** Hierarchical attributes can be disabled, the second stage forces write-back, small tables, ranges of invalidations. */
const IDR3 = (1 << 2) | (1 << 8) | (1 << 9) | (1 << 10);
/** 48 bits, granules of 4, 16 and 64 KiB. */
const IDR5 = 0x5 | (0x7 << 4);
/** SMMUv3.2. */
const AIDR = 0x02;

const softwareMsi = { start: 0x800_0000n, last: 0x80f_ffffn, type: 'msi' } as const;

const iommu: IommuMachine = {
  kind: 'smmuv3',
  pageSizes: 0x4020_1000n,
  aperture: [0n, 0xffff_ffff_ffffn],
  coherent: true,
  enforceCoherency: true,
  interruptRemapping: true,
  reserved: [softwareMsi],
  dirtyTracking: true,
  pasidBits: 20,
  nesting: true,
  defaultType: 'DMA',
  sysfs: { name: 'smmu3.0x0000000009050000', files: {} },
  hwInfo: {
    type: IOMMU_HW_INFO_TYPE_ARM_SMMUV3,
    bytes: iommu_hw_info_arm_smmuv3.encode({ flags: 0, __reserved: 0, idr: [IDR0, IDR1, 0, IDR3, 0, IDR5], iidr: 0, aidr: AIDR }),
  },
};

export const smmuv372: Machine = { ...labVtd72, name: 'smmuv3-7.2', iommu, iommufdTest: false };
