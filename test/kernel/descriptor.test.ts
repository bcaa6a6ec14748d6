// What is a descriptor by its number is one by its object too, everywhere; a closed object, and one of another machine, is told as such before any kernel sees it.
import { bindDriver, Eventfd, Kvm, pciDevice, VfioContainer, VfioGroup } from 'kvio';
import { openSim } from 'kvio/sim';
import { KVM_DEV_TYPE_VFIO } from 'kvio/uapi';
import { describe, expect, it } from 'vitest';
import { thrown } from '../vfio/fake.ts';

const BDF = '0000:00:02.0';

describe('a descriptor that is an object', () => {
  it('is taken by KVM’s methods as by VFIO’s', () => {
    using kernel = openSim({ machine: 'lab-vtd-7.2' });
    using _bound = bindDriver(kernel, BDF, 'vfio-pci');
    using vm = Kvm.open(kernel).createVm();
    vm.createIrqchip();
    using eventfd = Eventfd.create(kernel);
    using resampled = Eventfd.create(kernel);
    vm.irqfd({ fd: eventfd, gsi: 5, resamplefd: resampled });
    expect(thrown(() => vm.irqfd({ fd: eventfd.fd, gsi: 6 }))).toMatchObject({ code: 'EBUSY' });
    vm.ioeventfd({ fd: eventfd, addr: 0x1000n, len: 4 });
    expect(thrown(() => vm.ioeventfd({ fd: eventfd.fd, addr: 0x1000n, len: 4 }))).toMatchObject({ code: 'EEXIST' });
    using kvmVfio = vm.createDevice(KVM_DEV_TYPE_VFIO);
    using group = VfioGroup.open(kernel, pciDevice(kernel, BDF).vfio_group!);
    kvmVfio.addFile(group);
    expect(thrown(() => kvmVfio.addFile(group.fd))).toMatchObject({ code: 'EEXIST' });
    kvmVfio.delFile(group);
  });

  it('that is closed is EBADF, and names the parameter', () => {
    using kernel = openSim({ machine: 'lab-vtd-7.2' });
    using vm = Kvm.open(kernel).createVm();
    vm.createIrqchip();
    const eventfd = Eventfd.create(kernel);
    eventfd.close();
    const kvmVfio = vm.createDevice(KVM_DEV_TYPE_VFIO);
    for (const call of [
      () => vm.irqfd({ fd: eventfd, gsi: 5 }),
      () => vm.ioeventfd({ fd: eventfd, addr: 0n, len: 4 }),
      () => kvmVfio.addFile(eventfd),
    ])
      expect(thrown(call)).toMatchObject({ code: 'EBADF', note: 'fd: this Eventfd is closed' });
  });

  it('of another simulated machine is a RangeError: its number means something else here', () => {
    using kernel = openSim({ machine: 'lab-vtd-7.2' });
    using other = kernel.newProcess();
    using _bound = bindDriver(kernel, BDF, 'vfio-pci');
    using group = VfioGroup.open(kernel, pciDevice(kernel, BDF).vfio_group!);
    const error = thrown(() => group.setContainer(VfioContainer.open(other)));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toMatch(/^container: this VfioContainer belongs to another kernel/);
  });

  it('is detached with its number, once', () => {
    using kernel = openSim();
    const eventfd = Eventfd.create(kernel);
    const fd = eventfd.detach();
    expect([eventfd.closed, kernel.owns(fd)]).toEqual([true, false]);
    expect(thrown(() => eventfd.detach())).toMatchObject({ code: 'EBADF', note: 'this Eventfd is closed' });
    using again = Eventfd.fromFd(kernel, fd);
    again.signal(3);
    expect(again.take()).toBe(3n);
  });
});
