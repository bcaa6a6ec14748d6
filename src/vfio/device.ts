import { deviceOf, noteDevice, noteMapping } from '../host/holders.ts';
import { idOf, type ObjectId } from '../iommufd/object.ts';
import { type Descriptor, fdOf, fdOrNone } from '../kernel/descriptor.ts';
import { KernelError, rangeError } from '../kernel/errors.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Memory } from '../kernel/memory.ts';
import { type RfcRequest, rfcCall, rfcIoctl } from '../kernel/rfc.ts';
import { withMemory } from '../kernel/temporary.ts';
import type { FdKind } from '../uapi/ioctls.ts';
import { VFIO_DEVICE_BIND_IOMMUFD_PRIVATE, vfio_device_bind_iommufd } from '../uapi/tee-io/xu-jan25.ts';
import { VFIO_DEVICE_TSM_BIND, VFIO_DEVICE_TSM_UNBIND, vfio_pci_tsm_bind, vfio_pci_tsm_unbind } from '../uapi/tee-io/xu-may25.ts';
import * as v from '../uapi/vfio.ts';
import { decodeChain, getChained, type RawCapability } from './capabilities.ts';
import { ConfigSpace } from './config-space.ts';
import { uuidBytes, VfioDeviceFeatures } from './device-features.ts';
import { DmaBuf } from './dma-buf.ts';
import { Irqs } from './irqs.ts';
import { Region } from './region.ts';
import { printable } from './show.ts';

export interface DeviceInfo {
  /** VFIO_DEVICE_FLAGS_*. */
  readonly flags: number;
  readonly num_regions: number;
  readonly num_irqs: number;
  readonly caps: {
    /** VFIO_PCI_ATOMIC_COMP32 …: which atomic operations the path to the root completes. */
    readonly pci_atomic_comp?: { readonly flags: number };
    readonly other: readonly RawCapability[];
  };
}

export interface RegionInfo {
  /** VFIO_REGION_INFO_FLAG_*. */
  readonly flags: number;
  readonly index: number;
  /** In bytes; 0: there is no such region. */
  readonly size: bigint;
  /** In the device's descriptor. */
  readonly offset: bigint;
  readonly caps: {
    /** What of it can be mapped; absent: all. */
    readonly sparse_mmap?: readonly v.vfio_region_sparse_mmap_area[];
    /** Of a region of a device's own: VFIO_REGION_TYPE_*, VFIO_REGION_SUBTYPE_*. */
    readonly type?: { readonly type: number; readonly subtype: number };
    /** The BAR with the MSI-X table can be mapped, table and all. */
    readonly msix_mappable?: true;
    readonly other: readonly RawCapability[];
  };
}

export interface IrqInfo {
  /** VFIO_IRQ_INFO_*. */
  readonly flags: number;
  readonly index: number;
  readonly count: number;
}

/** `struct vfio_irq_set`: `data` is nothing, a u8 or an s32 for each of `count`, as `flags` say. */
export interface IrqSet {
  /** One VFIO_IRQ_SET_DATA_* and one VFIO_IRQ_SET_ACTION_*. */
  flags: number;
  index: number;
  start: number;
  count: number;
  data?: Uint8Array;
}

/** What a hot reset of a device hits. */
export interface PciHotResetInfo {
  /** VFIO_PCI_HOT_RESET_FLAG_*. */
  readonly flags: number;
  /** Of a device opened from its group `group_id`, of one opened by its own node `devid`: what it is called in its iommufd, 0 or VFIO_PCI_DEVID_NOT_OWNED. */
  readonly devices: readonly ({
    readonly segment: number;
    readonly bus: number;
    readonly devfn: number;
  } & ({ readonly group_id: number } | { readonly devid: number }))[];
}

/** To which iommufd a device is given, and how. */
export interface BindIommufd {
  iommufd: Descriptor;
  /** 16 bytes, or a UUID's text. */
  token?: string | Uint8Array;
  /** RFC (xuJan25): VFIO_DEVICE_BIND_IOMMUFD_PRIVATE. */
  private?: boolean;
}

/** A write to a BAR that the kernel makes whenever the eventfd is signalled. */
export interface DeviceIoeventfd {
  region: Region;
  /** In the region, in bytes. */
  at: number;
  width: 1 | 2 | 4;
  /** What is written. */
  data: bigint;
  /** null takes the same one (place, width and data) away. */
  fd: Descriptor | null;
}

/**
 * A device given to this process: from its group (`group.getDeviceFd`), or by its own node and bound to an iommufd. All descriptors of a device are the same device;
 * when the last one is closed, and the last mapping of it, it is reset and interrupts and configuration are forgotten.
 */
export class VfioDevice extends VfioDeviceFeatures {
  /** What it was opened by: `0000:01:00.0`, or its node; undefined for a descriptor from outside. */
  readonly name: string | undefined;
  #config: ConfigSpace | undefined;
  /** What it was given to. */
  #iommufd: Descriptor | undefined;

  constructor(kernel: Kernel, fd: number, name?: string) {
    super(kernel, fd);
    this.name = name;
    if (name !== undefined) noteDevice(kernel, name, this);
  }

  /** Opens `/dev/vfio/devices/vfioN` of this kernel, by number or path. Everything but `bindIommufd` is EINVAL until that is done. */
  static open(kernel: Kernel, node: number | string): VfioDevice {
    const path = typeof node === 'number' ? `/dev/vfio/devices/vfio${node}` : node;
    return new VfioDevice(kernel, kernel.open(path), path);
  }

  /** A device descriptor from outside. `close()` closes it; `kernel.close()` does not. */
  static fromFd(kernel: Kernel, fd: number): VfioDevice {
    return new VfioDevice(kernel, kernel.adopt(fd));
  }

  protected override get kind(): FdKind {
    return 'vfio-device';
  }

  /** VFIO_DEVICE_GET_INFO: kind of device, how many regions and interrupt indexes, whether it can be reset. */
  getInfo(): DeviceInfo {
    const empty = { argsz: 0, flags: 0, num_regions: 0, num_irqs: 0, cap_offset: 0 };
    const answer = getChained(this, v.VFIO_DEVICE_GET_INFO, v.vfio_device_info, empty);
    const { flags, num_regions, num_irqs } = answer.info;
    const caps = decodeChain<DeviceInfo['caps']>(answer, deviceCaps);
    return printable('vfio_device_info', { flags, num_regions, num_irqs, caps });
  }

  /** VFIO_DEVICE_GET_REGION_INFO: where a region is and what can be done with it. A region that is not there has size 0; EINVAL beyond the last one. */
  getRegionInfo(index: number): RegionInfo {
    const empty = { argsz: 0, flags: 0, index, cap_offset: 0, size: 0n, offset: 0n };
    const answer = getChained(this, v.VFIO_DEVICE_GET_REGION_INFO, v.vfio_region_info, empty);
    const { flags, size, offset } = answer.info;
    const caps = decodeChain<RegionInfo['caps']>(answer, regionCaps);
    return printable('vfio_region_info', { flags, index, size, offset, caps });
  }

  /** VFIO_DEVICE_GET_IRQ_INFO: how many vectors an index has, and what they can do. EINVAL: no such index, or ERR of a device without PCI Express. */
  getIrqInfo(index: number): IrqInfo {
    const bytes = v.vfio_irq_info.encode({ argsz: v.vfio_irq_info.size, flags: 0, index, count: 0 });
    this.ioctl(v.VFIO_DEVICE_GET_IRQ_INFO, bytes);
    const { flags, count } = v.vfio_irq_info.decode(bytes);
    return printable('vfio_irq_info', { flags, index, count });
  }

  /**
   * VFIO_DEVICE_SET_IRQS as it is; `device.irqs(index)` has its uses. Not always 0: above it, so many vectors could be had, and nothing is enabled.
   * EINVAL: beyond the last vector, not exactly one DATA, or another index is enabled. ENOTTY: not exactly one ACTION, or this index cannot be masked.
   */
  setIrqs({ data = new Uint8Array(0), ...irqs }: IrqSet): number {
    const argsz = v.vfio_irq_set.size + data.length;
    return this.ioctl(v.VFIO_DEVICE_SET_IRQS, v.vfio_irq_set.encode({ argsz, ...irqs, data }));
  }

  /** VFIO_DEVICE_RESET: this function alone; configuration and interrupts stay as they are. EINVAL: VFIO_DEVICE_FLAGS_RESET is not set. EAGAIN: in use just now. */
  reset(): void {
    this.ioctl(v.VFIO_DEVICE_RESET);
  }

  /** VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: the functions that a reset of the slot or bus hits. ENODEV: it cannot be reset (a root bus). */
  getPciHotResetInfo(): PciHotResetInfo {
    const struct = v.vfio_pci_hot_reset_info;
    for (let count = 1; ; ) {
      const bytes = struct.alloc(count);
      struct.view(bytes).argsz = bytes.length;
      try {
        this.ioctl(v.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, bytes);
        return hotResetInfo(struct.decode(bytes));
      } catch (error) {
        const needed = struct.view(bytes).count;
        if (!KernelError.isKernelError(error) || error.code !== 'ENOSPC' || needed <= count) throw error;
        count = needed;
      }
    }
  }

  /**
   * VFIO_DEVICE_PCI_HOT_RESET: resets slot or bus. `groups` prove that all it hits are this process's: the groups of all of them; none for a device opened by
   * its own node, whose iommufd says so. EINVAL: something is not covered.
   */
  pciHotReset(groups: readonly Descriptor[] = []): void {
    const group_fds = groups.map((group, i) => fdOf(group, `groups[${i}]`, this.kernel));
    const argsz = v.vfio_pci_hot_reset.size + 4 * group_fds.length;
    const bytes = v.vfio_pci_hot_reset.encode({ argsz, flags: 0, count: group_fds.length, group_fds });
    this.ioctl(v.VFIO_DEVICE_PCI_HOT_RESET, bytes);
  }

  /** VFIO_DEVICE_QUERY_GFX_PLANE: what a virtual graphics device shows: VFIO_GFX_PLANE_TYPE_* in `flags`. ENOTTY: it is none. */
  queryGfxPlane({ flags, drm_plane_type }: { flags: number; drm_plane_type: number }): v.vfio_device_gfx_plane_info {
    const struct = v.vfio_device_gfx_plane_info;
    const bytes = struct.alloc();
    Object.assign(struct.view(bytes), { argsz: struct.size, flags, drm_plane_type });
    this.ioctl(v.VFIO_DEVICE_QUERY_GFX_PLANE, bytes);
    return struct.decode(bytes);
  }

  /** VFIO_DEVICE_GET_GFX_DMABUF: the plane of this `dmabuf_id` as a dma-buf. */
  getGfxDmabuf(dmabuf_id: number): DmaBuf {
    return new DmaBuf(this.kernel, this.ioctl(v.VFIO_DEVICE_GET_GFX_DMABUF, Uint32Array.of(dmabuf_id)));
  }

  /**
   * VFIO_DEVICE_IOEVENTFD: each signal of an eventfd writes `data` to a place in a BAR, inside the kernel. EEXIST: it is there. ENODEV: there is none to take away. ENOSPC: 1000 of
   * them.
   */
  ioeventfd({ region, at, width, data, fd }: DeviceIoeventfd): void {
    if (region.device !== this && region.device.name !== this.name)
      throw rangeError(`region is one of ${region.device.name ?? 'another device'}, not of ${this.name ?? 'this one'}`);
    const struct = v.vfio_device_ioeventfd;
    const offset = region.offset + BigInt(at);
    this.ioctl(
      v.VFIO_DEVICE_IOEVENTFD,
      struct.encode({ argsz: struct.size, flags: width, offset, data, fd: fdOrNone(fd, 'fd', this.kernel) }),
    );
  }

  /**
   * VFIO_DEVICE_BIND_IOMMUFD, of a device opened by its own node: opens it, and gives it to this iommufd, in which the number that comes back is its id. `token`: where SR-IOV
   * wants one. There is no way back but `close()`. EBUSY: its group is open. EPERM: a driver of the host or another iommufd holds a device of the group. EINVAL: bound already.
   * `private` (RFC, xuJan25): BARs that could be mapped can neither be mapped nor read nor written, by anybody, until the device is closed. EFAULT: a kernel without the series.
   */
  bindIommufd({ iommufd, token, private: isPrivate = false }: BindIommufd): number {
    const dev_id = isPrivate ? this.#bindPrivate(fdOf(iommufd, 'iommufd', this.kernel)) : this.#bind(iommufd, token);
    this.#iommufd = iommufd;
    return dev_id;
  }

  #bind(iommufd: Descriptor, token: string | Uint8Array | undefined): number {
    const struct = v.vfio_device_bind_iommufd;
    const bind = (flags: number, token_uuid_ptr: bigint): number => {
      const bytes = struct.encode({
        ...{ argsz: struct.size, flags, iommufd: fdOf(iommufd, 'iommufd', this.kernel), out_devid: 0, token_uuid_ptr },
      });
      this.ioctl(v.VFIO_DEVICE_BIND_IOMMUFD, bytes);
      return struct.decode(bytes).out_devid;
    };
    if (token === undefined) return bind(0, 0n);
    return withMemory(this.kernel, uuidBytes(token), (address) => bind(v.VFIO_DEVICE_BIND_FLAG_TOKEN, address));
  }

  /**
   * VFIO_DEVICE_ATTACH_IOMMUFD_PT: the device's DMA, or that of one `pasid`, goes through this IOAS or page table (the object, or its id); the id of the page table it came to be. Attached already: it is replaced, of
   * all devices of the group at once. ENOENT: no such id. EADDRINUSE: something is mapped where this device may not reach. ENOTTY: a device opened from a group.
   */
  attachIommufdPt({ pt_id: pt, pasid }: { pt_id: ObjectId; pasid?: number }): number {
    const struct = v.vfio_device_attach_iommufd_pt;
    const flags = pasid === undefined ? 0 : v.VFIO_DEVICE_ATTACH_PASID;
    const pt_id = idOf(pt, 'pt_id', this.#iommufd);
    const bytes = struct.encode({ argsz: struct.size, flags, pt_id, pasid: pasid ?? 0 });
    this.ioctl(v.VFIO_DEVICE_ATTACH_IOMMUFD_PT, bytes);
    return struct.decode(bytes).pt_id;
  }

  /** VFIO_DEVICE_DETACH_IOMMUFD_PT: the device, or one `pasid`, reaches no memory. Not attached: nothing happens. */
  detachIommufdPt({ pasid }: { pasid?: number } = {}): void {
    const struct = v.vfio_device_detach_iommufd_pt;
    const flags = pasid === undefined ? 0 : v.VFIO_DEVICE_DETACH_PASID;
    this.ioctl(v.VFIO_DEVICE_DETACH_IOMMUFD_PT, struct.encode({ argsz: struct.size, flags, pasid: pasid ?? 0 }));
  }

  /**
   * VFIO_DEVICE_TSM_BIND (RFC, xuMay25): the TDI of this device becomes that of the VM the KVM-VFIO device named before `bindIommufd`; `vdevice` is what the VM knows it by. Its BARs are this
   * descriptor's alone until it is unbound. ENOENT: no such vdevice, or no VM. EBUSY: a BAR was mapped, read or written, or it is bound. EEXIST: bound by iommufd. EIO: the device refuses to be locked.
   */
  tsmBind({ vdevice }: { vdevice: number | { readonly id: number } }): void {
    const vdevice_id = typeof vdevice === 'number' ? vdevice : vdevice.id;
    rfcIoctl(this, TSM_BIND, vfio_pci_tsm_bind.encode({ argsz: vfio_pci_tsm_bind.size, flags: 0, vdevice_id, pad: 0 }));
  }

  /** VFIO_DEVICE_TSM_UNBIND (RFC, xuMay25): the TDI is CONFIG_UNLOCKED again and the BARs are anybody's. Not bound: nothing happens. */
  tsmUnbind(): void {
    rfcIoctl(this, TSM_UNBIND, vfio_pci_tsm_unbind.encode({ argsz: vfio_pci_tsm_unbind.size, flags: 0 }));
  }

  /** The region of this index (VFIO_DEVICE_GET_REGION_INFO), to read, write and map. */
  region(index: number): Region {
    return new Region(this, this.getRegionInfo(index));
  }

  /** The configuration space of a PCI device (VFIO_PCI_CONFIG_REGION_INDEX). */
  get config(): ConfigSpace {
    this.#config ??= new ConfigSpace(this, this.getRegionInfo(v.VFIO_PCI_CONFIG_REGION_INDEX));
    return this.#config;
  }

  /** The interrupts of this index (VFIO_DEVICE_GET_IRQ_INFO), to enable and wait for. */
  irqs(index: number): Irqs {
    return new Irqs(this, this.getIrqInfo(index));
  }

  /** pread(2) on the device: `offset` is a region's and what is meant in it. How many bytes: fewer at the region's end. */
  pread(into: Uint8Array, offset: number | bigint): number {
    return this.kernel.pread(this.fd, into, offset);
  }

  /** pwrite(2) on the device, as `pread`. */
  pwrite(from: Uint8Array, offset: number | bigint): number {
    return this.kernel.pwrite(this.fd, from, offset);
  }

  /** mmap(2) of the device, shared and without `bytes`: a touch may fault. The mapping keeps the device open. */
  mmap({ length, offset, prot }: { length: number | bigint; offset: number | bigint; prot: number }): Memory {
    const memory = this.kernel.mmap({ fd: this.descriptorToMap(), length, offset, prot, view: false });
    const name = this.name ?? deviceOf(this.kernel, this.fd);
    if (name !== undefined) noteMapping(this.kernel, name, memory);
    return memory;
  }

  /** The struct as it was before tokens: with more, the flag would say that there is one. */
  #bindPrivate(iommufd: number): number {
    const struct = vfio_device_bind_iommufd;
    const flags = VFIO_DEVICE_BIND_IOMMUFD_PRIVATE;
    const bytes = new Uint8Array(v.vfio_device_bind_iommufd.size);
    bytes.set(struct.encode({ argsz: struct.size, flags, iommufd, out_devid: 0 }));
    // EINVAL before there were tokens.
    const rfc = { series: 'xuJan25', what: 'VFIO_DEVICE_BIND_IOMMUFD_PRIVATE', unknown: ['EFAULT', 'EINVAL'] } as const;
    rfcCall(rfc, () => this.ioctl(v.VFIO_DEVICE_BIND_IOMMUFD, bytes));
    return struct.decode(bytes).out_devid;
  }

  protected override describe(): string {
    return `${this.name === undefined ? '' : `${this.name}, `}${super.describe()}`;
  }
}

const TSM_BIND: RfcRequest = { series: 'xuMay25', name: 'VFIO_DEVICE_TSM_BIND', request: VFIO_DEVICE_TSM_BIND };
const TSM_UNBIND: RfcRequest = { series: 'xuMay25', name: 'VFIO_DEVICE_TSM_UNBIND', request: VFIO_DEVICE_TSM_UNBIND };

const deviceCaps = {
  [v.VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP]: [
    'pci_atomic_comp',
    (bytes: Uint8Array, { at }: { at: number }) => ({ flags: v.vfio_device_info_cap_pci_atomic_comp.decode(bytes, at).flags }),
  ],
} as const;

const regionCaps = {
  [v.VFIO_REGION_INFO_CAP_SPARSE_MMAP]: [
    'sparse_mmap',
    (bytes: Uint8Array, { at }: { at: number }) => v.vfio_region_info_cap_sparse_mmap.decode(bytes, at).areas,
  ],
  [v.VFIO_REGION_INFO_CAP_TYPE]: [
    'type',
    (bytes: Uint8Array, { at }: { at: number }) => {
      const { type, subtype } = v.vfio_region_info_cap_type.decode(bytes, at);
      return { type, subtype };
    },
  ],
  [v.VFIO_REGION_INFO_CAP_MSIX_MAPPABLE]: ['msix_mappable', () => true],
} as const;

/** The union's member that is meant: which, the flags say. */
function hotResetInfo({ flags, devices }: v.vfio_pci_hot_reset_info): PciHotResetInfo {
  const byDevid = (flags & v.VFIO_PCI_HOT_RESET_FLAG_DEV_ID) !== 0;
  return printable('vfio_pci_hot_reset_info', {
    flags,
    devices: devices.map(({ group_id, segment, bus, devfn }) => {
      const where = { segment, bus, devfn };
      return byDevid ? { ...where, devid: group_id | 0 } : { ...where, group_id };
    }),
  });
}
