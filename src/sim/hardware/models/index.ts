import { rangeError } from '../../../kernel/errors.ts';
import type { FunctionSpec } from '../function-spec.ts';
import type { PciPlacement } from '../machine-pci.ts';
import type { PciFunction } from '../pci-function.ts';
import { Accelerator, type AcceleratorOptions } from './accelerator.ts';
import { Edu, type EduOptions } from './edu.ts';
import { Fixture } from './fixture.ts';
import { MigratableAccelerator } from './migratable-accelerator.ts';
import { E1000e, type E1000eOptions, Igb, type QemuOptions } from './network.ts';
import { Nvme, type NvmeOptions } from './nvme.ts';
import { PciePciBridge, PciPciBridge, RootPort, type RootPortOptions, SwitchPort } from './ports.ts';
import { Ahci, HostBridge, IsaBridge, SmBus, VirtioIommu, type VirtioOptions, VirtioPci } from './q35.ts';
import { PciTestdev } from './testdev.ts';
import { NecXhci, type XhciOptions } from './xhci.ts';

/** Models by the names a machine's description uses. */
const models: Readonly<Record<string, (options: never) => PciFunction>> = {
  'host-bridge': () => new HostBridge(),
  'isa-bridge': () => new IsaBridge(),
  ahci: () => new Ahci(),
  smbus: () => new SmBus(),
  'virtio-pci': (options: VirtioOptions) => new VirtioPci(options),
  'pcie-root-port': (options: RootPortOptions) => new RootPort(options),
  'pcie-pci-bridge': () => new PciePciBridge(),
  'pci-bridge': () => new PciPciBridge(),
  'switch-upstream': () => new SwitchPort({ kind: 'upstream' }),
  'switch-downstream': (options: { acs?: boolean }) => new SwitchPort({ ...options, kind: 'downstream' }),
  edu: (options: EduOptions) => new Edu(options),
  'pci-testdev': (options: { multifunction?: boolean }) => new PciTestdev(options),
  nvme: (options: NvmeOptions) => new Nvme(options),
  e1000e: (options: E1000eOptions) => new E1000e(options),
  igb: (options: QemuOptions) => new Igb(options),
  'nec-usb-xhci': (options: XhciOptions) => new NecXhci(options),
  accelerator: (options: AcceleratorOptions) => new Accelerator(options),
  'migratable-accelerator': (options: AcceleratorOptions) => new MigratableAccelerator(options),
  'virtio-iommu': () => new VirtioIommu(),
  fixture: (options: FunctionSpec) => new Fixture(options),
};

const ONLY_THERE = 'all but its configuration space: its registers read as all ones';

/** What the models leave out, by name. */
const except: Readonly<Record<string, string>> = {
  'pci-testdev': 'the events of its eventfd tests',
  'nec-usb-xhci': 'all registers but those that say what it is',
  nvme: 'more than one namespace, scatter gather lists, events, formats, firmware, power states',
  ...Object.fromEntries(
    ['e1000e', 'igb', 'host-bridge', 'isa-bridge', 'ahci', 'smbus', 'virtio-pci', 'virtio-iommu'].map((name) => [
      name,
      ONLY_THERE,
    ]),
  ),
};

/** Each model there is, and what it leaves out. */
export function modelCoverage(): (readonly [name: string, except: string | undefined])[] {
  return Object.keys(models)
    .filter((name) => name !== 'fixture')
    .map((name) => [name, except[name]]);
}

/** The function a machine's description asks for. */
export function makeModel({ model, at, options = {} }: PciPlacement): PciFunction {
  const make = models[model];
  if (make === undefined)
    throw rangeError(`machine.pci: ${at}: no model '${model}' (there are: ${Object.keys(models).join(', ')})`);
  return make(options as never);
}
