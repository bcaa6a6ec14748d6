/** Which driver has which device: bind, unbind, new_id, driver_override and their errors. */
import type { Kernel } from 'kvio';
import type { Case, Needs, Observer } from '../../case.ts';
import { driverOf, exists, hardware16, link, parts, pci, show, store, unbindFromVfio } from '../../parts.ts';
import { ofDevices } from './sysfs.ts';

const VFIO = '/sys/bus/pci/drivers/vfio-pci';
const PROBE = '/sys/bus/pci/drivers_probe';
const name = (path: string): string => path.split('/').at(-1)!;
const override = (kernel: Kernel, path: string, driver: string): number => store(kernel, `${path}/driver_override`, driver);

function bind(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const bdf = name(edu!);
  const state = (label: string): void => see.note(label, driverOf(kernel, bdf) ?? 'none');
  see.call('bind of nothing', () => store(kernel, `${VFIO}/bind`, 'nothing\n'));
  see.call('bind where nothing matches', () => store(kernel, `${VFIO}/bind`, bdf));
  see.call('unbind of one that is not bound', () => store(kernel, `${VFIO}/unbind`, bdf));
  see.call('unbind of nothing', () => store(kernel, `${VFIO}/unbind`, 'nothing'));
  see.call('unbind of one another driver has', () => store(kernel, `${VFIO}/unbind`, parts['root port'].at));
  see.call('drivers_probe of nothing', () => store(kernel, PROBE, 'nothing'));
  see.call('drivers_probe where nothing matches', () => store(kernel, PROBE, bdf));
  override(kernel, edu!, 'vfio-pci\n');
  state('the override alone');
  see.call('bind with a space', () => store(kernel, `${VFIO}/bind`, `${bdf} `));
  see.call('bind', () => store(kernel, `${VFIO}/bind`, `${bdf}\n`));
  state('bound');
  see.call('bind again', () => store(kernel, `${VFIO}/bind`, bdf));
  see.call('drivers_probe of one that is bound', () => store(kernel, PROBE, bdf));
  see.call('bind to another', () => store(kernel, '/sys/bus/pci/drivers/pcieport/bind', bdf));
  override(kernel, edu!, '\n');
  state('without the override');
  see.call('unbind', () => store(kernel, `${VFIO}/unbind`, `${bdf}\n`));
  state('unbound');
  see.call('unbind again', () => store(kernel, `${VFIO}/unbind`, bdf));
  override(kernel, edu!, 'nobody');
  see.call('bind, overridden for another', () => store(kernel, `${VFIO}/bind`, bdf));
  override(kernel, edu!, '\n');
}

function bound(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const bdf = name(edu!);
  override(kernel, edu!, 'vfio-pci');
  store(kernel, PROBE, bdf);
  see.note('driver', kernel.readlink(`${edu}/driver`));
  see.note('the driver’s link', kernel.readlink(`${VFIO}/${bdf}`));
  see.note('what is in the driver’s directory', kernel.readdir(VFIO).sort());
  see.note('uevent', show(kernel, `${edu}/uevent`).split('\n'));
  see.call('enable 1', () => store(kernel, `${edu}/enable`, '1'));
  see.call('enable 0', () => store(kernel, `${edu}/enable`, '0'));
  see.call('enable x', () => store(kernel, `${edu}/enable`, 'x'));
  for (const file of ['enable', 'power/control', 'power/runtime_status', 'power_state'])
    see.note(file, show(kernel, `${edu}/${file}`));
  see.note('vfio-dev', kernel.readdir(`${edu}/vfio-dev`));
  const entry = `${edu}/vfio-dev/${kernel.readdir(`${edu}/vfio-dev`)[0]}`;
  see.note(
    'its files',
    kernel
      .readdir(entry)
      .filter((file) => file !== 'power')
      .sort(),
  );
  for (const file of ['device', 'subsystem']) see.note(`its ${file}`, kernel.readlink(`${entry}/${file}`));
  see.note('the class leads there', link(kernel, `/sys/class/vfio-dev/${name(entry)}/device`));
  const group = kernel.readdir('/sys/class/vfio');
  see.note('groups', group.length);
  see.note('a group’s link', kernel.readlink(`/sys/class/vfio/${group[0]}`).replace(/\/[^/]*$/, ''));
  see.note(
    'a group’s files',
    kernel
      .readdir(`/sys/class/vfio/${group[0]}`)
      .filter((file) => file !== 'power')
      .sort(),
  );
  store(kernel, `${VFIO}/unbind`, bdf);
  see.note('unbound: power/control', show(kernel, `${edu}/power/control`));
  see.note('unbound: vfio-dev', exists(kernel, `${edu}/vfio-dev`));
  see.note('unbound: groups', kernel.readdir('/sys/class/vfio').length);
}

function bridge(kernel: Kernel, see: Observer, [port]: string[]): void {
  const bdf = name(port!);
  see.note('its driver', driverOf(kernel, bdf));
  see.note('enable', show(kernel, `${port}/enable`));
  override(kernel, port!, 'vfio-pci');
  see.call('bind, bound to its own', () => store(kernel, `${VFIO}/bind`, bdf));
  see.call('unbind from its own', () => store(kernel, '/sys/bus/pci/drivers/pcieport/unbind', bdf));
  see.call('bind: vfio-pci takes no bridges', () => store(kernel, `${VFIO}/bind`, bdf));
  see.call('drivers_probe does not tell', () => store(kernel, PROBE, bdf));
  see.note('it has none', driverOf(kernel, bdf) ?? 'none');
  override(kernel, port!, '\n');
  see.call('drivers_probe', () => store(kernel, PROBE, bdf));
  see.note('it is back', driverOf(kernel, bdf));
}

/** A driver that is told to take what is not its own asks the device, and leaves it turned on. */
function notItsOwn(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const bdf = name(edu!);
  const state = (label: string): void =>
    see.note(label, {
      driver: driverOf(kernel, bdf) ?? 'none',
      enable: show(kernel, `${edu}/enable`),
      command: hardware16(kernel, bdf, 4),
    });
  for (const driver of ['virtio-pci', 'pcieport']) {
    const directory = `/sys/bus/pci/drivers/${driver}`;
    state(`${driver}: before`);
    see.call(`${driver}: bind, no match`, () => store(kernel, `${directory}/bind`, bdf));
    override(kernel, edu!, driver);
    see.call(`${driver}: bind, overridden`, () => store(kernel, `${directory}/bind`, bdf));
    state(`${driver}: overridden`);
    see.call(`${driver}: drivers_probe`, () => store(kernel, PROBE, bdf));
    override(kernel, edu!, '\n');
    see.call(`${driver}: new_id`, () => store(kernel, `${directory}/new_id`, '1234 11e8'));
    see.call(`${driver}: bind, by new_id`, () => store(kernel, `${directory}/bind`, bdf));
    state(`${driver}: by new_id`);
    see.call(`${driver}: drivers_probe, by new_id`, () => store(kernel, PROBE, bdf));
    see.call(`${driver}: remove_id`, () => store(kernel, `${directory}/remove_id`, '1234 11e8'));
  }
  state('afterwards');
}

function newId(kernel: Kernel, see: Observer, [e1000e]: string[]): void {
  const bdf = name(e1000e!);
  const steps: [file: string, text: string][] = [
    ['new_id', '8086'],
    ['new_id', 'zz 10d3'],
    ['new_id', '8086:10d3'],
    ['new_id', ''],
    ['new_id', '8086 10d3'],
    ['new_id', '8086 10d3\n'],
    ['new_id', '8086 10d3 8086 0000'],
    ['new_id', '8086 fff0 ffffffff ffffffff 0 0 1'],
    ['new_id', '8086 fff0 ffffffff ffffffff 0 0 0'],
    ['new_id', '0x8086 0xfff1'],
    ['new_id', '8086 fff2 ffffffff ffffffff 20000 ffff00'],
    ['remove_id', '8086'],
    ['remove_id', '8086 10d3'],
    ['remove_id', '8086 10d3'],
    ['remove_id', '8086 fff0'],
    ['remove_id', '8086 fff1 1 2'],
    ['remove_id', '8086 fff1'],
    ['remove_id', '8086 fff2'],
  ];
  for (const [at, [file, text]] of steps.entries()) {
    see.call(`${at} ${file} ${JSON.stringify(text)}`, () => store(kernel, `${VFIO}/${file}`, text));
    see.note(`${at}: its driver`, driverOf(kernel, bdf) ?? 'none');
  }
  see.call('unbind', () => store(kernel, `${VFIO}/unbind`, bdf));
  see.call('bind: the id is gone', () => store(kernel, `${VFIO}/bind`, bdf));
}

function autoprobe(kernel: Kernel, see: Observer, [testdev]: string[]): void {
  const file = '/sys/bus/pci/drivers_autoprobe';
  const bdf = name(testdev!);
  see.note('at first', show(kernel, file));
  for (const text of ['0', 'x', '0\n']) {
    see.call(`write ${JSON.stringify(text)}`, () => store(kernel, file, text));
    see.note(`write ${JSON.stringify(text)}: then`, show(kernel, file));
  }
  store(kernel, `${VFIO}/new_id`, '1b36 0005');
  see.note('off: new_id probes all the same', driverOf(kernel, bdf) ?? 'none');
  see.call('remove', () => store(kernel, `${testdev}/remove`, '1'));
  see.call('rescan', () => store(kernel, '/sys/bus/pci/rescan', '1'));
  see.note('off: a new device', driverOf(kernel, bdf) ?? 'none');
  store(kernel, file, '1');
  see.call('remove again', () => store(kernel, `${testdev}/remove`, '1'));
  see.call('rescan again', () => store(kernel, '/sys/bus/pci/rescan', '1'));
  see.note('on: a new device', driverOf(kernel, bdf) ?? 'none');
  store(kernel, `${VFIO}/remove_id`, '1b36 0005');
  for (const part of ['testdev', 'shared testdev', 'slot testdev'] as const) {
    if (exists(kernel, pci(parts[part].at))) unbindFromVfio(kernel, parts[part].at);
  }
}

/** A group that VFIO has a device of: what may be done to its type. */
function ownership(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const bdf = name(edu!);
  const type = `${edu}/iommu_group/type`;
  override(kernel, edu!, 'vfio-pci');
  store(kernel, PROBE, bdf);
  const before = show(kernel, type);
  // Kernels before 6.5 change it of no device that has a driver.
  const back = (): void => {
    if (show(kernel, type) !== before) store(kernel, type, before);
  };
  see.call('bound: identity', () => store(kernel, type, 'identity'));
  see.note('bound: identity: then', show(kernel, type));
  back();
  const container = kernel.open('/dev/vfio/vfio');
  const group = kernel.open(`/dev/vfio/${kernel.readlink(`${edu}/iommu_group`).split('/').at(-1)}`);
  kernel.ioctl(group, 0x3b68, new Uint8Array(Int32Array.of(container).buffer));
  see.call('in a container: identity', () => store(kernel, type, 'identity'));
  see.call('in a container: junk', () => store(kernel, type, 'junk'));
  see.note('in a container: type', show(kernel, type));
  kernel.close(group);
  kernel.close(container);
  see.call('given back: identity', () => store(kernel, type, 'identity'));
  back();
  unbindFromVfio(kernel, bdf);
}

const NEEDS: Needs = { devices: ['/dev/vfio/vfio'], iommu: true };

export const bindCases: readonly Case[] = [
  ofDevices('pci/bind/errors', 'Driver binding', ['edu', 'root port'], bind, NEEDS),
  ofDevices('pci/bind/bound', 'Driver binding', ['edu'], bound, NEEDS),
  ofDevices('pci/bind/bridge', 'Driver binding', ['root port'], bridge, NEEDS),
  ofDevices('pci/bind/not-its-own', 'Driver binding', ['edu'], notItsOwn, NEEDS),
  ofDevices('pci/bind/new-id', 'Driver binding', ['e1000e'], newId, NEEDS),
  ofDevices('pci/bind/autoprobe', 'Driver binding', ['testdev'], autoprobe, NEEDS),
  ofDevices('pci/bind/ownership', 'Driver binding', ['edu'], ownership, NEEDS),
];
