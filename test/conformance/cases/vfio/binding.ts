/** Drivers by sysfs: bind, unbind, driver_override, new_id, remove_id and drivers_probe, with what each refuses. */
import type { Kernel } from 'kvio';
import { O_RDONLY } from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { driverOf, link, parts, pci, show, store } from '../../parts.ts';
import { ASSISTED, attempt, groupOf, groupPath, openDevice, openGroup, withDevices } from '../../vfio.ts';

const DRIVER = '/sys/bus/pci/drivers/vfio-pci';
const PROBE = '/sys/bus/pci/drivers_probe';

/** Writes, a line each. */
const writer = (kernel: Kernel, see: Observer) => (label: string, path: string, text: string) =>
  void see.call(label, () => store(kernel, path, text));

function bind(kernel: Kernel, see: Observer): void {
  const edu = parts.edu.at;
  const write = writer(kernel, see);
  const override = `${pci(edu)}/driver_override`;
  see.note('driver', driverOf(kernel, edu) ?? 'none');
  see.note('driver_override: at first', show(kernel, override));
  write('bind: no such device', `${DRIVER}/bind`, '0000:ff:00.0');
  write('bind: nothing', `${DRIVER}/bind`, '\n');
  write('bind: it does not match', `${DRIVER}/bind`, edu);
  write('unbind: not bound', `${DRIVER}/unbind`, edu);
  write('unbind: no such device', `${DRIVER}/unbind`, '0000:ff:00.0');
  write('drivers_probe: nothing matches', PROBE, edu);
  write('drivers_probe: no such device', PROBE, '0000:ff:00.0');
  write('driver_override', override, 'vfio-pci');
  see.note('driver_override: reads', show(kernel, override));
  see.note('driver_override: binds nothing', driverOf(kernel, edu) ?? 'none');
  write('bind, a newline behind', `${DRIVER}/bind`, `${edu}\n`);
  see.note('bound', driverOf(kernel, edu));
  write('bind again', `${DRIVER}/bind`, edu);
  write('drivers_probe of a bound device', PROBE, edu);
  write('driver_override cleared by a newline', override, '\n');
  see.note('cleared: reads', show(kernel, override));
  see.note('cleared: it stays bound', driverOf(kernel, edu));
  write('unbind', `${DRIVER}/unbind`, edu);
  write('driver_override with two lines', override, 'vfio-pci\nother\n');
  see.note('two lines: reads', show(kernel, override));
  write('driver_override, a name nobody has', override, 'nobody');
  write('drivers_probe: nobody', PROBE, edu);
  see.note('nobody', driverOf(kernel, edu) ?? 'none');
  write('bind to vfio-pci, overridden by nobody', `${DRIVER}/bind`, edu);
  write('driver_override too long', override, 'x'.repeat(4096));
  write('driver_override of 4094', override, 'y'.repeat(4094));
  write('driver_override cleared by nothing', override, '');
  write('driver_override cleared', override, '\n');
  see.note('cleared at last: reads', show(kernel, override));
}

/** Ids given to the driver at run time: every device that has them, and no driver, is probed at once. */
function newId(kernel: Kernel, see: Observer): void {
  const { testdev, edu } = parts;
  const write = writer(kernel, see);
  const id = '1b36 0005';
  const bound = (): Record<string, string> =>
    Object.fromEntries(
      (['testdev', 'slot testdev', 'shared testdev', 'edu'] as const).map((part) => [
        part,
        driverOf(kernel, parts[part].at) ?? 'none',
      ]),
    );
  write('new_id: one field', `${DRIVER}/new_id`, '1b36');
  write('new_id: no fields', `${DRIVER}/new_id`, 'x');
  write('remove_id: not there', `${DRIVER}/remove_id`, id);
  write('remove_id: one field', `${DRIVER}/remove_id`, '1b36');
  write('new_id: with driver data', `${DRIVER}/new_id`, `${id} ffffffff ffffffff 0 0 1`);
  write('new_id: subsystem another', `${DRIVER}/new_id`, `${id} 1234 5678`);
  see.note('bound: none', bound());
  write('remove_id of that', `${DRIVER}/remove_id`, `${id} 1234 5678`);
  write('new_id', `${DRIVER}/new_id`, id);
  see.note('bound: all that have it', bound());
  write('new_id again', `${DRIVER}/new_id`, id);
  write('unbind', `${DRIVER}/unbind`, testdev.at);
  write('drivers_probe', PROBE, testdev.at);
  see.note('bound again', driverOf(kernel, testdev.at));
  write('remove_id', `${DRIVER}/remove_id`, id);
  write('remove_id again', `${DRIVER}/remove_id`, id);
  see.note('they stay', bound());
  for (const part of ['testdev', 'slot testdev', 'shared testdev'] as const)
    if (driverOf(kernel, parts[part].at) === 'vfio-pci') store(kernel, `${DRIVER}/unbind`, parts[part].at);
  write('bind: it matches no longer', `${DRIVER}/bind`, testdev.at);
  write('bind: another', `${DRIVER}/bind`, edu.at);
}

/** A port or bridge is not for vfio-pci. */
function bridges(kernel: Kernel, see: Observer): void {
  const at = parts['root port'].at;
  const write = writer(kernel, see);
  see.note('driver', driverOf(kernel, at));
  write('driver_override', `${pci(at)}/driver_override`, 'vfio-pci');
  write('bind: another driver has it', `${DRIVER}/bind`, at);
  write('driver_override cleared', `${pci(at)}/driver_override`, '\n');
  see.note('driver, afterwards', driverOf(kernel, at));
}

function bridge(kernel: Kernel, see: Observer): void {
  const at = parts.bridge.at;
  const write = writer(kernel, see);
  see.note('driver', driverOf(kernel, at) ?? 'none');
  write('driver_override', `${pci(at)}/driver_override`, 'vfio-pci');
  write('bind', `${DRIVER}/bind`, at);
  write('drivers_probe', PROBE, at);
  see.note('driver, afterwards', driverOf(kernel, at) ?? 'none');
  write('driver_override cleared', `${pci(at)}/driver_override`, '\n');
}

/** The group’s files; its type cannot be changed while somebody owns it. */
function group(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const path = `/sys/kernel/iommu_groups/${groupOf(kernel, edu!)}`;
  const write = writer(kernel, see);
  see.call('type', () => show(kernel, `${path}/type`));
  see.call('reserved_regions', () => show(kernel, `${path}/reserved_regions`).split('\n'));
  see.call('name', () => show(kernel, `${path}/name`));
  see.note('device', link(kernel, `${path}/devices/${edu}`));
  write('type: a word nobody knows', `${path}/type`, 'x');
  const opened = openGroup(kernel, edu!);
  see.call('type, in a container', () => show(kernel, `${path}/type`));
  write('type: identity, in a container', `${path}/type`, 'identity');
  write('type: a word nobody knows, in a container', `${path}/type`, 'x');
  kernel.close(opened.group);
  kernel.close(opened.container);
  see.call('type, closed', () => show(kernel, `${path}/type`));
}

function links(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const group = groupOf(kernel, edu!);
  const read = (path: string): string | number => {
    try {
      return kernel.readlink(path).replaceAll(new RegExp(`/${group}$`, 'g'), '/N');
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  for (const name of [
    'driver',
    'subsystem',
    'iommu_group',
    'iommu',
    'vfio-dev/vfio0/device',
    'vfio-dev/vfio0/subsystem',
    'nothing',
  ])
    see.note(name, read(`${pci(edu!)}/${name}`));
  see.note('/sys/bus/pci/devices', read(pci(edu!)));
  see.note('of the driver', read(`${DRIVER}/${edu}`));
  see.note('/sys/class/vfio', read(`/sys/class/vfio/${groupPath(kernel, edu!).split('/').at(-1)}`));
  see.note('/sys/class/vfio-dev', read('/sys/class/vfio-dev/vfio0'));
  see.note('/sys/class/misc/vfio', read('/sys/class/misc/vfio'));
  see.note('of the group', read(`/sys/kernel/iommu_groups/${group}/devices/${edu}`));
}

/** The files’ modes, and what a file that is only to be written answers a reader. */
function modes(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const paths = [
    ...[
      'vendor',
      'config',
      'resource',
      'resource0',
      'driver_override',
      'enable',
      'remove',
      'rescan',
      'uevent',
      'irq',
      'reset',
    ].map((name) => [name, `${pci(edu!)}/${name}`]),
    ...['bind', 'unbind', 'new_id', 'remove_id', 'uevent'].map((name) => [`vfio-pci/${name}`, `${DRIVER}/${name}`]),
    ['drivers_probe', PROBE],
    ['type', `/sys/kernel/iommu_groups/${groupOf(kernel, edu!)}/type`],
    ['dma_entry_limit', '/sys/module/vfio_iommu_type1/parameters/dma_entry_limit'],
    ['enable_unsafe_noiommu_mode', '/sys/module/vfio/parameters/enable_unsafe_noiommu_mode'],
  ] as [string, string][];
  for (const [name, path] of paths) {
    const flags = ['bind', 'unbind', 'new_id', 'remove_id', 'drivers_probe', 'remove', 'rescan'].some((one) => path.endsWith(one))
      ? 1
      : O_RDONLY;
    see.call(name, () => {
      const fd = kernel.open(path, flags);
      const { mode } = kernel.fstat(fd);
      kernel.close(fd);
      return (mode & 0o777).toString(8);
    });
  }
  see.call('a file to be written, read', () => show(kernel, `${DRIVER}/bind`));
  see.call('a file to be read, written', () => store(kernel, `${pci(edu!)}/vendor`, '1'));
}

/** Which device an interrupt is of, and who has the BARs, while the device is open. */
function claimed(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const vfio = (): number =>
    attempt(
      () =>
        show(kernel, '/proc/iomem')
          .split('\n')
          .filter((line) => line.trim().endsWith(': vfio')).length,
    ) as number;
  const before = vfio();
  const { device } = openDevice(kernel, edu!);
  see.note('/proc/iomem: vfio, open', vfio() - before);
  kernel.close(device);
  see.note('/proc/iomem: vfio, closed', vfio() - before);
}

const bare = (name: string, body: (kernel: Kernel, see: Observer) => void, pci: readonly (keyof typeof parts)[]): Case =>
  define(name, 'sysfs', body, { needs: { devices: ['/dev/vfio/vfio'], pci } });

export const bindingCases: readonly Case[] = [
  bare('vfio/binding/bind', bind, ['edu']),
  bare('vfio/binding/new-id', newId, ['testdev', 'slot testdev']),
  bare('vfio/binding/root-port', bridges, ['root port']),
  bare('vfio/binding/bridge', bridge, ['bridge']),
  withDevices('vfio/binding/group', 'sysfs', ['edu'], group, ASSISTED),
  withDevices('vfio/binding/links', 'sysfs', ['edu'], links),
  withDevices('vfio/binding/modes', 'sysfs', ['edu'], modes),
  withDevices('vfio/binding/claimed', 'sysfs', ['edu'], claimed),
];
