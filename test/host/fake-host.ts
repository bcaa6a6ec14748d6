import { KernelCore } from '../../src/kernel/core.ts';
import { FakeBackend } from '../kernel/fake-backend.ts';

const ENOENT = 2;
const EBADF = 9;
const EBUSY = 16;
const ENODEV = 19;
const EINVAL = 22;

export interface FakeDevice {
  readonly id: string;
  readonly class?: string;
  readonly group?: number;
  driver?: string;
  override?: string;
  /** Drivers whose probe fails, with what. */
  readonly refuses?: Readonly<Record<string, number>>;
}

const DEVICE = /^\/sys\/bus\/pci\/devices\/([^/]+)(?:\/(.+))?$/;
const DRIVER = /^\/sys\/bus\/pci\/drivers\/([^/]+)\/(bind|unbind)$/;
const GROUP = /^\/sys\/kernel\/iommu_groups\/(\d+)\/(.+)$/;
const PARAMETER = '/sys/module/vfio/parameters/enable_unsafe_noiommu_mode';

/** A /sys with PCI devices that can be bound, as drivers/base does it, and where each step can be made to fail. */
export class FakeHost extends FakeBackend {
  readonly devices: Map<string, FakeDevice>;
  readonly drivers = new Set(['vfio-pci', 'e1000e', 'pci-stub']);
  /** What this process has open: descriptor to device. */
  readonly held: Map<number, string> = new Map();
  noIommu = 'N';
  /** Every write that was accepted, as `what value`. */
  readonly writes: string[] = [];
  readonly #opened: Map<number, string> = new Map();

  constructor(devices: Readonly<Record<string, FakeDevice>>) {
    super();
    this.devices = new Map(Object.entries(devices));
  }

  get kernel(): KernelCore {
    return new KernelCore(this, 'a test');
  }

  override open = (path: string): number => {
    if (this.#read(path) === undefined && !this.#writable(path)) return -ENOENT;
    const fd = this.next++;
    this.#opened.set(fd, path);
    return fd;
  };

  override close = (fd: number): number => (this.#opened.delete(fd) ? 0 : -EBADF);

  override read = (fd: number, into?: Uint8Array): number => {
    const bytes = Buffer.from(`${this.#read(this.#opened.get(fd)!)}\n`);
    into!.set(bytes);
    return bytes.length;
  };

  override write = (fd: number, from?: Uint8Array): number => {
    const path = this.#opened.get(fd)!;
    const text = Buffer.from(from!).toString();
    const result = this.#write(path, text.trim());
    if (result < 0) return result;
    this.writes.push(`${path.replace(/^\/sys\/bus\/pci\//, '')} ${text.trim()}`.trim());
    return from!.length;
  };

  override readlink = (path?: string): string => {
    const [, bdf = '', name] = DEVICE.exec(path!) ?? [];
    const device = this.devices.get(bdf);
    const held = /^\/proc\/self\/fd\/(\d+)$/.exec(path!)?.[1];
    const target =
      held !== undefined && this.held.has(Number(held))
        ? 'anon_inode:[vfio-device]'
        : name === 'driver'
          ? device?.driver
          : name === 'iommu_group'
            ? device?.group?.toString()
            : undefined;
    return target === undefined ? (-ENOENT as never) : target;
  };

  override readdir = (path: string): string[] | number => {
    if (path === '/sys/bus/pci/devices') return [...this.devices.keys()];
    if (path === '/proc/self/fd') return [...this.held.keys()].map(String);
    const groups = [...new Set([...this.devices.values()].flatMap(({ group }) => group ?? []))];
    if (path === '/sys/kernel/iommu_groups') return groups.map(String);
    const group = /^\/sys\/kernel\/iommu_groups\/(\d+)\/devices$/.exec(path)?.[1];
    if (group !== undefined) return [...this.devices].filter(([, one]) => one.group === Number(group)).map(([bdf]) => bdf);
    const [, bdf = '', name] = DEVICE.exec(path) ?? [];
    return name === 'vfio-dev' && this.devices.get(bdf)?.driver === 'vfio-pci' ? ['vfio0'] : -ENOENT;
  };

  #read(path: string): string | undefined {
    if (path === PARAMETER) return this.noIommu;
    const fdinfo = /^\/proc\/self\/fdinfo\/(\d+)$/.exec(path)?.[1];
    if (fdinfo !== undefined) return `pos:\t0\nvfio-device-syspath: /sys/devices/pci0000:00/${this.held.get(Number(fdinfo))}`;
    const [, id, file] = GROUP.exec(path) ?? [];
    if (id !== undefined) return { type: 'DMA', reserved_regions: '0x00000000fee00000 0x00000000feefffff msi' }[file!];
    const [, bdf = '', name = ''] = DEVICE.exec(path) ?? [];
    const device = this.devices.get(bdf);
    if (device === undefined) return undefined;
    const [vendor, code] = device.id.split(':');
    return {
      vendor: `0x${vendor}`,
      device: `0x${code}`,
      subsystem_vendor: '0x0000',
      subsystem_device: '0x0000',
      class: `0x${device.class ?? '020000'}`,
      revision: '0x00',
      driver_override: device.override ?? '(null)',
      resource:
        '0x00000000fe840000 0x00000000fe85ffff 0x0000000000040200\n0x0000000000000000 0x0000000000000000 0x0000000000000000',
    }[name];
  }

  #writable(path: string): boolean {
    return this.drivers.has(DRIVER.exec(path)?.[1] ?? '');
  }

  #write(path: string, text: string): number {
    if (path === PARAMETER) {
      this.noIommu = text;
      return 0;
    }
    const [, bdf = '', name] = DEVICE.exec(path) ?? [];
    if (name === 'driver_override') {
      const device = this.devices.get(bdf)!;
      if (text === '') delete device.override;
      else device.override = text;
      return 0;
    }
    const [, driver = '', verb] = DRIVER.exec(path)!;
    const device = this.devices.get(text);
    if (device === undefined) return -ENODEV;
    if (verb === 'unbind') {
      if (device.driver !== driver) return -ENODEV;
      delete device.driver;
      return 0;
    }
    if (device.override !== undefined && device.override !== driver) return -ENODEV;
    if (device.driver !== undefined) return -EBUSY;
    const refused =
      device.refuses?.[driver] ?? (driver === 'vfio-pci' && device.group === undefined && this.noIommu !== 'Y' ? EINVAL : 0);
    if (refused !== 0) return -refused;
    device.driver = driver;
    return 0;
  }
}
