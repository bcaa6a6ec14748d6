import { inspect } from 'node:util';
import type { KvmExit, KvmExitOf, Vcpu } from 'kvio';
import { KVM_EXIT_IO_IN, KVM_EXIT_IO_OUT } from 'kvio/uapi';
import { expect, it } from 'vitest';
import { boot, onEachKernel } from './each-kernel.ts';

function next<R extends KvmExit['reason']>(vcpu: Vcpu, reason: R): KvmExitOf<R> {
  const exit = vcpu.run();
  expect(exit.reason).toBe(reason);
  return exit as KvmExitOf<R>;
}

onEachKernel('exits', (open) => {
  it('io: what the guest wrote is there, what is written is what it reads', () => {
    // mov al, 'H'; out 0x10, al; in ax, 0x12; hlt
    const { vcpu } = boot(open(), [0xb0, 0x48, 0xe6, 0x10, 0xe5, 0x12, 0xf4]);
    const out = next(vcpu, 'io');
    expect({ ...out }).toEqual({
      reason: 'io',
      direction: KVM_EXIT_IO_OUT,
      size: 1,
      port: 0x10,
      count: 1,
      data_offset: 4096n,
      data: Uint8Array.of(0x48),
    });
    expect(inspect(out)).toBe('KvmExit io out 0x10 48');
    const input = next(vcpu, 'io');
    expect(input).toBe(out); // one object for all exits of a kind
    expect(input).toMatchObject({ direction: KVM_EXIT_IO_IN, size: 2, port: 0x12 });
    expect(inspect(input)).toBe('KvmExit io in 0x12 1×2');
    expect(input.data).toBe(input.data);
    input.data.set([0x34, 0x12]);
    expect(vcpu.kvmRun[4096]).toBe(0x34);
    expect(inspect(next(vcpu, 'hlt'))).toBe('KvmExit hlt');
    expect(vcpu.getRegs().rax).toBe(0x1234n);
  });

  it('io: assigning data answers as well', () => {
    const { vcpu } = boot(open(), [0xe4, 0x10, 0xf4]); // in al, 0x10; hlt
    Object.assign(next(vcpu, 'io'), { data: Uint8Array.of(0x99, 0xff) });
    next(vcpu, 'hlt');
    expect(vcpu.getRegs().rax & 0xffffn).toBe(0x99n);
  });

  it('io: a string instruction has count elements', () => {
    // mov di, 0x1800; mov cx, 300; mov dx, 0x60; rep insw; hlt
    const { vcpu, ram } = boot(open(), [0xbf, 0x00, 0x18, 0xb9, 0x2c, 0x01, 0xba, 0x60, 0x00, 0xf3, 0x6d, 0xf4]);
    let received = 0;
    let exit = vcpu.run();
    for (; exit.reason === 'io'; exit = vcpu.run()) {
      expect(exit).toMatchObject({ direction: KVM_EXIT_IO_IN, size: 2, port: 0x60 });
      expect(exit.data.length).toBe(exit.count * 2);
      for (let i = 0; i < exit.data.length; i++) exit.data[i] = (received + i) % 251;
      received += exit.data.length;
    }
    expect(exit.reason).toBe('hlt');
    expect(received).toBe(600);
    expect(ram.read(0x800, 600)).toEqual(Uint8Array.from({ length: 600 }, (_, i) => i % 251));
  });

  it('mmio: data has len bytes, in place', () => {
    // mov ax, [0xd000]; mov [0xd004], ax; hlt
    const { vcpu } = boot(open(), [0xa1, 0x00, 0xd0, 0xa3, 0x04, 0xd0, 0xf4]);
    const read = next(vcpu, 'mmio');
    expect(read).toMatchObject({ phys_addr: 0xd000n, len: 2, is_write: 0 });
    expect(inspect(read)).toBe('KvmExit mmio read 0xd000 2 bytes');
    read.data.set([0xcd, 0xab]);
    const write = next(vcpu, 'mmio');
    expect(write).toBe(read);
    expect(write.data).toEqual(Uint8Array.of(0xcd, 0xab));
    expect(write).toMatchObject({ phys_addr: 0xd004n, is_write: 1 });
    expect(inspect(write)).toBe('KvmExit mmio write 0xd004 cd ab');
    next(vcpu, 'hlt');
  });

  it('internal_error: an instruction fetch from nowhere', () => {
    const { vcpu } = boot(open(), []);
    vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x8000n });
    const error = next(vcpu, 'internal_error');
    expect(error.suberror).toBe(1);
    expect(error.data).toHaveLength(error.ndata);
    expect(inspect(error)).toMatch(/^KvmExit internal_error emulation/);
  });

  it('intr: immediate_exit comes back at once, whatever the page says', () => {
    const { vcpu } = boot(open(), [0xe6, 0x10, 0xf4]);
    next(vcpu, 'io');
    vcpu.kvm_run.immediate_exit = 1;
    expect(inspect(next(vcpu, 'intr'))).toBe('KvmExit intr');
    vcpu.kvm_run.immediate_exit = 0;
    next(vcpu, 'hlt');
  });

  it('an error that is no exit throws, with its rule', () => {
    const { vcpu } = boot(open(), [0xf4]);
    vcpu.kvm_run.kvm_valid_regs = 1n << 40n;
    expect(() => vcpu.run()).toThrow(/^EINVAL: invalid argument, ioctl KVM_RUN — kvm_valid_regs/);
  });

  it('for … of goes on until it is left', () => {
    const { vcpu } = boot(open(), [0xe6, 0x10, 0xe6, 0x11, 0xf4]);
    const seen: string[] = [];
    for (const exit of vcpu.exits()) {
      seen.push(inspect(exit));
      if (exit.reason === 'hlt') break;
    }
    expect(seen).toEqual(['KvmExit io out 0x10 00', 'KvmExit io out 0x11 00', 'KvmExit hlt']);
  });

  it('the run page is there, as bytes and as a struct', () => {
    const { vcpu, kvm } = boot(open(), [0xf4]);
    next(vcpu, 'hlt');
    expect(vcpu.kvmRun.length).toBe(kvm.getVcpuMmapSize());
    expect(vcpu.kvm_run.exit_reason).toBe(5);
    expect(vcpu.kvmRun[8]).toBe(5);
    vcpu.kvm_run.kvm_valid_regs = 1n;
    vcpu.run();
    expect(vcpu.kvm_run.s.regs.regs.rip).toBe(vcpu.getRegs().rip);
  });
});
