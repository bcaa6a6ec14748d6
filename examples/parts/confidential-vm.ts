// A VM with private memory and a device that can be trusted, up to where the device's interface (its TDI) can be bound: every call a VMM makes, on a simulated machine.
import {
  bindDriver,
  type DmaBuf,
  Iommufd,
  Kvm,
  type KvmExit,
  type KvmVfio,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  pciDevice,
  type Ram,
  Tdi,
  type TdiOptions,
  type Vcpu,
  VfioDevice,
  type Viommu,
  type Vm,
} from 'kvio';
import { openSim, type SimKernel, type TeeIo } from 'kvio/sim';
import * as u from 'kvio/uapi';
import { Timeline } from './timeline.ts';

/** Guest RAM from 0: whole, private, with the shared pages the host and the device may see behind the same addresses. */
export const RAM_SIZE = 0x4_0000;
/** Where the guest keeps what host and guest share. */
export const SHARED = 0x3_0000n;
/** Where the guest finds the device: registers, and the device's own memory. */
export const BAR0 = { gpa: 0xe000_0000n, size: 0x4000n };
export const BAR2 = { gpa: 0xe010_0000n, size: 0x1_0000n };
/** The device's requester id in the guest: 00:02.0. */
export const GUEST_RID = 0x10;

const PAGE = 0x1000n;

export interface ConfidentialVmOptions {
  readonly teeIo?: Partial<TeeIo>;
  readonly tdi?: Omit<TdiOptions, 'device' | 'vdevice'>;
  /** How many lines of the timeline the making of it takes: none, where a second one is made to try something. */
  readonly quiet?: boolean;
  /** IOMMU_VIOMMU_TYPE_*. Default ARM_SMMUV3: no series has given x86 a number. */
  readonly viommuType?: number;
  /** Whether KVM_DEV_VFIO_FILE_ADD, and the vIOMMU, tell whose the device is. Default true. */
  readonly owned?: boolean;
}

/** Descriptors: K the VM, C its vCPU, D its KVM-VFIO device, V the VFIO device, I the iommufd. */
export class ConfidentialVm {
  readonly kernel: SimKernel;
  readonly bdf = '0000:01:00.0';
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly kvmVfio: KvmVfio;
  readonly device: VfioDevice;
  readonly iommufd: Iommufd;
  readonly viommu: Viommu;
  readonly tdi: Tdi;
  readonly bars: readonly DmaBuf[];
  /** What host and device see of guest RAM where it is shared. */
  readonly ram: Ram;
  readonly timeline: Timeline;

  constructor({ teeIo = {}, tdi = {}, quiet = false, viommuType = 1, owned = true }: ConfidentialVmOptions = {}) {
    this.kernel = openSim({ machine: 'tee-io-7.2', teeIo });
    const { kernel, bdf } = this;
    this.timeline = new Timeline(kernel, bdf, quiet);
    const step = this.timeline.vmm;
    bindDriver(kernel, bdf, 'vfio-pci');

    this.vm = step('K', 'KVM_CREATE_VM, private memory behind all of its RAM', () =>
      Kvm.open(kernel).createVm(u.KVM_X86_SW_PROTECTED_VM),
    );
    const exits = 1n << BigInt(u.KVM_HC_MAP_GPA_RANGE);
    this.vm.enableCap({ cap: u.KVM_CAP_EXIT_HYPERCALL, flags: 0, args: [exits, 0n, 0n, 0n] });
    this.ram = kernel.guestRam(RAM_SIZE);
    const guest_memfd = this.vm.createGuestMemfd(RAM_SIZE);
    const ram = { slot: 0, flags: u.KVM_MEM_GUEST_MEMFD, guest_phys_addr: 0n, memory: this.ram, guest_memfd };
    this.vm.setUserMemoryRegion2(ram);
    this.vm.setMemoryAttributes({ address: 0n, size: SHARED, attributes: u.KVM_MEMORY_ATTRIBUTE_PRIVATE });
    this.vcpu = this.vm.createVcpu(0);

    this.kvmVfio = this.vm.createDevice(u.KVM_DEV_TYPE_VFIO);
    this.device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
    if (owned) step('D', 'KVM_DEV_VFIO_FILE_ADD: the device is this VM’s', () => this.kvmVfio.addFile(this.device.fd));
    this.iommufd = Iommufd.open(kernel);
    const dev_id = step('V', 'VFIO_DEVICE_BIND_IOMMUFD, ATTACH_IOMMUFD_PT', () => {
      const id = this.device.bindIommufd({ iommufd: this.iommufd });
      this.device.config.setCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
      return id;
    });
    const ioas = this.iommufd.ioasAlloc();
    const hwpt = this.iommufd.hwptAlloc({ dev_id, pt: ioas, flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT });
    this.device.attachIommufdPt({ pt_id: hwpt.id });
    ioas.map(this.ram, { iova: 0n });
    this.bars = step('V', 'VFIO_DEVICE_FEATURE_DMA_BUF, of BAR 0 and BAR 2', () =>
      [BAR0, BAR2].map(({ size }, i) =>
        this.device.getDmaBuf({ region_index: 2 * i, dma_ranges: [{ offset: 0n, length: size }] }),
      ),
    );
    step('K', 'KVM_SET_USER_MEMORY_REGION2: the dma-bufs are memslots', () => this.mapMmio());
    this.viommu = this.iommufd.viommuAlloc({ type: viommuType, dev_id, hwpt, ...(owned && { vm: this.vm }) });
    const vdevice = step('I', 'IOMMU_VIOMMU_ALLOC, IOMMU_VDEVICE_ALLOC', () =>
      this.viommu.vdeviceAlloc({ dev_id, virt_id: BigInt(GUEST_RID) }),
    );
    this.tdi = new Tdi({ device: this.device, vdevice, ...tdi });
  }

  mapMmio(): void {
    [BAR0, BAR2].forEach(({ gpa }, i) => {
      this.vm.setUserMemoryRegion2({ slot: 1 + i, guest_phys_addr: gpa, dma_buf: this.bars[i]! });
    });
  }

  /** KVM_SET_MEMORY_ATTRIBUTES, as a guest asks for it. */
  convert(address: bigint, size: bigint, isPrivate: boolean): void {
    const attributes = isPrivate ? u.KVM_MEMORY_ATTRIBUTE_PRIVATE : 0n;
    this.vm.setMemoryAttributes({ address, size, attributes });
  }

  /** Runs the guest until its script has ended. `serve` answers what is not a conversion of memory. */
  run(serve: (exit: KvmExit) => void): void {
    for (const exit of this.vcpu.exits()) {
      if (exit.reason === 'shutdown') return;
      if (exit.reason === 'hypercall' && exit.nr === BigInt(u.KVM_HC_MAP_GPA_RANGE)) {
        const [address = 0n, pages = 0n, wish = 0n] = exit.args;
        const isPrivate = (wish & BigInt(u.KVM_MAP_GPA_RANGE_ENCRYPTED)) !== 0n;
        const what = isMmio(address) ? 'MMIO' : 'RAM';
        this.timeline.vmm('K', `KVM_SET_MEMORY_ATTRIBUTES: ${pages} pages of ${what} ${isPrivate ? 'private' : 'shared'}`, () =>
          this.convert(address, pages * PAGE, isPrivate),
        );
        exit.ret = 0n;
      } else serve(exit);
    }
  }

  /** The descriptors, in any order one likes; the kernel unbinds before the VM is gone. */
  close(): void {
    this.kernel.close();
  }
}

const isMmio = (gpa: bigint): boolean => gpa >= BAR0.gpa;
