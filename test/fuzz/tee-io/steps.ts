/** What guest, host and device do, one thing at a time. What may come of accesses: accesses.ts. */
import { PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from 'kvio';
import { TDI_EVENTS, type TdiEvent } from 'kvio/sim';
import type { Choices } from '../choices.ts';
import { dma, dmaAt, guestMemory, guestMmio, guestReaches, hostMmio, place, RUN } from './accesses.ts';
import { closeAll } from './invariants.ts';
import { barPages, type TrustedDevice } from './trusted-device.ts';
import { FRAMES, PAGE, result, type World } from './world.ts';

export interface TeeIoStep {
  readonly weight: number;
  /** What came of it, for the report. */
  run(w: World, c: Choices): string;
}

/** Frames [first, first + count) of RAM. */
const frames = (c: Choices): { first: number; count: number } => {
  const first = c.below(FRAMES);
  return { first, count: 1 + c.below(FRAMES - first) };
};

type Assigned = NonNullable<TrustedDevice['assigned']>;
type Tdi = NonNullable<ReturnType<TrustedDevice['by']>>;

function onTdi(device: TrustedDevice, make: (tdi: Tdi) => void, door: 'vfio' | 'iommufd' = 'vfio'): string {
  const tdi = device.by(door);
  return `${device.name}: ${tdi === undefined ? 'no vdevice' : result(() => make(tdi))}`;
}

function onDevice(target: TrustedDevice, make: (device: Assigned['device']) => void): string {
  const { device, dev_id } = target.assigned ?? {};
  const isOpen = device !== undefined && dev_id !== undefined && !device.closed;
  return `${target.name}: ${isOpen ? result(() => make(device)) : 'not open'}`;
}

function onVm(guest: ReturnType<World['guest']>, make: () => void): string {
  return `${guest.name}: ${guest.vm.closed ? 'closed' : result(make)}`;
}

/** Whoever opens a device twice has it once. */
function onAssigned(device: TrustedDevice, make: (assigned: Assigned) => void): string {
  const { assigned } = device;
  const isOpen = assigned !== undefined && !assigned.iommufd.closed;
  return `${device.name}: ${isOpen ? result(() => make(assigned)) : 'not open'}`;
}

function acceptMmio(w: World, c: Choices, device: TrustedDevice): string {
  const { bar } = place(c);
  const start = w.kernel.process.system.pci.find(device.bdf)?.resources[bar]?.start ?? 0n;
  const pages = c.chance(0.5) ? 1 : barPages(bar) / 2;
  const gpa_base = device.gpa[c.chance(0.1) ? 0 : bar];
  return onTdi(device, (tdi) => tdi.validateMmio({ gpa_base, gpa_top: gpa_base + BigInt(pages) * PAGE, pa_base: start }));
}

function map(w: World, c: Choices, device: TrustedDevice): string {
  const { first, count } = frames(c);
  const end = first + count + (c.chance(0.2) ? 4 : 0);
  const { vdevice, guest } = device.assigned ?? {};
  if (vdevice === undefined || guest === undefined) return 'no vdevice';
  const outcome = result(() => vdevice.tsmMap({ start_gpa: BigInt(first) * PAGE, end_gpa: BigInt(end) * PAGE }));
  // EINVAL: it stopped behind RAM, or, where there is none, at once; what it has come by is committed. A vIOMMU of another VM's: one of the two.
  if (outcome === 'done' || outcome === 'EINVAL')
    for (const one of w.guests)
      if (one.hasRam && (one === guest || device.assigned?.viommuOf === one))
        for (let gfn = first; gfn < Math.min(end, FRAMES); gfn++) one.committed.add(gfn);
  return `${device.name}: ${outcome}`;
}

function preFault(guest: ReturnType<World['guest']>, c: Choices): string {
  const { first, count } = frames(c);
  if (guest.vcpu.closed) return 'closed';
  return result(() => {
    const left = guest.vcpu.preFaultMemory({ gpa: BigInt(first) * PAGE, size: BigInt(count) * PAGE });
    for (let gfn = first; gfn < Number(left.gpa / PAGE); gfn++) if (guest.isPrivate.has(gfn)) guest.committed.add(gfn);
  });
}

function punch(w: World, c: Choices): string {
  const { first, count } = frames(c);
  const guest = w.guest(c);
  if (guest.memfd.closed) return 'closed';
  const outcome = result(() => guest.memfd.punchHole(first * 4096, count * 4096));
  if (outcome === 'done') {
    for (let gfn = first; gfn < first + count; gfn++) guest.committed.delete(gfn);
    for (const device of w.devices) device.punched(guest, first, first + count);
  }
  return `${guest.name}: ${outcome}`;
}

/** Pages of a guest_memfd, in the place of shared ones or behind them: pinned, where the machine can do that. */
function mapGuestMemfd(w: World, c: Choices): string {
  const device = w.device(c);
  const guest = w.guestOf(device, c);
  const { first, count } = frames(c);
  const from = c.chance(0.5) ? first : FRAMES + first;
  const shift = c.chance(0.3) ? c.below(FRAMES) : 0;
  return onAssigned(device, ({ ioas }) => {
    if (ioas === undefined || guest.memfd.closed) return;
    for (let i = 0; i < count; i++) device.map(from + i, { kind: 'memfd', guest, index: (first + i + shift) % FRAMES });
    w.count('guest_memfd mapped');
  });
}

function mapBar(w: World, c: Choices): string {
  const device = w.device(c);
  const { dmaBufs } = c.pick(w.devices);
  const open = dmaBufs.filter(({ handle }) => !handle.closed);
  if (open.length === 0) return 'no dma-buf';
  const { handle } = c.pick(open);
  const at = c.below(2 * FRAMES);
  const mapped = onAssigned(device, ({ ioas }) => ioas !== undefined && device.mapBar(at, handle));
  return `${mapped}, ${dmaAt(w, c, device, at)}`;
}

function tdiBind(w: World, c: Choices, how: 'tdiBind' | 'tdiUnbind'): string {
  const device = w.device(c);
  const { kvmVfio, name } = w.guestOf(device, c);
  if (kvmVfio.closed) return 'closed';
  return `${name}, ${onDevice(device, ({ fd }) => kvmVfio[how]({ guest_rid: 0x10, devfd: fd }))}`;
}

/** Device and iommufd, closed in this order or that. */
function letGo(w: World, c: Choices, device: TrustedDevice): void {
  const { assigned } = device;
  for (const { kvmVfio } of w.guests)
    if (!kvmVfio.closed && assigned?.device.closed === false) result(() => kvmVfio.delFile(assigned.device.fd));
  for (const handle of c.chance(0.5) ? [assigned?.device, assigned?.iommufd] : [assigned?.iommufd, assigned?.device])
    handle?.close();
  device.assigned = undefined;
}

function reopen(w: World, c: Choices, device: TrustedDevice): string {
  letGo(w, c, device);
  const guest = w.guestOf(device, c);
  return `${device.name} for ${guest.name}: ${result(() => device.open(guest, c.chance(0.8), c.chance(0.9)))}`;
}

function pull(w: World, c: Choices): string {
  const device = w.device(c);
  if (device.pulled) return 'is gone';
  w.count(`pulled in state ${device.state}`);
  device.pull();
  return device.name;
}

function plug(w: World, c: Choices): string {
  /** Its removal waits for its users, and whatever is plugged in meanwhile is found after it: pci_rescan_remove_lock. */
  const held = (): TrustedDevice | undefined => w.devices.find(({ pulled, isGone }) => pulled && !isGone);
  const device = held() ?? w.devices.find(({ pulled }) => pulled);
  if (device === undefined) return 'all are there';
  if (c.chance(0.7)) letGo(w, c, device);
  const waited = held();
  if (waited !== undefined) return `${waited.name} is still held`;
  device.plug();
  w.count('plugged in again');
  return `${device.name}, opened again: ${reopen(w, c, device)}`;
}

const EVENTS = Object.keys(TDI_EVENTS) as TdiEvent[];
const PCI_CAP_ID_PM = 1;
const PCI_CAP_ID_EXP = 0x10;
const PM_CONTROL = 4;
const EXPRESS_CONTROL = 8;

function capability(device: Assigned['device'], id: number): number {
  return device.config.capabilities().find((one) => one.id === id && !('version' in one && one.version))?.offset ?? 0;
}

const functionLevelReset = (device: Assigned['device']): void => {
  const at = capability(device, PCI_CAP_ID_EXP) + EXPRESS_CONTROL;
  device.config.write16(at, device.config.read16(at) | 0x8000);
};

/** Steps of a device. */
const one =
  (run: (w: World, device: TrustedDevice, c: Choices) => string) =>
  (w: World, c: Choices): string =>
    run(w, w.device(c), c);

export const steps: Readonly<Record<string, TeeIoStep>> = {
  'guest: device memory': { weight: 12, run: guestMmio },
  'host: device memory': { weight: 4, run: hostMmio },
  'device: DMA': { weight: 16, run: dma },
  'guest: memory': { weight: 4, run: guestMemory },
  'guest: convert memory': {
    weight: 5,
    run: (w, c) => {
      const { first, count } = frames(c);
      const guest = w.guest(c);
      return onVm(guest, () => guest.convert(BigInt(first) * PAGE, count, c.chance(0.7)));
    },
  },
  'guest: convert MMIO': {
    weight: 5,
    run: one((w, device, c) => {
      const { bar } = place(c);
      const guest = w.guestOf(device, c);
      return onVm(guest, () => guest.convert(device.gpa[bar], barPages(bar), c.chance(0.7)));
    }),
  },
  'guest: accept MMIO': { weight: 3, run: one((w, device, c) => acceptMmio(w, c, device)) },
  'guest: lock': { weight: 4, run: one((_w, device) => onTdi(device, (tdi) => tdi.setTdiState(1))) },
  'guest: start': { weight: 8, run: one((_w, device) => onTdi(device, (tdi) => tdi.setTdiState(2))) },
  'guest: stop': { weight: 1, run: one((_w, device) => onTdi(device, (tdi) => tdi.setTdiState(0))) },
  'guest: accept DMA': { weight: 6, run: one((_w, device) => onTdi(device, (tdi) => tdi.enableDma())) },
  'guest: no DMA': { weight: 1, run: one((_w, device) => onTdi(device, (tdi) => tdi.disableDma())) },
  'guest: evidence': {
    weight: 1,
    run: one((_w, device, c) => onTdi(device, (tdi) => void tdi.readObject(c.below(5), { piece: 64 }))),
  },
  'host: TSM_BIND by VFIO': { weight: 8, run: one((_w, device) => onTdi(device, (tdi) => tdi.bind())) },
  'host: TSM_OP BIND': { weight: 5, run: one((_w, device) => onTdi(device, (tdi) => tdi.bind(), 'iommufd')) },
  'host: TDI_BIND by KVM-VFIO': { weight: 2, run: (w, c) => tdiBind(w, c, 'tdiBind') },
  'host: TSM_UNBIND': { weight: 1, run: one((_w, device) => onTdi(device, (tdi) => tdi.unbind())) },
  'host: TSM_OP UNBIND': { weight: 1, run: one((_w, device) => onTdi(device, (tdi) => tdi.unbind(), 'iommufd')) },
  'host: TDI_UNBIND by KVM-VFIO': { weight: 1, run: (w, c) => tdiBind(w, c, 'tdiUnbind') },
  'host: TSM_MAP': { weight: 4, run: one((w, device, c) => map(w, c, device)) },
  'host: KVM_PRE_FAULT_MEMORY': { weight: 4, run: (w, c) => preFault(w.guest(c), c) },
  'host: punch a hole': { weight: 2, run: punch },
  'host: pin guest_memfd': { weight: 3, run: mapGuestMemfd },
  'host: map a BAR for DMA': { weight: 4, run: mapBar },
  'host: memory slot': {
    weight: 1,
    run: (w, c) => {
      const guest = w.guest(c);
      return onVm(guest, () => (guest.hasRam ? guest.deleteSlot(0) : guest.addRam()));
    },
  },
  'host: slot of a BAR': {
    weight: 6,
    run: one((w, device, c) => {
      const guest = c.pick(w.guests);
      return onVm(guest, () => device.makeSlot(guest, place(c).bar, c.chance(0.3)));
    }),
  },
  'host: lend a BAR to the other VM': { weight: 3, run: one((w, device, c) => lend(w, c, device)) },
  'host: delete a slot of a BAR': {
    weight: 1,
    run: one((w, device, c) => {
      const guest = w.guestOf(device, c);
      return onVm(guest, () => guest.deleteSlot(device.slot[place(c).bar]));
    }),
  },
  'host: Memory Space and Bus Master Enable': {
    weight: 3,
    run: one((_w, target, c) => {
      const set = c.pick([PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY, PCI_COMMAND_MASTER, 0]);
      return onDevice(target, (device) => void device.config.setCommand(set, 6));
    }),
  },
  'host: power state': {
    weight: 1,
    run: one((_w, target, c) => {
      const state = c.pick([0, 3]);
      return onDevice(target, (device) => device.config.write16(capability(device, PCI_CAP_ID_PM) + PM_CONTROL, state));
    }),
  },
  'host: function level reset': { weight: 1, run: one((_w, target) => onDevice(target, functionLevelReset)) },
  'host: reset': { weight: 1, run: one((_w, target) => onDevice(target, (device) => device.reset())) },
  'host: hot reset': { weight: 1, run: one((_w, target) => onDevice(target, (device) => device.pciHotReset())) },
  'host: low power': {
    weight: 1,
    run: one((_w, target, c) => {
      const enter = c.chance(0.5);
      return onDevice(target, (device) => (enter ? device.lowPowerEntry() : device.lowPowerExit()));
    }),
  },
  'host: a new vdevice': { weight: 2, run: one((_w, device) => onAssigned(device, () => device.makeVdevice())) },
  'host: a new vIOMMU': {
    weight: 2,
    run: one((w, device, c) => onAssigned(device, () => device.makeViommu(c.chance(0.5) ? w.guestOf(device, c) : undefined))),
  },
  'host: destroy the vdevice': {
    weight: 1,
    run: one((_w, device) => onAssigned(device, ({ vdevice }) => vdevice?.destroy())),
  },
  'host: destroy the vIOMMU': { weight: 1, run: one((_w, device) => onAssigned(device, ({ viommu }) => viommu?.destroy())) },
  'host: attach': { weight: 1, run: one((_w, device) => onAssigned(device, () => device.attach())) },
  'host: detach': { weight: 1, run: one((_w, target) => onDevice(target, (device) => device.detachIommufdPt())) },
  'host: exclusive ranges': {
    weight: 1,
    run: one((_w, device, c) => {
      const on = c.chance(0.5);
      return onAssigned(device, ({ dev_id, iommufd }) => dev_id !== undefined && iommufd.setExclusiveRanges(dev_id, on));
    }),
  },
  'host: KVM_DEV_VFIO_FILE': {
    weight: 1,
    run: one((w, target, c) => {
      const { kvmVfio } = w.guestOf(target, c);
      if (kvmVfio.closed) return 'closed';
      const add = c.chance(0.5);
      return onDevice(target, ({ fd }) => (add ? kvmVfio.addFile(fd) : kvmVfio.delFile(fd)));
    }),
  },
  'host: connect or disconnect': {
    weight: 1,
    run: one((_w, { tdi }) =>
      result(() => {
        tdi.connected = !tdi.connected;
      }),
    ),
  },
  'device: an event': {
    weight: 2,
    run: one((_w, { tdi }, c) => {
      const event = c.pick(EVENTS);
      tdi.tdi.happens(event);
      return event;
    }),
  },
  'device: keys lost': { weight: 1, run: one((_w, { tdi }) => result(() => tdi.loseKeys())) },
  'firmware: fence cleared': {
    weight: 1,
    run: one((w, { tdi, owner }) => {
      tdi.fenced = 0;
      if (owner !== undefined) w.faulted.delete(owner);
      return 'done';
    }),
  },
  'machine: pull a device out': { weight: 2, run: pull },
  'machine: plug it in again': { weight: 4, run: plug },
  'host: close device and iommufd, open them again': { weight: 2, run: one((w, device, c) => reopen(w, c, device)) },
  'host: close something': {
    weight: 1,
    run: (w, c) => {
      const open = w.handles;
      if (open.length === 0) return 'all closed';
      const handle = c.pick(open);
      handle.close();
      return handle.constructor.name;
    },
  },
  'host: close everything, and begin again': {
    weight: 1,
    run: (w, c) => {
      const order = closeAll(w, c);
      w.boot(c);
      return order.join(', ');
    },
  },
};

/** A whole flow, most of which a random order hardly ever gets right. */
export function takeDevice(w: World, c: Choices): string {
  const { vendor } = w.teeIo;
  const device = w.device(c);
  const guest = device.assigned?.guest ?? w.guest(c);
  const done: string[] = [`${device.name} for ${guest.name}`];
  const step = (what: string, run: () => string): void => void done.push(`${what} ${run()}`);
  step('private', () => onVm(guest, () => guest.convert(0n, FRAMES / 2, true)));
  for (const bar of [0, 2] as const) step('slot', () => onVm(guest, () => device.makeSlot(guest, bar, false)));
  step('bind', () => onTdi(device, (tdi) => tdi.bind(), vendor === 'tdx' || c.chance(0.5) ? 'vfio' : 'iommufd'));
  if (vendor === 'cca') step('lock', () => onTdi(device, (tdi) => tdi.setTdiState(1)));
  for (const bar of [0, 2] as const)
    step('private', () => onVm(guest, () => guest.convert(device.gpa[bar], barPages(bar), true)));
  if (c.chance(0.7)) step('map', () => (c.chance(0.5) ? preFault(guest, c) : map(w, c, device)));
  if (vendor === 'tdx' || vendor === 'sev') step('DMA', () => onTdi(device, (tdi) => tdi.enableDma()));
  step('start', () => onTdi(device, (tdi) => tdi.setTdiState(2)));
  for (let i = 0; device.state === RUN && i < 4; i++) {
    step('and', () => guestMemory(w, c));
    step('and', () => dma(w, c));
  }
  if (c.chance(0.3)) step('lend', () => lend(w, c, device));
  return done.join(', ');
}

/** The other VM gets the device's memory too, by the same dma-buf, and its guest makes it private and tries to reach it. */
function lend(w: World, c: Choices, device: TrustedDevice): string {
  const { bar, offset } = place(c);
  const other = w.guests.find((guest) => guest !== device.owner)!;
  const slot = onVm(other, () => device.makeSlot(other, bar, false));
  const converted = onVm(other, () => other.convert(device.gpa[bar], barPages(bar), true));
  return `${slot}, ${converted}, ${guestReaches(w, c, device, other, { isPrivate: true, bar, offset })}`;
}
