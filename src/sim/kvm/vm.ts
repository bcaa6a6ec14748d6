import * as kvm from '../../uapi/kvm.ts';
import { EBUSY, EEXIST, EFAULT, EINVAL, EIO, EMFILE, ENOTTY, O_RDWR } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { AnonFile } from '../file.ts';
import type { TdiBinding } from '../hardware/tsm/binding.ts';
import type { TeeIo } from '../hardware/tsm/switches.ts';
import type { Tvm } from '../hardware/tsm/tvm.ts';
import type { Machine } from '../machine.ts';
import type { AddressSpace } from '../mm/address-space.ts';
import type { PageRef } from '../mm/pages.ts';
import type { Process } from '../process.ts';
import type { System } from '../system.ts';
import { ApicMap } from './apic-map.ts';
import { FrameRanges, isPrivate, setMemoryAttributes } from './attributes.ts';
import { type Backend, backendOf } from './backends.ts';
import { askedCapability, vmCapability } from './caps.ts';
import { getClock, setClock, VmClock } from './clock.ts';
import { type CoalescedZone, registerCoalescedMmio, unregisterCoalescedMmio } from './coalesced.ts';
import { createDevice, type Device } from './devices.ts';
import { clearDirtyLog, DirtyTracking, getDirtyLog } from './dirty-log.ts';
import { resetDirtyRings } from './dirty-ring.ts';
import { DmaBufSlot } from './dma-buf-slot.ts';
import { enableVmCap } from './enable-cap.ts';
import { bindGuestMemfd, createGuestMemfd } from './guest-memfd.ts';
import { IoBus } from './io-bus.ts';
import type { Ioapic } from './ioapic.ts';
import { capability, IoctlTable } from './ioctl-table.ts';
import { Ioeventfds } from './ioeventfd.ts';
import { IrqRouting, irqLine, setGsiRouting, signalMsi } from './irq-routing.ts';
import { createIrqchip, Irqchip } from './irqchip.ts';
import { getIrqchip, setIrqchip } from './irqchip-state.ts';
import { Irqfds } from './irqfd.ts';
import { MmioFrames } from './memory-fault.ts';
import { decodeRegion, Memslots, type SlotLimits } from './memslots.ts';
import { setMsrFilter } from './msr-filter.ts';
import type { Pics } from './pic.ts';
import { createPit, createPit2, getPit, getPit2, type Pit, reinjectControl, setPit, setPit2 } from './pit.ts';
import { setPmuEventFilter } from './pmu-filter.ts';
import { commitPage, isCommitted, privatePage } from './private-dma.ts';
import type { RunPages } from './run-page.ts';
import { getVmStatsFd, Stats } from './stats.ts';
import { askedKhz } from './tsc.ts';
import { Vcpu } from './vcpu.ts';
import { VcpuFile } from './vcpu-file.ts';
import { VmCaps } from './vm-caps.ts';

/** SET_TSS_ADDR needs three pages below 4 GiB. */
const MAX_TSS_ADDR = 0xffff_d000n;
const KVM_MIN_ALLOC_MMU_PAGES = 64n;
/** KVM_MEMSLOT_PAGES_TO_MMU_PAGES_RATIO. */
const MEMSLOT_PAGES_RATIO = 50;

/**
 * `struct kvm`. The VM descriptor and each vCPU descriptor hold a reference; a mapping holds its descriptor's file. Nothing is left of
 * it when the last one goes.
 */
export class Vm implements Tvm {
  readonly machine: Machine;
  readonly backend: Backend;
  /** KVM_X86_DEFAULT_VM or KVM_X86_SW_PROTECTED_VM. */
  readonly type: number;
  /** The address space that made it; any other process gets EIO. */
  readonly mm: AddressSpace;
  readonly memslots: Memslots;
  /** KVM_MEMORY_ATTRIBUTE_* of every guest frame. */
  readonly attributes: FrameRanges = new FrameRanges();
  /** A slot has had a guest_memfd that can be mapped: KVM's emulator then sees other memory there than the guest. */
  gmemOnlySlots = false;
  readonly mmioFrames: MmioFrames = new MmioFrames();
  /** Moves when mappings of the guest's memory are torn down though slots and userspace mappings stay. */
  zapped = 0;
  /** KVM_CREATE_DEVICE. */
  readonly devices: Set<Device> = new Set();
  /** How many holders of devices whose DMA may bypass the caches are registered. While there is one, WBINVD of the guest is executed. */
  noncoherentDma = 0;
  /** WBINVDs of the guest that really flushed. */
  cacheFlushes = 0;
  readonly dirty: DirtyTracking;
  /** What KVM_ENABLE_CAP has set. */
  readonly caps: VmCaps = new VmCaps();
  readonly stats: Stats = new Stats();
  readonly clock: VmClock;
  /** Of the process that made it: statistics are named after it. */
  readonly pid: number;
  readonly vcpus: Map<number, Vcpu> = new Map();
  readonly irqchip: Irqchip = new Irqchip();
  readonly apicMap: ApicMap = new ApicMap();
  /** What KVM serves by itself of guest-physical addresses without memory, and of ports. */
  readonly mmioBus: IoBus = new IoBus();
  readonly pioBus: IoBus = new IoBus();
  readonly routing: IrqRouting = new IrqRouting(this);
  /** Of KVM_CREATE_IRQCHIP, not of a split one. */
  pics: Pics | undefined = undefined;
  ioapic: Ioapic | undefined = undefined;
  pit: Pit | undefined = undefined;
  readonly irqfds: Irqfds = new Irqfds(this);
  readonly ioeventfds: Ioeventfds = new Ioeventfds(this);
  bootId = 0;
  /** One above the highest vCPU id; 0 until the first vCPU, or KVM_CAP_MAX_VCPU_ID, fixes it. */
  maxVcpuIds = 0;
  tscKhz: number;
  identityMapAddr = 0n;
  /** MSR KVM_WALL_CLOCK: every vCPU has the same one. */
  wallClock = 0n;
  /** KVM_SET_NR_MMU_PAGES; 0n: never accepted. */
  requestedMmuPages = 0n;
  /** KVM has given it up: every call on its descriptors is EIO. */
  dead = false;
  /** The host's TSC when the first vCPU was made. */
  tscStart = 0n;
  /** Pages of the first vCPU, whose third is the VM's coalesced MMIO ring. */
  ring: RunPages | undefined = undefined;
  readonly coalescedZones: Set<CoalescedZone> = new Set();
  /** RFC: the TDIs that are bound to it. */
  readonly tdis: Set<TdiBinding> = new Set();
  readonly #runner: System['runner'];
  #references = 1;

  constructor(p: Process, type: number) {
    this.machine = p.system.machine;
    this.pid = p.pid;
    this.clock = new VmClock(this, p.system.runner.now);
    this.type = type;
    this.#runner = p.system.runner;
    this.mm = p.mm;
    this.tscKhz = this.machine.kvm.tscKhz;
    this.memslots = new Memslots(this.capability(kvm.KVM_CAP_MULTI_ADDRESS_SPACE) || 1);
    this.backend = backendOf(this.machine);
    this.dirty = new DirtyTracking(this.memslots, this.backend.emulated);
  }

  /** RFC: the series the machine's kernel has. */
  get teeIo(): TeeIo | undefined {
    return this.machine.teeIo;
  }

  /** kvm_arch_has_private_mem. */
  get hasPrivateMemory(): boolean {
    return this.type === kvm.KVM_X86_SW_PROTECTED_VM;
  }

  /** Every vCPU faults its memory in anew. */
  zap(): void {
    this.zapped++;
  }

  isPrivate(gfn: number): boolean {
    return isPrivate(this, gfn);
  }

  commit(gfn: number): number {
    return commitPage(this.memslots, gfn);
  }

  isCommitted(gfn: number): boolean {
    return isCommitted(this.memslots, gfn);
  }

  privatePage(gfn: number, populate: boolean): PageRef | null {
    return privatePage(this.memslots, gfn, populate);
  }

  mmioAt(gfn: number): bigint | undefined {
    const place = this.memslots.find(gfn)?.dmaBuf?.place(gfn);
    return place?.memory.address === undefined ? undefined : place.memory.address + BigInt(place.offset);
  }

  /** KVM_BUG_ON: also what its vCPUs are executing ends. */
  kill(): void {
    this.dead = true;
    for (const { cpu } of this.vcpus.values()) cpu.yield();
    this.#runner.wake();
  }

  /** KVM_CHECK_EXTENSION on its descriptor. */
  capability(cap: number): number {
    if (cap === kvm.KVM_CAP_X86_APIC_BUS_CYCLES_NS && has(this.machine, 'apicBusCyclesOfVm'))
      return Number(this.caps.apicBusCycleNs);
    if (cap === kvm.KVM_CAP_X2APIC_API && this.irqchip.mode === 'split') return capability(this.machine, cap);
    return vmCapability(this.machine, cap, this.type);
  }

  /** KVM's clock, the guest's time. */
  nanoseconds(): bigint {
    return this.clock.at(this.#runner.now);
  }

  /** CLOCK_MONOTONIC in nanoseconds, what a vCPU executed since its last slice included. */
  now(): bigint {
    let ticks = this.#runner.ticks;
    for (const { bus } of this.vcpus.values()) ticks += bus.sliceExecuted;
    return (BigInt(ticks) * 1_000_000n) / BigInt(this.machine.instructionsPerMs);
  }

  /** Calls `fire` when the clock reaches `now`; the result cancels. */
  atTime(now: bigint, fire: () => void): () => void {
    const ticks = (now * BigInt(this.machine.instructionsPerMs) + 999_999n) / 1_000_000n;
    return this.#runner.at(Number(ticks), fire);
  }

  get alive(): boolean {
    return this.#references > 0;
  }

  get(): this {
    this.#references++;
    return this;
  }

  put(): void {
    if (--this.#references > 0) return;
    for (const { lapic } of this.vcpus.values()) lapic?.timer.cancel();
    this.vcpus.clear();
    this.pit?.stop();
    this.memslots.releaseDmaBufs();
  }
}

/** A descriptor made by KVM_CREATE_VM. */
export class VmFile extends AnonFile {
  readonly vm: Vm;
  /** RFC: file_is_kvm. */
  readonly tvm: Tvm;

  constructor(vm: Vm) {
    super('anon_inode:kvm-vm', O_RDWR);
    this.vm = vm;
    this.tvm = vm;
  }

  /** Irqfds go with the last descriptor, though vCPUs may keep the VM. */
  override release(_p: Process): void {
    this.vm.irqfds.release();
    this.vm.put();
  }

  override ioctl(p: Process, request: number, arg: bigint): number {
    if (p.mm !== this.vm.mm || this.vm.dead) return -EIO;
    return vmIoctls.dispatch(this.vm, p, request, arg);
  }
}

/** KVM_CREATE_VCPU. The descriptor comes last; a failure leaves no trace but the VM's highest id, which is fixed by the attempt. */
function createVcpu(vm: Vm, p: Process, arg: bigint): number {
  const maxIds = capability(vm.machine, kvm.KVM_CAP_MAX_VCPU_ID);
  const asked = has(vm.machine, 'wholeVcpuIds') ? arg : BigInt.asUintN(32, arg);
  if (asked >= BigInt(maxIds)) return -EINVAL;
  if (vm.vcpus.size >= capability(vm.machine, kvm.KVM_CAP_MAX_VCPUS)) return -EINVAL;
  vm.maxVcpuIds ||= maxIds;
  if (asked >= BigInt(vm.maxVcpuIds)) return -EINVAL;
  const id = Number(asked);
  if (vm.vcpus.has(id)) {
    // The vCPU has been made by then: the reset of its local APIC has mapped those of the others.
    if (vm.irqchip.inKernel) {
      vm.apicMap.dirty = true;
      vm.apicMap.rebuild(vm);
    }
    return -EEXIST;
  }
  const fd = p.fds.reserve(true);
  if (fd < 0) return -EMFILE;
  const vcpu = new Vcpu(vm, id, p.system);
  if (vm.vcpus.size === 0) vm.tscStart = vcpu.hostTsc();
  vm.ring ??= vcpu.run;
  vm.vcpus.set(id, vcpu);
  p.fds.set(fd, new VcpuFile(vcpu));
  return fd;
}

function setMemoryRegion(size: number, v1: boolean) {
  return (vm: Vm, p: Process, arg: bigint): number => {
    const bytes = p.mm.copyFrom(arg, size);
    if (bytes === null) return -EFAULT;
    const limits: SlotLimits = {
      // TASK_SIZE_MAX
      userTop: (1n << BigInt(vm.machine.kvm.hvaBits)) - 4096n,
      gpaBits: vm.machine.kvm.gpaBits,
      readonlyMem: vm.capability(kvm.KVM_CAP_READONLY_MEM) !== 0,
      guestMemfd: vm.capability(kvm.KVM_CAP_GUEST_MEMFD) !== 0,
      bind: (fd, offset, npages) => bindGuestMemfd(vm, p, fd, offset, npages),
      bindDmaBuf:
        vm.teeIo && vm.hasPrivateMemory ? (fd, base_gfn, npages) => DmaBufSlot.bind(vm, p, fd, base_gfn, npages) : undefined,
      dirty: vm.dirty,
    };
    return vm.memslots.set(decodeRegion(bytes), limits, v1);
  };
}

/** Old VMX needs the pages; with unrestricted guests, on SVM and on PVM the address is only checked. */
function setTssAddr(_vm: Vm, _p: Process, arg: bigint): number {
  return arg > MAX_TSS_ADDR ? -EINVAL : 0;
}

function setNrMmuPages(vm: Vm, _p: Process, arg: bigint): number {
  if (arg < KVM_MIN_ALLOC_MMU_PAGES) return -EINVAL;
  vm.requestedMmuPages = arg;
  return 0;
}

/** KVM_GET_NR_MMU_PAGES: what was asked for, as an int, or one page for 50 of the memslots; none before the first of them. */
function getNrMmuPages(vm: Vm): number {
  if (has(vm.machine, 'nrMmuPagesForgotten')) return -ENOTTY;
  const { requestedMmuPages: requested, memslots } = vm;
  if (requested !== 0n) return Number(BigInt.asIntN(32, requested));
  return memslots.generation === 0
    ? 0
    : Math.max(Number(KVM_MIN_ALLOC_MMU_PAGES), Math.floor(memslots.pages / MEMSLOT_PAGES_RATIO));
}

/** Refused after a vCPU exists before the pointer is read. */
function setIdentityMapAddr(vm: Vm, p: Process, arg: bigint): number {
  if (vm.vcpus.size > 0) return -EINVAL;
  const address = p.mm.read64(arg);
  if (address === null) return -EFAULT;
  vm.identityMapAddr = address;
  return 0;
}

/** The limit itself is accepted though no vCPU can have it, and so is that of KVM_CAP_MAX_VCPU_ID. */
function setBootCpuId(vm: Vm, _p: Process, arg: bigint): number {
  if (vm.vcpus.size > 0) return -EBUSY;
  const checked = has(vm.machine, 'wholeVcpuIds');
  if (checked && arg > BigInt(vm.maxVcpuIds || capability(vm.machine, kvm.KVM_CAP_MAX_VCPU_ID))) return -EINVAL;
  vm.bootId = Number(BigInt.asUintN(32, arg));
  return 0;
}

function setVmTscKhz(vm: Vm, _p: Process, arg: bigint): number {
  const khz = askedKhz(vm.machine, arg);
  if (khz < 0) return khz;
  if (vm.vcpus.size > 0 && has(vm.machine, 'vmTscKhzBeforeVcpus')) return -EINVAL;
  vm.tscKhz = khz;
  return 0;
}

/** Encrypted guests are not configured: the struct is read all the same. */
function encryptRegion(_vm: Vm, p: Process, arg: bigint): number {
  return p.mm.copyFrom(arg, kvm.kvm_enc_region.size) === null ? -EFAULT : -ENOTTY;
}

/** Every request the kernel knows on a VM descriptor of x86. */
export const vmIoctls: IoctlTable<Vm> = new IoctlTable<Vm>('vm', ENOTTY, {
  KVM_CHECK_EXTENSION: (vm, _p, arg) => {
    const cap = askedCapability(vm.machine, arg);
    return cap === undefined || cap > 0xffffn ? 0 : vm.capability(Number(cap));
  },
  KVM_CREATE_VCPU: createVcpu,
  KVM_SET_USER_MEMORY_REGION: setMemoryRegion(kvm.kvm_userspace_memory_region.size, true),
  KVM_SET_USER_MEMORY_REGION2: {
    needs: kvm.KVM_CAP_USER_MEMORY2,
    handler: setMemoryRegion(kvm.kvm_userspace_memory_region2.size, false),
  },
  KVM_SET_TSS_ADDR: setTssAddr,
  KVM_SET_IDENTITY_MAP_ADDR: setIdentityMapAddr,
  KVM_SET_BOOT_CPU_ID: setBootCpuId,
  KVM_SET_NR_MMU_PAGES: setNrMmuPages,
  KVM_GET_NR_MMU_PAGES: getNrMmuPages,
  KVM_SET_TSC_KHZ: setVmTscKhz,
  KVM_GET_TSC_KHZ: (vm) => vm.tscKhz,
  KVM_GET_DIRTY_LOG: getDirtyLog,
  KVM_CLEAR_DIRTY_LOG: clearDirtyLog,
  KVM_RESET_DIRTY_RINGS: resetDirtyRings,
  KVM_REGISTER_COALESCED_MMIO: { needs: kvm.KVM_CAP_COALESCED_MMIO, handler: registerCoalescedMmio },
  KVM_UNREGISTER_COALESCED_MMIO: { needs: kvm.KVM_CAP_COALESCED_MMIO, handler: unregisterCoalescedMmio },
  KVM_MEMORY_ENCRYPT_OP: () => -ENOTTY,
  KVM_CREATE_IRQCHIP: createIrqchip,
  KVM_SET_CLOCK: setClock,
  KVM_GET_CLOCK: getClock,
  KVM_IRQ_LINE: irqLine(false),
  KVM_IRQ_LINE_STATUS: irqLine(true),
  KVM_GET_IRQCHIP: getIrqchip,
  KVM_SET_IRQCHIP: setIrqchip,
  KVM_CREATE_PIT: createPit,
  KVM_CREATE_PIT2: createPit2,
  KVM_GET_PIT: getPit,
  KVM_SET_PIT: setPit,
  KVM_GET_PIT2: getPit2,
  KVM_SET_PIT2: setPit2,
  KVM_REINJECT_CONTROL: reinjectControl,
  KVM_SET_GSI_ROUTING: setGsiRouting,
  KVM_IRQFD: (vm, p, arg) => vm.irqfds.ioctl(p, arg),
  KVM_IOEVENTFD: (vm, p, arg) => vm.ioeventfds.ioctl(p, arg),
  KVM_SIGNAL_MSI: signalMsi,
  KVM_ENABLE_CAP: enableVmCap,
  KVM_SET_PMU_EVENT_FILTER: { needs: kvm.KVM_CAP_PMU_EVENT_FILTER, handler: setPmuEventFilter },
  KVM_X86_SET_MSR_FILTER: setMsrFilter,
  KVM_GET_STATS_FD: getVmStatsFd,
  KVM_CREATE_DEVICE: createDevice,
  KVM_CREATE_GUEST_MEMFD: { needs: kvm.KVM_CAP_GUEST_MEMFD, handler: createGuestMemfd },
  KVM_SET_MEMORY_ATTRIBUTES: { needs: kvm.KVM_CAP_MEMORY_ATTRIBUTES, handler: setMemoryAttributes },
  KVM_MEMORY_ENCRYPT_REG_REGION: encryptRegion,
  KVM_MEMORY_ENCRYPT_UNREG_REGION: encryptRegion,
  KVM_XEN_HVM_CONFIG: { needs: kvm.KVM_CAP_XEN_HVM },
  KVM_XEN_HVM_GET_ATTR: { needs: kvm.KVM_CAP_XEN_HVM },
  KVM_XEN_HVM_SET_ATTR: { needs: kvm.KVM_CAP_XEN_HVM },
  KVM_XEN_HVM_EVTCHN_SEND: { needs: kvm.KVM_CAP_XEN_HVM },
  KVM_HYPERV_EVENTFD: { needs: kvm.KVM_CAP_HYPERV_EVENTFD },
});
