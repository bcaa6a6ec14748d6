import { EBUSY, EINVAL, ENODEV, ENXIO } from '../../uapi/sys.ts';
import { Attribute } from '../fs/attribute.ts';
import { ClassDevice } from '../fs/class-device.ts';
import { Directory } from '../fs/directory.ts';
import { line } from '../fs/text.ts';
import { type TdiContext, TSM_NAME } from '../hardware/tsm/tdi-context.ts';
import type { PciBus } from '../pci/bus.ts';
import type { System } from '../system.ts';

/** RFC: /sys/class/tsm, and tsm/ of every PCI function that has a TEE device interface (drivers/pci/tsm.c). */
export function registerTsm(system: System, bus: PciBus): void {
  const { tsm } = system;
  if (tsm === undefined) return;
  new ClassDevice(system, { class: 'tsm', name: TSM_NAME });
  system.coverage.add('sysfs', 'tsm (RFC)', 'SPDM and IDE are two states: there is a session, the stream has keys');
  const { vendor } = tsm.switches;
  system.coverage.add(
    'device',
    `tsm ${vendor} (RFC)`,
    'it runs on software-protected VMs: no TDX module, no SNP launch, no Arm CPU',
  );
  system.pci.listen({
    added: (dev) => {
      const tdi = tsm.tdiOf(dev.fn);
      if (tdi !== undefined) bus.directoryOf(dev)?.add('tsm', tsmDirectory(tdi));
    },
    removed: () => {},
  });
}

/** A virtual function uses its physical one's session, and has nothing to connect. */
function tsmDirectory(tdi: TdiContext): Directory {
  const directory = new Directory();
  const named = (on: boolean): string => (on ? `${TSM_NAME}\n` : '\n');
  directory.add('bound', new Attribute(0o444, { show: () => named(tdi.binding !== undefined) }));
  if (tdi.physical !== undefined) return directory;
  directory.add('connect', new Attribute(0o644, { show: () => named(tdi.connected), store: (_p, text) => connect(tdi, text) }));
  directory.add('disconnect', new Attribute(0o200, { store: (_p, text) => disconnect(tdi, text) }));
  return directory;
}

/** connect_store: the name of a TSM; −EBUSY, it has one; −ENODEV, there is none of that name. */
function connect(tdi: TdiContext, text: string): number {
  const name = line(text);
  if (!/^tsm\d+$/.test(name)) return -EINVAL;
  if (tdi.connected) return -EBUSY;
  return name === TSM_NAME ? tdi.connect() || text.length : -ENODEV;
}

/** disconnect_store: −ENXIO, it is not connected; −EINVAL, to another one. */
function disconnect(tdi: TdiContext, text: string): number {
  if (!tdi.connected) return -ENXIO;
  return line(text) === TSM_NAME ? tdi.disconnect() || text.length : -EINVAL;
}
