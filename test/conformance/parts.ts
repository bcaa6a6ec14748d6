/** The PCI devices cases ask for, by what they are and where scripts/lab/machines.mjs, and the simulator's machines of the same names, put them. */
import { type Kernel, KernelError } from 'kvio';
import { O_RDONLY, O_WRONLY } from 'kvio/uapi';

export const parts = {
  /** QEMU's teaching device: conventional PCI, one MSI vector, INTx, DMA, no reset method. */
  edu: { at: '0000:00:02.0', id: '1234:11e8' },
  'second edu': { at: '0000:00:03.0', id: '1234:11e8' },
  /** Behind a root port: PCIe with FLR, MSI-X in BAR 0, a 64-bit BAR. */
  nvme: { at: '0000:01:00.0', id: '1b36:0010' },
  /** Behind a root port: PCIe, INTx, MSI and MSI-X, extended capabilities, reset by PM. */
  e1000e: { at: '0000:02:00.0', id: '8086:10d3' },
  /** No interrupt pin, no capabilities, an I/O BAR. */
  testdev: { at: '0000:00:08.0', id: '1b36:0005' },
  /** Two functions behind a PCIe-to-PCI bridge: one group with the bridge. */
  'shared edu': { at: '0000:04:01.0', id: '1234:11e8' },
  'shared testdev': { at: '0000:04:01.1', id: '1b36:0005' },
  /** Two functions of a slot on the root bus: one group without a bridge. */
  'slot edu': { at: '0000:00:09.0', id: '1234:11e8' },
  'slot testdev': { at: '0000:00:09.1', id: '1b36:0005' },
  /** PCI Express on the root bus, so part of the root complex: INTx, 16 vectors of MSI, MSI-X in BAR 0, no reset method. */
  xhci: { at: '0000:00:18.0', id: '1033:0194' },
  /** In a slot behind a root port, of one machine only. */
  'express edu': { at: '0000:05:00.0', id: '1234:11e8' },
  'root port': { at: '0000:00:04.0', id: '1b36:000c' },
  bridge: { at: '0000:03:00.0', id: '1b36:000e' },
} as const;

export type Part = keyof typeof parts;

export const pci = (address: string): string => `/sys/bus/pci/devices/${address}`;

/** What a file of /sys or /proc says, without the last newline. */
export function show(kernel: Kernel, path: string): string {
  const fd = kernel.open(path, O_RDONLY);
  const chunks: Buffer[] = [];
  for (;;) {
    const chunk = Buffer.alloc(4096);
    const count = kernel.read(fd, chunk);
    if (count === 0) break;
    chunks.push(chunk.subarray(0, count));
  }
  kernel.close(fd);
  return Buffer.concat(chunks).toString('latin1').replace(/\n$/, '');
}

/** 16 bits of a device's own configuration space, as sysfs reads it. */
export function hardware16(kernel: Kernel, address: string, at: number): number {
  const fd = kernel.open(`${pci(address)}/config`, O_RDONLY);
  const bytes = new Uint8Array(2);
  kernel.pread(fd, bytes, at);
  kernel.close(fd);
  return bytes[0]! | (bytes[1]! << 8);
}

/** Writes a file of /sys in one write(2): the count it returned. */
export function store(kernel: Kernel, path: string, text: string): number {
  const fd = kernel.open(path, O_WRONLY);
  try {
    return kernel.write(fd, Buffer.from(text, 'latin1'));
  } finally {
    kernel.close(fd);
  }
}

/** What a link of /sys leads to, its last name; undefined where there is no such link. */
export function link(kernel: Kernel, path: string): string | undefined {
  try {
    return kernel.readlink(path).split('/').at(-1);
  } catch (error) {
    if (error instanceof KernelError) return undefined;
    throw error;
  }
}

/** The driver a device is bound to. */
export function driverOf(kernel: Kernel, address: string): string | undefined {
  return link(kernel, `${pci(address)}/driver`);
}

/** Binds a device to vfio-pci, as the documentation of driver_override has it. */
export function bindToVfio(kernel: Kernel, address: string): void {
  const before = driverOf(kernel, address);
  if (before === 'vfio-pci') return;
  if (before !== undefined) store(kernel, `${pci(address)}/driver/unbind`, address);
  store(kernel, `${pci(address)}/driver_override`, 'vfio-pci');
  store(kernel, '/sys/bus/pci/drivers_probe', address);
}

/** Takes vfio-pci away from a device again. */
export function unbindFromVfio(kernel: Kernel, address: string): void {
  if (driverOf(kernel, address) === 'vfio-pci') store(kernel, `${pci(address)}/driver/unbind`, address);
  store(kernel, `${pci(address)}/driver_override`, '\n');
}

/** Why a part is not here; undefined where it is. */
export function missingPart(kernel: Kernel, part: Part): string | undefined {
  const { at, id } = parts[part];
  try {
    const found = ['vendor', 'device'].map((name) => show(kernel, `${pci(at)}/${name}`).replace('0x', '')).join(':');
    return found === id ? undefined : `there is no ${part} at ${at}, but ${found}`;
  } catch (error) {
    if (error instanceof KernelError) return `there is no ${part} at ${at}`;
    throw error;
  }
}

/** The mediated sample device, and the names cases give to devices made of it. */
export const MTTY = '/sys/class/mdev_bus/mtty';
export const MDEVS = ['83b8f4f2-509f-382f-3c1e-e6bfe0fa1001', '83b8f4f2-509f-382f-3c1e-e6bfe0fa1002'] as const;

export const mdev = (uuid: string): string => `/sys/bus/mdev/devices/${uuid}`;

/** Whether a path leads anywhere. */
export function exists(kernel: Kernel, path: string): boolean {
  try {
    kernel.close(kernel.open(path, O_RDONLY));
    return true;
  } catch (error) {
    if (error instanceof KernelError) return error.code === 'EACCES';
    throw error;
  }
}

/** Takes away the mediated devices a case has left. */
export function removeMdevs(kernel: Kernel): void {
  for (const uuid of MDEVS) if (exists(kernel, `${mdev(uuid)}/uevent`)) store(kernel, `${mdev(uuid)}/remove`, '1');
}
