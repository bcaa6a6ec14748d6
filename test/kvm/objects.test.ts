import { inspect } from 'node:util';
import { KernelError, Kvm, MsrsIncomplete, Vcpu, Vm } from 'kvio';
import { KVM_CAP_NR_MEMSLOTS, KVM_CAP_USER_MEMORY, KVM_GET_API_VERSION, KVM_MEM_READONLY } from 'kvio/uapi';
import { expect, it } from 'vitest';
import { boot, onEachKernel, thrown } from './each-kernel.ts';

const SYSENTER_CS = 0x174;
const SYSENTER_ESP = 0x175;
const NO_MSR = 0xdead_beef;

onEachKernel('Kvm', (open) => {
  it('answers for the host', () => {
    const { kvm } = open();
    expect(kvm.getApiVersion()).toBe(12);
    expect(kvm.getVcpuMmapSize()).toBeGreaterThanOrEqual(4096);
    expect(kvm.checkExtension(KVM_CAP_USER_MEMORY)).toBe(1);
    expect(kvm.checkExtension(0x7fff_ffff)).toBe(0);
  });

  it('lists MSRs, whatever their number', () => {
    const { kvm } = open();
    const msrs = kvm.getMsrIndexList();
    expect(msrs).toContain(SYSENTER_CS);
    expect(new Set(msrs).size).toBe(msrs.length);
    const features = kvm.getMsrFeatureIndexList();
    const values = kvm.getMsrs(features);
    expect(values.nmsrs).toBe(features.length);
    expect(values.entries.map(({ index }) => index)).toEqual(features);
  });

  it('lists CPUID leaves, and a vCPU takes them as they are', () => {
    const { kvm } = open();
    const supported = kvm.getSupportedCpuid();
    expect(supported.nent).toBe(supported.entries.length);
    expect(supported.entries.some(({ function: leaf }) => leaf === 0)).toBe(true);
    expect(kvm.getEmulatedCpuid().nent).toBeGreaterThan(0);
    const vcpu = kvm.createVm().createVcpu(0);
    expect(vcpu.getCpuid2()).toEqual({ nent: 0, padding: 0, entries: [] });
    vcpu.setCpuid2(supported);
    // A paravirtual KVM takes away the leaves of tiles and of AVX10.
    const kept = vcpu.getCpuid2().entries.map(({ function: leaf }) => leaf);
    const taken = [0x1d, 0x1e, 0x24].filter((leaf) => !kept.includes(leaf));
    expect(kept).toEqual(supported.entries.map(({ function: leaf }) => leaf).filter((leaf) => !taken.includes(leaf)));
    const some = supported.entries.slice(0, 2);
    vcpu.setCpuid2({ entries: some });
    expect(vcpu.getCpuid2().entries[0]).toEqual(some[0]);
    vcpu.setCpuid2({ entries: [] });
    expect(vcpu.getCpuid2().nent).toBe(0);
    expect(thrown(() => vcpu.setCpuid2({ nent: 3, entries: some }))).toMatchObject({
      name: 'RangeError',
      message: /nent is 3, but entries has 2/,
    });
  });

  it('has device attributes, or says so', () => {
    const { kernel, kvm } = open();
    const memory = kernel.guestRam(4096);
    expect(kvm.hasDeviceAttr({ group: 0, attr: 0n })).toBe(true);
    expect(kvm.hasDeviceAttr({ group: 0, attr: 99n })).toBe(false);
    memory.write64(8, ~0n & 0xffff_ffff_ffff_ffffn);
    kvm.getDeviceAttr({ group: 0, attr: 0n, memory, offset: 8 });
    expect(memory.read64(8) & 3n).toBe(3n); // XCR0: x87 and SSE
    expect(thrown(() => kvm.getDeviceAttr({ group: 0, attr: 99n, memory }))).toMatchObject({
      code: 'ENXIO',
      request: 'KVM_GET_DEVICE_ATTR',
    });
  });

  it('has MCE capabilities', () => {
    expect(open().kvm.x86GetMceCapSupported()).toBeTypeOf('bigint');
  });

  it('refuses a VM type that is not there', () => {
    const { kvm } = open();
    expect(thrown(() => kvm.createVm(31))).toMatchObject({ name: 'KernelError', code: 'EINVAL', request: 'KVM_CREATE_VM' });
  });
});

onEachKernel('Vm', (open) => {
  it('takes memory as an object, a part of it, or the plain struct', () => {
    const { kernel, kvm } = open();
    const vm = kvm.createVm();
    expect(vm.checkExtension(KVM_CAP_NR_MEMSLOTS)).toBeGreaterThan(0);
    const memory = kernel.guestRam(0x4000);
    vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0n, memory });
    vm.setUserMemoryRegion({
      slot: 1,
      guest_phys_addr: 0x10000n,
      memory,
      offset: 0x1000,
      length: 0x2000,
      flags: KVM_MEM_READONLY,
    });
    vm.setUserMemoryRegion({
      slot: 2,
      flags: 0,
      guest_phys_addr: 0x20000n,
      memory_size: 0x1000n,
      userspace_addr: memory.address,
    });
    vm.setUserMemoryRegion2({ slot: 3, guest_phys_addr: 0x30000n, memory });
    const overlap = thrown(() => vm.setUserMemoryRegion({ slot: 4, guest_phys_addr: 0x3000n, memory }));
    expect(overlap).toMatchObject({ code: 'EEXIST', request: 'KVM_SET_USER_MEMORY_REGION' });
    vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0n, memory, length: 0 });
    vm.setUserMemoryRegion({ slot: 4, guest_phys_addr: 0x3000n, memory });
  });

  it('refuses what is no region, before the kernel sees it', () => {
    const { kernel, kvm } = open();
    const vm = kvm.createVm();
    const memory = kernel.guestRam(0x1000);
    const region = { slot: 0, guest_phys_addr: 0n, memory };
    const failing = (change: object) => thrown(() => vm.setUserMemoryRegion({ ...region, ...change } as never));
    expect(failing({ offset: 0x2000 })).toMatchObject({
      name: 'RangeError',
      message: /offset must be an integer from 0 to 4096/,
    });
    expect(failing({ length: 0x2000 })).toMatchObject({ name: 'RangeError', message: /length/ });
    expect(failing({ offset: 0x800, length: 0x1000 })).toMatchObject({ name: 'RangeError', message: /beyond the 4096 bytes/ });
    expect(failing({ memory: {} })).toMatchObject({ name: 'TypeError', message: /memory must be a Memory/ });
    expect(failing({ guest_phys_addr: 0 })).toMatchObject({ name: 'TypeError', message: /guest_phys_addr/ });
    expect(failing({ guest_phys_adr: 0n })).toMatchObject({ name: 'TypeError', message: /guest_phys_adr/ });
    expect(
      thrown(() => vm.setUserMemoryRegion({ slot: 0, flags: 0, guest_phys_addr: 0n, memory_size: 0x1000n } as never)),
    ).toMatchObject({
      name: 'TypeError',
      message: /userspace_addr is missing/,
    });
    memory.close();
    expect(failing({})).toMatchObject({ name: 'RangeError', message: /memory is closed/ });
  });

  it('takes numbers where the kernel takes numbers: bytes are no id', () => {
    const { kvm } = open();
    const vm = kvm.createVm();
    for (const wrong of ['0', null, {}, new Uint8Array(8), Number.NaN, 1.5, 1n << 64n] as never[]) {
      for (const call of [
        () => kvm.createVm(wrong),
        () => kvm.checkExtension(wrong),
        () => vm.createVcpu(wrong),
        () => vm.setTssAddr(wrong),
        () => vm.setIdentityMapAddr(wrong),
        () => vm.setBootCpuId(wrong),
      ]) {
        const { name, message } = thrown(call);
        expect(name).toMatch(/^(TypeError|RangeError)$/);
        expect(message).toMatch(/^(type|capability|id|address) must/);
      }
      expect(thrown(() => vm.setUserMemoryRegion(wrong)).name).toBe('TypeError');
    }
  });

  it('keeps vCPU ids for its lifetime', () => {
    const vm = open().kvm.createVm();
    vm.createVcpu(3).close();
    expect(thrown(() => vm.createVcpu(3))).toMatchObject({ code: 'EEXIST', request: 'KVM_CREATE_VCPU' });
    expect(thrown(() => vm.createVcpu(1 << 20))).toMatchObject({ code: 'EINVAL' });
  });

  it('has its addresses set before the first vCPU', () => {
    const vm = open().kvm.createVm();
    vm.setTssAddr(0xfffb_d000);
    vm.setIdentityMapAddr(0xfffb_c000n);
    vm.setBootCpuId(1);
    vm.createVcpu(0);
    expect(thrown(() => vm.setBootCpuId(0))).toMatchObject({ code: 'EBUSY', request: 'KVM_SET_BOOT_CPU_ID' });
    expect(thrown(() => vm.setIdentityMapAddr(0n))).toMatchObject({ code: 'EINVAL' });
    expect(thrown(() => vm.setTssAddr(0xffff_f000))).toMatchObject({ code: 'EINVAL', request: 'KVM_SET_TSS_ADDR' });
  });
});

onEachKernel('Vcpu', (open) => {
  it('has registers that come back as they were set', () => {
    const { vcpu } = boot(open(), []);
    const regs = vcpu.getRegs();
    vcpu.setRegs({ ...regs, rax: 0x1122_3344_5566_7788n, r15: 1n });
    expect({ ...vcpu.getRegs() }).toEqual({ ...regs, rax: 0x1122_3344_5566_7788n, r15: 1n });
    const sregs = vcpu.getSregs();
    vcpu.setSregs({ ...sregs, cr2: 0x1234n });
    expect(vcpu.getSregs().cr2).toBe(0x1234n);
    const sregs2 = vcpu.getSregs2();
    vcpu.setSregs2({ ...sregs2, cr2: 0x5678n });
    expect(vcpu.getSregs2().cr2).toBe(0x5678n);
    const fpu = vcpu.getFpu();
    vcpu.setFpu({ ...fpu, fcw: 0x27f });
    expect(vcpu.getFpu().fcw).toBe(0x27f);
    vcpu.setMpState(vcpu.getMpState());
    expect(vcpu.getMpState()).toEqual({ mp_state: 0 });
  });

  it('prints registers as one reads them, and they stay plain objects', () => {
    const { vcpu } = boot(open(), []);
    const regs = vcpu.getRegs();
    expect(inspect(regs)).toMatch(/^kvm_regs \{\n {2}rax: 0x0,[\s\S]* {2}rip: 0x1000,\n {2}rflags: 0x2\n\}$/);
    expect(inspect({ ...regs })).toMatch(/rip: 4096n/);
    expect(inspect({ regs })).toMatch(/^\{\n {2}regs: kvm_regs \{/);
    vcpu.setRegs({ ...regs, rflags: 0x246n });
    expect(inspect(vcpu.getRegs())).toContain('rflags: 0x246 PF ZF IF');
    expect(inspect(vcpu.getSregs())).toMatch(/cs: \{ base: 0x0, limit: 0xffff, selector: 0, [\s\S]*cr0: 0x60000010 ET NW CD/);
  });

  it('wants the whole struct', () => {
    const { vcpu } = boot(open(), []);
    const { rip: _, ...rest } = vcpu.getRegs();
    expect(thrown(() => vcpu.setRegs(rest as never))).toMatchObject({ name: 'TypeError', message: /kvm_regs\.rip is missing/ });
    expect(thrown(() => vcpu.setRegs({ ...vcpu.getRegs(), rip: 1 } as never))).toMatchObject({
      name: 'TypeError',
      message: /rip/,
    });
  });

  it('says what the kernel refused', () => {
    const { vcpu } = boot(open(), []);
    const sregs = vcpu.getSregs();
    const error = thrown(() => vcpu.setSregs({ ...sregs, cr0: 1n << 31n }));
    expect(error).toBeInstanceOf(KernelError);
    expect(error.message).toMatch(/^EINVAL: invalid argument, ioctl KVM_SET_SREGS/);
    expect(error).toMatchObject({ errno: -22, syscall: 'ioctl', fd: vcpu.fd });
  });

  it('writes MSRs, and says how far it got', () => {
    const { vcpu } = boot(open(), []);
    vcpu.setMsrs({ entries: [{ index: SYSENTER_CS, data: 8n }] });
    const msrs = vcpu.getMsrs([SYSENTER_CS, SYSENTER_ESP]);
    expect(msrs.entries.map(({ index, data }) => [index, data])).toEqual([
      [SYSENTER_CS, 8n],
      [SYSENTER_ESP, 0n],
    ]);
    vcpu.setMsrs(msrs);
    const stopped = thrown(() =>
      vcpu.setMsrs({
        entries: [
          { index: SYSENTER_CS, data: 16n },
          { index: NO_MSR, data: 0xbadn },
          { index: SYSENTER_ESP, data: 1n },
        ],
      }),
    );
    expect(stopped).toBeInstanceOf(MsrsIncomplete);
    expect(stopped).toMatchObject({ code: 'ERR_KVIO_MSRS_INCOMPLETE', done: 1, total: 3, index: NO_MSR });
    expect(stopped.message).toBe('KVM_SET_MSRS stopped after 1 of 3 entries: MSR 0xdeadbeef does not take 0xbad');
    expect(vcpu.getMsrs([SYSENTER_CS, SYSENTER_ESP]).entries.map(({ data }) => data)).toEqual([16n, 0n]);
    expect(thrown(() => vcpu.getMsrs([SYSENTER_CS, NO_MSR]))).toMatchObject({
      done: 1,
      msrs: { nmsrs: 1, entries: [{ data: 16n }] },
    });
    expect(thrown(() => vcpu.setMsrs({ nmsrs: 2, entries: [] }))).toMatchObject({ name: 'RangeError' });
    const many = Array.from({ length: 256 }, () => SYSENTER_CS);
    expect(thrown(() => vcpu.getMsrs(many))).toMatchObject({ code: 'E2BIG', request: 'KVM_GET_MSRS' });
  });
});

onEachKernel('handles', (open) => {
  it('close once, and are EBADF afterwards', () => {
    const { kvm, vm, vcpu } = boot(open(), [0xf4]);
    for (const [handle, call] of [
      [vcpu, () => vcpu.getRegs()],
      [vcpu, () => vcpu.run()],
      [vm, () => vm.createVcpu(1)],
      [kvm, () => kvm.getApiVersion()],
    ] as const) {
      handle.close();
      handle.close();
      handle[Symbol.dispose]();
      expect(handle.closed).toBe(true);
      expect(handle.fd).toBe(-1);
      expect(thrown(call)).toMatchObject({ name: 'KernelError', code: 'EBADF' });
    }
  });

  it('never reach the descriptor that has their old number', () => {
    const { kernel, kvm } = open();
    const vm = kvm.createVm();
    const number = vm.fd;
    vm.close();
    const other = kvm.createVm();
    expect(other.fd).toBe(number);
    vm.close();
    expect(thrown(() => vm.checkExtension(0)).message).toBe(
      'EBADF: bad file descriptor, ioctl KVM_CHECK_EXTENSION — this Vm is closed',
    );
    expect(other.checkExtension(KVM_CAP_USER_MEMORY)).toBe(1);
    expect(kernel.closed).toBe(false);
  });

  it('live on as Linux has it: a vCPU runs after its VM descriptor is closed', () => {
    const { kvm, vm, vcpu } = boot(open(), [0xf4]);
    vm.close();
    kvm.close();
    expect(vcpu.run().reason).toBe('hlt');
  });

  it('are closed with the kernel', () => {
    const { kernel, kvm, vm, vcpu } = boot(open(), [0xf4]);
    kernel.close();
    for (const handle of [kvm, vm, vcpu]) expect(handle.closed).toBe(true);
    expect(thrown(() => kvm.getApiVersion())).toMatchObject({ code: 'EBADF' });
    vcpu.close();
    expect(vcpu.kvmRun.every((byte) => byte === 0)).toBe(true);
  });

  it('take descriptors from outside', ({ skip }) => {
    const { kernel, kvm, vm, vcpu } = boot(open(), [0xb0, 7, 0xf4]);
    skip(kernel.features.simulated, 'simulated descriptors exist nowhere but in their kernel');
    expect(thrown(() => Kvm.fromFd(kernel, kvm.fd))).toMatchObject({ name: 'TypeError' });
    const stranger = open().kernel;
    expect(Kvm.fromFd(stranger, kvm.fd).getApiVersion()).toBe(12);
    expect(Vm.fromFd(stranger, vm.fd).checkExtension(KVM_CAP_USER_MEMORY)).toBe(1);
    const adopted = Vcpu.fromFd(stranger, vcpu.fd);
    expect(adopted.run().reason).toBe('hlt');
    expect(adopted.getRegs().rax).toBe(7n);
    expect(adopted.id).toBeUndefined();
    stranger.close();
    expect(vcpu.getRegs().rax).toBe(7n);
  });

  it('give the raw descriptor and any request', () => {
    const { kernel, kvm } = open();
    expect(kvm.ioctl(KVM_GET_API_VERSION)).toBe(12);
    expect(kernel.ioctl(kvm.fd, KVM_GET_API_VERSION)).toBe(12);
    expect(thrown(() => kvm.ioctl(KVM_GET_API_VERSION, 1))).toMatchObject({ code: 'EINVAL', request: 'KVM_GET_API_VERSION' });
  });
});
