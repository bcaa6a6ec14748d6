/** VFIO by hand, as a C program would: binding through sysfs, then ioctls with the kernel's structs. */
import type { Kernel, Memory } from 'kvio';
import {
  O_WRONLY,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_SET_IRQS,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_PCI_CONFIG_REGION_INDEX,
  vfio_irq_info,
  vfio_irq_set,
  vfio_region_info,
} from 'kvio/uapi';

/** Where scripts/lab/machines.mjs puts them. */
export const FIRST_EDU = '0000:00:02.0';
export const SECOND_EDU = '0000:00:03.0';

export function pci(address: string): string {
  return `/sys/bus/pci/devices/${address}`;
}

function store(kernel: Kernel, path: string, text: string): void {
  const fd = kernel.open(path, O_WRONLY);
  kernel.write(fd, Buffer.from(text));
  kernel.close(fd);
}

function base(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** The driver a device is bound to. */
export function driverOf(kernel: Kernel, address: string): string | undefined {
  try {
    return base(kernel.readlink(`${pci(address)}/driver`));
  } catch {
    return undefined;
  }
}

/** Binds a device to vfio-pci, as the documentation of driver_override has it. */
export function bindToVfio(kernel: Kernel, address: string): void {
  const before = driverOf(kernel, address);
  if (before === 'vfio-pci') return;
  if (before !== undefined) store(kernel, `${pci(address)}/driver/unbind`, address);
  store(kernel, `${pci(address)}/driver_override`, 'vfio-pci');
  store(kernel, '/sys/bus/pci/drivers_probe', address);
}

export function unbind(kernel: Kernel, address: string): void {
  store(kernel, `${pci(address)}/driver/unbind`, address);
  store(kernel, `${pci(address)}/driver_override`, '\n');
}

export function groupOf(kernel: Kernel, address: string): string {
  return base(kernel.readlink(`${pci(address)}/iommu_group`));
}

/** The character device of a bound device: /dev/vfio/devices/vfioN. N is the lowest that was free; sysfs says whose it is. */
export function cdevOf(kernel: Kernel, address: string): string | undefined {
  for (let n = 0; n < 32; n++) {
    try {
      if (base(kernel.readlink(`/sys/class/vfio-dev/vfio${n}/device`)) === address) return `/dev/vfio/devices/vfio${n}`;
    } catch {
      // there is no such number now
    }
  }
  return undefined;
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

/** Vector 0 of an interrupt signals `eventfd`; without one the interrupt is torn down. */
export function setTrigger(kernel: Kernel, device: number, index: number, eventfd?: number): number {
  const data = eventfd === undefined ? new Uint8Array(0) : new Uint8Array(Int32Array.of(eventfd).buffer);
  const kind = eventfd === undefined ? VFIO_IRQ_SET_DATA_NONE : VFIO_IRQ_SET_DATA_EVENTFD;
  const bytes = vfio_irq_set.encode({
    argsz: vfio_irq_set.size + data.length,
    flags: kind | VFIO_IRQ_SET_ACTION_TRIGGER,
    index,
    start: 0,
    count: eventfd === undefined ? 0 : 1,
    data,
  });
  return kernel.ioctl(device, VFIO_DEVICE_SET_IRQS, bytes);
}

const COMMAND = 4n;
const COMMAND_MEMORY = 2;
const COMMAND_MASTER = 4;

/** The device's configuration space: reads and writes at the offset of its region. */
export class ConfigSpace {
  readonly #kernel: Kernel;
  readonly #device: number;
  readonly #offset: bigint;

  constructor(kernel: Kernel, device: number) {
    this.#kernel = kernel;
    this.#device = device;
    this.#offset = regionInfo(kernel, device, VFIO_PCI_CONFIG_REGION_INDEX).offset;
  }

  read16(at: bigint): number {
    const bytes = new Uint8Array(2);
    this.#kernel.pread(this.#device, bytes, this.#offset + at);
    return bytes[0]! | (bytes[1]! << 8);
  }

  write16(at: bigint, value: number): number {
    return this.#kernel.pwrite(this.#device, Uint8Array.of(value & 0xff, value >> 8), this.#offset + at);
  }

  /** Memory decoding and bus mastering on. */
  enable(): number {
    return this.write16(COMMAND, this.read16(COMMAND) | COMMAND_MEMORY | COMMAND_MASTER);
  }
}

/** A region mapped: accesses of exact width, no view, since a touch may fault. */
export function mapRegion(kernel: Kernel, device: number, index: number): Memory {
  const { size, offset } = regionInfo(kernel, device, index);
  return kernel.mmap({ fd: device, length: size, offset, view: false });
}
