/** All cases, in the order in which the interface is explained. */
import type { Case } from '../case.ts';
import { attributeCases } from './attributes.ts';
import { clockCases } from './clock.ts';
import { coalescedCases } from './coalesced.ts';
import { debugCases } from './debug.ts';
import { deviceAttrCases } from './device-attr.ts';
import { deviceCases } from './devices.ts';
import { dirtyLogCases } from './dirty-log.ts';
import { dirtyRingCases } from './dirty-ring.ts';
import { disableExitsCases } from './disable-exits.ts';
import { enableCapCases } from './enable-cap.ts';
import { eventfdMemfdCases } from './eventfd-memfd.ts';
import { exceptionCases } from './exceptions.ts';
import { fileCases } from './files.ts';
import { fuzzedCases } from './fuzzed.ts';
import { fuzzedEmulatorCases } from './fuzzed-emulator.ts';
import { fuzzedHardwareCases } from './fuzzed-hardware.ts';
import { gmemCases } from './gmem.ts';
import { guestDebugIoctlCases } from './guest-debug-ioctl.ts';
import { guestCases } from './guests.ts';
import { hugepageCases } from './hugepages.ts';
import { hypercallCases } from './hypercalls.ts';
import { iommufdCases } from './iommufd/index.ts';
import { irqRoutingCases } from './irq-routing.ts';
import { irqchipCases } from './irqchip.ts';
import { irqfdCases } from './irqfd.ts';
import { lapicCases } from './lapic.ts';
import { lapicAssistCases } from './lapic-assist.ts';
import { lapicGuestCases } from './lapic-guest.ts';
import { lapicTimerCases } from './lapic-timer.ts';
import { longModeCases } from './long-mode.ts';
import { longModeInstructionCases } from './long-mode-instructions.ts';
import { longModeSystemCases } from './long-mode-system.ts';
import { longModeUserCases } from './long-mode-user.ts';
import { machineCheckCases } from './machine-checks.ts';
import { memoryCases } from './memory.ts';
import { memoryFaultCases } from './memory-fault.ts';
import { memslotCases } from './memslots.ts';
import { mpStateCases } from './mp-state.ts';
import { msrFilterCases } from './msr-filter.ts';
import { guestMsrCases } from './msrs2.ts';
import { nmiCases } from './nmi.ts';
import { otherStateCases } from './other-state.ts';
import { pagingCases } from './paging.ts';
import { paravirtCases } from './paravirt.ts';
import { pitCases } from './pit.ts';
import { pmuFilterCases } from './pmu-filter.ts';
import { preFaultCases } from './pre-fault.ts';
import { privateMemoryCases } from './private-memory.ts';
import { refusalCases } from './refusals.ts';
import { registerCases } from './registers.ts';
import { runCases } from './run.ts';
import { settingsCases } from './settings.ts';
import { signalMaskCases } from './signal-mask.ts';
import { slotCases } from './slots.ts';
import { smmCases } from './smm.ts';
import { smpCases } from './smp.ts';
import { stateCases } from './state.ts';
import { statsCases } from './stats.ts';
import { systemCases } from './system.ts';
import { teardownCases } from './teardown.ts';
import { teeIoIommufdCases } from './tee-io/iommufd.ts';
import { teeIoKvmCases } from './tee-io/kvm.ts';
import { translateCases } from './translate.ts';
import { vcpuCases } from './vcpu.ts';
import { vfioCases } from './vfio/index.ts';
import { xsaveCases } from './xsave.ts';

/** Of any architecture, in files whose other cases are x86's. */
const anywhere = new Set(
  ['api-version', 'vcpu-mmap-size', 'create-vm', 'create-vm-emfile', 'capabilities', 'check-extension-odd'].map(
    (name) => `kvm/system/${name}`,
  ),
);

/** What speaks of x86's registers, lists, instructions or requests says nothing elsewhere. */
function x86(all: readonly Case[]): Case[] {
  return all.map((one) => (anywhere.has(one.name) ? one : { ...one, needs: { ...one.needs, arch: 'x64' as const } }));
}

/** Of a kernel alone. */
export const kernelCases: readonly Case[] = [
  ...fileCases,
  ...x86(systemCases),
  ...x86(vcpuCases),
  ...memslotCases,
  ...x86(gmemCases),
  ...x86(attributeCases),
  ...x86(memoryFaultCases),
  ...x86(preFaultCases),
  ...x86(privateMemoryCases),
  ...x86(deviceCases),
  ...x86(registerCases),
  ...x86(stateCases),
  ...x86(otherStateCases),
  ...x86(settingsCases),
  ...x86(runCases),
  ...x86(guestCases),
  ...x86(exceptionCases),
  ...x86(nmiCases),
  ...x86(debugCases),
  ...x86(smmCases),
  ...x86(hypercallCases),
  ...x86(longModeCases),
  ...x86(longModeSystemCases),
  ...x86(longModeInstructionCases),
  ...x86(longModeUserCases),
  ...x86(pagingCases),
  ...x86(memoryCases),
  ...x86(lapicCases),
  ...x86(lapicGuestCases),
  ...x86([...irqchipCases, ...irqRoutingCases, ...disableExitsCases, ...irqfdCases, ...pitCases]),
  ...x86(lapicAssistCases),
  ...x86(lapicTimerCases),
  ...x86(mpStateCases),
  ...x86(smpCases),
  ...eventfdMemfdCases,
  ...x86(hugepageCases),
  ...x86(refusalCases),
  ...x86(slotCases),
  ...x86(dirtyLogCases),
  ...x86(dirtyRingCases),
  ...x86(coalescedCases),
  ...x86(fuzzedCases),
  ...x86(fuzzedEmulatorCases),
  ...x86(fuzzedHardwareCases),
  ...x86(clockCases),
  ...x86(deviceAttrCases),
  ...x86(enableCapCases),
  ...x86(guestDebugIoctlCases),
  ...x86(msrFilterCases),
  ...x86(signalMaskCases),
  ...x86(statsCases),
  ...x86(teardownCases),
  ...x86(translateCases),
  ...x86(xsaveCases),
  ...x86(machineCheckCases),
  ...x86(paravirtCases),
  ...x86(pmuFilterCases),
  ...x86(guestMsrCases),
  ...iommufdCases,
  ...x86(teeIoKvmCases),
  ...teeIoIommufdCases,
];

export { vfioCases };

export const cases: readonly Case[] = [...kernelCases, ...vfioCases];
