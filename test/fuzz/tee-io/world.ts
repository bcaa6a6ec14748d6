/** A VM, a trusted device and all that is between them, with what the properties are judged by kept apart from the simulator: attributes, committed frames, what the device was reached by. */
import {
  bindDriver,
  type DmaBuf,
  type GuestMemfd,
  type Handle,
  type Hwpt,
  type Ioas,
  Iommufd,
  KernelError,
  Kvm,
  type KvmVfio,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  pciDevice,
  type Ram,
  Tdi,
  type TsmLayout,
  type Vcpu,
  type Vdevice,
  VfioDevice,
  type Viommu,
  type Vm,
} from 'kvio';
import { type Accelerator, type GuestAgent, openSim, type SimKernel, type TdiContext, type TeeIo } from 'kvio/sim';
import * as u from 'kvio/uapi';
import type { Choices } from '../choices.ts';

export const BDF = '0000:01:00.0';
export const FRAMES = 16;
export const PAGE = 0x1000n;
export const BAR_GPA: Readonly<Record<number, bigint>> = { 0: 0xe000_0000n, 2: 0xe010_0000n };
const BAR_SIZE: Readonly<Record<number, bigint>> = { 0: 0x4000n, 2: 0x1_0000n };
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

/** Objects of one open iommufd and one open device, as far as they have come. */
interface Assigned {
  readonly iommufd: Iommufd;
  readonly device: VfioDevice;
  dev_id?: number;
  ioas?: Ioas;
  hwpt?: Hwpt;
  viommu?: Viommu;
  vdevice?: Vdevice;
}

export class World {
  readonly kernel: SimKernel;
  readonly teeIo: Partial<TeeIo>;
  readonly layout: TsmLayout;
  readonly fn: Accelerator;
  readonly bound: ReturnType<typeof bindDriver>;
  readonly ram: Ram;
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly memfd: GuestMemfd;
  readonly kvmVfio: KvmVfio;
  readonly #vmFile: { readonly vm: { readonly alive: boolean; readonly tdis: ReadonlySet<unknown> } };
  assigned: Assigned | undefined;
  readonly dmaBufs: DmaBuf[] = [];
  /** Frames whose attribute is private, by what was asked. */
  readonly isPrivate: Set<number> = new Set();
  readonly committed: Set<number> = new Set();
  hasRam = true;
  /** How often registers or memory of the device were reached. */
  reached = 0;
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
    };
    this.kernel = openSim({ machine: 'tee-io-7.2', teeIo: this.teeIo });
    this.fn = this.kernel.pci(BDF) as Accelerator;
    this.#watch();
    this.bound = bindDriver(this.kernel, BDF, 'vfio-pci');
    this.ram = this.kernel.guestRam(FRAMES * 4096);
    this.ram.bytes.fill(HOSTS);
    const kvm = Kvm.open(this.kernel);
    this.vm = kvm.createVm(u.KVM_X86_SW_PROTECTED_VM);
    kvm.close();
    this.#vmFile = this.kernel.process.fds.get(this.vm.fd) as never;
    this.memfd = this.vm.createGuestMemfd(FRAMES * 4096);
    this.vcpu = this.vm.createVcpu(0);
    this.kvmVfio = this.vm.createDevice(u.KVM_DEV_TYPE_VFIO);
    this.addRam();
  }

  get tdi(): TdiContext {
    return this.kernel.tdi(BDF)!;
  }

  get state(): number {
    return this.tdi.tdi.state;
  }

  count(what: string): void {
    this.seen.set(what, (this.seen.get(what) ?? 0) + 1);
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

  addRam(): void {
    const { ram: memory, memfd: guest_memfd } = this;
    this.vm.setUserMemoryRegion2({ slot: 0, flags: u.KVM_MEM_GUEST_MEMFD, guest_phys_addr: 0n, memory, guest_memfd });
    this.hasRam = true;
  }

  deleteSlot(slot: number): void {
    const nothing = {
      flags: 0,
      guest_phys_addr: 0n,
      memory_size: 0n,
      userspace_addr: 0n,
      guest_memfd: 0,
      guest_memfd_offset: 0n,
    };
    this.vm.setUserMemoryRegion2({ slot, ...nothing });
    if (slot !== 0) return;
    this.hasRam = false;
    this.committed.clear();
  }

  /** The device's node and an iommufd, opened; `all`: up to the vdevice. */
  open(all: boolean, owned: boolean): void {
    const { kernel } = this;
    const device = VfioDevice.open(kernel, pciDevice(kernel, BDF).vfio_device!);
    this.assigned = { device, iommufd: Iommufd.open(kernel) };
    if (owned && !this.kvmVfio.closed) result(() => this.kvmVfio.addFile(device.fd));
    if (!all) return;
    for (const step of [() => this.bind(), () => this.attach(), () => this.makeViommu(false), () => this.makeVdevice()])
      if (result(step) !== 'done') return;
  }

  bind(): void {
    const { assigned } = this;
    if (assigned === undefined) return;
    assigned.dev_id = assigned.device.bindIommufd({ iommufd: assigned.iommufd });
    assigned.device.config.setCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  }

  attach(): void {
    const { assigned } = this;
    if (assigned?.dev_id === undefined) return;
    const { iommufd, dev_id } = assigned;
    if (assigned.hwpt === undefined) {
      assigned.ioas = iommufd.ioasAlloc();
      assigned.hwpt = iommufd.hwptAlloc({ dev_id, pt: assigned.ioas, flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT });
      assigned.ioas.map(this.ram, { iova: 0n });
    }
    assigned.device.attachIommufdPt({ pt_id: assigned.hwpt.id });
  }

  makeViommu(ofVm: boolean): void {
    const { assigned } = this;
    if (assigned?.hwpt === undefined || assigned.dev_id === undefined) return;
    const { iommufd, dev_id, hwpt } = assigned;
    const vm = ofVm && !this.vm.closed ? { vm: this.vm } : {};
    assigned.viommu = iommufd.viommuAlloc({ type: u.IOMMU_VIOMMU_TYPE_ARM_SMMUV3, dev_id, hwpt, ...vm });
  }

  makeVdevice(): void {
    const { assigned } = this;
    if (assigned?.viommu === undefined || assigned.dev_id === undefined) return;
    assigned.vdevice = assigned.viommu.vdeviceAlloc({ dev_id: assigned.dev_id, virt_id: 0x10n });
  }

  /** By either door; undefined where there is no vdevice. */
  tdiBy(door: 'vfio' | 'iommufd'): Tdi | undefined {
    const { device, vdevice } = this.assigned ?? {};
    if (device === undefined || vdevice === undefined) return undefined;
    const { vendor = 'sim' } = this.teeIo;
    const tvm_arch = { sim: 2, cca: 1, sev: 2, tdx: 3 }[vendor];
    return new Tdi({ device, vdevice, door, layout: this.layout, tvm_arch });
  }

  makeSlot(bar: 0 | 2): void {
    const { device } = this.assigned ?? {};
    if (device === undefined || device.closed || this.vm.closed) return;
    const dmaBuf = device.getDmaBuf({ region_index: bar, dma_ranges: [{ offset: 0n, length: BAR_SIZE[bar]! }] });
    this.dmaBufs.push(dmaBuf);
    this.vm.setUserMemoryRegion2({ slot: 1 + bar, guest_phys_addr: BAR_GPA[bar]!, dma_buf: dmaBuf });
  }

  convert(gpa: bigint, pages: number, isPrivate: boolean): void {
    const attributes = isPrivate ? u.KVM_MEMORY_ATTRIBUTE_PRIVATE : 0n;
    this.vm.setMemoryAttributes({ address: gpa, size: BigInt(pages) * PAGE, attributes });
    for (let gfn = Number(gpa / PAGE); gfn < Number(gpa / PAGE) + pages; gfn++) {
      if (isPrivate) this.isPrivate.add(gfn);
      // A frame that was shared is not converted: TSM_MAP, which asks for no attribute, may have committed it.
      else if (this.isPrivate.delete(gfn)) this.committed.delete(gfn);
    }
  }

  /** Plays a guest: how its KVM_RUN ended. */
  guest(script: GuestAgent): string {
    if (this.vcpu.closed) return 'closed';
    this.kernel.agent(this.vcpu.fd, script);
    let reason = '';
    const called = result(() => {
      reason = this.vcpu.run().reason;
    });
    return called === 'done' ? reason : called;
  }

  /** Every descriptor that is open. */
  get handles(): Handle[] {
    const { assigned, dmaBufs, vm, vcpu, kvmVfio, memfd } = this;
    const all: Handle[] = [vm, vcpu, kvmVfio, memfd, ...dmaBufs];
    if (assigned !== undefined) all.push(assigned.device, assigned.iommufd);
    return all.filter(({ closed }) => !closed);
  }

  get vmAlive(): boolean {
    return this.#vmFile.vm.alive;
  }

  get boundToVm(): number {
    return this.#vmFile.vm.tdis.size;
  }
}
