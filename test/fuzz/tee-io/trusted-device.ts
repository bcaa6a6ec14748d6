/** A device with TEE-IO: opened for a VM, pulled out, plugged in again; what its page tables have, and whether anybody has reached it. */
import {
  bindDriver,
  type DmaBuf,
  type Handle,
  type Hwpt,
  type Ioas,
  Iommufd,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  pciDevice,
  Tdi,
  type Vdevice,
  VfioDevice,
  type Viommu,
} from 'kvio';
import { Accelerator, type SimKernel, type TdiContext } from 'kvio/sim';
import * as u from 'kvio/uapi';
import type { GuestVm } from './guest-vm.ts';
import { FRAMES, PAGE, result, type World } from './world.ts';

export type Bar = 0 | 2;
const BAR_SIZE: Readonly<Record<Bar, bigint>> = { 0: 0x4000n, 2: 0x1_0000n };
export const barPages = (bar: Bar): number => Number(BAR_SIZE[bar] / PAGE);

interface GuestPage {
  readonly kind: 'ram' | 'memfd';
  readonly guest: GuestVm;
  readonly index: number;
}

/** What the host has mapped at a page of the device's addresses. */
export type Mapped =
  | GuestPage
  | { readonly kind: 'bar' }
  /** Of a guest_memfd, which has it no more. */
  | { readonly kind: 'hole' };

/** Objects of one open iommufd and one open device, as far as they have come. */
interface Assigned {
  readonly iommufd: Iommufd;
  readonly device: VfioDevice;
  readonly guest: GuestVm;
  /** By page. */
  readonly table: Map<number, Mapped>;
  dev_id?: number;
  ioas?: Ioas;
  hwpt?: Hwpt;
  viommu?: Viommu;
  /** The VM it was made with, if any. */
  viommuOf?: GuestVm | undefined;
  vdevice?: Vdevice;
}

export class TrustedDevice {
  readonly name: string;
  readonly bdf: string;
  /** Where its BARs are for a guest. */
  readonly gpa: Readonly<Record<Bar, bigint>>;
  /** Slots of a VM. */
  readonly slot: Readonly<Record<Bar, number>>;
  readonly #world: World;
  fn: Accelerator;
  assigned: Assigned | undefined;
  /** What the device finds: not that of `assigned` where the KVM-VFIO device of a dead VM has kept an earlier descriptor open. */
  table: Map<number, Mapped> = new Map();
  readonly dmaBufs: { readonly bar: Bar; readonly handle: DmaBuf }[] = [];
  /** How often registers or memory of the device were reached. */
  reached = 0;
  #bound: ReturnType<typeof bindDriver>;
  #tdi: TdiContext;

  constructor(world: World, index: number, bdf: string) {
    const at = 0xe000_0000n + BigInt(index) * 0x20_0000n;
    this.#world = world;
    this.name = `device ${index}`;
    this.bdf = bdf;
    this.gpa = { 0: at, 2: at + 0x10_0000n };
    this.slot = { 0: 1 + 2 * index, 2: 2 + 2 * index };
    this.fn = this.#kernel.pci(bdf) as Accelerator;
    this.#watch();
    this.#bound = bindDriver(this.#kernel, bdf, 'vfio-pci');
    this.#tdi = this.#kernel.tdi(bdf)!;
  }

  get #kernel(): SimKernel {
    return this.#world.kernel;
  }

  get tdi(): TdiContext {
    const now = this.pulled ? undefined : this.#kernel.tdi(this.bdf);
    if (now !== undefined) this.#tdi = now;
    return this.#tdi;
  }

  get state(): number {
    return this.tdi.tdi.state;
  }

  /** The VM it is bound to. */
  get owner(): GuestVm | undefined {
    const { binding } = this.tdi;
    return binding === undefined ? undefined : this.#world.guests.find((guest) => guest.is(binding.kvm));
  }

  get handles(): readonly Handle[] {
    const { assigned, dmaBufs } = this;
    return [...(assigned === undefined ? [] : [assigned.device, assigned.iommufd]), ...dmaBufs.map(({ handle }) => handle)];
  }

  /** The model is told of nothing; who calls its registers is counted. */
  #watch(): void {
    const { fn } = this;
    const read = fn.read.bind(fn);
    const write = fn.write.bind(fn);
    fn.read = (...args) => {
      this.reached++;
      return read(...args);
    };
    fn.write = (...args) => {
      this.reached++;
      write(...args);
    };
  }

  // ---- the machine

  get pulled(): boolean {
    return this.fn.place === undefined;
  }

  pull(): void {
    this.#kernel.unplug(this.fn);
  }

  /** Nobody has it any more, neither the bus. */
  get isGone(): boolean {
    return this.#kernel.process.system.pci.find(this.bdf) === undefined;
  }

  /** Another of its kind, where it was. */
  plug(): void {
    this.fn = new Accelerator();
    this.#kernel.plug(this.fn, this.bdf);
    this.#watch();
    this.#bound = bindDriver(this.#kernel, this.bdf, 'vfio-pci');
    this.#tdi = this.#kernel.tdi(this.bdf)!;
  }

  /** Back to the driver it was taken from. */
  restore(): void {
    this.#bound.restore();
  }

  // ---- the host

  /** The device's node and an iommufd, opened; `all`: up to the vdevice. */
  open(guest: GuestVm, all: boolean, owned: boolean): void {
    const node = this.isGone ? undefined : pciDevice(this.#kernel, this.bdf).vfio_device;
    if (node === undefined) return;
    const device = VfioDevice.open(this.#kernel, node);
    this.assigned = { device, iommufd: Iommufd.open(this.#kernel), guest, table: new Map() };
    if (owned && !guest.kvmVfio.closed) result(() => guest.kvmVfio.addFile(device.fd));
    if (!all) return;
    for (const step of [() => this.bind(), () => this.attach(), () => this.makeViommu(undefined), () => this.makeVdevice()])
      if (result(step) !== 'done') return;
  }

  bind(): void {
    const { assigned } = this;
    if (assigned === undefined) return;
    assigned.dev_id = assigned.device.bindIommufd({ iommufd: assigned.iommufd });
    assigned.device.config.setCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  }

  /** To a page table with the guest's shared memory, where the guest has it. */
  attach(): void {
    const { assigned } = this;
    if (assigned?.dev_id === undefined) return;
    const { iommufd, dev_id, guest } = assigned;
    if (assigned.hwpt === undefined) {
      const ioas = iommufd.ioasAlloc();
      assigned.ioas = ioas;
      this.table = assigned.table;
      assigned.hwpt = iommufd.hwptAlloc({ dev_id, pt: ioas, flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT });
      for (let index = 0; index < FRAMES; index++) this.map(index, { kind: 'ram', guest, index });
    }
    assigned.device.attachIommufdPt({ pt_id: assigned.hwpt.id });
  }

  /** A page of the device's addresses is another from now on. */
  map(at: number, mapped: GuestPage): void {
    const { ioas, table } = this.assigned!;
    const { kind, guest, index } = mapped;
    const iova = BigInt(at) * PAGE;
    this.unmap(at);
    if (kind === 'ram') ioas!.map(guest.ram, { iova, offset: index * 4096, length: 4096 });
    else {
      ioas!.mapFile(guest.memfd.fd, { iova, start: BigInt(index) * PAGE, length: PAGE });
      guest.committed.add(index);
    }
    table.set(at, mapped);
  }

  /** A page of a BAR, by a dma-buf. */
  mapBar(at: number, dmaBuf: DmaBuf): void {
    const { ioas, table } = this.assigned!;
    this.unmap(at);
    ioas!.mapFile(dmaBuf, { iova: BigInt(at) * PAGE, length: PAGE });
    table.set(at, { kind: 'bar' });
  }

  /** Pages [first, end) of a guest_memfd are gone. */
  punched(guest: GuestVm, first: number, end: number): void {
    const { table } = this;
    for (const [at, mapped] of table) {
      const isGone = mapped.kind === 'memfd' && mapped.guest === guest && first <= mapped.index && mapped.index < end;
      if (isGone) table.set(at, { kind: 'hole' });
    }
  }

  unmap(at: number): void {
    const { ioas, table } = this.assigned!;
    if (table.delete(at)) ioas!.unmap(BigInt(at) * PAGE, PAGE);
  }

  makeViommu(vm: GuestVm | undefined): void {
    const { assigned } = this;
    if (assigned?.hwpt === undefined || assigned.dev_id === undefined) return;
    const { iommufd, dev_id, hwpt } = assigned;
    const of = vm !== undefined && !vm.vm.closed ? { vm: vm.vm } : {};
    assigned.viommu = iommufd.viommuAlloc({ type: u.IOMMU_VIOMMU_TYPE_ARM_SMMUV3, dev_id, hwpt, ...of });
    assigned.viommuOf = vm;
  }

  makeVdevice(): void {
    const { assigned } = this;
    if (assigned?.viommu === undefined || assigned.dev_id === undefined) return;
    assigned.vdevice = assigned.viommu.vdeviceAlloc({ dev_id: assigned.dev_id, virt_id: 0x10n });
  }

  /** By either door; undefined where there is no vdevice. */
  by(door: 'vfio' | 'iommufd'): Tdi | undefined {
    const { device, vdevice } = this.assigned ?? {};
    if (device === undefined || vdevice === undefined) return undefined;
    const { layout, teeIo } = this.#world;
    const tvm_arch = { sim: 2, cca: 1, sev: 2, tdx: 3 }[teeIo.vendor ?? 'sim'];
    return new Tdi({ device, vdevice, door, layout, tvm_arch });
  }

  makeDmaBuf(bar: Bar): DmaBuf {
    const handle = this.assigned!.device.getDmaBuf({ region_index: bar, dma_ranges: [{ offset: 0n, length: BAR_SIZE[bar] }] });
    this.dmaBufs.push({ bar, handle });
    return handle;
  }

  /** A memslot of a VM: of a dma-buf that there is, which another VM may have too, or of a new one. */
  makeSlot(guest: GuestVm, bar: Bar, another: boolean): void {
    const { device } = this.assigned ?? {};
    const open = this.dmaBufs.findLast((one) => one.bar === bar && !one.handle.closed)?.handle;
    if (guest.vm.closed || (open === undefined && (device === undefined || device.closed))) return;
    const dma_buf = open === undefined || (another && device?.closed === false) ? this.makeDmaBuf(bar) : open;
    guest.vm.setUserMemoryRegion2({ slot: this.slot[bar], guest_phys_addr: this.gpa[bar], dma_buf });
  }
}
