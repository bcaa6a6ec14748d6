/** The group's ioctls: each check, in order, and who may have the group while. */
import type { Kernel } from 'kvio';
import {
  VFIO_CHECK_EXTENSION,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_SET_IOMMU,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1v2_IOMMU,
} from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { UNSAFE } from '../../machine.ts';
import {
  ASSISTED,
  cdevOf,
  getDevice,
  groupOf,
  groupPath,
  NOWHERE,
  openDevice,
  openGroup,
  s32,
  setContainer,
  status,
  u32s,
  withDevices,
} from '../../vfio.ts';

function getStatus(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const group = kernel.open(groupPath(kernel, edu!));
  const ask = (label: string, arg: Uint8Array | number | bigint): void => {
    see.call(`GET_STATUS, ${label}`, () => kernel.ioctl(group, VFIO_GROUP_GET_STATUS, arg, UNSAFE));
    if (arg instanceof Uint8Array) see.note(`left behind, ${label}`, arg);
  };
  ask('pointer 0', 0);
  ask('a pointer to nowhere', NOWHERE);
  ask('argsz 0', u32s(0, 0xffffffff));
  ask('argsz 7', u32s(7, 0xffffffff));
  ask('argsz 8', u32s(8, 0xffffffff));
  ask('argsz 100', u32s(100, 0xffffffff, 0x12345678));
  ask('argsz 0xffffffff', u32s(0xffffffff, 0));
  see.call('an unknown ioctl', () => kernel.ioctl(group, 0x3bff, 0, UNSAFE));
  see.call('a container’s ioctl', () => kernel.ioctl(group, VFIO_CHECK_EXTENSION, 1, UNSAFE));
}

function setAndUnset(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const group = kernel.open(groupPath(kernel, edu!));
  const set = (label: string, arg: Uint8Array | number | bigint): unknown =>
    see.call(`SET_CONTAINER, ${label}`, () => kernel.ioctl(group, VFIO_GROUP_SET_CONTAINER, arg, UNSAFE));
  see.call('UNSET_CONTAINER without one', () => kernel.ioctl(group, VFIO_GROUP_UNSET_CONTAINER));
  set('pointer 0', 0);
  set('a pointer to nowhere', NOWHERE);
  set('a number nobody has', s32(999));
  set('a negative number', s32(-1));
  set('an eventfd', s32(kernel.eventfd()));
  set('a memfd', s32(kernel.memfd('x')));
  set('the group itself', s32(group));
  const container = kernel.open('/dev/vfio/vfio');
  set('a container', s32(container));
  see.note('GET_STATUS', status(kernel, group));
  set('again', s32(container));
  set('again, a number nobody has', s32(999));
  set('again, an eventfd', s32(kernel.eventfd()));
  set('another', s32(kernel.open('/dev/vfio/vfio')));
  see.call('UNSET_CONTAINER', () => kernel.ioctl(group, VFIO_GROUP_UNSET_CONTAINER));
  see.note('GET_STATUS, without', status(kernel, group));
  see.call('UNSET_CONTAINER again', () => kernel.ioctl(group, VFIO_GROUP_UNSET_CONTAINER));
}

function deviceOrder(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const group = kernel.open(groupPath(kernel, edu!));
  const get = (when: string): void => {
    const ask = (label: string, arg: string | number | bigint): void =>
      void see.descriptor(`${when}: GET_DEVICE_FD, ${label}`, () =>
        kernel.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, typeof arg === 'string' ? Buffer.from(`${arg}\0`) : arg, UNSAFE),
      );
    ask('pointer 0', 0);
    ask('a pointer to nowhere', NOWHERE);
    ask('no name', '');
    ask('a name of 4095', 'x'.repeat(4095));
    ask('a name of 4096', 'x'.repeat(4096));
    ask('a name of 5000', 'x'.repeat(5000));
    ask('another device', '0000:ff:00.0');
    ask('without the segment', edu!.slice(5));
    ask('a part of the name', edu!.slice(0, -1));
    ask('more than the name', `${edu}0`);
    ask('a tabulator behind it', `${edu}\t`);
    ask('a space before it', ` ${edu}`);
    ask('a space behind it', `${edu} `);
    ask('two spaces behind it', `${edu}  `);
    ask('an option nobody knows', `${edu} x=1`);
    ask('a token that is no UUID', `${edu} vf_token=1`);
    ask('an empty token', `${edu} vf_token=`);
    ask('a token', `${edu} vf_token=00112233-4455-6677-8899-aabbccddeeff`);
    ask('a token and more', `${edu} vf_token=00112233-4455-6677-8899-aabbccddeeff0`);
    ask('two tokens', `${edu} vf_token=00112233-4455-6677-8899-aabbccddeeff vf_token=00112233-4455-6677-8899-aabbccddeeff`);
    ask('the name', edu!);
  };
  get('no container');
  const container = kernel.open('/dev/vfio/vfio');
  setContainer(kernel, group, container);
  get('no IOMMU');
  const type = groupPath(kernel, edu!).includes('noiommu') ? 8 : VFIO_TYPE1v2_IOMMU;
  kernel.ioctl(container, VFIO_SET_IOMMU, type);
  get('ready');
}

/** With no descriptor left: the name is looked up before one is taken, the container after. */
function noDescriptor(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const group = kernel.open(groupPath(kernel, edu!));
  const container = kernel.open('/dev/vfio/vfio');
  const fill = (): void => {
    for (let left = 2000; left > 0; left--) {
      try {
        kernel.dup(container);
      } catch {
        return;
      }
    }
  };
  fill();
  see.call('a wrong name, no container', () => getDevice(kernel, group, '0000:ff:00.0'));
  see.call('the name, no container', () => getDevice(kernel, group, edu!));
  see.call('SET_CONTAINER', () => setContainer(kernel, group, container));
  see.call('the name, no IOMMU', () => getDevice(kernel, group, edu!));
  kernel.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
  see.call('the name', () => getDevice(kernel, group, edu!));
}

function unsetInUse(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container, group, device } = openDevice(kernel, edu!);
  const unset = (label: string): void =>
    void see.call(`UNSET_CONTAINER, ${label}`, () => kernel.ioctl(group, VFIO_GROUP_UNSET_CONTAINER));
  unset('the device open');
  const other = see.descriptor('the device again', () => getDevice(kernel, group, edu!));
  kernel.close(device);
  unset('one of two open');
  const bar = kernel.mmap({ fd: other, length: 4096, view: false });
  kernel.close(other);
  unset('a BAR mapped');
  see.note('the mapping works', bar.read32(0));
  bar.close();
  unset('nothing');
  see.call('SET_IOMMU without a group', () => kernel.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU));
}

/** A cdev is in the way of nothing until it is bound to an iommufd. */
function exclusive(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const path = groupPath(kernel, edu!);
  const device = kernel.open(cdevOf(kernel, edu!));
  see.descriptor('the group, with a cdev open', () => kernel.open(path));
  kernel.close(device);
  see.call('the group again', () => kernel.open(path));
}

/** Two devices, one group: both are had by its one descriptor, by name. */
function shared(kernel: Kernel, see: Observer, [edu, testdev]: string[]): void {
  see.note('one group', groupOf(kernel, edu!) === groupOf(kernel, testdev!));
  const { group } = openGroup(kernel, edu!);
  see.descriptor('the first', () => getDevice(kernel, group, edu!));
  see.descriptor('the second', () => getDevice(kernel, group, testdev!));
  see.call('the group by the other’s name', () => kernel.open(groupPath(kernel, testdev!)));
  see.note('GET_STATUS', status(kernel, group));
}

/** A sibling without a driver is in nobody’s way. */
function viable(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const group = kernel.open(groupPath(kernel, edu!));
  see.note('GET_STATUS', status(kernel, group));
  const container = kernel.open('/dev/vfio/vfio');
  see.call('SET_CONTAINER', () => setContainer(kernel, group, container));
  see.call('SET_IOMMU', () => kernel.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
  see.descriptor('GET_DEVICE_FD', () => getDevice(kernel, group, edu!));
  see.call('GET_DEVICE_FD of the sibling', () => getDevice(kernel, group, edu!.replace(/0$/, '1')));
}

export const groupCases: readonly Case[] = [
  withDevices('vfio/group/get-status', 'Group', ['edu'], getStatus),
  withDevices('vfio/group/set-container', 'Group', ['edu'], setAndUnset),
  withDevices('vfio/group/get-device', 'Group', ['edu'], deviceOrder),
  withDevices('vfio/group/get-device-emfile', 'Group', ['edu'], noDescriptor, { needs: { nofile: 1024, iommu: true } }),
  withDevices('vfio/group/unset-in-use', 'Group', ['edu'], unsetInUse, ASSISTED),
  withDevices('vfio/group/beside-a-cdev', 'Group', ['edu'], exclusive, ASSISTED),
  withDevices('vfio/group/two-devices', 'Group', ['shared edu', 'shared testdev'], shared, ASSISTED),
  withDevices('vfio/group/unbound-sibling', 'Group', ['slot edu'], viable, ASSISTED),
];
