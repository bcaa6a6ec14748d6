import { EFAULT } from '../../../uapi/sys.ts';
import type { ConfigWidth, PowerState } from '../../hardware/pci-function.ts';
import type { Resource } from '../../pci/pci-dev.ts';
import type { Vpd } from '../../pci/vpd.ts';
import { BASIC, CFG_SPACE_SIZE, ConfigMap, type ConfigRegisters, INVALID, STD_HEADER_SIZE } from './config-map.ts';
import {
  basic,
  capPermissions,
  directReadOnly,
  extPermissions,
  type Permissions,
  unassigned,
  type WriteKind,
} from './config-tables.ts';

const PCI_COMMAND = 0x04;
const COMMAND_IO = 1;
const COMMAND_MEMORY = 2;
const COMMAND_INTX_DISABLE = 0x400;
const PCI_BASE_ADDRESS_0 = 0x10;
const PCI_ROM_ADDRESS = 0x30;
const PCI_INTERRUPT_PIN = 0x3d;
/** BARs, then the ROM. */
const BASE_ADDRESSES = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, PCI_ROM_ADDRESS];
const CAP_MSI = 5;
const VPD_FLAG = 0x8000;
const IORESOURCE_IO = 0x100n;
const IORESOURCE_PREFETCH = 0x2000n;
const IORESOURCE_MEM_64 = 0x10_0000n;

/** What configuration space asks of the device it belongs to. */
export interface ConfigOwner {
  readonly pdev: ConfigRegisters & { readonly resources: readonly Resource[]; readonly vpd: Vpd };
  readonly isVirtualFunction: boolean;
  /** The vendor and device id a virtual function is known by. */
  readonly ids: readonly [vendor: number, device: number];
  /** No INTx can be used: the pin reads 0. */
  readonly noIntx: boolean;
  /** Nor may the function assert it. */
  readonly brokenIntx: boolean;
  /** SET_IRQS has enabled MSI. */
  readonly msiActive: boolean;
  /** log2 of the vectors it was last enabled with. */
  readonly msiQmax: number;
  /** Mappings of BARs go, dma-bufs are revoked: before memory decode goes. */
  memoryGoesDown(): void;
  /** RFC: COMMAND as it may be written while the function's TDI is bound. */
  allowedCommand(value: number): number;
  /** dma-bufs are good again, if memory can be reached. */
  memoryComesUp(): void;
  setIntxDisabled(disabled: boolean): void;
  /** The D-state that was written. */
  changePowerState(state: PowerState): void;
  /** pci_try_reset_function, as DEVICE_RESET does it. */
  resetFunction(): void;
  /** Device Control as hardware has it: sets the read request size (bytes). */
  setReadRequest(bytes: number): void;
  readonly maxPayload: number;
}

/** One chunk of an access: aligned, 1, 2 or 4 bytes, of one capability. */
interface Chunk {
  readonly at: number;
  readonly width: ConfigWidth;
  /** Within the capability. */
  readonly offset: number;
  readonly permissions: Permissions;
}

const ones = (width: ConfigWidth): number => (width === 4 ? 0xffff_ffff : 2 ** (8 * width) - 1);

/** The configuration space a user sees of an assigned device (drivers/vfio/pci/vfio_pci_config.c). Made at the first open, gone at the last close. */
export class ConfigSpaceView {
  readonly #owner: ConfigOwner;
  readonly #map: ConfigMap;
  /** BARs and ROM as the host has set them. */
  readonly #rbar: readonly number[];
  #barDirty = true;

  constructor(owner: ConfigOwner) {
    this.#owner = owner;
    this.#map = new ConfigMap(owner.pdev);
    const { vconfig } = this;
    this.#rbar = BASE_ADDRESSES.map((at) => this.#get(vconfig, at, 4));
    if (owner.isVirtualFunction) {
      this.#set(vconfig, 0, 2, owner.ids[0]);
      this.#set(vconfig, 2, 2, owner.ids[1]);
      vconfig[PCI_INTERRUPT_PIN] = 0;
      // A VF has no memory enable bit; the user finds it set, as that of a device that is enabled.
      vconfig[PCI_COMMAND]! |= COMMAND_MEMORY;
    }
    if (owner.noIntx) vconfig[PCI_INTERRUPT_PIN] = 0;
    this.#map.walk();
    this.#clearPme();
  }

  get vconfig(): Uint8Array {
    return this.#map.vconfig;
  }

  /** The virtual pin. */
  get interruptPin(): number {
    return this.vconfig[PCI_INTERRUPT_PIN]!;
  }

  /** Virtual COMMAND.MEMORY: the user has left memory decode on. */
  get memoryEnabled(): boolean {
    return (this.vconfig[PCI_COMMAND]! & COMMAND_MEMORY) !== 0;
  }

  /** Chunk by chunk; −EFAULT where not all of it is inside. */
  read(into: Uint8Array, offset: number): number {
    for (let done = 0; done < into.length; ) {
      const chunk = this.#chunk(offset + done, into.length - done);
      if (chunk === undefined) return -EFAULT;
      this.#set(into, done, chunk.width, this.#readChunk(chunk));
      done += chunk.width;
    }
    return into.length;
  }

  write(from: Uint8Array, offset: number): number {
    for (let done = 0; done < from.length; ) {
      const chunk = this.#chunk(offset + done, from.length - done);
      if (chunk === undefined) return -EFAULT;
      this.#writeChunk(chunk, this.#get(from, done, chunk.width));
      done += chunk.width;
    }
    return from.length;
  }

  #chunk(at: number, count: number): Chunk | undefined {
    const { configSize } = this.#owner.pdev;
    if (at >= configSize || at + count > configSize) return undefined;
    const { owner } = this.#map;
    const id = owner[at]!;
    let room = 1;
    while ((at + room) % 4 !== 0 && owner[at + room] === id) room++;
    room = Math.min(room, count);
    const width = room >= 4 && at % 4 === 0 ? 4 : room >= 2 && at % 2 === 0 ? 2 : 1;
    if (id === INVALID) return { at, width, offset: 0, permissions: unassigned };
    const offset = at - this.#map.start(at);
    return { at, width, offset, permissions: this.#permissions(at, id) };
  }

  #permissions(at: number, id: number): Permissions {
    if (at >= CFG_SPACE_SIZE) return extPermissions.get(id) ?? directReadOnly;
    if (id === BASIC) return basic;
    return (id === CAP_MSI ? this.#map.msi : capPermissions.get(id)) ?? directReadOnly;
  }

  // ---- reads

  #readChunk(chunk: Chunk): number {
    const { at, width, permissions } = chunk;
    if (isBar(at) && permissions === basic) this.#fixBars();
    const { pdev, isVirtualFunction } = this.#owner;
    if (permissions.read === 'raw') return pdev.readConfig(at, width);
    const value = permissions.read === 'direct' ? this.#readDirect(chunk) : this.#readBits(chunk);
    const memory =
      at === PCI_COMMAND && isVirtualFunction && permissions === basic ? this.vconfig[PCI_COMMAND]! & COMMAND_MEMORY : 0;
    return (value | memory) >>> 0;
  }

  #readBits({ at, width, offset, permissions }: Chunk): number {
    const virt = this.#get(permissions.virt, offset, width);
    const mine = this.#get(this.vconfig, at, width);
    if (virt === ones(width)) return mine;
    return ((this.#owner.pdev.readConfig(at, width) & ~virt) | (mine & virt)) >>> 0;
  }

  /** The header of an extended capability, id and next of a standard one are ours. */
  #readDirect({ at, width, offset }: Chunk): number {
    const value = this.#owner.pdev.readConfig(at, width);
    const mine = this.#get(this.vconfig, at, width);
    if (at >= CFG_SPACE_SIZE) return offset < 4 ? mine : value;
    if (offset === 0 && width > 1) return ((value & ~0xffff) | (mine & 0xffff)) >>> 0;
    if (offset === 1) return ((value & ~0xff) | (mine & 0xff)) >>> 0;
    return value;
  }

  // ---- writes

  readonly #writers: Readonly<Record<WriteKind, (chunk: Chunk, value: number) => void>> = {
    basic: (chunk, value) => this.#writeBasic(chunk, value),
    pm: (chunk, value) => this.#writePm(chunk, value),
    vpd: (chunk, value) => this.#writeVpd(chunk, value),
    msi: (chunk, value) => this.#writeMsi(chunk, value),
    exp: (chunk, value) => this.#writeExpress(chunk, value),
    af: (chunk, value) => this.#writeAf(chunk, value),
  };

  #writeChunk(chunk: Chunk, value: number): void {
    const { write } = chunk.permissions;
    if (write === undefined) return;
    if (write === 'raw') this.#owner.pdev.writeConfig(chunk.at, chunk.width, value);
    else if (write === 'bits') this.#writeBits(chunk, value);
    else this.#writers[write](chunk, value);
  }

  /** vfio_default_config_write. */
  #writeBits({ at, width, offset, permissions }: Chunk, value: number): void {
    const writable = this.#get(permissions.writable, offset, width);
    if (writable === 0) return;
    const virt = this.#get(permissions.virt, offset, width);
    const mine = writable & virt;
    if (mine !== 0) this.#set(this.vconfig, at, width, (this.#get(this.vconfig, at, width) & ~mine) | (value & mine));
    const hardware = writable & ~virt;
    if (hardware === 0) return;
    const { pdev } = this.#owner;
    pdev.writeConfig(at, width, ((pdev.readConfig(at, width) & ~hardware) | (value & hardware)) >>> 0);
  }

  #writeBasic(chunk: Chunk, written: number): void {
    const { at } = chunk;
    const command = at === PCI_COMMAND;
    const value = command ? this.#owner.allowedCommand(written) : written;
    if (command) this.#beforeCommand(value);
    this.#writeBits(chunk, value);
    if (command) {
      const decode = COMMAND_MEMORY | COMMAND_IO;
      this.vconfig[PCI_COMMAND] = (this.vconfig[PCI_COMMAND]! & ~decode) | (value & decode);
      this.#owner.memoryComesUp();
    }
    if (at === PCI_COMMAND || at === PCI_COMMAND + 1) {
      this.#owner.setIntxDisabled((this.#get(this.vconfig, PCI_COMMAND, 2) & COMMAND_INTX_DISABLE) !== 0);
    }
    if (isBar(at)) this.#barDirty = true;
  }

  /** Decode that is thought to be on and is not, or BARs that are not the host's: the device was reset behind our back. */
  #beforeCommand(value: number): void {
    const { pdev, isVirtualFunction } = this.#owner;
    const hardware = pdev.readConfig(PCI_COMMAND, 2);
    const lost = value & this.vconfig[PCI_COMMAND]! & ~hardware;
    if ((value & COMMAND_MEMORY) === 0) this.#owner.memoryGoesDown();
    const wanted = isVirtualFunction ? COMMAND_IO : COMMAND_IO | COMMAND_MEMORY;
    if ((lost & wanted) !== 0 || this.#barsMoved()) this.#restoreBars();
  }

  #barsMoved(): boolean {
    const { pdev } = this.#owner;
    return this.#rbar.some((bar, i) => i < 6 && bar !== 0 && pdev.readConfig(BASE_ADDRESSES[i]!, 4) !== bar);
  }

  /** vfio_bar_restore. A VF has no BARs of its own. */
  #restoreBars(): void {
    const { pdev, isVirtualFunction, brokenIntx } = this.#owner;
    if (isVirtualFunction) return;
    this.#rbar.forEach((bar, i) => {
      pdev.writeConfig(BASE_ADDRESSES[i]!, 4, bar);
    });
    if (brokenIntx) pdev.writeConfig(PCI_COMMAND, 2, pdev.readConfig(PCI_COMMAND, 2) | COMMAND_INTX_DISABLE);
  }

  /** vfio_bar_fixup: BARs as written, with the bits that their size and type fix. */
  #fixBars(): void {
    if (!this.#barDirty) return;
    const { resources } = this.#owner.pdev;
    for (let i = 0; i < 6; i++) {
      const at = PCI_BASE_ADDRESS_0 + 4 * i;
      const { start, end, flags } = resources[i]!;
      if (start === 0n) {
        this.#set(this.vconfig, at, 4, 0);
        continue;
      }
      const mask = ~(end - start);
      const value = (this.#get(this.vconfig, at, 4) & Number(mask & 0xffff_ffffn)) | barFlags(flags);
      this.#set(this.vconfig, at, 4, value);
      if ((value & 4) === 0) continue;
      i++;
      this.#set(this.vconfig, at + 4, 4, this.#get(this.vconfig, at + 4, 4) & Number((mask >> 32n) & 0xffff_ffffn));
    }
    const { start, end } = resources[6]!;
    const mask = start === 0n ? 0 : Number(~(end - start) & 0xffff_ffffn) | 1;
    this.#set(this.vconfig, PCI_ROM_ADDRESS, 4, this.#get(this.vconfig, PCI_ROM_ADDRESS, 4) & mask);
    this.#barDirty = false;
  }

  /** Wake-up events are the host's: PME_Support, PME_En and PME_Status read 0. */
  #clearPme(): void {
    const at = this.#map.owner.indexOf(1, STD_HEADER_SIZE);
    if (at < 0 || at >= CFG_SPACE_SIZE) return;
    this.#set(this.vconfig, at + 2, 2, this.#get(this.vconfig, at + 2, 2) & ~0xf800);
    this.#set(this.vconfig, at + 4, 2, this.#get(this.vconfig, at + 4, 2) & ~0x8100);
  }

  #writePm(chunk: Chunk, value: number): void {
    this.#writeBits(chunk, value);
    if (chunk.offset === 4) this.#owner.changePowerState((value & 3) as PowerState);
  }

  /** A write of the address's upper byte starts a transfer; its flag changes when that is done. */
  #writeVpd(chunk: Chunk, value: number): void {
    this.#writeBits(chunk, value);
    const { at, offset, width } = chunk;
    if (offset > 3 || offset + width <= 3) return;
    const start = at - offset;
    const { vpd } = this.#owner.pdev;
    const address = this.#get(this.vconfig, start + 2, 2);
    const data = this.vconfig.subarray(start + 4, start + 8);
    if ((address & VPD_FLAG) !== 0) {
      if (vpd.write(address & ~VPD_FLAG, data) !== 4) return;
    } else {
      const read = new Uint8Array(4);
      if (vpd.read(address, read) < 0) return;
      data.set(read);
    }
    this.#set(this.vconfig, start + 2, 2, address ^ VPD_FLAG);
  }

  #writeMsi(chunk: Chunk, value: number): void {
    this.#writeBits(chunk, value);
    const { at, offset, width } = chunk;
    // So drivers/vfio/pci/vfio_pci_config.c has it: a write that ends before the register counts too.
    if (offset > 2 || offset + width < 2) return;
    const control = at - offset + 2;
    let flags = this.#get(this.vconfig, control, 2);
    if (!this.#owner.msiActive) flags &= ~1;
    if ((flags & 0x70) >>> 4 > this.#owner.msiQmax) flags = (flags & ~0x70) | (this.#owner.msiQmax << 4);
    this.#set(this.vconfig, control, 2, flags);
    this.#owner.pdev.writeConfig(control, 2, flags);
  }

  #writeExpress(chunk: Chunk, value: number): void {
    const control = chunk.at - chunk.offset + 8;
    const before = this.#get(this.vconfig, control, 2);
    this.#writeBits(chunk, value);
    const after = this.#get(this.vconfig, control, 2);
    if ((after & 0x8000) !== 0) {
      this.#set(this.vconfig, control, 2, after & ~0x8000);
      const capabilities = this.#owner.pdev.readConfig(control - 4, 4);
      if ((capabilities & 0x1000_0000) !== 0) this.#owner.resetFunction();
    }
    if (((before ^ after) & 0x7000) === 0) return;
    this.#owner.setReadRequest(Math.max(128 << ((after & 0x7000) >>> 12), this.#owner.maxPayload));
  }

  #writeAf(chunk: Chunk, value: number): void {
    this.#writeBits(chunk, value);
    const start = chunk.at - chunk.offset;
    if ((this.vconfig[start + 4]! & 1) === 0) return;
    this.vconfig[start + 4]! &= ~1;
    const transactionsAndFlr = 3;
    if ((this.#owner.pdev.readConfig(start + 3, 1) & transactionsAndFlr) === transactionsAndFlr) this.#owner.resetFunction();
  }

  #get(bytes: Uint8Array, at: number, width: ConfigWidth): number {
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + (bytes[at + i] ?? 0);
    return value;
  }

  #set(bytes: Uint8Array, at: number, width: ConfigWidth, value: number): void {
    for (let i = 0; i < width; i++) bytes[at + i] = value >>> (8 * i);
  }
}

/** Every byte of them. */
function isBar(at: number): boolean {
  return (at >= PCI_BASE_ADDRESS_0 && at < PCI_BASE_ADDRESS_0 + 24) || (at >= PCI_ROM_ADDRESS && at < PCI_ROM_ADDRESS + 4);
}

function barFlags(flags: bigint): number {
  if ((flags & IORESOURCE_IO) !== 0n) return 1;
  return (flags & IORESOURCE_PREFETCH ? 8 : 0) | (flags & IORESOURCE_MEM_64 ? 4 : 0);
}
