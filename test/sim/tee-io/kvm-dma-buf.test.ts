// KVM_MEM_VFIO_DMABUF: the checks in their order, faults, conversion in place, who holds what.
import { describe, expect, test } from 'vitest';
import { EIO, EPERM } from '../../../src/uapi/sys.ts';
import { DmaBufDouble, KVM_MEM_VFIO_DMABUF, MMIO, PRIVATE, TeeKit, u } from './kvm-kit.ts';

const BITS = { gmem: u.KVM_MEM_GUEST_MEMFD, log: u.KVM_MEM_LOG_DIRTY_PAGES, readonly: u.KVM_MEM_READONLY };

describe('KVM_MEM_VFIO_DMABUF', () => {
  test('is a flag of VMs with private memory, alone, where the machine has the series', () => {
    const kit = new TeeKit();
    const vm = kit.vm();
    const dmaBuf = new DmaBufDouble(kit);
    for (const other of Object.values(BITS))
      expect(kit.mmioSlot(vm, dmaBuf, { flags: KVM_MEM_VFIO_DMABUF | other })).toBe('EINVAL');
    expect(kit.mmioSlot(kit.vm(u.KVM_X86_DEFAULT_VM), dmaBuf)).toBe('EINVAL');
    expect(kit.mmioSlot(vm, dmaBuf, { flags: KVM_MEM_VFIO_DMABUF | 16 })).toBe('EINVAL');
    expect(kit.mmioSlot(vm, dmaBuf)).toBe(0);
    const mainline = new TeeKit('off');
    expect(mainline.mmioSlot(mainline.vm(), new DmaBufDouble(mainline))).toBe('EINVAL');
  });

  test('checks in order: the region, overlap, offset, descriptor, kind, size, the exporter', () => {
    const kit = new TeeKit();
    const vm = kit.vm();
    const dmaBuf = new DmaBufDouble(kit);
    kit.region2(vm, { slot: 5, guest_phys_addr: MMIO + 0x3000n, memory_size: 0x1000n });
    const wrong = { userspace_addr: 1n, guest_memfd_offset: 1n, guest_memfd: 999, memory_size: 0x3000n };
    const answers: (number | string)[] = [];
    answers.push(kit.mmioSlot(vm, dmaBuf, { ...wrong, memory_size: 0x4000n }));
    answers.push(kit.mmioSlot(vm, dmaBuf, { ...wrong, userspace_addr: 0n, memory_size: 0x4000n }));
    answers.push(kit.mmioSlot(vm, dmaBuf, { ...wrong, userspace_addr: 0n }));
    answers.push(kit.mmioSlot(vm, dmaBuf, { guest_memfd: 999, memory_size: 0x3000n }));
    answers.push(kit.mmioSlot(vm, dmaBuf, { guest_memfd: kit.kernel.memfd('x', 0), memory_size: 0x3000n }));
    answers.push(kit.mmioSlot(vm, dmaBuf, { memory_size: 0x3000n }));
    dmaBuf.attachError = -EPERM;
    answers.push(kit.mmioSlot(vm, dmaBuf, { guest_phys_addr: 0n }));
    expect(answers).toEqual(['EINVAL', 'EEXIST', 'EINVAL', 'EBADF', 'EINVAL', 'EINVAL', 'EPERM']);
    expect(dmaBuf.file.references).toBe(1);
    dmaBuf.attachError = 0;
    expect(kit.mmioSlot(vm, dmaBuf, { guest_phys_addr: 1n << 52n })).toBe('EINVAL');
    expect([dmaBuf.file.references, dmaBuf.file.attachments.size]).toEqual([1, 0]);
  });

  test('needs an exporter that says where each page is', () => {
    const kit = new TeeKit();
    const dmaBuf = new DmaBufDouble(kit);
    Object.assign(dmaBuf, { place: undefined });
    expect(kit.mmioSlot(kit.vm(), dmaBuf)).toBe('EINVAL');
    expect(dmaBuf.file.references).toBe(1);
  });

  test('whose dma-buf it may be: dmabufOwner', () => {
    const table = ['s0', 'xj', 'xm'] as const;
    const answers = table.map((dmabufOwner) => {
      const kit = new TeeKit({ dmabufOwner });
      const vm = kit.vm();
      const cases = [
        { kvm: null, isPrivate: true },
        { kvm: kit.vmOf(vm), isPrivate: false },
        { kvm: kit.vmOf(vm), isPrivate: true },
      ];
      return cases.map((assigned, slot) => {
        const dmaBuf = new DmaBufDouble(kit);
        Object.assign(dmaBuf.assigned, assigned);
        return kit.mmioSlot(vm, dmaBuf, { slot, guest_phys_addr: BigInt(slot) << 32n });
      });
    });
    expect(answers).toEqual([
      [0, 0, 0],
      ['EINVAL', 'EINVAL', 0],
      ['EINVAL', 0, 0],
    ]);
  });

  test('a slot can only be deleted', () => {
    const kit = new TeeKit();
    const vm = kit.vm();
    const dmaBuf = new DmaBufDouble(kit);
    kit.mmioSlot(vm, dmaBuf);
    expect(kit.mmioSlot(vm, dmaBuf)).toBe('EINVAL');
    expect(kit.mmioSlot(vm, dmaBuf, { guest_phys_addr: 0n })).toBe('EINVAL');
    expect(kit.region2(vm, { flags: 0 })).toBe('EINVAL');
    expect(kit.region2(vm, { flags: u.KVM_MEM_LOG_DIRTY_PAGES })).toBe('EINVAL');
    expect(kit.region2(vm, { memory_size: 0n })).toBe(0);
    expect([dmaBuf.file.references, dmaBuf.file.attachments.size]).toEqual([1, 0]);
  });

  test('the slot holds the file after its descriptor is closed, and lets go of it with the VM', () => {
    const kit = new TeeKit();
    const vm = kit.vm();
    const [one, two] = [new DmaBufDouble(kit), new DmaBufDouble(kit)];
    kit.mmioSlot(vm, one);
    kit.mmioSlot(vm, two, { slot: 1, guest_phys_addr: 0n });
    kit.close(one);
    kit.close(two);
    expect(one.released).toBe(false);
    kit.region2(vm, { memory_size: 0n });
    expect([one.released, two.released]).toEqual([true, false]);
    kit.kernel.close(vm);
    expect(two.released).toBe(true);
  });
});

describe('the guest on device memory', () => {
  test('reaches one memory, with the T bit as the attribute says', () => {
    const kit = new TeeKit();
    const vm = kit.vm();
    const dmaBuf = new DmaBufDouble(kit);
    kit.mmioSlot(vm, dmaBuf);
    const seen: unknown[] = [];
    const guest = kit.guestOf(vm, function* (guest) {
      yield* guest.writeMmio(MMIO + 0x10n, 4, 0x1234);
      yield* guest.hlt();
      seen.push(yield* guest.readMmio(MMIO + 0x10n, 4));
      seen.push(yield* guest.readMmio64(MMIO + 0x1010n));
      yield* guest.write(MMIO + 0x1ffan, new Uint8Array(8).fill(7));
      seen.push(yield* guest.readMmio(MMIO + 0x2001n, 1));
    });
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    expect(kit.attributes(vm, MMIO, 0x2000n, PRIVATE)).toBe(0);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_SHUTDOWN]);
    expect(seen).toEqual([0x1234, 0n, 7]);
    expect(dmaBuf.accesses).toEqual([
      'store 10/4',
      'load 10/4 T',
      'load 1010/8 T',
      'store 1ffa/2 T',
      'store 1ffc/4 T',
      'store 2000/2',
      'load 2001/1',
    ]);
  });

  test('an access of the other kind than the frame is: exit 39 says which, and it is made after the conversion', () => {
    const kit = new TeeKit();
    const vm = kit.vm();
    const dmaBuf = new DmaBufDouble(kit);
    kit.mmioSlot(vm, dmaBuf);
    const guest = kit.guestOf(vm, function* (guest) {
      yield* guest.writeMmio(MMIO + 0x1008n, 4, 1, { private: true });
      yield* guest.readMmio(MMIO + 0x1008n, 4, { private: false });
    });
    expect(guest.step()).toEqual(['EFAULT', u.KVM_EXIT_MEMORY_FAULT]);
    expect(guest.fault).toBe('private e0001000+1000');
    expect(guest.step()).toEqual(['EFAULT', u.KVM_EXIT_MEMORY_FAULT]);
    kit.attributes(vm, MMIO + 0x1000n, 0x1000n, PRIVATE);
    expect(guest.step()).toEqual(['EFAULT', u.KVM_EXIT_MEMORY_FAULT]);
    expect(guest.fault).toBe('shared e0001000+1000');
    kit.attributes(vm, MMIO + 0x1000n, 0x1000n, 0n);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_SHUTDOWN]);
    expect(dmaBuf.accesses).toEqual(['store 1008/4 T', 'load 1008/4']);
  });

  test('revoked: EIO without an exit, for private and shared frames; attached while revoked; usable again afterwards', () => {
    const kit = new TeeKit();
    const vm = kit.vm();
    const dmaBuf = new DmaBufDouble(kit);
    dmaBuf.revoked = true;
    expect(kit.mmioSlot(vm, dmaBuf)).toBe(0);
    kit.attributes(vm, MMIO + 0x1000n, 0x1000n, PRIVATE);
    const { zapped } = kit.vmOf(vm);
    const guest = kit.guestOf(vm, function* (guest) {
      yield* guest.readMmio(MMIO, 4);
      yield* guest.readMmio(MMIO + 0x1000n, 4, { private: true });
    });
    expect(guest.step()).toEqual(['EIO', u.KVM_EXIT_UNKNOWN]);
    expect(kit.preFault(guest.vcpu, MMIO, 0x1000n)).toBe('EIO');
    dmaBuf.move(false);
    expect(kit.vmOf(vm).zapped).toBe(zapped + 1);
    expect(kit.preFault(guest.vcpu, MMIO, 0x2000n)).toBe(0);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_SHUTDOWN]);
    expect(dmaBuf.accesses).toEqual(['load 0/4', 'load 1000/4 T']);
    expect(EIO).toBe(5);
  });

  test('code of the processor reaches it from private memory, without an emulator in between', () => {
    const kit = new TeeKit();
    const vm = kit.vm();
    const dmaBuf = new DmaBufDouble(kit);
    kit.mmioSlot(vm, dmaBuf, { guest_phys_addr: 0x8000n });
    kit.attributes(vm, 0x8000n, 0x1000n, PRIVATE);
    const { shared } = kit.ram(vm);
    // mov ax, 0x800; mov ds, ax; mov byte [0x10], 5; mov al, [0x1010]; hlt
    shared.write(0x1000, Uint8Array.of(0xb8, 0, 8, 0x8e, 0xd8, 0xc6, 6, 0x10, 0, 5, 0xa0, 0x10, 0x10, 0xf4));
    const vcpu = kit.vcpu(vm);
    kit.setSregs(vcpu, (sregs) => {
      sregs.cs.base = 0n;
      sregs.cs.selector = 0;
    });
    kit.setRegs(vcpu, { rip: 0x1000n, rflags: 2n });
    const copier = kit.vcpu(vm, 1);
    kit.kernel.agent(copier, function* (guest) {
      const code = yield* guest.read(0x1000n, 16);
      yield* guest.hlt();
      yield* guest.write(0x1000n, code, { private: true });
    });
    kit.kernel.run(copier);
    kit.attributes(vm, 0n, 0x4000n, PRIVATE);
    kit.kernel.run(copier);
    shared.write(0x1000, new Uint8Array(16));
    const run = kit.kernel.mmap({ length: 4096, fd: vcpu });
    expect([kit.kernel.run(vcpu), run.read32(u.kvm_run.offsetOf('exit_reason'))]).toEqual([0, u.KVM_EXIT_HLT]);
    expect(dmaBuf.accesses).toEqual(['store 10/1 T', 'load 1010/1']);
    dmaBuf.revoked = true;
    kit.setRegs(vcpu, { rip: 0x1000n, rflags: 2n });
    expect(kit.kernel.run(vcpu)).toBe(-EIO);
  });
});
