/** What holds a VM: its descriptor, those of its vCPU, its device and its memory, statistics, and what is mapped of it. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import { NotHere, result } from '../case.ts';
import { addRam, getRegs, mapRun, openKvm, PAGE, setRegion, setRegs, setSregs } from '../machine.ts';
import { guestMemfd, setGmem } from '../private.ts';
import { answered, Descriptor, type Made, type Scene } from './scene.ts';

const THINGS = ['VM', 'vCPU', 'run page', 'memory', 'VM statistics', 'vCPU statistics', 'device', 'guest_memfd'] as const;

const CODE = 0x1000n;
const GMEM = 0x10_0000n;
const HLT = 0xf4;

function make(kernel: Kernel): Made<(typeof THINGS)[number]> {
  const kvm = openKvm(kernel);
  const types = kernel.ioctl(kvm, u.KVM_CHECK_EXTENSION, u.KVM_CAP_VM_TYPES);
  const type = (types >> u.KVM_X86_SW_PROTECTED_VM) & 1 ? u.KVM_X86_SW_PROTECTED_VM : 0;
  const vm = kernel.ioctl(kvm, u.KVM_CREATE_VM, type);
  kernel.close(kvm);
  // 6.12 names it without a VM, and has none of a type that takes it unless built for it.
  if (kernel.ioctl(vm, u.KVM_CHECK_EXTENSION, u.KVM_CAP_GUEST_MEMFD) === 0) throw new NotHere('no VM here takes a guest_memfd');
  const ram = addRam(kernel, vm, 0, CODE, 0x1000);
  ram.write8(0, HLT);
  const gmem = guestMemfd(kernel, vm, 2n * PAGE);
  const slot = { slot: 1, gpa: GMEM, size: 2n * PAGE, memfd: gmem, hva: ram.address };
  setGmem(kernel, vm, slot);
  const vcpu = kernel.ioctl(vm, u.KVM_CREATE_VCPU, 0);
  setSregs(kernel, vcpu, ({ cs }) => Object.assign(cs, { base: 0n, selector: 0 }));
  const run = mapRun(kernel, vcpu);
  const device = u.kvm_create_device.encode({ type: u.KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 });
  kernel.ioctl(vm, u.KVM_CREATE_DEVICE, device);
  const attr = { flags: 0, group: u.KVM_DEV_VFIO_FILE, attr: BigInt(u.KVM_DEV_VFIO_FILE_ADD), addr: 0n };
  /** The header's size: how many statistics there are depends on how a kernel was built. */
  const statistics = (of: number): Descriptor =>
    new Descriptor(kernel, kernel.ioctl(of, u.KVM_GET_STATS_FD), (fd) =>
      kernel.read(fd, new Uint8Array(u.kvm_stats_header.size)),
    );
  const elsewhere = { slot: 5, guest_phys_addr: CODE, memory_size: PAGE, userspace_addr: ram.address };
  return {
    things: {
      // EEXIST both times: slot 0 is there, and so is the vCPU.
      VM: new Descriptor(kernel, vm, (fd) => [
        answered(() => setRegion(kernel, fd, elsewhere)),
        answered(() => kernel.ioctl(fd, u.KVM_CREATE_VCPU, 0)),
      ]),
      vCPU: new Descriptor(kernel, vcpu, (fd) => {
        setRegs(kernel, fd, { rip: CODE, rflags: 2n });
        return [result(kernel.run(fd)), getRegs(kernel, fd).rip];
      }),
      'run page': { use: () => run.read32(u.kvm_run.offsetOf('exit_reason')), close: () => run.close() },
      memory: { use: () => ram.read8(0), close: () => ram.close() },
      'VM statistics': statistics(vm),
      'vCPU statistics': statistics(vcpu),
      device: new Descriptor(kernel, u.kvm_create_device.decode(device).fd, (fd) =>
        kernel.ioctl(fd, u.KVM_HAS_DEVICE_ATTR, u.kvm_device_attr.encode(attr)),
      ),
      guest_memfd: new Descriptor(kernel, gmem, (fd) => kernel.fallocate(fd, u.FALLOC_FL_KEEP_SIZE, 0, PAGE)),
    },
  };
}

export const kvmVm: Scene<(typeof THINGS)[number]> = {
  name: 'kvm-vm',
  section: 'Lifetimes',
  needs: { arch: 'x64', devices: ['/dev/kvm'], capability: u.KVM_CAP_GUEST_MEMFD },
  things: THINGS,
  make,
};
