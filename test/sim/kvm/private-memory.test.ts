import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AnonFile } from '../../../src/sim/file.ts';
import { FrameRanges } from '../../../src/sim/kvm/attributes.ts';
import type { GuestMemfdFile } from '../../../src/sim/kvm/guest-memfd.ts';
import type { Vm, VmFile } from '../../../src/sim/kvm/vm.ts';
import { amdSvm72 } from '../../../src/sim/machines/amd-svm-7.2.ts';
import type { Process } from '../../../src/sim/process.ts';
import type { KvmReference, VfioFile, VfioOperations } from '../../../src/sim/vfio-file.ts';
import { Kit, u } from './kit.ts';

const PRIVATE = u.KVM_MEMORY_ATTRIBUTE_PRIVATE;

describe('attributes by ranges', () => {
  test('any sequence of ranges gives what an array of frames gives', () => {
    const step = fc.record({ start: fc.nat(60), length: fc.integer({ min: 1, max: 20 }), value: fc.constantFrom(0, 8, 1) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const ranges = new FrameRanges();
        const frames = new Array<number>(100).fill(0);
        for (const { start, length, value } of steps) {
          const before = frames.slice(start, start + length).every((frame) => frame === value);
          expect(ranges.all(start, start + length, value)).toBe(before);
          ranges.set(start, start + length, value);
          frames.fill(value, start, start + length);
        }
        expect(frames.map((_, gfn) => ranges.get(gfn))).toEqual(frames);
        const borders = frames.filter((value, gfn) => value !== (frames[gfn - 1] ?? 0)).length;
        expect(ranges.borders).toBe(borders);
      }),
    );
  });

  test('across many chunks, in any order', () => {
    const ranges = new FrameRanges();
    const count = 5000;
    for (let n = 0; n < count; n++) {
      const gfn = ((n * 2654435761) % count) * 3;
      ranges.set(gfn, gfn + 1, 8);
    }
    expect(ranges.borders).toBe(2 * count);
    for (let gfn = 0; gfn < 3 * count; gfn++) expect(ranges.get(gfn)).toBe(gfn % 3 === 0 ? 8 : 0);
    ranges.set(300, 3 * count - 300, 8);
    expect(ranges.borders).toBe(2 * 200);
    ranges.set(0, 3 * count, 0);
    expect([ranges.borders, ranges.all(0, 2 ** 52, 0)]).toEqual([0, true]);
  });

  test('1 TiB and 100 000 alternating pages cost what their ranges cost', () => {
    const ranges = new FrameRanges();
    const time = (body: () => void): number => {
      const started = performance.now();
      body();
      return performance.now() - started;
    };
    expect(Math.min(...[8, 0, 8, 0].map((value) => time(() => ranges.set(0, 2 ** 28, value))))).toBeLessThan(1);
    const alternating = time(() => {
      for (let page = 0; page < 200_000; page += 2) ranges.set(page, page + 1, 8);
    });
    expect(ranges.borders).toBe(200_000);
    expect(alternating).toBeLessThan(5000);
    expect(time(() => ranges.set(0, 2 ** 28, 0))).toBeLessThan(100);
  });
});

/** A VFIO file as the coming issue will have it: it notes what KVM tells it. */
class VfioDouble extends AnonFile implements VfioFile {
  kvm: KvmReference | null = null;
  released = false;
  readonly vfio: VfioOperations;

  constructor(coherent: boolean) {
    super('anon_inode:[vfio-device]', u.O_RDWR);
    this.vfio = {
      enforcedCoherent: () => coherent,
      setKvm: (kvm) => {
        this.kvm = kvm;
      },
    };
  }

  override release(_p: Process): void {
    this.released = true;
  }
}

describe('KVM-VFIO', () => {
  class Scene extends Kit {
    readonly fd: number = this.vm();
    readonly device: number = this.createDevice();
    readonly memory = this.kernel.guestRam(4096);

    constructor() {
      super({ machine: amdSvm72 });
    }

    get inner(): Vm {
      return (this.kernel.process.fds.get(this.fd) as VmFile).vm;
    }

    createDevice(): number {
      const bytes = u.kvm_create_device.encode({ type: u.KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 });
      this.kernel.ioctl(this.fd, u.KVM_CREATE_DEVICE, bytes);
      return u.kvm_create_device.decode(bytes).fd;
    }

    open(file: VfioDouble): number {
      return this.kernel.process.fds.install(file, false);
    }

    file(attr: number, fd: number): number | string {
      this.memory.write32(0, fd);
      const { address } = this.memory;
      const bytes = u.kvm_device_attr.encode({ flags: 0, group: u.KVM_DEV_VFIO_FILE, attr: BigInt(attr), addr: address });
      return this.io(this.device, u.KVM_SET_DEVICE_ATTR, bytes);
    }

    add = (fd: number): number | string => this.file(u.KVM_DEV_VFIO_FILE_ADD, fd);
    del = (fd: number): number | string => this.file(u.KVM_DEV_VFIO_FILE_DEL, fd);
  }

  test('a file is held until it is deleted, a dup is the same one', () => {
    const scene = new Scene();
    const { fds } = scene.kernel.process;
    const file = new VfioDouble(true);
    const fd = scene.open(file);
    expect(scene.del(fd)).toBe('ENOENT');
    expect(scene.add(fd)).toBe(0);
    expect(file.kvm).toBe(scene.inner);
    expect(scene.add(fd)).toBe('EEXIST');
    const twin = fds.dup(fd, false);
    expect(scene.add(twin)).toBe('EEXIST');
    fds.close(fd);
    expect(scene.del(twin)).toBe(0);
    expect([file.kvm, file.released]).toEqual([null, false]);
    expect(scene.add(twin)).toBe(0);
    fds.close(twin);
    expect(file.released).toBe(false);
    scene.kernel.close(scene.device);
    expect([file.kvm, file.released]).toEqual([null, true]);
    scene.kernel.close();
  });

  test('the device keeps the VM, and lets go of it after its files', () => {
    const scene = new Scene();
    const vm = scene.inner;
    const file = new VfioDouble(false);
    scene.add(scene.open(file));
    scene.kernel.close(scene.fd);
    expect(vm.alive).toBe(true);
    scene.kernel.close(scene.device);
    expect([vm.alive, vm.noncoherentDma]).toEqual([false, 0]);
    scene.kernel.close();
  });

  test('WBINVD is executed while a file is not coherent, and only then', () => {
    const scene = new Scene();
    const vm = scene.inner;
    // l: wbinvd; out 0x10,al; jmp l
    const guest = scene.guest([0x0f, 0x09, 0xe6, 0x10, 0xeb, 0xfa], scene.fd);
    const flushes = (): number => {
      expect(guest.step()).toEqual([0, u.KVM_EXIT_IO]);
      return vm.cacheFlushes;
    };
    expect(flushes()).toBe(0);
    const [coherent, bypassing, other] = [true, false, false].map((is) => scene.open(new VfioDouble(is))) as [
      number,
      number,
      number,
    ];
    scene.add(coherent);
    expect([vm.noncoherentDma, flushes()]).toEqual([0, 0]);
    scene.add(bypassing);
    scene.add(other);
    expect([vm.noncoherentDma, flushes(), flushes()]).toEqual([1, 1, 2]);
    scene.del(bypassing);
    expect([vm.noncoherentDma, flushes()]).toEqual([1, 3]);
    scene.del(other);
    expect([vm.noncoherentDma, flushes()]).toEqual([0, 3]);
    scene.kernel.close();
  });

  test('a descriptor that could not be told of is open all the same', () => {
    const kit = new Kit({ machine: amdSvm72 });
    const vm = kit.vm();
    const memory = kit.kernel.mmap({ length: 4096, view: false });
    memory.write(0, u.kvm_create_device.encode({ type: u.KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 }));
    kit.kernel.mprotect(memory, u.PROT_READ);
    const before = [...kit.kernel.process.fds.open()].length;
    expect(kit.io(vm, u.KVM_CREATE_DEVICE, memory.address)).toBe('EFAULT');
    expect([...kit.kernel.process.fds.open()].length).toBe(before + 1);
    kit.kernel.close();
  });
});

describe('a guest_memfd', () => {
  const protectedGuest = () => {
    const kit = new Kit({ machine: amdSvm72 });
    const vm = kit.kernel.ioctl(kit.kvm, u.KVM_CREATE_VM, u.KVM_X86_SW_PROTECTED_VM);
    const memfd = kit.kernel.ioctl(vm, u.KVM_CREATE_GUEST_MEMFD, u.kvm_create_guest_memfd.encode({ size: 0x4000n, flags: 0n }));
    const region = {
      ...{ slot: 1, flags: u.KVM_MEM_GUEST_MEMFD, guest_phys_addr: 0x8000n, memory_size: 0x4000n, userspace_addr: 0n },
      ...{ guest_memfd: memfd, guest_memfd_offset: 0n, pad1: 0, pad2: new Array<bigint>(14).fill(0n) },
    };
    kit.kernel.ioctl(vm, u.KVM_SET_USER_MEMORY_REGION2, u.kvm_userspace_memory_region2.encode(region), { unsafe: true });
    const attributes = { address: 0x8000n, size: 0x4000n, attributes: PRIVATE, flags: 0n };
    kit.kernel.ioctl(vm, u.KVM_SET_MEMORY_ATTRIBUTES, u.kvm_memory_attributes.encode(attributes));
    // mov al,[0x8000]; out 0x10,al; hlt
    const guest = kit.guest([0xa0, 0x00, 0x80, 0xe6, 0x10, 0xf4], vm);
    return { kit, vm, memfd, guest, file: kit.kernel.process.fds.get(memfd) as GuestMemfdFile };
  };

  test('a memory error is EHWPOISON with a memory fault, until a hole is punched', () => {
    const { kit, memfd, guest, file } = protectedGuest();
    file.inode.poison(0);
    expect(guest.step()).toEqual(['EHWPOISON', u.KVM_EXIT_MEMORY_FAULT]);
    const range = u.kvm_pre_fault_memory.encode({ gpa: 0x8000n, size: 0x1000n, flags: 0n });
    expect(kit.io(guest.vcpu, u.KVM_PRE_FAULT_MEMORY, range)).toBe('EHWPOISON');
    kit.kernel.fallocate(memfd, u.FALLOC_FL_PUNCH_HOLE | u.FALLOC_FL_KEEP_SIZE, 0, 0x1000);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_IO]);
    kit.kernel.close();
  });

  test('it keeps its VM; a slot keeps nothing', () => {
    const { kit, vm, memfd, guest, file } = protectedGuest();
    const inner = file.vm;
    kit.kernel.close(vm);
    kit.kernel.close(guest.vcpu);
    guest.run.close();
    expect(inner.alive).toBe(true);
    kit.kernel.close(memfd);
    expect(inner.alive).toBe(false);
    kit.kernel.close();
  });

  test('10 000 of them leave nothing behind', () => {
    const kit = new Kit({ machine: amdSvm72 });
    const vm = kit.vm();
    const bytes = u.kvm_create_guest_memfd.encode({ size: 1n << 40n, flags: 3n });
    const inner = (kit.kernel.process.fds.get(vm) as VmFile).vm;
    for (let n = 0; n < 10_000; n++) kit.kernel.close(kit.kernel.ioctl(vm, u.KVM_CREATE_GUEST_MEMFD, bytes));
    kit.kernel.close(vm);
    expect(inner.alive).toBe(false);
    kit.kernel.close();
  });
});
