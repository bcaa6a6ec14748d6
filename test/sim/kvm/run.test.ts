import { describe, expect, test } from 'vitest';
import { Deadlock, NotModelled } from '../../../src/kernel/errors.ts';
import { amdSvm72 } from '../../../src/sim/machines/amd-svm-7.2.ts';
import { intelVmx72 } from '../../../src/sim/machines/intel-vmx-7.2.ts';
import { type Guest, Kit, named, u } from './kit.ts';

const HLT = 0xf4;
const at = (path: string): number => u.kvm_run.offsetOf(path);
/** in al, 0x60; hlt */
const IN = [0xb8, 0x34, 0x12, 0xe4, 0x60, HLT];
/** mov ax, [0x8000] (no memory there); hlt */
const LOAD = [0xa1, 0x00, 0x80, HLT];

const answer = (guest: Guest, ...bytes: number[]): void => guest.run.write(4096, Uint8Array.from(bytes));

describe('KVM_RUN', () => {
  test('an argument is EINVAL and leaves kvm_run alone', () => {
    const kit = new Kit();
    const guest = kit.guest([HLT]);
    guest.run.write32(at('exit_reason'), 77);
    expect(kit.io(guest.vcpu, u.KVM_RUN, 1)).toBe('EINVAL');
    expect(guest.run.read(0, 64)).toEqual(Uint8Array.from({ length: 64 }, (_, i) => (i === 8 ? 77 : 0)));
    expect(kit.io(guest.vcpu, u.KVM_RUN)).toBe(0);
    kit.kernel.close();
  });

  test('immediate_exit: EINTR, stale reason, completion done', () => {
    const kit = new Kit();
    const guest = kit.guest(IN);
    guest.run.write32(at('exit_reason'), 77);
    guest.immediateExit = 1;
    expect(guest.step()).toEqual(['EINTR', 77]);
    expect(guest.rip).toBe(0x1000n);
    guest.immediateExit = 0;
    expect(guest.step()).toEqual([0, u.KVM_EXIT_IO]);
    expect(guest.rip).toBe(0x1003n);
    answer(guest, 0x99);
    guest.immediateExit = 1;
    expect(guest.step()).toEqual(['EINTR', u.KVM_EXIT_IO]);
    expect([guest.rip, guest.rax]).toEqual([0x1005n, 0x1299n]);
    answer(guest, 0x11);
    expect(guest.step()).toEqual(['EINTR', u.KVM_EXIT_IO]);
    expect(guest.rax).toBe(0x1299n);
    guest.immediateExit = 0;
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    kit.kernel.close();
  });

  test('an MMIO read takes the bytes of kvm_run, even if a slot was added meanwhile', () => {
    const kit = new Kit();
    const guest = kit.guest(LOAD);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_MMIO]);
    guest.run.write(at('mmio.data'), Uint8Array.of(0xcd, 0xab));
    expect(kit.region(guest.vm, { slot: 1, gpa: 0x8000n, hva: kit.kernel.guestRam(4096).address })).toBe(0);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    expect(guest.rax).toBe(0xabcdn);
    kit.kernel.close();
  });

  test('SET_REGS before the completion of an IN loses its result, not its RIP', () => {
    const kit = new Kit();
    const guest = kit.guest(IN);
    guest.step();
    answer(guest, 0x99);
    kit.setRegs(guest.vcpu, { rbx: 7n });
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    expect([guest.rip, guest.rax, kit.regs(guest.vcpu).rbx]).toEqual([0x1006n, 0x1234n, 7n]);
    kit.kernel.close();
  });

  test('INS: SET_REGS moves on from the new RDI and RCX, memory is where the exit said', () => {
    const kit = new Kit();
    // mov di, 0x2000; mov cx, 3; cld; rep insb; hlt
    const guest = kit.guest([0xbf, 0x00, 0x20, 0xb9, 0x03, 0x00, 0xfc, 0xf3, 0x6c, HLT]);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_IO]);
    answer(guest, 1, 2, 3);
    kit.setRegs(guest.vcpu, { rax: 0x5555n });
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    expect(kit.regs(guest.vcpu)).toMatchObject({ rax: 0x5555n, rdi: 0x2003n, rcx: 0n, rip: 0x100an });
    expect(guest.ram.read(0x1000, 4)).toEqual(Uint8Array.of(1, 2, 3, 0));
    kit.kernel.close();
  });

  test('SET_SREGS that changes CR0, CR3, CR4 or EFER drops what waits: the instruction is executed anew', () => {
    for (const [change, again] of [
      [(sregs: u.kvm_sregs) => (sregs.cr3 = 0x1000n), true],
      [(sregs: u.kvm_sregs) => (sregs.cr4 = 0x20n), true],
      [(sregs: u.kvm_sregs) => (sregs.cr2 = 5n), false],
    ] as const) {
      const kit = new Kit();
      const guest = kit.guest(IN);
      guest.step();
      answer(guest, 0x99);
      expect(kit.setSregs(guest.vcpu, change)).toBe(0);
      expect(guest.step()).toEqual([0, again ? u.KVM_EXIT_IO : u.KVM_EXIT_HLT]);
      expect(guest.rax).toBe(again ? 0x1234n : 0x1299n);
      kit.kernel.close();
    }
  });

  test('an interrupt window is looked for between turns of the emulator, and at once on hardware', () => {
    for (const [machine, reason] of [
      [undefined, u.KVM_EXIT_HLT],
      [amdSvm72, u.KVM_EXIT_IRQ_WINDOW_OPEN],
    ] as const) {
      const kit = new Kit(machine === undefined ? {} : { machine });
      const guest = kit.guest([0xfb, 0x90, 0x90, HLT]);
      guest.run.write8(at('request_interrupt_window'), 1);
      expect(guest.step()).toEqual([0, reason]);
      kit.kernel.close();
    }
    const kit = new Kit();
    // sti; mov cx, 1000; dec cx; jnz -3; hlt: a turn of 1024 instructions ends inside the loop.
    const guest = kit.guest([0xfb, 0xb9, 0xe8, 0x03, 0x49, 0x75, 0xfd, HLT]);
    guest.run.write8(at('request_interrupt_window'), 1);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_IRQ_WINDOW_OPEN]);
    expect(kit.regs(guest.vcpu)).toMatchObject({ rip: 0x1004n, rcx: 489n });
    kit.kernel.close();
  });

  test('a slot behind which host memory appears later is used from the next run on', () => {
    const kit = new Kit();
    const guest = kit.guest([...LOAD.slice(0, 3), ...LOAD]);
    const file = kit.kernel.memfd('growing');
    const map = kit.kernel.mmap({ length: 4096, fd: file, view: false });
    expect(kit.region(guest.vm, { slot: 1, gpa: 0x8000n, hva: map.address })).toBe(0);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_MMIO]);
    kit.kernel.ftruncate(file, 4096);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    kit.kernel.close();
  });

  test('a kick before the run ends it once, with the stale reason', () => {
    const kit = new Kit();
    const guest = kit.guest([0xe6, 0x10, HLT]);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_IO]);
    kit.kernel.kick(guest.vcpu);
    expect(guest.step()).toEqual(['EINTR', u.KVM_EXIT_IO]);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    kit.kernel.close();
  });

  test('a budget ends an endless loop with EINTR and reason INTR', () => {
    const kit = new Kit();
    const guest = kit.guest([0xeb, 0xfe]);
    expect(named(kit.kernel.run(guest.vcpu, { budget: 1 }))).toBe('EINTR');
    expect(guest.reason).toBe(u.KVM_EXIT_INTR);
    expect(kit.kernel.now).toBe(1_000_000n);
    kit.kernel.close();
  });

  test('a kick while runAsync loops ends it with reason INTR', async () => {
    const kit = new Kit();
    const guest = kit.guest([0xeb, 0xfe]);
    const run = kit.kernel.runAsync(guest.vcpu);
    await new Promise((resolve) => setTimeout(resolve, 20));
    kit.kernel.kick(guest.vcpu);
    expect(named(await run)).toBe('EINTR');
    expect(guest.reason).toBe(u.KVM_EXIT_INTR);
    kit.kernel.close();
  });

  test('bad valid or dirty registers are EINVAL after the output fields are refreshed', () => {
    const kit = new Kit();
    const guest = kit.guest([HLT]);
    for (const field of ['kvm_valid_regs', 'kvm_dirty_regs']) {
      guest.run.write64(at(field), 8n);
      guest.run.write64(at('apic_base'), 0n);
      expect(guest.step()).toEqual(['EINVAL', 0]);
      expect(guest.run.read64(at('apic_base'))).toBe(0xfee00900n);
      guest.run.write64(at(field), 0n);
    }
    kit.kernel.close();
  });

  test('dirty registers apply in order: a refused SREGS keeps its bit, REGS before it are taken', () => {
    const kit = new Kit();
    const guest = kit.guest([0x40, HLT]);
    guest.run.write64(at('kvm_valid_regs'), 7n);
    guest.immediateExit = 1;
    guest.step();
    guest.immediateExit = 0;
    guest.run.write64(at('s.regs.regs.rax'), 0x55n);
    guest.run.write64(at('s.regs.sregs.cr0'), 0x8000_0000n);
    guest.run.write64(at('kvm_dirty_regs'), 3n);
    expect(guest.step()[0]).toBe('EINVAL');
    expect(guest.run.read64(at('kvm_dirty_regs'))).toBe(2n);
    expect(guest.rax).toBe(0x55n);
    // The refused set is overwritten by what is: the next run takes it.
    expect(guest.run.read64(at('s.regs.sregs.cr0'))).toBe(0x6000_0010n);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    expect(guest.run.read64(at('s.regs.regs.rax'))).toBe(0x56n);
    kit.kernel.close();
  });

  test('cr8 above 15 is EINVAL, below it is loaded; apic_base is no input', () => {
    const kit = new Kit();
    const guest = kit.guest([HLT, HLT]);
    guest.run.write64(at('cr8'), 16n);
    expect(guest.step()[0]).toBe('EINVAL');
    expect(guest.run.read64(at('cr8'))).toBe(0n);
    guest.run.write64(at('cr8'), 5n);
    guest.run.write64(at('apic_base'), 0x1234n);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    expect(kit.sregs(guest.vcpu)).toMatchObject({ cr8: 5n, apic_base: 0xfee00900n });
    kit.kernel.close();
  });

  test('UNINITIALIZED with nothing to wake it is a Deadlock, with immediate_exit or a kick EINTR', () => {
    const kit = new Kit();
    const guest = kit.guest([HLT]);
    kit.inside(guest.vcpu).mpState = u.KVM_MP_STATE_UNINITIALIZED;
    expect(() => kit.kernel.run(guest.vcpu)).toThrow(Deadlock);
    guest.immediateExit = 1;
    guest.run.write64(at('kvm_valid_regs'), 8n);
    expect(guest.step()[0]).toBe('EINTR');
    guest.immediateExit = 0;
    expect(named(kit.kernel.run(guest.vcpu, { budget: 1 }))).toBe('EINTR');
    expect(guest.reason).toBe(u.KVM_EXIT_INTR);
    kit.kernel.close();
  });

  test('what the CPU does not have is NotModelled, named, with the state before it', () => {
    const kit = new Kit();
    // vaddps: AVX is no part of this CPU.
    const guest = kit.guest([0x40, 0xc5, 0xf8, 0x58, 0xc1]);
    kit.setSregs(guest.vcpu, (sregs) => {
      sregs.cr0 |= 1n;
      Object.assign(sregs.cs, { selector: 8, limit: 0xffffffff, db: 1, g: 1, type: 11 });
    });
    let thrown: unknown;
    try {
      kit.kernel.run(guest.vcpu);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(NotModelled);
    expect(String(thrown)).toMatch(/c5 .*rip 0x1001/);
    expect([guest.rip, guest.rax]).toEqual([0x1001n, 1n]);
    kit.kernel.close();
  });

  test("a clock page tells simulated time, and the guest's TSC at it", () => {
    const kit = new Kit();
    const guest = kit.guest([HLT, 0xeb, 0xfd]);
    const bytes = u.kvm_msrs.encode({ nmsrs: 1, entries: [{ index: 0x4b564d01, reserved: 0, data: 0x2801n }] });
    expect(kit.io(guest.vcpu, u.KVM_SET_MSRS, bytes)).toBe(1);
    const page = guest.ram.bytes!.subarray(0x1800, 0x1820);
    const view = new DataView(page.buffer, page.byteOffset, page.length);
    kit.kernel.run(guest.vcpu);
    expect(view.getUint32(0, true)).toBe(2);
    const [tsc, time] = [view.getBigUint64(8, true), view.getBigUint64(16, true)];
    const now = kit.kernel.ioctl(guest.vcpu, u.KVM_SET_MSRS, bytes);
    expect(now).toBe(1);
    const clock = u.kvm_clock_data.alloc();
    expect(kit.io(guest.vm, u.KVM_GET_CLOCK, clock)).toBe(0);
    const { clock: later, host_tsc } = u.kvm_clock_data.decode(clock);
    // What the guest makes of its page at the TSC KVM_GET_CLOCK told, is what KVM_GET_CLOCK said.
    const delta = BigInt.asUintN(64, host_tsc - tsc);
    const shift = view.getInt8(28);
    const shifted = shift < 0 ? delta >> BigInt(-shift) : delta << BigInt(shift);
    const guests = time + ((shifted * BigInt(view.getUint32(24, true))) >> 32n);
    expect(Number(guests - later)).toBeCloseTo(0, -2);
    kit.kernel.close();
  });

  test('changes of the mappings behind a slot are seen at the next run', () => {
    const kit = new Kit();
    // out 0x10, al; mov ax, [0x8000]; hlt
    const guest = kit.guest([0xa1, 0x00, 0x80, 0xe6, 0x10, ...LOAD]);
    const ram = kit.kernel.mmap({ length: 4096, view: false });
    ram.write16(0, 0x1234);
    expect(kit.region(guest.vm, { slot: 1, gpa: 0x8000n, hva: ram.address })).toBe(0);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_IO]);
    expect(guest.rax).toBe(0x1234n);
    kit.kernel.mprotect(ram, u.PROT_NONE);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_MMIO]);
    kit.kernel.close();
  });

  test('several vCPUs have their own state and share memory', () => {
    const kit = new Kit();
    // inc word [0x2000]; hlt
    const first = kit.guest([0xff, 0x06, 0x00, 0x20, HLT]);
    const second = kit.vcpu(first.vm, 1);
    kit.setSregs(second, (sregs) => {
      sregs.cs.base = 0n;
      sregs.cs.selector = 0;
    });
    kit.setRegs(second, { rip: 0x1000n });
    expect(first.step()).toEqual([0, u.KVM_EXIT_HLT]);
    expect(kit.kernel.run(second)).toBe(0);
    expect(first.ram.read16(0x1000)).toBe(2);
    expect([first.rip, kit.regs(second).rip]).toEqual([0x1005n, 0x1005n]);
    kit.kernel.close();
  });

  test('another address space gets EIO before anything else', () => {
    const kit = new Kit();
    const guest = kit.guest([HLT]);
    const p = kit.kernel.process;
    const other = Object.create(p, { mm: { value: {} } }) as typeof p;
    for (const fd of [guest.vm, guest.vcpu]) {
      for (const request of [u.KVM_CHECK_EXTENSION, u.KVM_RUN, 0, 0x5401])
        expect(p.fds.get(fd)!.ioctl(other, request, 0n)).toBe(-u.EIO);
    }
    expect(p.fds.get(kit.kvm)!.ioctl(other, u.KVM_GET_API_VERSION, 0n)).toBe(12);
    kit.kernel.close();
  });
});

describe('backends', () => {
  test.each([
    ['pvm', undefined, 0x1002n],
    ['svm', amdSvm72, 0x1000n],
    ['vmx', intelVmx72, 0x1000n],
  ])('%s: RIP at the exit of an OUT', (_name, machine, rip) => {
    const kit = new Kit(machine === undefined ? {} : { machine });
    const guest = kit.guest([0xe6, 0x10, HLT]);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_IO]);
    expect(guest.rip).toBe(rip);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    expect(guest.rip).toBe(0x1003n);
    kit.kernel.close();
  });

  test('a slot without host memory: MMIO where KVM emulates, EFAULT with reason 0 where hardware pages', () => {
    for (const [machine, expected] of [
      [undefined, [0, u.KVM_EXIT_MMIO]],
      [amdSvm72, ['EFAULT', u.KVM_EXIT_UNKNOWN]],
      [intelVmx72, ['EFAULT', u.KVM_EXIT_UNKNOWN]],
    ] as const) {
      const kit = new Kit(machine === undefined ? {} : { machine });
      const guest = kit.guest(LOAD);
      expect(kit.region(guest.vm, { slot: 1, gpa: 0x8000n, hva: 0x10000n })).toBe(0);
      expect(guest.step()).toEqual(expected);
      expect(guest.rip).toBe(0x1000n);
      kit.kernel.close();
    }
  });

  test('reset types, and SHUTDOWN resets the vCPU on SVM only', () => {
    for (const [machine, types, rip] of [
      [undefined, [11, 3, 11], 0x1000n],
      [intelVmx72, [11, 3, 11], 0x1000n],
      [amdSvm72, [10, 2, 3], 0xfff0n],
    ] as const) {
      const kit = new Kit(machine === undefined ? {} : { machine });
      const fresh = kit.sregs(kit.vcpu(kit.vm()));
      expect([fresh.cs.type, fresh.ss.type, fresh.tr.type]).toEqual(types);
      // ud2 in protected mode without an interrupt table.
      const guest = kit.guest([0x0f, 0x0b]);
      kit.setSregs(guest.vcpu, (sregs) => {
        sregs.cr0 |= 1n;
        sregs.idt.limit = 0;
      });
      expect(guest.step()).toEqual([0, u.KVM_EXIT_SHUTDOWN]);
      expect(guest.rip).toBe(rip);
      kit.kernel.close();
    }
  });

  test('IN on hardware: SET_REGS keeps the result unless RIP changed', () => {
    for (const [change, rax] of [
      [{ rbx: 7n }, 0x1299n],
      [{ rip: 0x1005n }, 0x1234n],
    ] as const) {
      const kit = new Kit({ machine: amdSvm72 });
      const guest = kit.guest(IN);
      guest.step();
      answer(guest, 0x99);
      kit.setRegs(guest.vcpu, change);
      expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
      expect([guest.rip, guest.rax]).toEqual([0x1006n, rax]);
      kit.kernel.close();
    }
  });
});
