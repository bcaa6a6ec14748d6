/** Cases of PCI devices and VFIO, in the order in which the interface is explained. */
import type { Case } from '../../case.ts';
import { bindCases } from '../pci/bind.ts';
import { sysfsCases } from '../pci/sysfs.ts';
import { teeIoVfioCases } from '../tee-io/vfio.ts';
import { assignedCases } from './assigned.ts';
import { bindingCases } from './binding.ts';
import { cdevCases } from './cdev.ts';
import { configCases } from './config.ts';
import { containerCases } from './container.ts';
import { deviceInfoCases } from './device-info.ts';
import { featureCases } from './features.ts';
import { groupCases } from './group.ts';
import { hugepageCases } from './hugepages.ts';
import { ioeventfdCases } from './ioeventfds.ts';
import { iommufdDeviceCases } from './iommufd.ts';
import { irqMessageCases } from './irq-messages.ts';
import { irqCases } from './irqs.ts';
import { kvmBarCases } from './kvm-bar.ts';
import { kvmVfioCases } from './kvm-vfio.ts';
import { lifetimeCases } from './lifetimes.ts';
import { msiVectorCases } from './msi-vectors.ts';
import { mttyCases } from './mtty.ts';
import { nodeCases } from './nodes.ts';
import { objectCases } from './objects.ts';
import { regionCases } from './regions.ts';
import { removalCases } from './removal.ts';
import { busyRemovalCases } from './removal-busy.ts';
import { resetCases } from './reset.ts';
import { slotCases } from './slots.ts';
import { smmuv3Cases } from './smmuv3.ts';
import { surpriseCases } from './surprise.ts';
import { busySurpriseCases } from './surprise-busy.ts';
import { nodeSurpriseCases } from './surprise-node.ts';
import { teardownCases } from './teardown.ts';
import { dirtyCases } from './type1-dirty.ts';
import { mapCases } from './type1-map.ts';
import { unmapCases } from './type1-unmap.ts';

export const vfioCases: readonly Case[] = [
  ...sysfsCases,
  ...bindCases,
  ...nodeCases,
  ...bindingCases,
  ...containerCases,
  ...mapCases,
  ...unmapCases,
  ...dirtyCases,
  ...hugepageCases,
  ...groupCases,
  ...deviceInfoCases,
  ...irqCases,
  ...irqMessageCases,
  ...msiVectorCases,
  ...regionCases,
  ...configCases,
  ...resetCases,
  ...ioeventfdCases,
  ...featureCases,
  ...lifetimeCases,
  ...teardownCases,
  ...removalCases,
  ...busyRemovalCases,
  ...slotCases,
  ...surpriseCases,
  ...busySurpriseCases,
  ...nodeSurpriseCases,
  ...cdevCases,
  ...iommufdDeviceCases,
  ...smmuv3Cases,
  ...mttyCases,
  ...assignedCases,
  ...kvmVfioCases,
  ...kvmBarCases,
  ...objectCases,
  ...teeIoVfioCases,
];
