/** The fidelity table's data, by area. */
import type { Checks } from './check.ts';
import { fileChecks } from './files.ts';
import { iommufdChecks } from './iommufd.ts';
import { iommufdCompatChecks } from './iommufd-compat.ts';
import { iommufdHwptChecks } from './iommufd-hwpt.ts';
import { irqChecks } from './irq.ts';
import { lapicChecks } from './lapic.ts';
import { memoryChecks } from './memory.ts';
import { privateMemoryChecks } from './private-memory.ts';
import { slotChecks } from './slots.ts';
import { stateChecks } from './state.ts';
import { systemChecks } from './system.ts';
import { teeIoChecks } from './tee-io.ts';
import { notItsOwn, vcpuChecks } from './vcpu.ts';
import { vfioContainerChecks, vfioGroupChecks } from './vfio.ts';
import { vfioDeviceChecks } from './vfio-device.ts';
import { vmChecks } from './vm.ts';

export const areas: Readonly<Record<string, Checks>> = {
  'System descriptor': systemChecks,
  'VM descriptor': vmChecks,
  'Tracked and coalesced memory': memoryChecks,
  'vCPU descriptor': vcpuChecks,
  'Further state': stateChecks,
  'Local APIC': lapicChecks,
  'Interrupt controllers': irqChecks,
  'All descriptors': notItsOwn,
  'Private memory and devices': privateMemoryChecks,
  'File operations': fileChecks,
  'VFIO containers': vfioContainerChecks,
  'VFIO groups': vfioGroupChecks,
  'VFIO devices': vfioDeviceChecks,
  '/sys/bus/pci: what goes': slotChecks,
  'iommufd: address spaces': iommufdChecks,
  'iommufd: page tables, events, vIOMMUs': iommufdHwptChecks,
  'iommufd: VFIO’s requests, and the test interface': iommufdCompatChecks,
  'Numbers of series, where they are off': teeIoChecks,
};
