/** VFIO by hand, as a C program would: ioctls with the kernel's structs. Pointers are not guarded: most cases name what no memory has. */
import { type Kernel, KernelError, type Memory } from 'kvio';
import {
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_SET_IRQS,
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_NOIOMMU_IOMMU,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_SET_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  vfio_irq_info,
  vfio_irq_set,
  vfio_region_info,
} from 'kvio/uapi';
import { type Case, define, type Needs, NotHere, type Observer } from './case.ts';
import { UNSAFE } from './machine.ts';
import { bindToVfio, link, type Part, parts, pci, show } from './parts.ts';

/** Where no memory can be: of the kernel's half. EFAULT. */
export const NOWHERE = 0xffff_8000_0000_1000n;

export const RW: number = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

/** A case of devices, bound to vfio-pci before it begins. */
export function withDevices(
  name: string,
  section: string,
  pci: readonly Part[],
  body: (kernel: Kernel, see: Observer, addresses: string[]) => void | Promise<void>,
  more: { readonly needs?: Needs; readonly volatile?: readonly string[] } = {},
): Case {
  const run = (kernel: Kernel, see: Observer): void | Promise<void> => {
    const addresses = pci.map((part) => parts[part].at);
    for (const address of addresses) bindToVfio(kernel, address);
    return body(kernel, see, addresses);
  };
  return define(name, section, run, { ...more, needs: { devices: ['/dev/vfio/vfio'], pci, ...more.needs } });
}

/** Of a device behind an IOMMU. */
export const ASSISTED: { readonly needs: Needs } = { needs: { iommu: true } };

export const s32 = (...values: number[]): Uint8Array => new Uint8Array(Int32Array.from(values).buffer);

export const u32s = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);

export const u64s = (...values: (bigint | number)[]): Uint8Array =>
  new Uint8Array(BigUint64Array.from(values.map((value) => BigInt.asUintN(64, BigInt(value)))).buffer);

export const join = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));

export const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** The errno's name, or the value. */
export function attempt(make: () => number): string | number {
  try {
    return make();
  } catch (error) {
    if (error instanceof KernelError) return error.code;
    throw error;
  }
}

export function groupOf(kernel: Kernel, address: string): string {
  return link(kernel, `${pci(address)}/iommu_group`)!;
}

/** The group's node: its name says whether there is an IOMMU. */
export function groupPath(kernel: Kernel, address: string): string {
  const group = groupOf(kernel, address);
  const named = attempt(() => (show(kernel, `/sys/kernel/iommu_groups/${group}/name`) === 'vfio-noiommu' ? 1 : 0));
  return named === 1 ? `/dev/vfio/noiommu-${group}` : `/dev/vfio/${group}`;
}

/** The character device of a bound device: /dev/vfio/devices/vfioN. N is the lowest that was free; sysfs says whose it is. */
export function cdevOf(kernel: Kernel, address: string): string {
  for (let n = 0; n < 32; n++) {
    if (link(kernel, `/sys/class/vfio-dev/vfio${n}/device`) !== address) continue;
    if (attempt(() => show(kernel, `/sys/class/vfio-dev/vfio${n}/dev`).length) === 'ENOENT') break;
    return `/dev/vfio/devices/vfio${n}`;
  }
  throw new NotHere('this kernel has no VFIO cdev');
}

/** The number a device has among VFIO's, with or without a character device. */
export function vfioName(kernel: Kernel, address: string): string | undefined {
  return Array.from({ length: 32 }, (_, n) => `vfio${n}`).find(
    (name) => link(kernel, `/sys/class/vfio-dev/${name}/device`) === address,
  );
}

export const setContainer = (kernel: Kernel, group: number, container: number): number =>
  kernel.ioctl(group, VFIO_GROUP_SET_CONTAINER, s32(container));

export const getDevice = (kernel: Kernel, group: number, name: string): number =>
  kernel.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, Buffer.from(`${name}\0`));

/** VFIO_GROUP_GET_STATUS: its flags. */
export function status(kernel: Kernel, group: number): number {
  const bytes = u32s(8, 0xffff);
  kernel.ioctl(group, VFIO_GROUP_GET_STATUS, bytes);
  return view(bytes).getUint32(4, true);
}

export interface Opened {
  readonly container: number;
  readonly group: number;
  readonly device: number;
}

/** A container with the device's group in it, and its IOMMU set: type1 v2, or none where there is none. */
export function openGroup(kernel: Kernel, address: string, type?: number): Omit<Opened, 'device'> {
  const container = kernel.open('/dev/vfio/vfio');
  const path = groupPath(kernel, address);
  const group = kernel.open(path);
  setContainer(kernel, group, container);
  kernel.ioctl(container, VFIO_SET_IOMMU, type ?? (path.includes('noiommu') ? VFIO_NOIOMMU_IOMMU : VFIO_TYPE1v2_IOMMU));
  return { container, group };
}

export function openDevice(kernel: Kernel, address: string, type?: number): Opened {
  const { container, group } = openGroup(kernel, address, type);
  return { container, group, device: getDevice(kernel, group, address) };
}

export interface Dma {
  argsz?: number;
  flags?: number;
  vaddr?: bigint;
  iova?: bigint | number;
  size?: bigint | number;
}

/** VFIO_IOMMU_MAP_DMA. */
export function mapDma(
  kernel: Kernel,
  container: number,
  { argsz = 32, flags = RW, vaddr = 0n, iova = 0, size = 0 }: Dma,
): number {
  return kernel.ioctl(container, VFIO_IOMMU_MAP_DMA, join(u32s(argsz, flags), u64s(vaddr, iova, size)), UNSAFE);
}

/** VFIO_IOMMU_UNMAP_DMA: what it returned and the size it left. `bitmap` is struct vfio_bitmap: page size, size, address. */
export function unmapDma(
  kernel: Kernel,
  container: number,
  { argsz, flags = 0, iova = 0, size = 0, bitmap }: Dma & { bitmap?: readonly (bigint | number)[] },
): { returned: string | number; size: bigint } {
  const bytes = join(u32s(argsz ?? (bitmap ? 48 : 24), flags), u64s(iova, size, ...(bitmap ?? [0, 0, 0])));
  const returned = attempt(() => kernel.ioctl(container, VFIO_IOMMU_UNMAP_DMA, bytes, UNSAFE));
  return { returned, size: view(bytes).getBigUint64(16, true) };
}

export function regionInfo(kernel: Kernel, device: number, index: number): ReturnType<typeof vfio_region_info.decode> {
  const bytes = vfio_region_info.encode({ argsz: vfio_region_info.size, flags: 0, index, cap_offset: 0, size: 0n, offset: 0n });
  kernel.ioctl(device, VFIO_DEVICE_GET_REGION_INFO, bytes);
  return vfio_region_info.decode(bytes);
}

export function irqInfo(kernel: Kernel, device: number, index: number): ReturnType<typeof vfio_irq_info.decode> {
  const bytes = vfio_irq_info.encode({ argsz: vfio_irq_info.size, flags: 0, index, count: 0 });
  kernel.ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, bytes);
  return vfio_irq_info.decode(bytes);
}

export interface IrqSet {
  argsz?: number;
  flags: number;
  index: number;
  start?: number;
  count?: number;
  data?: Uint8Array;
}

/** VFIO_DEVICE_SET_IRQS. */
export function setIrqs(kernel: Kernel, device: number, set: IrqSet): number {
  const { flags, index, start = 0, count = 0, data = new Uint8Array(0), argsz = vfio_irq_set.size + data.length } = set;
  return kernel.ioctl(device, VFIO_DEVICE_SET_IRQS, join(u32s(argsz, flags, index, start, count), data), UNSAFE);
}

/** Vector 0 of an interrupt signals `eventfd`; without one the interrupt is torn down. */
export function setTrigger(kernel: Kernel, device: number, index: number, eventfd?: number): number {
  const kind = eventfd === undefined ? VFIO_IRQ_SET_DATA_NONE : VFIO_IRQ_SET_DATA_EVENTFD;
  const data = eventfd === undefined ? new Uint8Array(0) : s32(eventfd);
  return setIrqs(kernel, device, { flags: kind | VFIO_IRQ_SET_ACTION_TRIGGER, index, count: data.length / 4, data });
}

/** The count of an eventfd made with EFD_NONBLOCK, which is 0 then; 0 where nothing came. */
export function taken(kernel: Kernel, eventfd: number): number {
  const bytes = new Uint8Array(8);
  return attempt(() => kernel.read(eventfd, bytes)) === 8 ? Number(view(bytes).getBigUint64(0, true)) : 0;
}

/** Waits for an event, but not for ever: the count, 0 where nothing came. */
export async function awaited(kernel: Kernel, eventfd: number, milliseconds = 20_000): Promise<number> {
  const end = Date.now() + milliseconds;
  for (;;) {
    const count = taken(kernel, eventfd);
    if (count !== 0 || Date.now() > end) return count;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** VFIO_DEVICE_FEATURE: what it returned; `bytes` is the whole struct, changed. */
export const feature = (kernel: Kernel, device: number, bytes: Uint8Array): number =>
  kernel.ioctl(device, VFIO_DEVICE_FEATURE, bytes, UNSAFE);

/** The offset of a region: `index << 40`. */
export const region = (index: number, at: bigint | number = 0): bigint => (BigInt(index) << 40n) + BigInt(at);

const COMMAND = 4;
const COMMAND_MEMORY = 2;
const COMMAND_MASTER = 4;

/** The device's configuration space: reads and writes at the offset of its region. */
export class ConfigSpace {
  readonly #kernel: Kernel;
  readonly #device: number;

  constructor(kernel: Kernel, device: number) {
    this.#kernel = kernel;
    this.#device = device;
  }

  bytes(at: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.#kernel.pread(this.#device, bytes, region(VFIO_PCI_CONFIG_REGION_INDEX, at));
    return bytes;
  }

  put(at: number, ...bytes: number[]): number {
    return this.#kernel.pwrite(this.#device, Uint8Array.from(bytes), region(VFIO_PCI_CONFIG_REGION_INDEX, at));
  }

  read8(at: number): number {
    return this.bytes(at, 1)[0]!;
  }

  read16(at: number): number {
    return view(this.bytes(at, 2)).getUint16(0, true);
  }

  read32(at: number): number {
    return view(this.bytes(at, 4)).getUint32(0, true);
  }

  write16(at: number, value: number): number {
    return this.put(at, value & 0xff, value >> 8);
  }

  write32(at: number, value: number): number {
    return this.put(at, ...u32s(value));
  }

  /** Memory decoding and bus mastering on. */
  enable(): number {
    return this.write16(COMMAND, this.read16(COMMAND) | COMMAND_MEMORY | COMMAND_MASTER);
  }

  /** The standard capability of this id: where it is; 0 where there is none. */
  find(id: number): number {
    for (let at = this.read8(0x34), left = 48; at !== 0 && left > 0; at = this.read8(at + 1), left--)
      if (this.read8(at) === id) return at;
    return 0;
  }
}

/** A region mapped: accesses of exact width, no view, since a touch may fault. */
export function mapRegion(kernel: Kernel, device: number, index: number): Memory {
  const { size, offset } = regionInfo(kernel, device, index);
  return kernel.mmap({ fd: device, length: size, offset, view: false });
}
