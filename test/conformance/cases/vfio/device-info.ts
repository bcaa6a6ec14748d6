/** What a device says of itself: its regions, its interrupts, its configuration space as it is found. */
import type { Kernel } from 'kvio';
import {
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_RESET,
  VFIO_PCI_CONFIG_REGION_INDEX,
} from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { UNSAFE } from '../../machine.ts';
import { type Part, pci, show } from '../../parts.ts';
import { attempt, ConfigSpace, NOWHERE, openDevice, region, u32s, view, withDevices } from '../../vfio.ts';

/** The kinds of devices there are; `null`: no such region or interrupt. */
const models: readonly Part[] = ['edu', 'nvme', 'e1000e', 'testdev', 'shared edu', 'shared testdev', 'xhci'];

function deviceInfo(kernel: Kernel, see: Observer, device: number): void {
  const ask = (label: string, argsz: number): void => {
    const bytes = new Uint8Array(32).fill(0xee);
    bytes.set(u32s(argsz, 0xeeeeeeee));
    see.call(`GET_INFO, ${label}`, () => kernel.ioctl(device, VFIO_DEVICE_GET_INFO, bytes, UNSAFE));
    see.note(`left, ${label}`, bytes);
  };
  see.call('GET_INFO, pointer 0', () => kernel.ioctl(device, VFIO_DEVICE_GET_INFO, 0, UNSAFE));
  see.call('GET_INFO, a pointer to nowhere', () => kernel.ioctl(device, VFIO_DEVICE_GET_INFO, NOWHERE, UNSAFE));
  for (const argsz of [0, 15, 16, 19, 20, 23, 24, 32]) ask(`argsz ${argsz}`, argsz);
}

function regions(kernel: Kernel, see: Observer, device: number): void {
  const ask = (index: number, argsz = 64): unknown => {
    const bytes = new Uint8Array(64).fill(0xee);
    bytes.set(u32s(argsz, 0xdeadbeef, index, 0xcafe));
    const returned = attempt(() => kernel.ioctl(device, VFIO_DEVICE_GET_REGION_INFO, bytes, UNSAFE));
    if (returned !== 0) return returned;
    const data = view(bytes);
    return {
      argsz: data.getUint32(0, true),
      flags: data.getUint32(4, true),
      cap_offset: data.getUint32(12, true),
      size: data.getBigUint64(16, true),
      offset: data.getBigUint64(24, true),
      behind: bytes.slice(32),
    };
  };
  for (let index = 0; index < 10; index++) see.note(`region ${index}`, ask(index));
  see.note('region 0xffffffff', ask(0xffffffff));
  for (const argsz of [0, 31, 32, 39, 40, 47, 48])
    for (const index of [0, 3, 7]) see.note(`region ${index}, argsz ${argsz}`, ask(index, argsz));
  see.call('GET_REGION_INFO, pointer 0', () => kernel.ioctl(device, VFIO_DEVICE_GET_REGION_INFO, 0, UNSAFE));
  see.note('argsz too small, index too large', ask(99, 31));
}

function interrupts(kernel: Kernel, see: Observer, device: number): void {
  const ask = (index: number, argsz = 16): unknown => {
    const bytes = u32s(argsz, 0xdeadbeef, index, 0xcafe, 0xeeeeeeee);
    const returned = attempt(() => kernel.ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, bytes, UNSAFE));
    return { returned, bytes };
  };
  for (let index = 0; index < 6; index++) see.note(`interrupt ${index}`, ask(index));
  see.note('interrupt 0xffffffff', ask(0xffffffff));
  for (const argsz of [0, 15, 17, 1000]) see.note(`interrupt 1, argsz ${argsz}`, ask(1, argsz));
  see.note('argsz too small, index too large', ask(99, 15));
  see.call('GET_IRQ_INFO, pointer 0', () => kernel.ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, 0, UNSAFE));
}

/** Rows of 16 bytes, by their address; rows of zeros are left out. */
export function rows(bytes: Uint8Array): Record<string, string> {
  const found: Record<string, string> = {};
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.subarray(at, at + 16);
    if (row.some((byte) => byte !== 0)) found[at.toString(16).padStart(3, '0')] = Buffer.from(row).toString('hex');
  }
  return found;
}

/** Configuration space without the addresses the host gave: the type bits of BARs stay. The interrupt line is the host's, too. */
export function anonymous(config: Uint8Array): Uint8Array {
  const bytes = Uint8Array.from(config);
  const data = view(bytes);
  for (const at of [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30]) {
    const value = data.getUint32(at, true);
    data.setUint32(at, value & (at === 0x30 ? 1 : (value & 1) !== 0 ? 3 : 15), true);
  }
  bytes[0x3c] = 0;
  return bytes;
}

export function readAll(kernel: Kernel, device: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  kernel.pread(device, bytes, region(VFIO_PCI_CONFIG_REGION_INDEX));
  return bytes;
}

function fixture(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const size = [4096, 256].find((length) => attempt(() => config.bytes(length - 1, 1)[0]!) !== 'EFAULT')!;
  see.note('size', size);
  const found = readAll(kernel, device, size);
  see.note('configuration', rows(anonymous(found)));
  const hardware = show(kernel, `${pci(address!)}/resource`).split('\n');
  const bars = [0, 1, 2, 3, 4, 5].map((n) => view(found).getUint32(0x10 + 4 * n, true));
  see.note(
    'BARs hold the addresses of the host',
    bars.map((bar, n) => {
      const start = Number(BigInt(hardware[n]!.split(' ')[0]!) & 0xffffffffn);
      const mask = (bar & 1) !== 0 ? ~3 : ~15;
      return bar === 0 ? 'none' : (bar & mask) >>> 0 === (start & mask) >>> 0;
    }),
  );
  const line = Number(show(kernel, `${pci(address!)}/irq`));
  see.note('the interrupt line is the host’s, or what firmware left', line > 0 || found[0x3c] !== undefined);
  see.call('DEVICE_RESET', () => kernel.ioctl(device, VFIO_DEVICE_RESET));
  const after = readAll(kernel, device, size);
  see.note('the same after a reset', Buffer.compare(found, after) === 0);
}

function sysfs(kernel: Kernel, see: Observer, [address]: string[]): void {
  const read = (name: string): void => void see.call(name, () => show(kernel, `${pci(address!)}/${name}`));
  for (const name of ['vendor', 'device', 'subsystem_vendor', 'subsystem_device', 'class', 'revision']) read(name);
  for (const name of ['driver_override', 'reset_method', 'modalias', 'msi_bus', 'enable']) read(name);
  see.call('uevent', () => show(kernel, `${pci(address!)}/uevent`).split('\n'));
  see.note(
    'resource: sizes and flags',
    show(kernel, `${pci(address!)}/resource`)
      .split('\n')
      .map((line) => {
        const [start, end, flags] = line.split(' ').map(BigInt) as [bigint, bigint, bigint];
        return end === 0n ? 'none' : `${(end - start + 1n).toString(16)} ${flags.toString(16)}`;
      }),
  );
  const { device } = openDevice(kernel, address!);
  see.call('enable, the device open', () => show(kernel, `${pci(address!)}/enable`));
  kernel.close(device);
  see.call('enable, closed', () => show(kernel, `${pci(address!)}/enable`));
}

const each = (
  what: string,
  section: string,
  body: (kernel: Kernel, see: Observer, device: number) => void,
  of: readonly Part[] = models,
): Case[] =>
  of.map((part) =>
    withDevices(`vfio/device-info/${what} of ${part.replace(' ', '-')}`, section, [part], (kernel, see, [address]) =>
      body(kernel, see, openDevice(kernel, address!).device),
    ),
  );

export const deviceInfoCases: readonly Case[] = [
  ...each('info', 'Device information', deviceInfo, ['edu', 'nvme', 'e1000e', 'testdev']),
  ...each('regions', 'Regions', regions),
  ...each('interrupts', 'Interrupts', interrupts),
  ...models.map((part) =>
    withDevices(`vfio/device-info/fixture of ${part.replace(' ', '-')}`, 'Configuration space', [part], fixture),
  ),
  ...models.map((part) => withDevices(`vfio/device-info/sysfs of ${part.replace(' ', '-')}`, 'sysfs', [part], sysfs)),
];
