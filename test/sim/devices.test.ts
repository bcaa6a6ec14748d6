/** The machine's device nodes follow its release. */
import { expect, test } from 'vitest';
import { deviceNodes } from '../../src/sim/machine.ts';
import { machineOf, profiles } from '../../src/sim/profiles.ts';

test('a node that is younger than the kernel is not there, whatever the description says', () => {
  const modern = machineOf('amd-svm-7.2');
  expect(deviceNodes(modern)).toEqual(['/dev/kvm', '/dev/vfio/vfio', '/dev/iommu']);
  expect(deviceNodes({ ...modern, release: '6.2.0' })).toContain('/dev/iommu');
  expect(deviceNodes({ ...modern, release: '6.1.0' })).toEqual(['/dev/kvm', '/dev/vfio/vfio']);
  const cdev = { ...modern, devices: { '/dev/vfio/devices/vfio0': true, '/dev/kvm': false } };
  expect(deviceNodes({ ...cdev, release: '6.6' })).toEqual(['/dev/vfio/devices/vfio0']);
  expect(deviceNodes({ ...cdev, release: '6.5' })).toEqual([]);
});

test('the machines of 6.1 and 6.12 have no /dev/iommu', () => {
  for (const name of ['amd-svm-6.1', 'amd-svm-6.12'])
    expect(deviceNodes(profiles[name]!)).toEqual(['/dev/kvm', '/dev/vfio/vfio']);
});
