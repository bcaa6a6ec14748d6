import { inspect } from 'node:util';
import { hex } from '../kernel/inspect.ts';
import { VFIO_REGION_INFO_FLAG_PRIVATE } from '../uapi/tee-io/xu-jan25.ts';
import * as v from '../uapi/vfio.ts';

type Names = Readonly<Record<string, number>>;

/** The flags of each struct, by the name they have behind its prefix. */
const flagNames: Readonly<Record<string, Names>> = {
  vfio_device_info: {
    RESET: v.VFIO_DEVICE_FLAGS_RESET,
    PCI: v.VFIO_DEVICE_FLAGS_PCI,
    PLATFORM: v.VFIO_DEVICE_FLAGS_PLATFORM,
    AMBA: v.VFIO_DEVICE_FLAGS_AMBA,
    CCW: v.VFIO_DEVICE_FLAGS_CCW,
    AP: v.VFIO_DEVICE_FLAGS_AP,
    FSL_MC: v.VFIO_DEVICE_FLAGS_FSL_MC,
    CAPS: v.VFIO_DEVICE_FLAGS_CAPS,
    CDX: v.VFIO_DEVICE_FLAGS_CDX,
  },
  vfio_region_info: {
    READ: v.VFIO_REGION_INFO_FLAG_READ,
    WRITE: v.VFIO_REGION_INFO_FLAG_WRITE,
    MMAP: v.VFIO_REGION_INFO_FLAG_MMAP,
    CAPS: v.VFIO_REGION_INFO_FLAG_CAPS,
    PRIVATE: VFIO_REGION_INFO_FLAG_PRIVATE,
  },
  vfio_irq_info: {
    EVENTFD: v.VFIO_IRQ_INFO_EVENTFD,
    MASKABLE: v.VFIO_IRQ_INFO_MASKABLE,
    AUTOMASKED: v.VFIO_IRQ_INFO_AUTOMASKED,
    NORESIZE: v.VFIO_IRQ_INFO_NORESIZE,
  },
  vfio_group_status: { VIABLE: v.VFIO_GROUP_FLAGS_VIABLE, CONTAINER_SET: v.VFIO_GROUP_FLAGS_CONTAINER_SET },
  vfio_iommu_type1_info: { PGSIZES: v.VFIO_IOMMU_INFO_PGSIZES, CAPS: v.VFIO_IOMMU_INFO_CAPS },
  vfio_pci_hot_reset_info: {
    DEV_ID: v.VFIO_PCI_HOT_RESET_FLAG_DEV_ID,
    DEV_ID_OWNED: v.VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED,
  },
};

/** `0x7 READ WRITE MMAP` */
export function flags(struct: string, value: number): string {
  const set = Object.entries(flagNames[struct] ?? {}).filter(([, bit]) => (value & bit) !== 0);
  return [hex(value), ...set.map(([name]) => name)].join(' ');
}

const as = (text: string): object => ({ [inspect.custom]: () => text });

function shown(value: unknown): unknown {
  if (typeof value === 'bigint' || (typeof value === 'number' && value > 9)) return as(hex(value));
  if (Array.isArray(value)) return value.map(shown);
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, shown(inner)]));
}

/** Numbers in hex and flags by name in `console.log`. It stays a plain object for everything else. */
export function printable<T extends { readonly flags: number }>(struct: string, value: T): T {
  return Object.defineProperty(value, inspect.custom, {
    value: (_depth: number, options: object, show: typeof inspect) => {
      const fields = { ...(shown({ ...value }) as object), flags: as(flags(struct, value.flags)) };
      return `${struct} ${show(fields, { ...options, depth: 4, breakLength: 150, compact: 16 })}`;
    },
  });
}
