import type { IommuMachine, PciPlacement } from './hardware/machine-pci.ts';
import type { TeeIo } from './hardware/tsm/switches.ts';
import type { ParameterValues } from './parameters.ts';
import type { User } from './user.ts';

/** One CPUID leaf as KVM_GET_SUPPORTED_CPUID lists it. */
export interface CpuidLeaf {
  readonly function: number;
  readonly index: number;
  readonly flags: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** A capability's value on the system descriptor and on a VM of the default type, where it differs. */
export type CapabilityValue = number | readonly [system: number, vm: number];

export interface Limits {
  /** RLIMIT_NOFILE: one more than the highest descriptor. */
  readonly nofile: number;
  /** vm.max_map_count. */
  readonly maps: number;
  /** Bytes of RAM and swap: a private writable mapping without MAP_NORESERVE larger than this is ENOMEM (heuristic overcommit). */
  readonly memory: number;
  /** RLIMIT_MEMLOCK in bytes, for MAP_LOCKED; Infinity for a process with CAP_IPC_LOCK. */
  readonly memlock: number;
}

/**
 * The simulated host, as plain data. Feature gates follow `release`: what a kernel of that version does not have is refused
 * as that kernel refuses it. A profile is a module in `machines/`.
 */
export interface Machine {
  readonly name: string;
  /** `uname -r`. */
  readonly release: string;
  /** Which KVM backend answers: 'pvm' has no hardware paging and runs real mode through KVM's emulator. */
  readonly backend: 'pvm' | 'svm' | 'vmx';
  /** Online host CPUs. */
  readonly cpus: number;
  /** Guest instructions per simulated millisecond: what a `budget` buys. */
  readonly instructionsPerMs: number;
  readonly limits: Limits;
  /** Pools of huge pages by page size in bytes: how many there are at boot. Sizes the kernel does not have are absent. */
  readonly hugePages: Readonly<Record<number, number>>;
  /** CONFIG_NUMA. Default false. */
  readonly numa?: boolean;
  /** CONFIG_KSM: equal pages can be merged. Default false. */
  readonly ksm?: boolean;
  /** vm.memfd_noexec. */
  readonly memfdNoexec: 0 | 1 | 2;
  /** Device nodes that exist: '/dev/kvm': true. One that is younger than the release does not, whatever is said here (`deviceNodes`). */
  readonly devices: Readonly<Record<string, boolean>>;
  /** Parameters of modules that the command line sets. */
  readonly parameters?: ParameterValues;
  /** Who the program is; default root with all capabilities. */
  readonly user?: User;
  /** CONFIG_IOMMUFD_TEST: /dev/iommu has IOMMU_TEST_CMD, mock devices behind a mock IOMMU. Default false. */
  readonly iommufdTest?: boolean;
  /** What KVM answers; see `machines/`. */
  readonly kvm: KvmMachine;
  /** PCI functions that are soldered in, bridges before what is behind them. Absent: none. */
  readonly pci?: readonly PciPlacement[];
  /** Drivers of the host for PCI devices, besides those that `pci` names: 'nvme', 'e1000e', 'igb' … (HOST_DRIVERS). Default: 'pcieport' and 'pci-stub'. */
  readonly pciDrivers?: readonly string[];
  /** Absent: none (`kind: 'none'`). */
  readonly iommu?: IommuMachine;
  /** Interrupt lines go to an IO-APIC; false: to the two PICs (`noapic`). Default true. */
  readonly ioapic?: boolean;
  /** CONFIG_VFIO_NOIOMMU. Default true. */
  readonly vfioNoiommu?: boolean;
  /** CONFIG_VFIO_PCI_VGA. Default false. */
  readonly vfioVga?: boolean;
  /** Drivers are modules: /sys/bus/…/drivers/NAME/module. Default false: built in. */
  readonly modular?: boolean;
  /** The sample of a mediated device is built in (CONFIG_SAMPLE_VFIO_MDEV_MTTY). */
  readonly mtty?: boolean;
  /** The kernel's own PCIe hot-plug driver has the slots. */
  readonly pciehp?: boolean;
  /** RFC: a TSM, and the interfaces of confidential device assignment. Absent: as mainline. */
  readonly teeIo?: TeeIo;
}

/** The KVM part of a machine: tables that a real host gave. */
export interface KvmMachine {
  /** KVM_CHECK_EXTENSION by capability number; absent: 0. */
  readonly capabilities: Readonly<Record<number, CapabilityValue>>;
  /** Capabilities that a VM of another type than the default answers otherwise, by type. */
  readonly vmTypeCapabilities: Readonly<Record<number, Readonly<Record<number, number>>>>;
  /** KVM_GET_SUPPORTED_CPUID. */
  readonly cpuid: readonly CpuidLeaf[];
  /** KVM_GET_EMULATED_CPUID. */
  readonly emulatedCpuid: readonly CpuidLeaf[];
  /** KVM_GET_MSR_INDEX_LIST, in order. */
  readonly msrs: readonly number[];
  /** KVM_GET_MSR_FEATURE_INDEX_LIST with the values KVM_GET_MSRS gives on the system descriptor. */
  readonly featureMsrs: readonly (readonly [index: number, value: bigint])[];
  /** KVM_X86_GET_MCE_CAP_SUPPORTED. */
  readonly mceCap: bigint;
  /** The host's own XCR0, which KVM_GET_XSAVE tells in the legacy region's unused bytes. */
  readonly hostXcr0: bigint;
  /** MXCSR bits the processor has. */
  readonly mxcsrMask: number;
  /** KVM_GET_TSC_KHZ of a new vCPU. */
  readonly tscKhz: number;
  /** Physical address bits a memslot may use. */
  readonly gpaBits: number;
  /** Bits of a userspace address a memslot may name: 56 where the host pages with five levels. */
  readonly hvaBits: 47 | 56;
  /** VM types, bit mask (KVM_CAP_VM_TYPES). */
  readonly vmTypes: number;
  /** KVM_X86_SEV_VMSA_FEATURES; undefined where KVM is built without CONFIG_KVM_AMD_SEV. */
  readonly sevVmsaFeatures?: bigint;
}

/** Device nodes, and those in folders, that came later than 6.1. */
const deviceReleases: readonly (readonly [path: string, release: string])[] = [
  ['/dev/iommu', '6.2'],
  ['/dev/vfio/devices/', '6.6'],
];

/** The paths of the device nodes this machine has. */
export function deviceNodes(machine: Machine): string[] {
  const young = (path: string): boolean =>
    deviceReleases.some(([which, release]) => {
      const meant = which.endsWith('/') ? path.startsWith(which) : path === which;
      return meant && !atLeast(machine, release);
    });
  return Object.entries(machine.devices).flatMap(([path, present]) => (present && !young(path) ? [path] : []));
}

/** Releases that were compared, as one number: it is asked at every system call. */
const known = new Map<string, number>();

function ordinal(release: string): number {
  let number = known.get(release);
  if (number === undefined) {
    const [major = 0, minor = 0, patch = 0] = release.split('.').map((part) => Number.parseInt(part, 10));
    number = (major * 0x1_0000 + minor) * 0x1_0000 + patch;
    known.set(release, number);
  }
  return number;
}

/** True when the machine's kernel is `version` ('6.14', or of what came with a stable update '6.12.108') or newer. */
export function atLeast(machine: Machine, version: string): boolean {
  return ordinal(machine.release) >= ordinal(version);
}
