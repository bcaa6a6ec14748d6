import { KernelError } from 'kvio';
import {
  KVM_CAP_ENFORCE_PV_FEATURE_CPUID,
  KVM_CAP_X86_USER_SPACE_MSR,
  KVM_GUESTDBG_ENABLE,
  KVM_MSR_EXIT_REASON_FILTER,
  KVM_MSR_FILTER_READ,
} from 'kvio/uapi';
import { expect, it } from 'vitest';
import { boot, onEachKernel, thrown } from './each-kernel.ts';

const SYSENTER_CS = 0x174;
const MSR_REGISTER = 0x2030_0002_0000_0000n;

onEachKernel('state of VM and vCPU', (open) => {
  it('reads statistics by name', () => {
    const vm = open().kvm.createVm();
    const vcpu = vm.createVcpu(3);
    using stats = vcpu.getStatsFd();
    const { id, statistics } = stats.read();
    expect(id).toMatch(/^kvm-\d+\/vcpu-3$/);
    expect(statistics.get('exits')).toMatchObject({ type: 'cumulative', unit: 'none', base: 10, exponent: 0, values: [0n] });
    expect(statistics.get('halt_wait_ns')).toMatchObject({ unit: 'seconds', exponent: -9 });
    expect(statistics.get('halt_wait_hist')!.values).toHaveLength(32);
    using ofVm = vm.getStatsFd();
    expect(ofVm.read().statistics.has('remote_tlb_flush')).toBe(true);
  });

  it('sets the clock', () => {
    const vm = open().kvm.createVm();
    vm.setClock({ ...vm.getClock(), clock: 3_600_000_000_000n, flags: 0 });
    expect(vm.getClock().clock).toBeGreaterThanOrEqual(3_600_000_000_000n);
    expect(thrown(() => vm.setClock({ ...vm.getClock(), flags: 1 }))).toMatchObject({ code: 'EINVAL' });
    expect(vm.getTscKhz()).toBeGreaterThan(0);
  });

  it('filters MSRs, and userspace answers', () => {
    // mov ecx, 0x174; rdmsr; hlt
    const { vm, vcpu } = boot(open(), [0x66, 0xb9, 0x74, 1, 0, 0, 0x0f, 0x32, 0xf4]);
    vm.enableCap({ cap: KVM_CAP_X86_USER_SPACE_MSR, flags: 0, args: [BigInt(KVM_MSR_EXIT_REASON_FILTER), 0n, 0n, 0n] });
    vm.setMsrFilter({ ranges: [{ flags: KVM_MSR_FILTER_READ, base: SYSENTER_CS, bitmap: Uint8Array.of(0) }] });
    const exit = vcpu.run();
    expect(exit.reason).toBe('x86_rdmsr');
    vcpu.kvm_run.msr.data = 0x1234_5678n;
    expect(vcpu.run().reason).toBe('hlt');
    expect(vcpu.getRegs().rax).toBe(0x1234_5678n);
    expect(thrown(() => vm.setMsrFilter({ flags: 1 }))).toMatchObject({ code: 'EINVAL' });
    vm.setMsrFilter({ ranges: [{ flags: KVM_MSR_FILTER_READ, base: SYSENTER_CS, bitmap: new Uint8Array(0) }] }); // no MSRs: no range
  });

  it('keeps the FPU in the XSAVE area', () => {
    const vcpu = open().kvm.createVm().createVcpu(0);
    const area = vcpu.getXsave();
    expect(area).toEqual(vcpu.getXsave2());
    const view = new DataView(area.buffer);
    view.setUint16(0, 0x27f, true);
    view.setBigUint64(512, 3n, true);
    vcpu.setXsave(area);
    expect(vcpu.getFpu().fcw).toBe(0x27f);
    expect(vcpu.getXcrs().xcrs[0]!.value).toBe(1n);
    view.setUint8(575, 1);
    expect(thrown(() => vcpu.setXsave(area))).toMatchObject({ code: 'EINVAL' });
  });

  it('reads and writes registers by id, attributes and events', () => {
    const vcpu = open().kvm.createVm().createVcpu(0);
    const id = MSR_REGISTER | BigInt(SYSENTER_CS);
    if (vcpu.vm!.checkExtension(70) !== 0) {
      vcpu.setOneReg(id, 0x77n);
      expect(vcpu.getOneReg(id)).toBe(0x77n);
      expect(vcpu.getRegList()).toEqual([]);
    }
    expect(vcpu.hasDeviceAttr(0, 0n)).toBe(true);
    expect(vcpu.hasDeviceAttr(0, 7n)).toBe(false);
    vcpu.setDeviceAttr(0, 0n, 0n);
    expect(vcpu.getDeviceAttr(0, 0n)).toBeTypeOf('bigint');
    const events = vcpu.getVcpuEvents();
    vcpu.setVcpuEvents({ ...events, flags: 1, nmi: { ...events.nmi, pending: 1 } });
    expect(vcpu.getVcpuEvents().nmi.pending).toBe(1);
    vcpu.setDebugregs({ ...vcpu.getDebugregs(), db: [1n, 2n, 3n, 4n] });
    expect(vcpu.getDebugregs().db).toEqual([1n, 2n, 3n, 4n]);
    vcpu.setGuestDebug({ control: KVM_GUESTDBG_ENABLE, arch: { debugreg: Array(8).fill(0n) } });
    vcpu.enableCap({ cap: KVM_CAP_ENFORCE_PV_FEATURE_CPUID, flags: 0, args: [0n, 0n, 0n, 0n] });
    expect(KernelError.isKernelError(thrown(() => vcpu.kvmclockCtrl()))).toBe(true);
  });

  it('translates, and reports machine checks', () => {
    const vcpu = open().kvm.createVm().createVcpu(0);
    expect(vcpu.translate(0x1234n)).toMatchObject({ physical_address: 0x1234n, valid: 1 });
    vcpu.setupMce(10n);
    vcpu.setMce({ status: 1n << 63n, addr: 5n, misc: 0n, mcg_status: 0n, bank: 9 });
    expect(vcpu.getMsrs([0x400 + 9 * 4 + 2]).entries[0]!.data).toBe(5n);
    expect(thrown(() => vcpu.setMce({ status: 1n << 63n, addr: 5n, misc: 0n, mcg_status: 0n, bank: 10 }))).toMatchObject({
      code: 'EINVAL',
    });
  });

  it('takes a signal mask; a budget ends a run under it', () => {
    const bench = open();
    if (!bench.kernel.features.kick) return;
    const { vcpu } = boot(bench, [0xeb, 0xfe]);
    vcpu.setSignalMask((1n << 64n) - 1n);
    expect(vcpu.run({ budget: 5 }).reason).toBe('intr');
    vcpu.setSignalMask(undefined);
    expect(vcpu.run({ budget: 5 }).reason).toBe('intr');
  });
});
