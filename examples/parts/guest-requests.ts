// What a guest asks of its VMM about a TDI, and what a VMM makes of it. How such a request leaves the guest is the vendor's; what it says is this example's own.
import { KernelError } from 'kvio';
import type { Guest, GuestScript } from 'kvio/sim';
import { type ConfidentialVm, SHARED } from './confidential-vm.ts';

export const Request = {
  BIND: 1,
  /** An object, and where in shared memory: its length. */
  READ_OBJECT: 2,
  /** Measurements with the nonce that lies in shared memory. */
  MEASURE: 3,
  /** gpa_base, gpa_top, pa_base. */
  ACCEPT_MMIO: 4,
  ACCEPT_DMA: 5,
  LOCK: 6,
  START: 7,
  UNBIND: 8,
} as const;

const NAMES = Object.fromEntries(Object.entries(Request).map(([name, op]) => [op, name]));
const OBJECTS = ['vca', 'certificates', 'measurements', 'report'] as const;
const LOCKED = 1;
const RUN = 2;

/** Carries it out: what the guest is answered, 0 or a length, or −errno. */
export function serve(one: ConfidentialVm, op: number, args: readonly bigint[]): bigint {
  const { tdi, timeline, ram } = one;
  const [first = 0n, second = 0n, third = 0n] = args;
  const request = tdi.layout === 'type48' ? 'IOMMU_VDEVICE_TSM_GUEST_REQUEST' : 'IOMMU_VDEVICE_TSM_REQ';
  const door = (verb: 'BIND' | 'UNBIND', make: () => void): bigint => {
    const [descriptor, call] = tdi.door === 'vfio' ? ['V', `VFIO_DEVICE_TSM_${verb}`] : ['I', `IOMMU_VDEVICE_TSM_OP, ${verb}`];
    timeline.vmm(descriptor!, call!, make);
    return 0n;
  };
  const ask = (what: string, make: () => unknown): bigint => {
    const result = timeline.vmm('I', `${request}: ${what}`, make);
    return typeof result === 'number' ? BigInt(result) : 0n;
  };
  const handlers: Readonly<Record<number, () => bigint>> = {
    [Request.BIND]: () => door('BIND', () => tdi.bind()),
    [Request.UNBIND]: () => door('UNBIND', () => tdi.unbind()),
    [Request.READ_OBJECT]: () =>
      ask(OBJECTS[Number(first)]!, () => {
        const bytes = tdi.readObject(Number(first), { piece: 256 });
        ram.write(Number(second), bytes);
        return bytes.length;
      }),
    [Request.MEASURE]: () =>
      ask('measure anew', () => tdi.regenObject('measurements', { nonce: ram.read(Number(first), 32).slice() })),
    [Request.ACCEPT_MMIO]: () => ask('accept MMIO', () => tdi.validateMmio({ gpa_base: first, gpa_top: second, pa_base: third })),
    [Request.ACCEPT_DMA]: () => ask('accept DMA', () => tdi.enableDma()),
    [Request.LOCK]: () => ask('lock', () => tdi.setTdiState(LOCKED)),
    [Request.START]: () => ask('start', () => tdi.setTdiState(RUN)),
  };
  try {
    const handler = handlers[op];
    if (handler === undefined) throw new Error(`the guest asks for ${NAMES[op] ?? op}`);
    return handler();
  } catch (error) {
    if (!KernelError.isKernelError(error)) throw error;
    return BigInt(error.errno);
  }
}

/** A port and a page, for the vendors whose way out of the guest is not recorded, or not for every request. */
export const PORT = 0x7d0;
const MAILBOX = SHARED;
/** Where objects are put. */
export const OBJECT_AT = SHARED + 0x1000n;
export const NONCE_AT = SHARED + 0x200n;

/** The guest's side: words in the mailbox, a doorbell, the answer where the words were. */
export function* ask(guest: Guest, op: number, ...args: readonly bigint[]): GuestScript<bigint> {
  yield* guest.write(MAILBOX, new Uint8Array(BigUint64Array.from([...args, 0n, 0n, 0n].slice(0, 3)).buffer));
  yield* guest.out(PORT, 4, op);
  return BigInt.asIntN(64, new DataView((yield* guest.read(MAILBOX, 8)).slice().buffer).getBigUint64(0, true));
}

/** The host's side of it. */
export function mailbox(one: ConfidentialVm, op: number): void {
  const words = new BigUint64Array(one.ram.read(Number(MAILBOX), 24).slice().buffer);
  one.ram.write(Number(MAILBOX), new Uint8Array(BigInt64Array.of(serve(one, op, [...words])).buffer));
}

/** How a guest asks: by its vendor's exit, or by the mailbox. */
export type Ask = (op: number, ...args: readonly bigint[]) => GuestScript<bigint>;
