import { EBUSY, EINVAL, EIO, EPERM, ERANGE } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import type { Pending } from '../completion.ts';
import { cString, kstrtobool, kstrtoull, line } from '../fs/text.ts';
import type { Process } from '../process.ts';
import { aerCounts } from './aer-files.ts';
import { type PciBus, sriovConfigure } from './bus.ts';
import { idsOf, isBridge } from './ids.ts';
import type { PciDev, Resource } from './pci-dev.ts';
import type { PciSubsystem } from './pci-subsystem.ts';
import { runtimePm } from './runtime-pm.ts';

const PAGE_SIZE = 4096;
const EXPRESS = 0x10;
const POWER_MANAGEMENT = 1;
const ERROR_REPORTING = 1;
const SERIAL_NUMBER = 3;
/** Lines of `resource`. */
const REPORTED = 13;
const NONE: Resource = { start: 0n, end: 0n, flags: 0n };
/** PCI_EXP_LNKCAP, LNKSTA, LNKCAP2 in the Express capability. */
const [LNKCAP, LNKSTA, LNKCAP2] = [0x0c, 0x12, 0x2c];
const SPEEDS = [
  'Unknown',
  '2.5 GT/s PCIe',
  '5.0 GT/s PCIe',
  '8.0 GT/s PCIe',
  '16.0 GT/s PCIe',
  '32.0 GT/s PCIe',
  '64.0 GT/s PCIe',
];

/** What a file's functions get. */
export interface Context {
  readonly dev: PciDev;
  readonly bus: PciBus;
  readonly pci: PciSubsystem;
  /** pci_stop_and_remove_bus_device. */
  remove(p: Process, dev: PciDev, answer: number): Pending;
}

export interface Row {
  readonly name: string;
  readonly mode: number;
  /** Without the newline. */
  readonly show?: (context: Context) => string | number;
  readonly store?: (context: Context, p: Process, text: string) => number | Pending;
  /** Whether the device has it; default: every one. */
  readonly when?: (dev: PciDev) => boolean;
}

export const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
const upper = (value: number, digits: number): string => hex(value, digits).toUpperCase();
const isExpress = (dev: PciDev): boolean => dev.findCapability(EXPRESS) !== 0;
const reportsErrors = (dev: PciDev): boolean => isExpress(dev) && dev.findExtCapability(ERROR_REPORTING) !== 0;
const isPhysical = (dev: PciDev): boolean => dev.sriov !== undefined;
export const resettable = (dev: PciDev): boolean => dev.supportedResets.length > 0;

/** A flag that only its file knows. */
function flag(name: string, initial: (dev: PciDev) => boolean, when?: Row['when']): Row {
  const values = new WeakMap<PciDev, boolean>();
  return {
    name,
    mode: 0o644,
    show: ({ dev }) => ((values.get(dev) ?? initial(dev)) ? 1 : 0),
    store: ({ dev }, _p, text) => {
      const value = kstrtoull(text);
      if (typeof value !== 'bigint') return -EINVAL;
      values.set(dev, value !== 0n);
      return text.length;
    },
    ...(when === undefined ? {} : { when }),
  };
}

type Store = NonNullable<Row['store']>;

/** A store of what must be a number. */
const number =
  (then: (context: Context, p: Process, value: bigint, text: string) => number | Pending): Store =>
  (context, p, text) => {
    const value = kstrtoull(text);
    return typeof value === 'bigint' ? then(context, p, value, text) : -EINVAL;
  };

function modalias(dev: PciDev): string {
  const { vendor, device, subvendor, subdevice, class: code } = idsOf(dev);
  const [v, d, sv, sd] = [vendor, device, subvendor, subdevice].map((id) => upper(id, 8));
  return `pci:v${v}d${d}sv${sv}sd${sd}bc${upper(code >> 16, 2)}sc${upper((code >> 8) & 0xff, 2)}i${upper(code & 0xff, 2)}`;
}

export function uevent(dev: PciDev): string {
  const { vendor, device, subvendor, subdevice, class: code } = idsOf(dev);
  const lines = [
    ...(dev.driver === undefined ? [] : [`DRIVER=${dev.driver.name}`]),
    `PCI_CLASS=${upper(code, 4)}`,
    `PCI_ID=${upper(vendor, 4)}:${upper(device, 4)}`,
    `PCI_SUBSYS_ID=${upper(subvendor, 4)}:${upper(subdevice, 4)}`,
    `PCI_SLOT_NAME=${dev.bdf}`,
    `MODALIAS=${modalias(dev)}`,
  ];
  return lines.map((text) => `${text}\n`).join('');
}

function resources(dev: PciDev): string {
  const word = (value: bigint): string => `0x${value.toString(16).padStart(16, '0')}`;
  // With CONFIG_PCI_IOV those of virtual functions are told of every device; a bridge's windows come behind them.
  const all = [...dev.resources, ...new Array<Resource>(Math.max(0, REPORTED - dev.resources.length)).fill(NONE)];
  return all.map(({ start, end, flags }) => `${word(start)} ${word(end)} ${word(flags)}`).join('\n');
}

function linkSpeed(dev: PciDev, register: number): string {
  const at = dev.findCapability(EXPRESS);
  // The vector of speeds came with the second version of the capability.
  const second = (dev.readConfig(at + 2, 2) & 0xf) >= 2;
  const vector = register === LNKCAP && second ? (dev.readConfig(at + LNKCAP2, 4) >> 1) & 0x7f : 0;
  const code = vector === 0 ? dev.readConfig(at + register, 2) & 0xf : 32 - Math.clz32(vector);
  return SPEEDS[code] ?? SPEEDS[0]!;
}

const linkWidth = (dev: PciDev, register: number): number =>
  (dev.readConfig(dev.findCapability(EXPRESS) + register, 2) >> 4) & 0x3f;

/** The most significant byte first. */
function serialNumber(dev: PciDev): string {
  const at = dev.findExtCapability(SERIAL_NUMBER) + 4;
  return [7, 6, 5, 4, 3, 2, 1, 0].map((byte) => hex(dev.readConfig(at + byte, 1), 2)).join('-');
}

/** A mask of the machine's processors, as %*pb and %*pbl print it. */
const cpuMask = ({ system }: PciDev): string => (2n ** BigInt(system.machine.cpus) - 1n).toString(16);
const cpuList = ({ system }: PciDev): string => (system.machine.cpus === 1 ? '0' : `0-${system.machine.cpus - 1}`);

/** A device that sleeps is awake meanwhile. */
function reset(dev: PciDev): number {
  const power = runtimePm(dev);
  power.get();
  const error = dev.saveAndReset();
  power.put();
  return error;
}

export function storeRescan(pci: PciSubsystem, text: string): number | Pending {
  const value = kstrtoull(text);
  if (typeof value !== 'bigint') return -EINVAL;
  if (value === 0n) return text.length;
  return pci.rescanRemove.call(() => {
    pci.rescan();
    return text.length;
  });
}

/** reset_method_store: nothing, `default`, or names among those the device has. */
export function storeResetMethod(dev: PciDev, text: string): number {
  const words = line(text);
  if (words === '') dev.setResetMethods([]);
  else if (words === 'default') dev.setResetMethods(dev.supportedResets);
  else {
    const names = words.split(' ').filter((name) => name !== '');
    if (names.some((name) => !dev.supportedResets.includes(name))) return -EINVAL;
    dev.setResetMethods(names);
  }
  return text.length;
}

function setOverride(dev: PciDev, text: string): number {
  if (text.length >= PAGE_SIZE - 1) return -EINVAL;
  const name = cString(text).split('\n')[0]!;
  dev.driverOverride = name === '' ? null : name;
  return text.length;
}

/** enable_store. A device that has a driver is the driver's. */
function enable(dev: PciDev, value: bigint, text: string): number {
  if (dev.driver !== undefined) return -EBUSY;
  if (value !== 0n) {
    const error = dev.enableDevice();
    return error < 0 ? error : text.length;
  }
  if (dev.enableCount === 0) return -EIO;
  dev.disableDevice();
  return text.length;
}

/** Text files of a device's directory (drivers/pci/pci-sysfs.c, iov.c). */
export const textFiles: readonly Row[] = [
  { name: 'aer_dev_correctable', mode: 0o444, when: reportsErrors, show: ({ dev }) => aerCounts(dev, 'correctable') },
  { name: 'aer_dev_fatal', mode: 0o444, when: reportsErrors, show: ({ dev }) => aerCounts(dev, 'fatal') },
  { name: 'aer_dev_nonfatal', mode: 0o444, when: reportsErrors, show: ({ dev }) => aerCounts(dev, 'nonfatal') },
  { name: 'ari_enabled', mode: 0o444, show: () => 0 },
  flag('broken_parity_status', () => false),
  { name: 'class', mode: 0o444, show: ({ dev }) => `0x${hex(dev.fn.spec.class, 6)}` },
  { name: 'consistent_dma_mask_bits', mode: 0o444, show: () => 32 },
  { name: 'current_link_speed', mode: 0o444, show: ({ dev }) => linkSpeed(dev, LNKSTA), when: isExpress },
  { name: 'current_link_width', mode: 0o444, show: ({ dev }) => linkWidth(dev, LNKSTA), when: isExpress },
  flag('d3cold_allowed', (dev) => dev.findCapability(POWER_MANAGEMENT) !== 0),
  { name: 'device', mode: 0o444, show: ({ dev }) => `0x${hex(idsOf(dev).device, 4)}` },
  { name: 'dma_mask_bits', mode: 0o444, show: () => 32 },
  {
    name: 'driver_override',
    mode: 0o644,
    show: ({ dev }) => dev.driverOverride ?? '(null)',
    store: ({ dev }, _p, text) => setOverride(dev, text),
  },
  {
    name: 'enable',
    mode: 0o644,
    show: ({ dev }) => dev.enableCount,
    store: (context, p, text) => {
      if (!p.capable('CAP_SYS_ADMIN')) return -EPERM;
      const value = kstrtoull(text);
      if (typeof value !== 'bigint') return -EINVAL;
      return context.bus.locked(context.dev, () => enable(context.dev, value, text));
    },
  },
  { name: 'irq', mode: 0o444, show: ({ dev: { irq } }) => (irq.kind === 'msi' ? irq.irqOf(0) : irq.line) },
  { name: 'local_cpulist', mode: 0o444, show: ({ dev }) => cpuList(dev) },
  { name: 'local_cpus', mode: 0o444, show: ({ dev }) => cpuMask(dev) },
  { name: 'max_link_speed', mode: 0o444, show: ({ dev }) => linkSpeed(dev, LNKCAP), when: isExpress },
  { name: 'max_link_width', mode: 0o444, show: ({ dev }) => linkWidth(dev, LNKCAP), when: isExpress },
  { name: 'modalias', mode: 0o444, show: ({ dev }) => modalias(dev) },
  flag('msi_bus', () => true),
  {
    name: 'power_state',
    mode: 0o444,
    show: ({ dev }) => (dev.powerStateKnown ? ['D0', 'D1', 'D2', 'D3hot', 'D3cold'][dev.powerState]! : 'unknown'),
  },
  {
    name: 'remove',
    mode: 0o220,
    store: number((context, p, value, text) => (value === 0n ? text.length : context.remove(p, context.dev, text.length))),
  },
  { name: 'rescan', mode: 0o200, store: ({ pci }, _p, text) => storeRescan(pci, text) },
  {
    name: 'reset',
    mode: 0o200,
    when: resettable,
    store: number(({ dev, bus }, _p, value, text) => {
      if (value !== 1n) return -EINVAL;
      return bus.locked(dev, () => {
        const error = reset(dev);
        return error < 0 ? error : text.length;
      });
    }),
  },
  { name: 'resource', mode: 0o444, show: ({ dev }) => resources(dev) },
  { name: 'revision', mode: 0o444, show: ({ dev }) => `0x${hex(dev.fn.spec.revision ?? 0, 2)}` },
  { name: 'secondary_bus_number', mode: 0o444, show: ({ dev }) => dev.readConfig(0x19, 1), when: isBridge },
  {
    name: 'serial_number',
    mode: 0o400,
    when: (dev) => dev.findExtCapability(SERIAL_NUMBER) !== 0 && has(dev.system.machine, 'pciSerialNumber'),
    show: ({ dev }) => serialNumber(dev),
  },
  {
    name: 'sriov_drivers_autoprobe',
    mode: 0o644,
    when: isPhysical,
    show: ({ dev }) => (dev.sriov!.driversAutoprobe ? 1 : 0),
    store: autoprobe,
  },
  { name: 'sriov_numvfs', mode: 0o644, when: isPhysical, show: ({ dev }) => dev.sriov!.numVfs, store: number(numVfs) },
  { name: 'sriov_offset', mode: 0o444, when: isPhysical, show: ({ dev }) => dev.sriov!.offset },
  { name: 'sriov_stride', mode: 0o444, when: isPhysical, show: ({ dev }) => dev.sriov!.stride },
  { name: 'sriov_totalvfs', mode: 0o444, when: isPhysical, show: ({ dev }) => dev.sriov!.totalVfs },
  { name: 'sriov_vf_device', mode: 0o444, when: isPhysical, show: ({ dev }) => hex(dev.sriov!.vfDevice, 1) },
  { name: 'subordinate_bus_number', mode: 0o444, show: ({ dev }) => dev.readConfig(0x1a, 1), when: isBridge },
  { name: 'subsystem_device', mode: 0o444, show: ({ dev }) => `0x${hex(idsOf(dev).subdevice, 4)}` },
  { name: 'subsystem_vendor', mode: 0o444, show: ({ dev }) => `0x${hex(idsOf(dev).subvendor, 4)}` },
  { name: 'vendor', mode: 0o444, show: ({ dev }) => `0x${hex(idsOf(dev).vendor, 4)}` },
];

function autoprobe({ dev }: Context, _p: Process, text: string): number {
  const value = kstrtobool(text);
  if (value === undefined) return -EINVAL;
  dev.sriov!.driversAutoprobe = value;
  return text.length;
}

function numVfs({ dev, bus }: Context, p: Process, value: bigint, text: string): number | Pending {
  if (value > 0xffffn) return -EINVAL;
  if (value > BigInt(dev.sriov!.totalVfs)) return -ERANGE;
  return bus.locked(dev, () => {
    const error = sriovConfigure(p, dev, Number(value));
    return error < 0 ? error : text.length;
  });
}
