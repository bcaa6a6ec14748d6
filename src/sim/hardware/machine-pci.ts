import type { CmdqvMachine } from './smmuv3/cmdqv.ts';

/** One function of a machine, as data. */
export interface PciPlacement {
  /** '0000:00:02.0'. Behind a bridge the bus is the number firmware gives it. */
  readonly at: string;
  /** A model's name: 'edu', 'pcie-root-port', 'nvme' … */
  readonly model: string;
  readonly options?: Readonly<Record<string, unknown>>;
  /** The driver that binds at boot. */
  readonly driver?: string;
  /** BARs that firmware gives a place of their own. */
  readonly bars?: Readonly<Record<number, bigint>>;
  /** Firmware left bus mastering on: it looked for something to boot. */
  readonly master?: boolean;
}

export interface ReservedRegion {
  readonly start: bigint;
  /** Inclusive. */
  readonly last: bigint;
  readonly type: 'msi' | 'direct' | 'direct-relaxable' | 'reserved';
}

/** The IOMMU of a machine, as data. */
export interface IommuMachine {
  readonly kind: 'vtd' | 'amd' | 'smmuv3' | 'virtio' | 'none';
  /** Bit mask of page sizes. */
  readonly pageSizes: bigint;
  /** First and last IOVA a domain can map. */
  readonly aperture: readonly [first: bigint, last: bigint];
  /** IOMMU_CAP_CACHE_COHERENCY. */
  readonly coherent: boolean;
  /** A domain can enforce it against no-snoop requests (IOMMU_CAP_ENFORCE_CACHE_COHERENCY). */
  readonly enforceCoherency: boolean;
  readonly interruptRemapping: boolean;
  readonly reserved: readonly ReservedRegion[];
  readonly dirtyTracking: boolean;
  readonly pasidBits: number;
  /** Two stages: a page table of the guest's over one of the host's. Default: no. */
  readonly nesting?: boolean;
  /** sysfs `type` of a group on its default domain. */
  readonly defaultType: 'DMA' | 'DMA-FQ' | 'identity';
  /** Functions it does not translate: its own. */
  readonly unmanaged?: readonly string[];
  /** /sys/class/iommu/NAME, and the files of its folder for the kind; below the PCI function it is, where it is one. */
  readonly sysfs?: {
    readonly name: string;
    readonly group?: string;
    readonly files: Readonly<Record<string, string>>;
    readonly below?: string;
    /** The device on the bus that function makes: `virtio0`. */
    readonly via?: string;
  };
  /** What NVIDIA's Tegra241 has beside an SMMUv3 of two stages: command queues for VMs (CMDQ-V). Default: none. */
  readonly cmdqv?: CmdqvMachine;
  /** IOMMU_GET_HW_INFO: its type and bytes. Of an SMMUv3 the registers decide what it does. */
  readonly hwInfo?: { readonly type: number; readonly bytes: Uint8Array };
}
