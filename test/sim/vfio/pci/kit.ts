import { openSim, type SimKernel, type SimOptions } from '../../../../src/sim/index.ts';
import { machineOf } from '../../../../src/sim/profiles.ts';
import { EFD_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } from '../../../../src/uapi/sys.ts';
import * as v from '../../../../src/uapi/vfio.ts';
import { answer, join, words } from '../kit.ts';

export { answer, join, words };

export const CONFIG = 7n << 40n;
export const EDU = '0000:00:02.0';
export const NVME = '0000:01:00.0';
export const E1000E = '0000:02:00.0';
export const TESTDEV = '0000:00:08.0';
export const XHCI = '0000:00:18.0';

/** A descriptor of an assigned device, with what one mostly does to it. */
export class Opened {
  readonly kernel: SimKernel;
  readonly fd: number;

  constructor(kernel: SimKernel, fd: number) {
    this.kernel = kernel;
    this.fd = fd;
  }

  /** The errno by name, or the result. */
  call(request: number, arg: Uint8Array | bigint | number = 0): unknown {
    return answer(() => this.kernel.ioctl(this.fd, request, arg));
  }

  read(offset: bigint | number, length: number): string | unknown {
    const bytes = new Uint8Array(length);
    const result = answer(() => this.kernel.pread(this.fd, bytes, offset));
    return typeof result === 'number' ? Buffer.from(bytes.subarray(0, result)).toString('hex') : result;
  }

  write(offset: bigint | number, hex: string): unknown {
    return answer(() => this.kernel.pwrite(this.fd, Buffer.from(hex, 'hex'), offset));
  }

  config(offset: number, length: number): string | unknown {
    return this.read(CONFIG + BigInt(offset), length);
  }

  setConfig(offset: number, hex: string): unknown {
    return this.write(CONFIG + BigInt(offset), hex);
  }

  info(): v.vfio_device_info {
    const bytes = words(4, 24, 0, 0, 0, 0, 0);
    this.kernel.ioctl(this.fd, v.VFIO_DEVICE_GET_INFO, bytes);
    return v.vfio_device_info.decode(bytes);
  }

  region(index: number): string {
    const bytes = join(words(4, 128, 0, index, 0), words(8, 0, 0), new Uint8Array(96));
    const result = this.call(v.VFIO_DEVICE_GET_REGION_INFO, bytes);
    if (result !== 0) return String(result);
    const { flags, size } = v.vfio_region_info.decode(bytes);
    return `${flags.toString(16)}:${size.toString(16)}`;
  }

  irq(index: number): string {
    const bytes = words(4, 16, 0, index, 0);
    const result = this.call(v.VFIO_DEVICE_GET_IRQ_INFO, bytes);
    if (result !== 0) return String(result);
    const { flags, count } = v.vfio_irq_info.decode(bytes);
    return `${flags}:${count}`;
  }

  setIrqs(flags: number, index: number, start: number, count: number, data: readonly number[] = []): unknown {
    const bytes = flags & v.VFIO_IRQ_SET_DATA_BOOL ? Uint8Array.from(data) : words(4, ...data);
    return this.call(v.VFIO_DEVICE_SET_IRQS, join(words(4, 20 + bytes.length, flags, index, start, count), bytes));
  }

  feature(flags: number, data: Uint8Array = new Uint8Array(0), argsz: number = 8 + data.length): unknown {
    const bytes = join(words(4, argsz, flags), data);
    const result = this.call(v.VFIO_DEVICE_FEATURE, bytes);
    data.set(bytes.subarray(8));
    return result;
  }

  eventfd(): { fd: number; taken(): number } {
    const fd = this.kernel.eventfd(0, EFD_NONBLOCK);
    return { fd, taken: () => taken(this.kernel, fd) };
  }

  close(): void {
    this.kernel.close(this.fd);
  }
}

/** The count of an eventfd, which is 0 afterwards. */
export function taken(kernel: SimKernel, fd: number): number {
  const bytes = new Uint8Array(8);
  return answer(() => kernel.read(fd, bytes)) === 8 ? Number(new DataView(bytes.buffer).getBigUint64(0, true)) : 0;
}

export function store(kernel: SimKernel, path: string, text: string): unknown {
  return answer(() => {
    const fd = kernel.open(path, O_WRONLY);
    try {
      return kernel.write(fd, Buffer.from(text));
    } finally {
      kernel.close(fd);
    }
  });
}

export function show(kernel: SimKernel, path: string): string {
  const fd = kernel.open(path, O_RDONLY);
  const bytes = new Uint8Array(4096);
  const length = kernel.read(fd, bytes);
  kernel.close(fd);
  return Buffer.from(bytes.subarray(0, length)).toString();
}

export function bind(kernel: SimKernel, bdf: string): unknown {
  store(kernel, `/sys/bus/pci/devices/${bdf}/driver_override`, 'vfio-pci\n');
  return store(kernel, '/sys/bus/pci/drivers/vfio-pci/bind', bdf);
}

export function groupOf(kernel: SimKernel, bdf: string): string {
  return kernel.readlink(`/sys/bus/pci/devices/${bdf}/iommu_group`).split('/').at(-1)!;
}

export interface Assigned extends Opened {
  readonly container: number;
  readonly group: number;
}

export function lab(options: SimOptions = {}): SimKernel {
  return openSim({ machine: 'lab-vtd-7.2', ...options });
}

/** The lab's machine with younger models behind its root ports: those of the QEMU that the fixtures are from. */
export function younger(): SimKernel {
  const machine = machineOf('lab-vtd-7.2');
  const pci = machine.pci!.map((one) => ('extendedTag' in (one.options ?? {}) ? { ...one, options: {} } : one));
  return openSim({ machine: { ...machine, pci } });
}

/** Binds a device to vfio-pci and opens it through a container of its own. */
export function assign(kernel: SimKernel, bdf: string): Assigned {
  bind(kernel, bdf);
  const container = kernel.open('/dev/vfio/vfio', O_RDWR);
  const group = kernel.open(`/dev/vfio/${groupOf(kernel, bdf)}`, O_RDWR);
  kernel.ioctl(group, v.VFIO_GROUP_SET_CONTAINER, words(4, container));
  kernel.ioctl(container, v.VFIO_SET_IOMMU, v.VFIO_TYPE1v2_IOMMU);
  const opened = new Opened(kernel, openDevice(kernel, group, bdf));
  return Object.assign(opened, { container, group });
}

export function openDevice(kernel: SimKernel, group: number, name: string): number {
  return kernel.ioctl(group, v.VFIO_GROUP_GET_DEVICE_FD, Buffer.from(`${name}\0`));
}
