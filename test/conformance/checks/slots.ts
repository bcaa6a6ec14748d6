/** What is written to the files of a slot that pciehp drives, and to those by which a driver or a device is taken away. */
import type { Checks } from './check.ts';

const off = 'vfio/slots/off';
const attention = 'vfio/slots/attention';
const untold = 'vfio/surprise/untold-resets of e1000e';

export const slotChecks: Checks = {
  'slots/N/power': [
    ['EINVAL', 'neither 0 nor 1', off, '"2", it is on'],
    ['ENODEV', '0 where it is off', off, '"0", it is off'],
    ['ENODEV', '1 where it is on', off, '"1", it is on'],
    ['ENODEV', '1 where there is no card', off, '"1", it is off'],
    ['ENODEV', '0 or 1 while its devices are removed', 'vfio/slots/off-in-use', '"0", meanwhile'],
    ['EINVAL', '0 where somebody else has turned the power off; the device stays in the list', 'vfio/slots/off-untold', 'off'],
    ['1', '0: once nobody has the device, and it has gone', 'vfio/slots/off-in-use', 'unmapped: who writes'],
    ['2', 'text that is no number is 0', 'vfio/slots/off-by-text', '"-1"'],
  ],
  'slots/N/attention': [
    ['1', 'on, off, blinking', attention, '"1" written'],
    ['3', 'of the number the low eight bits, of these two', attention, '"257" written'],
    ['1', 'text that is no number is 0', attention, '"x" written'],
  ],
  'slots/N/adapter': [['EACCES', 'to write', 'vfio/slots/files', 'adapter: opened to write']],
  'devices/…/reset': [
    ['ENOTTY', 'no method works: nobody answers after it', untold, 'sysfs reset'],
    ['1', 'a bus is reset though nobody is there', 'vfio/surprise/untold-resets of edu', 'sysfs reset'],
  ],
  'drivers/…/unbind, devices/…/remove': [
    ['12', 'once nobody has the device', 'vfio/removal/in-use', 'unmapped: unbind'],
    ['1', 'the same of remove', 'vfio/removal/during-dma', 'remove'],
  ],
  rescan: [['1', 'once nobody has a device that was pulled out', 'vfio/surprise/others-wait', 'the device closed: rescan']],
};
