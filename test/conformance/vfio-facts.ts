/** What was seen on a real kernel (Linux 7.2) of VFIO when a driver, a device or a slot goes, fact by fact, and the case that sees it again. See traps.ts. */
import type { Trap } from './traps.ts';

export const vfioFacts: readonly Trap[] = [
  // Software takes the driver, or the device, away
  ['who writes unbind, or remove, waits for the user', 'vfio/removal/in-use', 'vfio/removal/unasked', 'vfio/removal/during-dma'],
  ['so does who removes a mediated device', 'vfio/mtty/removal'],
  ['at once the node is gone, GET_DEVICE_FD is ENODEV, and REQ is signalled', 'vfio/removal/in-use'],
  ['REQ is signalled again after ten seconds', 'vfio/removal/asked-again'],
  [
    'the descriptors that are there go on: configuration, BAR, transfers, interrupts, MAP_DMA',
    'vfio/removal/in-use',
    'vfio/removal/during-dma',
    'vfio/removal/during-set-irqs',
  ],
  [
    'a cdev that is open and bound to nothing is waited for; BIND of it is EAGAIN where the device has a reset, and works where it has none',
    'vfio/removal/open-cdev',
    'vfio/removal/bind-too-late of nvme',
    'vfio/removal/bind-too-late of edu',
  ],
  ['a group, a container and an iommufd are not waited for', 'vfio/removal/open-group', 'vfio/removal/unasked'],
  ['the last descriptor of the device and the last mapping end the wait', 'vfio/removal/in-use'],
  ['a dma-buf is not waited for, is ENODEV, and does not come back with the device', 'vfio/removal/dma-buf-left'],
  ['a group that is left open is ENODEV to all, UNSET_CONTAINER EINVAL', 'vfio/removal/in-use', 'vfio/removal/open-group'],
  ['a device that is bound again has the lowest free number', 'vfio/removal/in-use'],
  ['who reads an interrupt’s eventfd is not woken', 'vfio/removal/during-a-wait'],
  // The device is pulled out, and the kernel told
  [
    'REQ is signalled, ERR is not',
    'vfio/surprise/e1000e',
    'vfio/surprise/nvme',
    'vfio/surprise/edu',
    'vfio/surprise/during-reads',
  ],
  [
    'it stays in /sys without a driver, without its node, in D0, until its user goes',
    'vfio/surprise/e1000e',
    'vfio/surprise/edu',
    'vfio/surprise/by-node',
  ],
  [
    'no access of a BAR fails, by descriptor or mapping, old or new, and nobody answers',
    'vfio/surprise/e1000e',
    'vfio/surprise/nvme',
  ],
  [
    'what VFIO keeps of configuration space is as it was: ids, BARs and their sizes, the chain of capabilities; the rest is ones',
    'vfio/surprise/e1000e',
    'vfio/surprise/nvme',
    'vfio/surprise/edu',
  ],
  ['GET_IRQ_INFO has 128 vectors of MSI and 2048 of MSI-X', 'vfio/surprise/e1000e', 'vfio/surprise/nvme'],
  ['MSI can be set up, MSI-X is ENOMEM', 'vfio/surprise/e1000e', 'vfio/surprise/nvme'],
  ['INTx that was masked is signalled when it is unmasked', 'vfio/surprise/edu'],
  ['resets are EAGAIN while the user is waited for', 'vfio/surprise/e1000e', 'vfio/surprise/untold-flr'],
  ['no transfer ends and none begins, and MAP_DMA and UNMAP_DMA are as ever', 'vfio/surprise/during-dma', 'vfio/surprise/e1000e'],
  ['an iommufd goes on with it: GET_HW_INFO, HWPT_ALLOC, ATTACH, DETACH, dma-bufs, old and new', 'vfio/surprise/by-node'],
  [
    'BIND of another descriptor is EINVAL where one is bound, EAGAIN where none is and the device has a reset',
    'vfio/surprise/by-node',
    'vfio/surprise/unbound-node',
  ],
  ['rescan waits as long', 'vfio/surprise/others-wait'],
  ['KVM-VFIO, which holds its file, is waited for; a guest’s slot of its BAR reads as nobody’s', 'vfio/surprise/of-a-guest'],
  ['bound and not open it goes at once, with its nodes', 'vfio/surprise/unopened'],
  [
    'after the last close device, nodes and group are gone; container and iommufd take another device',
    'vfio/surprise/e1000e',
    'vfio/surprise/by-node',
  ],
  // Nobody has told the kernel
  ['its driver and its node stay, and nobody is asked to go', 'vfio/surprise/untold-e1000e', 'vfio/surprise/untold-edu'],
  [
    'a reset is ENOTTY, after the wait: of PM, of the bus, by a function level reset',
    'vfio/surprise/untold-resets of e1000e',
    'vfio/surprise/untold-flr',
  ],
  ['the reset of a bus succeeds where nothing behind it has power management', 'vfio/surprise/untold-resets of edu'],
  [
    'opened again it is taken to be in D3cold where it has power management, and its BARs are EIO',
    'vfio/surprise/untold-resets of e1000e',
  ],
  ['once told, it is as if it had been told at once', 'vfio/surprise/untold-e1000e', 'vfio/surprise/untold-flr'],
  // A slot is turned off
  ['its files: no latch and no test, since the port has neither', 'vfio/slots/files'],
  [
    'power and attention take the number a text begins with, and its low eight bits',
    'vfio/slots/attention',
    'vfio/slots/off',
    'vfio/slots/off-by-text',
  ],
  ['off: the device goes, the port turns its power off, the slot has no card', 'vfio/slots/off'],
  ['off of what is off, and on of what is on or empty, is ENODEV', 'vfio/slots/off'],
  [
    'who turns it off waits for who has the device, who is asked to go and has all of it meanwhile',
    'vfio/slots/off-in-use',
    'vfio/slots/off-in-use of nvme',
  ],
  ['off where the power is off already is EINVAL, and the device stays in the list', 'vfio/slots/off-untold'],
];
