/** A slot behind a root port whose hot-plug controller the kernel drives, and a hand that takes out what is in it. */
import { type Kernel, KernelError } from 'kvio';
import { O_RDONLY, O_RDWR } from 'kvio/uapi';
import type { Needs } from './case.ts';
import { exists, pci, show } from './parts.ts';

const CAPABILITY_LIST = 0x34;
const CAP_EXPRESS = 0x10;
const SLOT_CONTROL = 0x18;
const SLOT_STATUS = 0x1a;
const HOT_PLUG_INTERRUPT = 0x20;
/** Power Indicator off, Power Controller off: what is in the slot then can be taken out, and QEMU does. */
const POWER_OFF = 0x300 | 0x400;
const DIRECTORY = '/sys/bus/pci/slots';

/** What the slot's control register says of its lamps and its power. */
const LAMPS = 0x7c0;

/** Of a device behind an IOMMU that may be pulled out. */
export const SLOTS: { readonly needs: Needs } = { needs: { iommu: true, slots: true } };

/** What is read where nobody decodes the address: ones on a bus, zeros on QEMU's. */
export const nobody = (word: number): string => (word === 0 || word === 0xffff_ffff ? 'nobody answers' : word.toString(16));

/** The directory of the slot a function is in, where the kernel drives it. */
export function slotDirectory(kernel: Kernel, address: string): string | undefined {
  if (!exists(kernel, DIRECTORY)) return undefined;
  const paths = kernel.readdir(DIRECTORY).map((name) => `${DIRECTORY}/${name}`);
  return paths.find((path) => show(kernel, `${path}/address`) === address.replace(/\.\d$/, ''));
}

/** The bridge a function is behind. */
function portAbove(kernel: Kernel, address: string): string {
  return kernel.readlink(pci(address)).split('/').at(-2)!;
}

/** The slot of one function: the registers of the port above it. */
export class Slot {
  readonly #kernel: Kernel;
  readonly #path: string;
  readonly #express: number;
  #before = 0;

  constructor(kernel: Kernel, address: string) {
    this.#kernel = kernel;
    this.#path = `${pci(portAbove(kernel, address))}/config`;
    let at = this.#read(CAPABILITY_LIST, 1);
    while (at !== 0 && this.#read(at, 1) !== CAP_EXPRESS) at = this.#read(at + 1, 1);
    this.#express = at;
  }

  /** The kernel drives it by its own hot-plug driver, which has the port's interrupts, not by ACPI's. */
  get native(): boolean {
    return (this.#read(this.#express + SLOT_CONTROL, 2) & HOT_PLUG_INTERRUPT) !== 0;
  }

  /** Presence Detect State and Changed. */
  get presence(): { present: boolean; changed: boolean } {
    const status = this.#read(this.#express + SLOT_STATUS, 2);
    return { present: (status & 0x40) !== 0, changed: (status & 8) !== 0 };
  }

  /** Attention and power indicators, and the power controller: two bits, two bits, one. */
  get lamps(): string {
    return (this.#read(this.#express + SLOT_CONTROL, 2) & LAMPS).toString(16);
  }

  /** The device is taken out, and the kernel told. */
  pull(): void {
    this.pullQuietly();
    this.tell();
  }

  /** The device is taken out, and the port says nothing before `tell`. */
  pullQuietly(): void {
    this.#before = this.#read(this.#express + SLOT_CONTROL, 2);
    this.#control((this.#before | POWER_OFF) & ~HOT_PLUG_INTERRUPT);
  }

  /** With the power on again, as the kernel left it: it takes a slot without power for one it has turned off itself. */
  tell(): void {
    this.#control(this.#before);
  }

  /** The power stays off, and the port tells what comes from now on. */
  listen(): void {
    this.#control(this.#before | POWER_OFF);
  }

  #control(value: number): void {
    const at = this.#express + SLOT_CONTROL;
    this.#withFile(O_RDWR, (fd) => this.#kernel.pwrite(fd, Uint8Array.of(value & 0xff, value >> 8), BigInt(at)));
  }

  #read(at: number, width: 1 | 2): number {
    const bytes = new Uint8Array(2);
    this.#withFile(O_RDONLY, (fd) => this.#kernel.pread(fd, bytes.subarray(0, width), BigInt(at)));
    return bytes[0]! | (bytes[1]! << 8);
  }

  #withFile(flags: number, body: (fd: number) => void): void {
    const fd = this.#kernel.open(this.#path, flags);
    try {
      body(fd);
    } finally {
      this.#kernel.close(fd);
    }
  }
}

/** Whether the kernel drives the slot a function is in by its own hot-plug driver. */
export function isDriven(kernel: Kernel, address: string): boolean {
  return slotDirectory(kernel, address) !== undefined && new Slot(kernel, address).native;
}

const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Waits until a function is there, or no longer there, but not for ever: whether it is. */
export async function untilPresent(kernel: Kernel, address: string, present: boolean, milliseconds = 30_000): Promise<boolean> {
  for (const end = Date.now() + milliseconds; exists(kernel, pci(address)) !== present && Date.now() < end; ) await pause(5);
  return exists(kernel, pci(address));
}

/** The runner of the lab puts a device back where one was, if it is asked by this port. */
const HAND = 'kvio.slots';
const PORTS = '/sys/class/virtio-ports';

/** For so long the kernel waits after it has turned off the power of a slot, and ignores what happens there. */
const POWER_OFF_TIME = 1_500;

/** What was pulled out of a slot of a lab's machine goes back there, for the next case. */
export async function replug(kernel: Kernel, address: string): Promise<void> {
  const port = exists(kernel, PORTS)
    ? kernel.readdir(PORTS).find((name) => show(kernel, `${PORTS}/${name}/name`) === HAND)
    : undefined;
  if (port === undefined) return;
  await pause(POWER_OFF_TIME);
  for (let tries = 0; tries < 5 && !exists(kernel, pci(address)); tries++) {
    const fd = kernel.open(`/dev/${port}`, O_RDWR);
    try {
      kernel.write(fd, Buffer.from(`plug ${address}\n`));
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
    } finally {
      kernel.close(fd);
    }
    await untilPresent(kernel, address, true, 20_000);
  }
}
