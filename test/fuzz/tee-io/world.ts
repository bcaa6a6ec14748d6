/** Two VMs, two trusted devices and all that is between them. */
import { type Handle, KernelError, Kvm, type TsmLayout } from 'kvio';
import { openSim, type SimKernel, type TeeIo } from 'kvio/sim';
import type { Choices } from '../choices.ts';
import { GuestVm } from './guest-vm.ts';
import { TrustedDevice } from './trusted-device.ts';

export const FRAMES = 16;
export const PAGE = 0x1000n;
/** What the host has in every page of guest RAM, and the guest in those of its private ones it has written to. */
export const HOSTS = 0x53;
export const GUESTS = 0x50;

export class PropertyViolated extends Error {}

export function demand(holds: boolean, what: string): void {
  if (!holds) throw new PropertyViolated(what);
}

/** What a call came to. */
export function result(make: () => unknown): string {
  try {
    make();
    return 'done';
  } catch (error) {
    if (error instanceof KernelError) return error.code;
    throw error;
  }
}

export class World {
  readonly kernel: SimKernel;
  readonly teeIo: Partial<TeeIo>;
  readonly layout: TsmLayout;
  readonly devices: readonly TrustedDevice[];
  guests: readonly GuestVm[] = [];
  /** Guests whose DMA has gone wrong since their fence was clear. */
  readonly faulted: Set<GuestVm> = new Set();
  /** What was seen to happen: a property that nothing ever came near says nothing. */
  readonly seen: Map<string, number>;

  constructor(c: Choices, seen: Map<string, number>) {
    this.seen = seen;
    this.layout = c.pick(['type48', 'scope40', 'op48'] as const);
    this.teeIo = {
      vendor: c.pick(['sim', 'tdx', 'sev', 'cca'] as const),
      tsmReqLayout: this.layout as TeeIo['tsmReqLayout'],
      whileBound: c.pick(['auto-unbind', 'block', 'error'] as const),
      hostMmio: c.pick(['error', 'reject'] as const),
      bindRefPolicy: c.pick(['an', 'xm'] as const),
      dmabufOwner: c.weighted([
        [3, 's0'],
        [1, 'xm'],
      ] as const),
      dialects: c.chance(0.3) ? ['aik-v1'] : [],
      pinnedGuestMemfd: c.chance(0.5),
    };
    this.kernel = openSim({ machine: 'tee-io-7.2', teeIo: this.teeIo });
    this.devices = ['0000:01:00.0', '0000:02:00.0'].map((bdf, index) => new TrustedDevice(this, index, bdf));
    this.boot(c);
  }

  /** The VMs, new; the first device assigned to one of them, up to its vdevice. */
  boot(c: Choices): void {
    const kvm = Kvm.open(this.kernel);
    this.guests = ['VM 0', 'VM 1'].map((name) => new GuestVm(this.kernel, kvm, name));
    kvm.close();
    for (const device of this.devices) if (device.isGone) device.plug();
    this.devices[0]!.open(this.guests[0]!, true, true);
    if (c.chance(0.5)) this.devices[1]!.open(this.guests[c.below(2)]!, true, true);
  }

  count(what: string): void {
    this.seen.set(what, (this.seen.get(what) ?? 0) + 1);
  }

  /** Mostly the first: what is spread over all of them comes to nothing. */
  device(c: Choices): TrustedDevice {
    return this.devices[c.chance(0.25) ? 1 : 0]!;
  }

  guest(c: Choices): GuestVm {
    return this.guests[c.chance(0.25) ? 1 : 0]!;
  }

  /** Mostly whose the device is. */
  guestOf(device: TrustedDevice, c: Choices): GuestVm {
    const own = device.owner ?? device.assigned?.guest;
    return own === undefined || c.chance(0.2) ? c.pick(this.guests) : own;
  }

  /** Every descriptor that is open. */
  get handles(): Handle[] {
    return [...this.guests, ...this.devices].flatMap(({ handles }) => handles).filter(({ closed }) => !closed);
  }

  /** The first bytes of all memory of all VMs, by name. */
  pages(): ReadonlyMap<string, Uint8Array> {
    return new Map(this.guests.flatMap((guest) => [...guest.pages()]));
  }
}
