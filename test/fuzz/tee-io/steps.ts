/** What guest, host and device do, one thing at a time; and what may come of it. */
import { PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from 'kvio';
import { TDI_EVENTS, type TdiEvent } from 'kvio/sim';
import type { Choices } from '../choices.ts';
import { BAR_GPA, BDF, demand, FRAMES, GUESTS, PAGE, result, type World } from './world.ts';

const UNLOCKED = 0;
const RUN = 2;

export interface TeeIoStep {
  readonly weight: number;
  /** What came of it, for the report. */
  run(w: World, c: Choices): string;
}

/** Memory of the device that is TEE memory: the registers' first page, all of BAR 2. */
const place = (c: Choices): { bar: 0 | 2; offset: number } =>
  c.chance(0.5) ? { bar: 2, offset: 8 * c.below(512) } : { bar: 0, offset: c.pick([0, 8, 0x28]) };

/** No access to TEE memory is served but with the T bit in RUN, or without it in CONFIG_UNLOCKED. */
function mayReach(w: World, t: boolean, access: () => string): string {
  const before = w.state;
  const reached = w.reached;
  const outcome = access();
  if (w.reached !== reached) {
    const allowed = t ? before === RUN : before === UNLOCKED;
    demand(allowed, `an access with T ${t ? 'set' : 'clear'} reached the device in state ${before}`);
    w.count(`MMIO served with T ${t ? 'set' : 'clear'}`);
  } else if (before !== UNLOCKED) w.count(`MMIO refused in state ${before}, T ${t ? 'set' : 'clear'}`);
  return outcome;
}

function guestMmio(w: World, c: Choices): string {
  const { bar, offset } = place(c);
  const isPrivate = c.chance(0.6);
  const isWrite = c.chance(0.3);
  const gpa = BAR_GPA[bar]! + BigInt(offset);
  return mayReach(w, isPrivate, () =>
    w.guest(function* (guest) {
      if (isWrite) yield* guest.writeMmio(gpa, 4, 0, { private: isPrivate });
      else yield* guest.readMmio(gpa, 4, { private: isPrivate });
    }),
  );
}

function hostMmio(w: World, c: Choices): string {
  const { device, dev_id } = w.assigned ?? {};
  if (device === undefined || dev_id === undefined || device.closed) return 'no device';
  const { bar, offset } = place(c);
  const how = c.below(3);
  return mayReach(w, false, () =>
    result(() => {
      const region = device.region(bar);
      if (how === 0) region.read32(offset);
      else if (how === 1) region.write32(offset, 0);
      else {
        using mapped = region.mmap({ length: 4096 * (1 + (offset >> 12)) });
        mapped.read32(offset);
      }
    }),
  );
}

/** Any, those that are committed, or those that are private and are not. */
function framesOfInterest(w: World, c: Choices): readonly number[] {
  const all = Array.from({ length: FRAMES }, (_, gfn) => gfn);
  const some = c.pick([
    all,
    all.filter((gfn) => w.committed.has(gfn)),
    all.filter((gfn) => w.isPrivate.has(gfn) && !w.committed.has(gfn)),
  ]);
  return some.length === 0 ? all : some;
}

/** The device reaches what its state, the frame's attribute and the vendor's rule let it, and never the other memory. */
function dma(w: World, c: Choices): string {
  const gfn = c.pick(framesOfInterest(w, c));
  const isWrite = c.chance(0.4);
  const iova = BigInt(gfn) * PAGE;
  const { state, fn, tdi, teeIo } = w;
  const isPrivate = w.isPrivate.has(gfn);
  const hosts = (): Uint8Array => w.ram.read(gfn * 4096, 16).slice();
  const before = hosts();
  const wasBound = tdi.binding !== undefined;
  const pattern = new Uint8Array(16).fill(0x44 + c.below(8));
  const read = isWrite ? undefined : fn.dma.read(iova, 16);
  const written = isWrite && fn.dma.write(iova, pattern);
  if (read === undefined && !written) {
    demand(same(hosts(), before), 'DMA that failed has written');
    return `${isWrite ? 'write' : 'read'} of ${gfn} in state ${state}: nothing`;
  }
  const what = `DMA of ${isPrivate ? 'private' : 'shared'} frame ${gfn} in state ${state}`;
  demand(state === UNLOCKED || state === RUN, what);
  const guests = state === RUN && isPrivate;
  if (guests) {
    demand(wasBound, `${what}, bound to nobody`);
    demand(teeIo.vendor === 'sim' || w.committed.has(gfn), `${what}, which is not committed`);
    const found = guestRead(w, gfn);
    const expected = read ?? pattern;
    if (found !== undefined) demand(same(found, expected), `${what}: the guest has ${found}, the device ${expected}`);
    demand(same(hosts(), before), `${what} has changed the host's page`);
    w.count('private DMA');
  } else {
    demand(same(hosts(), isWrite ? pattern : read!), `${what} is not the host's page`);
    w.count(`shared DMA in state ${state}`);
  }
  return `${what}: done`;
}

const same = (a: Uint8Array, b: Uint8Array): boolean => a.every((byte, i) => byte === b[i]);

/** What the guest has there; undefined where it cannot be asked. */
function guestRead(w: World, gfn: number): Uint8Array | undefined {
  let found: Uint8Array | undefined;
  w.guest(function* (guest) {
    found = (yield* guest.read(BigInt(gfn) * PAGE, 16, { private: true })).slice();
  });
  return found;
}

function guestMemory(w: World, c: Choices): string {
  const gfn = c.pick(framesOfInterest(w, c));
  const isPrivate = c.chance(0.7);
  const before = w.ram.read(gfn * 4096, 16).slice();
  const end = w.guest(function* (guest) {
    yield* guest.write(BigInt(gfn) * PAGE, new Uint8Array(16).fill(GUESTS), { private: isPrivate });
  });
  if (isPrivate) demand(same(w.ram.read(gfn * 4096, 16), before), "the guest's private write is in the host's page");
  return `${isPrivate ? 'private' : 'shared'} write of ${gfn}: ${end}`;
}

/** Frames [first, first + count) of RAM. */
const frames = (c: Choices): { first: number; count: number } => {
  const first = c.below(FRAMES);
  return { first, count: 1 + c.below(FRAMES - first) };
};

const vdevice = (
  w: World,
  make: (one: NonNullable<ReturnType<World['tdiBy']>>) => void,
  door: 'vfio' | 'iommufd' = 'vfio',
): string => {
  const tdi = w.tdiBy(door);
  return tdi === undefined ? 'no vdevice' : result(() => make(tdi));
};

function acceptMmio(w: World, c: Choices): string {
  const { bar } = place(c);
  const start = w.kernel.process.system.pci.find(BDF)?.resources[bar]?.start ?? 0n;
  const gpa_base = BAR_GPA[bar]!;
  return vdevice(w, (tdi) => tdi.validateMmio({ gpa_base, gpa_top: gpa_base + PAGE, pa_base: start }));
}

function map(w: World, c: Choices): string {
  const { first, count } = frames(c);
  const end = first + count + (c.chance(0.2) ? 4 : 0);
  const { vdevice: one } = w.assigned ?? {};
  if (one === undefined) return 'no vdevice';
  const outcome = result(() => one.tsmMap({ start_gpa: BigInt(first) * PAGE, end_gpa: BigInt(end) * PAGE }));
  // EINVAL: it stopped behind RAM, or, where there is none, at once; what it has come by is committed.
  if ((outcome === 'done' || outcome === 'EINVAL') && w.hasRam)
    for (let gfn = first; gfn < Math.min(end, FRAMES); gfn++) w.committed.add(gfn);
  return outcome;
}

function preFault(w: World, c: Choices): string {
  const { first, count } = frames(c);
  if (w.vcpu.closed) return 'closed';
  return result(() => {
    const left = w.vcpu.preFaultMemory({ gpa: BigInt(first) * PAGE, size: BigInt(count) * PAGE });
    for (let gfn = first; gfn < Number(left.gpa / PAGE); gfn++) if (w.isPrivate.has(gfn)) w.committed.add(gfn);
  });
}

function punch(w: World, c: Choices): string {
  const { first, count } = frames(c);
  if (w.memfd.closed) return 'closed';
  const outcome = result(() => w.memfd.punchHole(first * 4096, count * 4096));
  if (outcome === 'done') for (let gfn = first; gfn < first + count; gfn++) w.committed.delete(gfn);
  return outcome;
}

const onDevice = (w: World, make: (device: NonNullable<World['assigned']>['device']) => void): string => {
  const { device, dev_id } = w.assigned ?? {};
  return device === undefined || dev_id === undefined || device.closed ? 'no device' : result(() => make(device));
};

const onVm = (w: World, make: () => void): string => (w.vm.closed ? 'closed' : result(make));

const EVENTS = Object.keys(TDI_EVENTS) as TdiEvent[];
const PCI_CAP_ID_PM = 1;
const PCI_CAP_ID_EXP = 0x10;
const PM_CONTROL = 4;
const EXPRESS_CONTROL = 8;

function capability(device: NonNullable<World['assigned']>['device'], id: number): number {
  return device.config.capabilities().find((one) => one.id === id && !('version' in one && one.version))?.offset ?? 0;
}

export const steps: Readonly<Record<string, TeeIoStep>> = {
  'guest: device memory': { weight: 10, run: guestMmio },
  'host: device memory': { weight: 4, run: hostMmio },
  'device: DMA': { weight: 14, run: dma },
  'guest: memory': { weight: 4, run: guestMemory },
  'guest: convert memory': {
    weight: 5,
    run: (w, c) => {
      const { first, count } = frames(c);
      const isPrivate = c.chance(0.7);
      return onVm(w, () => w.convert(BigInt(first) * PAGE, count, isPrivate));
    },
  },
  'guest: convert MMIO': {
    weight: 4,
    run: (w, c) => {
      const { bar } = place(c);
      const isPrivate = c.chance(0.7);
      return onVm(w, () => w.convert(BAR_GPA[bar]!, bar === 0 ? 4 : 16, isPrivate));
    },
  },
  'guest: accept MMIO': { weight: 3, run: acceptMmio },
  'guest: lock': { weight: 4, run: (w) => vdevice(w, (tdi) => tdi.setTdiState(1)) },
  'guest: start': { weight: 8, run: (w) => vdevice(w, (tdi) => tdi.setTdiState(2)) },
  'guest: stop': { weight: 1, run: (w) => vdevice(w, (tdi) => tdi.setTdiState(0)) },
  'guest: accept DMA': { weight: 6, run: (w) => vdevice(w, (tdi) => tdi.enableDma()) },
  'guest: no DMA': { weight: 1, run: (w) => vdevice(w, (tdi) => tdi.disableDma()) },
  'guest: evidence': {
    weight: 1,
    run: (w, c) => vdevice(w, (tdi) => void tdi.readObject(c.below(5), { piece: 64 })),
  },
  'host: TSM_BIND by VFIO': { weight: 8, run: (w) => vdevice(w, (tdi) => tdi.bind()) },
  'host: TSM_OP BIND': { weight: 5, run: (w) => vdevice(w, (tdi) => tdi.bind(), 'iommufd') },
  'host: TSM_UNBIND': { weight: 1, run: (w) => vdevice(w, (tdi) => tdi.unbind()) },
  'host: TSM_OP UNBIND': { weight: 1, run: (w) => vdevice(w, (tdi) => tdi.unbind(), 'iommufd') },
  'host: TSM_MAP': { weight: 4, run: map },
  'host: KVM_PRE_FAULT_MEMORY': { weight: 4, run: preFault },
  'host: punch a hole': { weight: 2, run: punch },
  'host: memory slot': {
    weight: 1,
    run: (w) => onVm(w, () => (w.hasRam ? w.deleteSlot(0) : w.addRam())),
  },
  'host: slot of a BAR': {
    weight: 3,
    run: (w, c) => {
      const { bar } = place(c);
      return onVm(w, () => w.makeSlot(bar));
    },
  },
  'host: delete a slot of a BAR': { weight: 1, run: (w, c) => onVm(w, () => w.deleteSlot(1 + place(c).bar)) },
  'host: Memory Space and Bus Master Enable': {
    weight: 3,
    run: (w, c) => {
      const set = c.pick([PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY, PCI_COMMAND_MASTER, 0]);
      return onDevice(w, (device) => void device.config.setCommand(set, 6));
    },
  },
  'host: power state': {
    weight: 1,
    run: (w, c) => {
      const state = c.pick([0, 3]);
      return onDevice(w, (device) => device.config.write16(capability(device, PCI_CAP_ID_PM) + PM_CONTROL, state));
    },
  },
  'host: function level reset': {
    weight: 1,
    run: (w) =>
      onDevice(w, (device) => {
        const at = capability(device, PCI_CAP_ID_EXP) + EXPRESS_CONTROL;
        device.config.write16(at, device.config.read16(at) | 0x8000);
      }),
  },
  'host: reset': { weight: 1, run: (w) => onDevice(w, (device) => device.reset()) },
  'host: hot reset': { weight: 1, run: (w) => onDevice(w, (device) => device.pciHotReset()) },
  'host: low power': {
    weight: 1,
    run: (w, c) => {
      const enter = c.chance(0.5);
      return onDevice(w, (device) => (enter ? device.lowPowerEntry() : device.lowPowerExit()));
    },
  },
  'host: a new vdevice': { weight: 2, run: (w) => result(() => w.makeVdevice()) },
  'host: a new vIOMMU': { weight: 2, run: (w, c) => result(() => w.makeViommu(c.chance(0.5))) },
  'host: destroy the vdevice': { weight: 1, run: (w) => result(() => w.assigned?.vdevice?.destroy()) },
  'host: destroy the vIOMMU': { weight: 1, run: (w) => result(() => w.assigned?.viommu?.destroy()) },
  'host: attach': { weight: 1, run: (w) => result(() => w.attach()) },
  'host: detach': { weight: 1, run: (w) => onDevice(w, (device) => device.detachIommufdPt()) },
  'host: exclusive ranges': {
    weight: 1,
    run: (w, c) => {
      const { iommufd, dev_id } = w.assigned ?? {};
      const on = c.chance(0.5);
      return dev_id === undefined ? 'no device' : result(() => iommufd!.setExclusiveRanges(dev_id, on));
    },
  },
  'host: KVM_DEV_VFIO_FILE': {
    weight: 1,
    run: (w, c) => {
      const { device } = w.assigned ?? {};
      if (device === undefined || device.closed || w.kvmVfio.closed) return 'closed';
      const add = c.chance(0.5);
      return result(() => (add ? w.kvmVfio.addFile(device.fd) : w.kvmVfio.delFile(device.fd)));
    },
  },
  'host: connect or disconnect': {
    weight: 1,
    run: (w) => {
      const { tdi } = w;
      return result(() => {
        tdi.connected = !tdi.connected;
      });
    },
  },
  'device: an event': {
    weight: 2,
    run: (w, c) => {
      const event = c.pick(EVENTS);
      w.tdi.tdi.happens(event);
      return event;
    },
  },
  'device: keys lost': { weight: 1, run: (w) => result(() => w.tdi.loseKeys()) },
  'firmware: fence cleared': {
    weight: 1,
    run: (w) => {
      w.tdi.fenced = 0;
      return 'done';
    },
  },
  'host: close device and iommufd, open them again': {
    weight: 1,
    run: (w, c) => {
      const { device, iommufd } = w.assigned ?? {};
      if (!w.kvmVfio.closed && device !== undefined && !device.closed) result(() => w.kvmVfio.delFile(device.fd));
      for (const handle of c.chance(0.5) ? [device, iommufd] : [iommufd, device]) handle?.close();
      w.assigned = undefined;
      return result(() => w.open(c.chance(0.8), c.chance(0.9)));
    },
  },
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
};

/** A whole flow, most of which a random order hardly ever gets right. */
export function takeDevice(w: World, c: Choices): string {
  const { vendor } = w.teeIo;
  const done: string[] = [];
  const step = (what: string, run: () => string): void => void done.push(`${what} ${run()}`);
  step('private', () => onVm(w, () => w.convert(0n, FRAMES / 2, true)));
  for (const bar of [0, 2] as const) step('slot', () => onVm(w, () => w.makeSlot(bar)));
  step('bind', () => vdevice(w, (tdi) => tdi.bind(), vendor === 'tdx' || c.chance(0.5) ? 'vfio' : 'iommufd'));
  if (vendor === 'cca') step('lock', () => vdevice(w, (tdi) => tdi.setTdiState(1)));
  for (const bar of [0, 2] as const) step('private', () => onVm(w, () => w.convert(BAR_GPA[bar]!, bar === 0 ? 4 : 16, true)));
  if (c.chance(0.7)) step('map', () => (c.chance(0.5) ? preFault(w, c) : map(w, c)));
  if (vendor === 'tdx' || vendor === 'sev') step('DMA', () => vdevice(w, (tdi) => tdi.enableDma()));
  step('start', () => vdevice(w, (tdi) => tdi.setTdiState(2)));
  for (let i = 0; w.state === RUN && i < 4; i++) {
    step('and', () => guestMemory(w, c));
    step('and', () => dma(w, c));
  }
  return done.join(', ');
}
