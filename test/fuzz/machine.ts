/** The simulated machine that is like a host: the profile of its kind, with the tables this host gives. */
import type { Kernel } from 'kvio';
import { type Machine, openSim, profiles } from 'kvio/sim';
import * as k from 'kvio/uapi';
import { identify } from '../conformance/identity.ts';
import { cpuidBytes, cpuidEntries } from '../conformance/machine.ts';
import type { Pair } from './lockstep.ts';

/** The profile for a real kernel, by what it answers: release and backend; or why there is none. */
export function profileFor(kernel: Kernel): Machine | string {
  const identity = identify(kernel);
  if (identity === undefined) return 'no /dev/kvm';
  const found = Object.values(profiles).find(
    (machine) => identify(openSim({ machine }))?.split('+')[0] === identity.split('+')[0],
  );
  return found ?? `the simulator has no machine like ${identity} (it has: ${Object.keys(profiles).join(', ')})`;
}

/** Where the legacy region of XSAVE has the MXCSR bits there are, and the host's XCR0. */
const MXCSR_MASK = 28;
const HOST_XCR0 = 464;
/** The leaves a paravirtual KVM answers by the host's: it adds 0xD, where a second 0xD.1 stays as the host has it. */
const NATIVE = [
  { function: 0xd, index: 1, flags: k.KVM_CPUID_FLAG_SIGNIFCANT_INDEX },
  { function: 1 },
  { function: 7, index: 0, flags: k.KVM_CPUID_FLAG_SIGNIFCANT_INDEX },
  { function: 7, index: 1, flags: k.KVM_CPUID_FLAG_SIGNIFCANT_INDEX },
];

/** CPUID, MSR lists, FPU and clock rate of a profile are those of the host it was captured on: here they are replaced by this host's. */
export function likeHost(machine: Machine, kernel: Kernel): Machine {
  const kvm = kernel.open('/dev/kvm');
  const vm = kernel.ioctl(kvm, k.KVM_CREATE_VM, 0);
  const vcpu = kernel.ioctl(vm, k.KVM_CREATE_VCPU, 0);
  const cpuid = (request: number, fd = kvm) => {
    const bytes = cpuidBytes([], 256, 256);
    kernel.ioctl(fd, request, bytes);
    return cpuidEntries(bytes).map(({ function: leaf, index, flags, eax, ebx, ecx, edx }) => ({
      function: leaf,
      index,
      flags,
      eax,
      ebx,
      ecx,
      edx,
    }));
  };
  const list = (request: number): number[] => {
    const bytes = new Uint8Array(4 + 4 * 1024);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 1024, true);
    kernel.ioctl(kvm, request, bytes);
    return Array.from({ length: view.getUint32(0, true) }, (_, at) => view.getUint32(4 + 4 * at, true));
  };
  const featureMsrs = list(k.KVM_GET_MSR_FEATURE_INDEX_LIST).map((index): [number, bigint] => {
    const bytes = new Uint8Array(24);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 1, true);
    view.setUint32(8, index, true);
    kernel.ioctl(kvm, k.KVM_GET_MSRS, bytes);
    return [index, view.getBigUint64(16, true)];
  });
  const mce = new BigUint64Array(1);
  kernel.ioctl(kvm, k.KVM_X86_GET_MCE_CAP_SUPPORTED, new Uint8Array(mce.buffer));
  const xsave = new DataView(new ArrayBuffer(4096));
  kernel.ioctl(vcpu, k.KVM_GET_XSAVE, new Uint8Array(xsave.buffer));
  kernel.ioctl(vcpu, k.KVM_SET_CPUID2, cpuidBytes(NATIVE));
  const made: Machine = {
    ...machine,
    kvm: {
      ...machine.kvm,
      ...('nativeCpuid' in machine.kvm ? { nativeCpuid: cpuid(k.KVM_GET_CPUID2, vcpu).slice(1) } : {}),
      mceCap: mce[0]!,
      mxcsrMask: xsave.getUint32(MXCSR_MASK, true),
      hostXcr0: xsave.getBigUint64(HOST_XCR0, true),
      cpuid: cpuid(k.KVM_GET_SUPPORTED_CPUID),
      emulatedCpuid: cpuid(k.KVM_GET_EMULATED_CPUID),
      msrs: list(k.KVM_GET_MSR_INDEX_LIST),
      featureMsrs,
      tscKhz: kernel.ioctl(vm, k.KVM_GET_TSC_KHZ),
    },
  };
  for (const fd of [vcpu, vm, kvm]) kernel.close(fd);
  return made;
}

/** A simulated machine like the host of the kernel this opens; or why there is none. */
export function machineOfHost(open: () => Kernel): Machine | string {
  const kernel = open();
  try {
    const profile = profileFor(kernel);
    return typeof profile === 'string' ? profile : likeHost(profile, kernel);
  } finally {
    kernel.close();
  }
}

/** The simulated machine of this name of the lab's. */
export function ofLab(name: string): Machine | string {
  const machine = Object.values(profiles).find((profile) => profile.name.startsWith(`lab-${name}-`));
  return machine ?? `the simulator has no machine like ${name} of the lab`;
}

/** A pair of a kernel that is opened by `real`, and the simulator as that machine. */
export function pairWith(real: Pair['real'], machine: Machine): Pair {
  const modelled = new Set(
    openSim({ machine })
      .coverage()
      .flatMap(({ area, name }) => (area === 'ioctl' ? [name] : [])),
  );
  return { real, sim: () => openSim({ machine }), modelled, hardware: machine.backend !== 'pvm', hostKhz: machine.kvm.tscKhz };
}
