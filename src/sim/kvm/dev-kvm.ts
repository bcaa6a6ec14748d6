import * as kvm from '../../uapi/kvm.ts';
import { EFAULT, EINVAL, EMFILE, ENXIO } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { CharFile } from '../char-device.ts';
import type { Machine } from '../machine.ts';
import type { Process } from '../process.ts';
import type { CharDevice, System } from '../system.ts';
import { absentCapabilities, unknownRequests } from './absent.ts';
import { askedCapability, checkExtension } from './caps.ts';
import { getEmulatedCpuid, getSupportedCpuid } from './cpuid.ts';
import { deviceIoctls } from './devices.ts';
import { IoctlTable } from './ioctl-table.ts';
import { getIndexList, msrIo } from './msr-io.ts';
import { getFeatureMsr } from './msrs.ts';
import { VCPU_MMAP_PAGES } from './run-page.ts';
import { vcpuIoctls } from './vcpu-file.ts';
import { Vm, VmFile, vmIoctls } from './vm.ts';
import { supportedXcr0 } from './xsave.ts';

const PATH = '/dev/kvm';

/** An open /dev/kvm. It works for any process: nothing here belongs to an address space. */
export class DevKvm extends CharFile {
  override ioctl(p: Process, request: number, arg: bigint): number {
    return systemIoctls.dispatch(this, p, request, arg);
  }
}

/** KVM_X86_DEFAULT_VM and KVM_X86_SW_PROTECTED_VM. Those of SEV and TDX need launch firmware. */
const SIMULATED_TYPES = 3;

/** KVM_CREATE_VM: the descriptor is taken first, so that EMFILE comes before a bad type. The type is a whole unsigned long. */
function createVm(_self: DevKvm, p: Process, arg: bigint): number {
  const fd = p.fds.reserve(true);
  if (fd < 0) return -EMFILE;
  const vmTypes = p.system.machine.kvm.vmTypes & SIMULATED_TYPES;
  if (arg >= 32n || ((vmTypes >>> Number(arg)) & 1) === 0) {
    p.fds.unreserve(fd);
    return -EINVAL;
  }
  p.fds.set(fd, new VmFile(new Vm(p, Number(arg))));
  return fd;
}

function systemAttribute(machine: Machine, group: number, attr: bigint): bigint | undefined {
  if (group === 0 && attr === BigInt(kvm.KVM_X86_XCOMP_GUEST_SUPP)) return supportedXcr0(machine);
  const sev = group === kvm.KVM_X86_GRP_SEV && attr === BigInt(kvm.KVM_X86_SEV_VMSA_FEATURES);
  return sev && has(machine, 'sevAttributes') ? machine.kvm.sevVmsaFeatures : undefined;
}

/** KVM_GET_DEVICE_ATTR and KVM_HAS_DEVICE_ATTR: the supported XCR0, and with CONFIG_KVM_AMD_SEV the features of its VMSA. `flags` is not looked at. */
function deviceAttr(write: boolean) {
  return (_self: DevKvm, p: Process, arg: bigint): number => {
    const bytes = p.mm.copyFrom(arg, kvm.kvm_device_attr.size);
    if (bytes === null) return -EFAULT;
    const { group, attr, addr } = kvm.kvm_device_attr.decode(bytes);
    const value = systemAttribute(p.system.machine, group, attr);
    if (value === undefined) return -ENXIO;
    return !write || p.mm.write64(addr, value) ? 0 : -EFAULT;
  };
}

/** Every request the kernel knows on /dev/kvm; all others are EINVAL, those of VMs and vCPUs too. */
export const systemIoctls: IoctlTable<DevKvm> = new IoctlTable<DevKvm>('kvm', EINVAL, {
  KVM_GET_API_VERSION: (_self, _p, arg) => (arg === 0n ? kvm.KVM_API_VERSION : -EINVAL),
  KVM_CREATE_VM: createVm,
  KVM_CHECK_EXTENSION: (_self, p, arg) => {
    const { machine } = p.system;
    const cap = askedCapability(machine, arg);
    return cap === undefined ? 0 : checkExtension(machine, cap, 'system');
  },
  KVM_GET_VCPU_MMAP_SIZE: (_self, _p, arg) => (arg === 0n ? VCPU_MMAP_PAGES * 4096 : -EINVAL),
  KVM_GET_MSR_INDEX_LIST: (_self, p, arg) => getIndexList(p, arg, p.system.machine.kvm.msrs),
  KVM_GET_MSR_FEATURE_INDEX_LIST: (_self, p, arg) =>
    getIndexList(
      p,
      arg,
      p.system.machine.kvm.featureMsrs.map(([index]) => index),
    ),
  KVM_GET_SUPPORTED_CPUID: (_self, p, arg) => getSupportedCpuid(p, arg),
  KVM_GET_EMULATED_CPUID: (_self, p, arg) => getEmulatedCpuid(p, arg),
  KVM_GET_MSRS: (_self, p, arg) => msrIo(p, arg, { get: (index) => getFeatureMsr(p.system.machine, index) }),
  KVM_X86_GET_MCE_CAP_SUPPORTED: (_self, p, arg) => (p.mm.write64(arg, p.system.machine.kvm.mceCap) ? 0 : -EFAULT),
  KVM_GET_SUPPORTED_HV_CPUID: { needs: kvm.KVM_CAP_SYS_HYPERV_CPUID },
  KVM_GET_DEVICE_ATTR: { needs: kvm.KVM_CAP_SYS_ATTRIBUTES, handler: deviceAttr(true) },
  KVM_HAS_DEVICE_ATTR: { needs: kvm.KVM_CAP_SYS_ATTRIBUTES, handler: deviceAttr(false) },
});

const device: CharDevice = { path: PATH, major: 10, minor: 232, mode: 0o600, open: (_p, flags) => new DevKvm(device, flags) };

/** What posted series add, and what of it is left out. */
const RFC: readonly (readonly [name: string, except?: string])[] = [
  ['KVM_MEM_VFIO_DMABUF'],
  ['KVM_DEV_VFIO_ADD_GROUP, KVM_DEV_VFIO_DEL_GROUP'],
  ['KVM_DEV_VFIO_DEVICE_TDI_BIND, KVM_DEV_VFIO_DEVICE_TDI_UNBIND', "with the dialect 'aik-v1'"],
  ['KVM_CAP_* of guest_memfd v13', "with capNumbering 'v13'"],
  [
    'KVM_EXIT_VMGEXIT, KVM_EXIT_ARM64_TIO',
    'of guests that are scripts (SimKernel.agent): no Arm CPU, no TDX module and no SNP launch are simulated',
  ],
  [
    'KVM_SEV_SNP_MMIO_RMP_UPDATE',
    'no VM is of type SNP: ENOTTY; what is private in the RMP is what KVM_SET_MEMORY_ATTRIBUTES says',
  ],
];

/** Gives the system /dev/kvm, where its machine has one, and tells its coverage what is modelled. */
export function registerKvm(system: System): void {
  if (system.machine.devices[PATH] !== true) return;
  system.register(device);
  for (const table of [systemIoctls, vmIoctls, vcpuIoctls, deviceIoctls]) {
    for (const { name, handler, needs } of table.rows.values()) {
      if (handler !== undefined) system.coverage.add('ioctl', `${name} (${table.kind})`);
      const reason = needs === undefined ? undefined : absentCapabilities.get(needs)?.reason;
      if (handler === undefined && reason !== undefined) system.coverage.add('absent ioctl', `${name} (${table.kind})`, reason);
    }
  }
  for (const [name, reason] of Object.entries(unknownRequests)) system.coverage.add('absent ioctl', name, reason);
  if (system.machine.teeIo !== undefined) for (const [name, except] of RFC) system.coverage.add('RFC KVM', name, except);
  const { capabilities, vmTypes } = system.machine.kvm;
  for (const [cap, { name, reason }] of absentCapabilities)
    if (capabilities[cap] !== undefined) system.coverage.add('capability', name, reason);
  if (vmTypes & ~SIMULATED_TYPES)
    system.coverage.add('capability', 'KVM_CAP_VM_TYPES', 'VMs of SEV and TDX need launch firmware: their types are EINVAL');
}
