import { NotModelled } from '../../kernel/errors.ts';
import { EFAULT, EINVAL, ENOSPC, ENOTTY } from '../../uapi/sys.ts';
import * as v from '../../uapi/vfio.ts';
import type { Backing } from '../file.ts';
import { shows } from '../fs/class-device.ts';
import { Directory } from '../fs/directory.ts';
import type { WriteLog } from '../hardware/migratable.ts';
import { RequestTable } from '../ioctl-table.ts';
import type { Process } from '../process.ts';
import type { System } from '../system.ts';
import { VfioDevice, type VfioDeviceFile } from './device.ts';
import { deviceFeature, type FeatureDevice } from './feature.ts';
import { type MdevDriver, MdevParent, type MdevType } from './mdev.ts';
import { MttyIrqs } from './mtty-irqs.ts';
import { MttyMigration } from './mtty-migration.ts';
import { LoopbackUart } from './mtty-uart.ts';
import type { VfioCore } from './vfio-main.ts';

const PORTS = 24;
const CONFIG_SIZE = 0xff;
const BAR_SIZE = 8;
const OFFSET_MASK = (1n << 40n) - 1n;
const COMMAND = 0x04;
const STATUS = 0x06;
const BAR0 = 0x10;
const BAR1 = 0x14;
const BAR2 = 0x18;
const BAR3 = 0x1c;
const BAR4 = 0x20;
const INTERRUPT_LINE = 0x3c;
const INTERRUPT_PIN = 0x3d;

/** Registers by offset, as the driver fills them in. */
const registers: Readonly<Record<number, string>> = {
  0: '48435332',
  4: '0100',
  6: '0002',
  8: '10020007',
  16: '01000000',
  44: '48435332',
  61: '01',
  64: '23000080',
  68: '23',
  72: '23',
  76: '23',
  96: Buffer.from('PCI Serial/UART').toString('hex'),
};

interface MttyType extends MdevType {
  readonly ports: 1 | 2;
}

/** An mtty: a PCI serial card that exists in software only (samples/vfio-mdev/mtty.c). */
export class Mtty extends VfioDevice implements FeatureDevice {
  readonly uarts: readonly LoopbackUart[];
  readonly irqs: MttyIrqs = new MttyIrqs();
  readonly migration: MttyMigration;
  /** Logging is accepted and finds nothing: it does no DMA. */
  readonly logging: WriteLog = { start: (_ranges, pageSize) => pageSize, stop: () => 0, readAndClear: () => 0 };
  precopyInfoV2 = false;
  /** What VFIO_DEVICE_GET_INFO has told once; before it the device has no interrupts. */
  #irqs = 0;
  readonly #config: Uint8Array = new Uint8Array(CONFIG_SIZE);

  constructor(system: System, uuid: string, ports: 1 | 2) {
    super(system, uuid, undefined);
    this.uarts = Array.from({ length: ports }, () => new LoopbackUart(() => this.irqs.trigger()));
    this.migration = new MttyMigration(this);
    for (const [at, hex] of Object.entries(registers)) this.#config.set(Buffer.from(hex, 'hex'), Number(at));
    if (ports === 2) this.#config[BAR1] = 1;
  }

  override openDevice(_p: Process): number {
    return 0;
  }

  override closeDevice(_p: Process): void {
    this.migration.endSessions();
    this.irqs.disable();
    this.precopyInfoV2 = false;
  }

  override ioctl(_file: VfioDeviceFile, p: Process, request: number, arg: bigint): number {
    return mttyIoctls.dispatch(this, p, request, arg);
  }

  override mmap(): Backing | number {
    return -EINVAL;
  }

  deviceFeature(): number {
    return -ENOTTY;
  }

  /** VFIO_DEVICE_GET_INFO. */
  getInfo(p: Process, arg: bigint): number {
    const MINSZ = 16;
    const argsz = p.mm.copyFrom(arg, MINSZ);
    if (argsz === null) return -EFAULT;
    const info = new DataView(argsz.buffer);
    if (info.getUint32(0, true) < MINSZ) return -EINVAL;
    this.#irqs = v.VFIO_PCI_NUM_IRQS;
    info.setUint32(4, v.VFIO_DEVICE_FLAGS_PCI, true);
    info.setUint32(8, v.VFIO_PCI_NUM_REGIONS, true);
    info.setUint32(12, v.VFIO_PCI_NUM_IRQS, true);
    return p.mm.copyTo(arg, argsz) ? 0 : -EFAULT;
  }

  /** VFIO_DEVICE_GET_REGION_INFO: all of them are readable and writable, also those without a byte. */
  getRegionInfo(p: Process, arg: bigint): number {
    const bytes = p.mm.copyFrom(arg, v.vfio_region_info.size);
    if (bytes === null) return -EFAULT;
    const info = v.vfio_region_info.decode(bytes);
    if (info.argsz < v.vfio_region_info.size) return -EINVAL;
    if (info.index >= v.VFIO_PCI_NUM_REGIONS) return -EINVAL;
    const size = info.index === v.VFIO_PCI_CONFIG_REGION_INDEX ? CONFIG_SIZE : info.index < this.uarts.length ? BAR_SIZE : 0;
    const flags = v.VFIO_REGION_INFO_FLAG_READ | v.VFIO_REGION_INFO_FLAG_WRITE;
    const answer = { ...info, flags, size: BigInt(size), offset: BigInt(info.index) << 40n };
    return p.mm.copyTo(arg, v.vfio_region_info.encode(answer)) ? 0 : -EFAULT;
  }

  /** VFIO_DEVICE_GET_IRQ_INFO. */
  getIrqInfo(p: Process, arg: bigint): number {
    const bytes = p.mm.copyFrom(arg, v.vfio_irq_info.size);
    if (bytes === null) return -EFAULT;
    const { argsz, index } = v.vfio_irq_info.decode(bytes);
    if (argsz < v.vfio_irq_info.size || index >= this.#irqs) return -EINVAL;
    if (index !== v.VFIO_PCI_INTX_IRQ_INDEX && index !== v.VFIO_PCI_MSI_IRQ_INDEX) return -EINVAL;
    const intx = v.VFIO_IRQ_INFO_MASKABLE | v.VFIO_IRQ_INFO_AUTOMASKED;
    const flags = v.VFIO_IRQ_INFO_EVENTFD | (index === v.VFIO_PCI_INTX_IRQ_INDEX ? intx : v.VFIO_IRQ_INFO_NORESIZE);
    return p.mm.copyTo(arg, v.vfio_irq_info.encode({ argsz, flags, index, count: 1 })) ? 0 : -EFAULT;
  }

  setIrqs(p: Process, arg: bigint): number {
    return this.irqs.set(p, arg, this.#irqs);
  }

  /** VFIO_DEVICE_RESET: the migration state alone. */
  reset(): number {
    this.migration.reset();
    return 0;
  }

  override read(_file: VfioDeviceFile, _p: Process, into: Uint8Array, offset: bigint): number {
    return this.#chunks(into.length, offset, (at, from, width) => {
      if (this.#isConfig(at)) into.set(this.#readConfig(at, width), from);
      else {
        const value = this.#uart(at, width).read(Number(at & OFFSET_MASK));
        into.fill(0, from, from + width);
        into[from] = value;
      }
    });
  }

  override write(_file: VfioDeviceFile, _p: Process, bytes: Uint8Array, offset: bigint): number {
    return this.#chunks(bytes.length, offset, (at, from, width) => {
      const piece = bytes.subarray(from, from + width);
      if (this.#isConfig(at)) this.#writeConfig(Number(at & OFFSET_MASK), piece);
      else this.#uart(at, width).write(Number(at & OFFSET_MASK), piece[0]!);
    });
  }

  /** Four, two or one byte at a time. Where there is no such region: −EFAULT, whatever came before. */
  #chunks(length: number, offset: bigint, access: (at: bigint, from: number, width: number) => void): number {
    for (let done = 0; done < length; ) {
      const at = offset + BigInt(done);
      const left = length - done;
      const width = left >= 4 && at % 4n === 0n ? 4 : left >= 2 && at % 2n === 0n ? 2 : 1;
      const region = Number(at >> 40n);
      if (region > v.VFIO_PCI_BAR5_REGION_INDEX && region !== v.VFIO_PCI_CONFIG_REGION_INDEX) return -EFAULT;
      access(at, done, width);
      done += width;
    }
    return length;
  }

  #isConfig(at: bigint): boolean {
    return Number(at >> 40n) === v.VFIO_PCI_CONFIG_REGION_INDEX;
  }

  /** The driver has no bounds: what lies beyond its arrays is not modelled. */
  #uart(at: bigint, width: number): LoopbackUart {
    const uart = this.uarts[Number(at >> 40n)];
    if (uart === undefined) throw new NotModelled('mtty: access to a BAR that is not there');
    if (width > 1) throw new NotModelled('mtty: access to a BAR of more than a byte');
    return uart;
  }

  #readConfig(at: bigint, width: number): Uint8Array {
    const offset = Number(at & OFFSET_MASK);
    if (offset + width > CONFIG_SIZE) throw new NotModelled('mtty: access past the end of configuration space');
    return this.#config.subarray(offset, offset + width);
  }

  /** handle_pci_cfg_write: by the offset alone; what is not listed is not written. */
  #writeConfig(offset: number, bytes: Uint8Array): void {
    if (offset === INTERRUPT_LINE) this.#config[INTERRUPT_LINE] = bytes[0]!;
    else if (offset === BAR0 || offset === BAR1) this.#writeBar(offset, bytes);
    else if (offset === BAR2 || offset === BAR3 || offset === BAR4) this.#config.fill(0, offset, offset + 4);
    else if (offset === COMMAND || offset === STATUS || offset === INTERRUPT_PIN) return;
  }

  #writeBar(offset: number, bytes: Uint8Array): void {
    const view = new DataView(this.#config.buffer);
    if (offset === BAR1 && this.uarts.length === 1) {
      view.setUint32(offset, 0, true);
      return;
    }
    if (bytes.length < 4) throw new NotModelled('mtty: a BAR register written by less than four bytes');
    const address = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
    const masked = address === 0xffff_ffff ? address & -BAR_SIZE : address;
    view.setUint32(offset, masked | (view.getUint32(offset, true) & 3), true);
  }
}

/** Every request of an mtty but those of VFIO itself. */
const mttyIoctls: RequestTable<Mtty> = new RequestTable<Mtty>('vfio-device', ENOTTY, {
  VFIO_DEVICE_GET_INFO: (device, p, arg) => device.getInfo(p, arg),
  VFIO_DEVICE_GET_REGION_INFO: (device, p, arg) => device.getRegionInfo(p, arg),
  VFIO_DEVICE_GET_IRQ_INFO: (device, p, arg) => device.getIrqInfo(p, arg),
  VFIO_DEVICE_SET_IRQS: (device, p, arg) => device.setIrqs(p, arg),
  VFIO_DEVICE_RESET: (device) => device.reset(),
  VFIO_DEVICE_FEATURE: (device, p, arg) => deviceFeature(p, device, arg),
});

/** The driver: 24 ports, as cards with one or two. */
class MttyDriver implements MdevDriver<MttyType> {
  readonly name = 'mtty';
  readonly deviceApi = 'vfio-pci';
  readonly types: readonly MttyType[] = [
    { name: '1', prettyName: 'Single port serial', ports: 1 },
    { name: '2', prettyName: 'Dual port serial', ports: 2 },
  ];
  readonly #system: System;
  #free = PORTS;

  constructor(system: System) {
    this.#system = system;
  }

  available({ ports }: MttyType): number {
    return Math.floor(this.#free / ports);
  }

  make(uuid: string, { ports }: MttyType): VfioDevice | number {
    if (this.#free < ports) return -ENOSPC;
    this.#free -= ports;
    return new Mtty(this.#system, uuid, ports);
  }

  removed(device: VfioDevice): void {
    this.#free += (device as Mtty).uarts.length;
  }

  attributes(uuid: string, directory: Directory): void {
    const vendor = directory.add('vendor', new Directory());
    vendor.add(
      'sample_mdev_dev',
      shows(0o444, () => `This is MDEV ${uuid}`),
    );
  }
}

/** Gives the system the sample driver, as CONFIG_SAMPLE_VFIO_MDEV_MTTY does. */
export function registerMtty(system: System, core: VfioCore): void {
  system.allocMajor('mtty');
  new MdevParent(system, core, new MttyDriver(system));
}
