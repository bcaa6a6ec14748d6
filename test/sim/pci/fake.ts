import type { FunctionSpec } from '../../../src/sim/hardware/function-spec.ts';
import type { IommuGroup } from '../../../src/sim/iommu/group.ts';
import type { Machine } from '../../../src/sim/machine.ts';
import type { PciDev, PciSriov, Resource } from '../../../src/sim/pci/pci-dev.ts';
import type { PciListener, PciSubsystem } from '../../../src/sim/pci/pci-subsystem.ts';
import { RescanRemoveLock } from '../../../src/sim/pci/rescan-remove.ts';
import { PciSysfs } from '../../../src/sim/pci/sysfs.ts';
import { EBUSY, ENOTTY, EPERM } from '../../../src/uapi/sys.ts';
import { boot } from '../machine.ts';
import { filesOf } from './files.ts';

/** A PCI device that does nothing, for the driver core alone. */
export interface FakeDev {
  bdf: string;
  spec?: Partial<FunctionSpec>;
  parent?: string;
  /** Its IOMMU group; devices of one number share it. */
  group?: number;
  resets?: readonly string[];
  resources?: readonly (readonly [start: bigint, size: bigint, flags: bigint])[];
  sriov?: Partial<PciSriov>;
}

/** A group as the driver core uses it: counts of host drivers, or an owner. */
export class FakeGroup {
  readonly id: number;
  readonly name = undefined;
  type = 'DMA';
  readonly reservedRegions = [{ start: 0xfee0_0000n, last: 0xfeef_ffffn, type: 'msi' }];
  counts = 0;
  owner: object | undefined;

  constructor(id: number) {
    this.id = id;
  }

  get viable(): boolean {
    return this.counts === 0 && this.owner === undefined;
  }

  useDefaultDomain(): number {
    if (this.owner !== undefined) return -EBUSY;
    this.counts++;
    return 0;
  }

  unuseDefaultDomain(): void {
    this.counts--;
  }

  claimDma(owner: object): number {
    if (!this.viable) return -EPERM;
    this.owner = owner;
    return 0;
  }

  setType(type: string): number {
    this.type = type === 'auto' ? 'DMA' : type;
    return 0;
  }
}

export function fakePci(devices: readonly FakeDev[], machine: Partial<Machine> = {}) {
  const booted = boot({ machine });
  const { system, kernel } = booted;
  const groups = new Map<number, FakeGroup>();
  const listeners: PciListener[] = [];
  const known: PciDev[] = [];
  const made: PciDev[] = [];
  const config = new Uint8Array(256).map((_, at) => at);
  const groupOf = (id: number): FakeGroup => {
    if (!groups.has(id)) groups.set(id, new FakeGroup(id));
    return groups.get(id)!;
  };
  for (const { bdf, spec, parent, group, resets = [], resources = [], sriov } of devices) {
    const [segment, bus, slot, fn] = bdf.split(/[:.]/).map((part) => Number.parseInt(part, 16)) as [
      number,
      number,
      number,
      number,
    ];
    const none: Resource = { start: 0n, end: 0n, flags: 0n };
    let enabled = 0;
    let methods = resets;
    const dev = {
      system,
      bdf,
      segment,
      bus,
      devfn: slot * 8 + fn,
      parent: made.find((other) => other.bdf === parent),
      fn: { spec: { vendor: 0x1234, device: 0x11e8, class: 0x00ff00, ...spec } },
      resources: Array.from({ length: 13 }, (_, at): Resource => {
        const [start, size, flags] = resources[at] ?? [0n, 0n, 0n];
        return size === 0n ? none : { start, end: start + size - 1n, flags };
      }),
      configSize: 256,
      readConfig: (offset: number, width: number) => new DataView(config.buffer).getUint32(offset & ~3, true) % 256 ** width,
      writeConfig: (offset: number, _width: number, value: number) => {
        config[offset] = value & 0xff;
      },
      barRead: (_bar: number, _offset: number, width: number) => 256 ** width - 1,
      barWrite: () => {},
      enableDevice: () => {
        enabled++;
        return 0;
      },
      disableDevice: () => {
        enabled--;
      },
      get enableCount() {
        return enabled;
      },
      setMaster: () => {},
      powerState: 0,
      powerStateKnown: true,
      supportedResets: resets,
      get resetMethods() {
        return methods;
      },
      setResetMethods: (next: readonly string[]) => {
        methods = next;
      },
      saveAndReset: () => (methods.length === 0 ? -ENOTTY : 0),
      // The registers read as their own offsets: at 0x42 a root port's.
      findCapability: (id: number) => (id === 0x10 && spec?.class === 0x060400 ? 0x40 : 0),
      findExtCapability: () => 0,
      irq: { line: 11, kind: 'none', asked: false, vectors: [], irqOf: () => 0, driverGone() {} },
      iommuGroup: group === undefined ? undefined : (groupOf(group) as unknown as IommuGroup<PciDev>),
      driver: undefined,
      driverOverride: null,
      sriov,
      removed: false,
    } as unknown as PciDev;
    made.push(dev);
    known.push(dev);
  }
  const pci = {
    devices: known,
    groups: [],
    iommu: undefined,
    find: (bdf: string) => known.find((dev) => dev.bdf === bdf),
    plug: () => {
      throw new Error('not here');
    },
    unplug: () => {},
    rescanRemove: new RescanRemoveLock(),
    remove: (dev: PciDev) => void known.splice(known.indexOf(dev), 1),
    rescan: () => {
      for (const dev of made) {
        if (known.includes(dev)) continue;
        known.push(dev);
        for (const listener of listeners) listener.added(dev);
      }
    },
    listen: (listener: PciListener) => {
      listeners.push(listener);
      for (const dev of known) listener.added(dev);
      return () => {};
    },
  } as unknown as PciSubsystem;
  const sysfs = new PciSysfs(system, pci);
  const { code, read, write } = filesOf(kernel);
  return { ...booted, bus: sysfs.bus, pci, groups, devices: made, code, read, write };
}
