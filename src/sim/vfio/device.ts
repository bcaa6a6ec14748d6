import type { Stat } from '../../kernel/backend.ts';
import { EINVAL, ENODEV } from '../../uapi/sys.ts';
import { VFIO_DEVICE_BIND_IOMMUFD } from '../../uapi/vfio.ts';
import type { AssignedFunction } from '../assigned-function.ts';
import { has } from '../changes.ts';
import { Completion } from '../completion.ts';
import { type Backing, File, type FileMap } from '../file.ts';
import type { Directory } from '../fs/directory.ts';
import type { IommuGroup, IommuMember } from '../iommu/group.ts';
import type { PciDev } from '../pci/pci-dev.ts';
import type { Process } from '../process.ts';
import type { CharDevice, System } from '../system.ts';
import type { KvmReference, VfioOperations } from '../vfio-file.ts';
import { bindIommufd, cdevIoctl, unbindIommufd } from './cdev.ts';
import type { VfioGroup } from './group.ts';
import type { BoundDevice, IommufdContext } from './iommufd-context.ts';

/**
 * `struct vfio_device` with its driver's `vfio_device_ops`: what all files of the device share. A driver extends it; its operations are asked only where access
 * has been granted, between `openDevice` and `closeDevice`.
 */
export abstract class VfioDevice {
  readonly system: System;
  /** dev_name: '0000:01:00.0', the UUID of a mediated device. */
  readonly name: string;
  /** The PCI device behind it; a mediated device has none. */
  readonly pci: PciDev | undefined;
  /** What its IOMMU group has of it. */
  readonly member: IommuMember;
  /** Its directory in /sys while it is registered. */
  directory: Directory | undefined;
  /** vfioX; −1 while it is not registered. */
  index = -1;
  group!: VfioGroup;
  /** Files with access. */
  openCount = 0;
  /** Held from the first open to the last close. */
  kvm: KvmReference | null = null;
  /** From BIND_IOMMUFD, or the first open of a group that an iommufd serves, to the last close. */
  bound: BoundDevice | undefined;
  /** RFC: bound with VFIO_DEVICE_BIND_IOMMUFD_PRIVATE; the host stays out of its BARs. */
  isPrivate = false;
  /** The driver is being unbound and waits for the users. */
  unregistering = false;
  /** Completed with the last registration reference. */
  readonly released: Completion = new Completion();
  #references = 0;
  #uses: 'container' | 'iommufd' | undefined;

  constructor(system: System, name: string, pci: PciDev | undefined) {
    this.system = system;
    this.name = name;
    this.pci = pci;
    this.member = pci ?? {};
  }

  // ---- vfio_device_ops

  /** The first open: 0 or −errno. −EAGAIN while somebody else holds the device's lock (`unregistering`). */
  abstract openDevice(p: Process): number;
  /** The last close. */
  abstract closeDevice(p: Process): void;
  /** Every ioctl but BIND, ATTACH and DETACH; VFIO_DEVICE_FEATURE and VFIO_DEVICE_GET_REGION_INFO too. */
  abstract ioctl(file: VfioDeviceFile, p: Process, request: number, arg: bigint): number;
  abstract read(file: VfioDeviceFile, p: Process, into: Uint8Array, offset: bigint): number;
  abstract write(file: VfioDeviceFile, p: Process, from: Uint8Array, offset: bigint): number;
  abstract mmap(file: VfioDeviceFile, p: Process, map: FileMap): Backing | number;

  /** ops->match, for GET_DEVICE_FD: whether `text` names this device, or −errno. Without one it is the name alone. */
  match(text: string): boolean | number {
    return text === this.name;
  }

  /** ops->match_token_uuid, for BIND_IOMMUFD: 0 or −errno; `token` is undefined where the flag is not set. Absent: the driver takes no token. */
  matchToken?(token: Uint8Array | undefined): number;
  /** ops->request: the device is asked back, for the `count`th time. */
  request?(count: number): void;
  /** ops->dma_unmap: a mapping goes of which the driver has pinned pages. */
  dmaUnmap?(iova: bigint, length: bigint): void;

  /** RFC: its TDI, for those who bind it. Absent: the driver has none. */
  readonly assigned: AssignedFunction | undefined = undefined;

  /** VFIO_EMULATED_IOMMU: it does no DMA of its own (mdev). */
  get emulatedIommu(): boolean {
    return this.pci === undefined;
  }

  /** The driver can attach PASIDs (ops->pasid_attach_ioas). */
  get pasidCapable(): boolean {
    return !this.emulatedIommu;
  }

  /** device_iommu_capable(IOMMU_CAP_ENFORCE_CACHE_COHERENCY). */
  get enforcesCoherency(): boolean {
    return this.pci?.iommuGroup?.enforceCoherency ?? false;
  }

  /** VFIO has made a group for it, or takes that away again. */
  ownGroup(group: IommuGroup | undefined): void {
    if (this.pci !== undefined) this.pci.iommuGroup = group as IommuGroup<PciDev> | undefined;
  }

  // ---- references: vfio_device_try_get_registration, vfio_device_put_registration

  /** The driver registers it: its own reference. */
  registered(): void {
    this.#references = 1;
  }

  tryGet(): boolean {
    if (this.#references === 0) return false;
    this.#references++;
    return true;
  }

  put(): void {
    if (--this.#references === 0) this.released.complete();
  }

  // ---- opening: vfio_df_open, vfio_df_close

  /** One more file has access. The first one takes the device's IOMMU and lets the driver set it up; `kvm` is the VM it then may know. */
  open(p: Process, file: VfioDeviceFile, kvm: KvmReference | null): number {
    // Only the group path may open it several times.
    if (this.openCount !== 0 && file.from === 'cdev') return -EINVAL;
    if (this.openCount === 0) {
      kvm?.get();
      this.kvm = kvm;
      const error = this.#firstOpen(p, file.context);
      if (error < 0) {
        this.#putKvm();
        return error;
      }
    }
    this.openCount++;
    return 0;
  }

  close(p: Process): void {
    if (--this.openCount > 0) return;
    this.closeDevice(p);
    this.#unuse(p);
    this.#putKvm();
  }

  #firstOpen(p: Process, iommufd: IommufdContext | undefined): number {
    const error = iommufd === undefined ? this.group.useContainer(p, this) : this.#bind(p, iommufd);
    if (error < 0) return error;
    this.#uses = iommufd === undefined ? 'container' : 'iommufd';
    const opened = this.openDevice(p);
    if (opened < 0) this.#unuse(p);
    return opened;
  }

  /** A device without IOMMU is not bound to anything: the iommufd only stands in for the container. */
  #bind(p: Process, iommufd: IommufdContext): number {
    if (this.group.type === 'noiommu') return 0;
    const bound = iommufd.bind(p, this);
    if (typeof bound === 'number') return bound;
    this.bound = bound;
    return 0;
  }

  #unuse(p: Process): void {
    if (this.#uses === 'container') this.group.unuseContainer(p, this);
    this.bound?.unbind(p);
    this.bound = undefined;
    this.#uses = undefined;
  }

  #putKvm(): void {
    this.kvm?.put();
    this.kvm = null;
  }
}

/** Numbers and path of the anonymous inode a group gives its devices, or of the character device. */
type Origin = { readonly from: 'group' } | { readonly from: 'cdev'; readonly node: CharDevice };

/**
 * `struct vfio_device_file`: an open device, by way of its group or of its own character device. Until access is granted (GET_DEVICE_FD grants it at
 * once, a character device with BIND_IOMMUFD) every operation is EINVAL. Mappings hold it.
 */
export class VfioDeviceFile extends File {
  override readonly seekable: boolean = true;
  override readonly noexec: boolean;
  readonly device: VfioDevice;
  readonly from: 'group' | 'cdev';
  readonly vfio: VfioOperations;
  /** The iommufd this file is bound to, or its group's. */
  context: IommufdContext | undefined;
  accessGranted = false;
  /** KVM_DEV_VFIO_FILE_ADD of this file. */
  kvm: KvmReference | null = null;
  readonly #node: CharDevice | undefined;
  #position = 0n;

  /** Takes over a registration reference of the device. */
  constructor(device: VfioDevice, flags: number, origin: Origin) {
    super(origin.from === 'cdev' ? origin.node.path : 'anon_inode:[vfio-device]', flags);
    this.device = device;
    this.from = origin.from;
    this.noexec = origin.from === 'group' && has(device.system.machine, 'anonInodesNoexec');
    this.#node = origin.from === 'cdev' ? origin.node : undefined;
    this.vfio = new DeviceFileOperations(this);
  }

  override get position(): bigint {
    return this.#position;
  }

  override release(p: Process): void {
    if (this.from === 'group') this.device.group.closeDevice(p, this);
    else unbindIommufd(this, p);
    this.device.put();
  }

  override ioctl(p: Process, request: number, arg: bigint): number {
    if (request === VFIO_DEVICE_BIND_IOMMUFD) return bindIommufd(this, p, arg);
    if (!this.accessGranted) return -EINVAL;
    const answer = this.from === 'cdev' ? cdevIoctl(this, p, request, arg) : undefined;
    return answer ?? this.device.ioctl(this, p, request, arg);
  }

  /** At the file's own position, which begins at 0: BAR0. */
  override read(p: Process, into: Uint8Array): number {
    return this.#advance(this.pread(p, into, this.#position));
  }

  override write(p: Process, from: Uint8Array): number {
    return this.#advance(this.pwrite(p, from, this.#position));
  }

  override pread(p: Process, into: Uint8Array, offset: bigint): number {
    return this.accessGranted ? this.device.read(this, p, into, offset) : -EINVAL;
  }

  override pwrite(p: Process, from: Uint8Array, offset: bigint): number {
    return this.accessGranted ? this.device.write(this, p, from, offset) : -EINVAL;
  }

  /** do_mmap takes VM_SHARED from a mapping of a file that is not open for writing: the driver then sees a private one. */
  override mmap(p: Process, map: FileMap): Backing | number {
    if (!this.accessGranted) return -EINVAL;
    return this.device.mmap(this, p, { ...map, shared: map.shared && this.writable });
  }

  /** Anonymous inodes cannot be opened again; a node can. */
  override reopen(p: Process, flags: number): File | number {
    return this.#node === undefined ? super.reopen(p, flags) : this.#node.open(p, flags);
  }

  override fdinfo(): string {
    return `vfio-device-syspath: ${this.device.directory?.path}\n`;
  }

  override stat(p: Process): Stat {
    return this.#node === undefined ? p.system.anonInodeStat() : p.system.deviceStat(this.#node);
  }

  #advance(done: number): number {
    if (done > 0) this.#position += BigInt(done);
    return done;
  }
}

/** What KVM asks of the file. */
class DeviceFileOperations implements VfioOperations {
  readonly #file: VfioDeviceFile;

  constructor(file: VfioDeviceFile) {
    this.#file = file;
  }

  enforcedCoherent(): boolean {
    return this.#file.device.enforcesCoherency;
  }

  setKvm(kvm: KvmReference | null): void {
    this.#file.kvm = kvm;
  }

  get assigned(): AssignedFunction | undefined {
    return this.#file.accessGranted ? this.#file.device.assigned : undefined;
  }
}

/** vfio_device_fops_cdev_open. */
export function openCdev(device: VfioDevice, node: CharDevice, flags: number): File | number {
  return device.tryGet() ? new VfioDeviceFile(device, flags, { from: 'cdev', node }) : -ENODEV;
}
