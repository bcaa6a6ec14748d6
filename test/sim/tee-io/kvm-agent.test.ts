// A guest that is a script: what each of its steps is to KVM, and what userspace sees of it.
import { describe, expect, test } from 'vitest';
import { type GuestAgent, TDX_GHCI_NR, type TeeIo, type VmgexitAnswer } from '../../../src/sim/index.ts';
import { teeIo } from '../../../src/uapi/index.ts';
import { EINVAL } from '../../../src/uapi/sys.ts';
import { MMIO, named, type Played, PRIVATE, TeeKit, u } from './kvm-kit.ts';

function played(agent: GuestAgent, switches: Partial<TeeIo> = {}): { kit: TeeKit; vm: number; guest: Played } {
  const kit = new TeeKit(switches);
  const vm = kit.vm();
  return { kit, vm, guest: kit.guestOf(vm, agent) };
}

describe('memory', () => {
  test('private and shared frames are two memories; an access spans pages, and waits where it faults', () => {
    const seen: string[] = [];
    const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
    const { kit, vm, guest } = played(function* (guest) {
      yield* guest.write(0xffen, Uint8Array.of(1, 2, 3, 4));
      yield* guest.hlt();
      seen.push(hex(yield* guest.read(0xffen, 4)));
      yield* guest.write(0xffen, Uint8Array.of(5, 6, 7, 8), { private: true });
      seen.push(hex(yield* guest.read(0xffen, 4)));
    });
    const { shared } = kit.ram(vm);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    expect(hex(shared.read(0xffe, 4))).toBe('01020304');
    kit.attributes(vm, 0n, 0x1000n, PRIVATE);
    expect(guest.step()).toEqual(['EFAULT', u.KVM_EXIT_MEMORY_FAULT]);
    expect(guest.fault).toBe('private 1000+1000');
    kit.attributes(vm, 0x1000n, 0x1000n, PRIVATE);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_SHUTDOWN]);
    expect(seen).toEqual(['00000304', '05060708']);
    expect(hex(shared.read(0xffe, 4))).toBe('01020304');
  });

  test('what is no memory is MMIO, in fragments of at most 8 bytes', () => {
    let seen = 0n;
    const { guest } = played(function* (guest) {
      yield* guest.write(MMIO, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
      seen = yield* guest.readMmio64(MMIO + 8n);
    });
    const told = (): unknown => {
      const result = guest.step();
      const { phys_addr, len, is_write, data } = guest.exit.mmio;
      return [...result, phys_addr, is_write === 1 ? [...data.subarray(0, len)] : len];
    };
    expect(told()).toEqual([0, u.KVM_EXIT_MMIO, MMIO, [1, 2, 3, 4, 5, 6, 7, 8]]);
    expect(told()).toEqual([0, u.KVM_EXIT_MMIO, MMIO + 8n, [9, 10]]);
    expect(told()).toEqual([0, u.KVM_EXIT_MMIO, MMIO + 8n, 8]);
    guest.run.write(u.kvm_run.offsetOf('mmio.data'), Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0x80));
    expect(guest.step()).toEqual([0, u.KVM_EXIT_SHUTDOWN]);
    expect(seen).toBe(0x8000_0000_0000_0001n);
  });

  test('KVM_HC_MAP_GPA_RANGE goes to userspace where it has asked for it', () => {
    const answers: bigint[] = [];
    const agent: GuestAgent = function* (guest) {
      answers.push(yield* guest.convert(0x1001n, 1, true));
      answers.push(yield* guest.convert(0x1000n, 2, true));
    };
    const silent = played(agent);
    expect(silent.guest.step()).toEqual([0, u.KVM_EXIT_SHUTDOWN]);
    const { kit, vm, guest } = played(agent);
    const enable = {
      cap: u.KVM_CAP_EXIT_HYPERCALL,
      flags: 0,
      args: [1n << BigInt(u.KVM_HC_MAP_GPA_RANGE), 0n, 0n, 0n],
      pad: new Uint8Array(64),
    };
    expect(kit.io(vm, u.KVM_ENABLE_CAP, u.kvm_enable_cap.encode(enable))).toBe(0);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HYPERCALL]);
    expect(guest.exit.hypercall.args.slice(0, 3)).toEqual([0x1000n, 2n, BigInt(u.KVM_MAP_GPA_RANGE_ENCRYPTED)]);
    guest.run.write64(u.kvm_run.offsetOf('hypercall.ret'), BigInt.asUintN(64, -5n));
    expect(guest.step()).toEqual([0, u.KVM_EXIT_SHUTDOWN]);
    expect(answers).toEqual([-BigInt(u.KVM_ENOSYS), -BigInt(u.KVM_ENOSYS), -BigInt(EINVAL), -5n]);
  });
});

describe('the life of its vCPU', () => {
  test('ports, HLT with what KVM_INTERRUPT brings, the end', () => {
    const seen: unknown[] = [];
    const { kit, guest } = played(function* (guest) {
      yield* guest.out(0x3f8, 1, 0x41);
      seen.push(yield* guest.in(0x60, 2));
      seen.push(yield* guest.hlt());
      seen.push(yield* guest.hlt());
    });
    const page = 4096;
    expect(guest.step()).toEqual([0, u.KVM_EXIT_IO]);
    expect([guest.exit.io.port, guest.run.read8(page)]).toEqual([0x3f8, 0x41]);
    guest.step();
    guest.run.write16(page, 0xbeef);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    kit.io(guest.vcpu, u.KVM_INTERRUPT, u.kvm_interrupt.encode({ irq: 0x41 }));
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    expect([guest.step(), guest.step()]).toEqual([
      [0, u.KVM_EXIT_SHUTDOWN],
      [0, u.KVM_EXIT_SHUTDOWN],
    ]);
    expect(seen).toEqual([0xbeef, 0x41, undefined]);
  });

  test('with a local APIC in the kernel it sleeps until an interrupt comes', () => {
    const kit = new TeeKit();
    const vm = kit.vm();
    kit.kernel.ioctl(vm, u.KVM_CREATE_IRQCHIP);
    const seen: unknown[] = [];
    const guest = kit.guestOf(vm, function* (guest) {
      yield* guest.writeMmio(0xfee0_00f0n, 4, 0x1ff);
      seen.push(yield* guest.hlt(), yield* guest.readMmio(0xfee0_0110n, 4), yield* guest.hlt());
    });
    expect(() => guest.step()).toThrow('nothing in the machine can wake it');
    const msi = (data: number): number | string =>
      kit.io(
        vm,
        u.KVM_SIGNAL_MSI,
        u.kvm_msi.encode({ address_lo: 0xfee0_0000, address_hi: 0, data, flags: 0, devid: 0, pad: new Uint8Array(12) }),
      );
    expect(msi(0x50)).toBe(1);
    expect(() => guest.step()).toThrow('nothing in the machine can wake it');
    expect(msi(0x51)).toBe(1);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_SHUTDOWN]);
    expect(seen).toEqual([0x50, 0, 0x51]);
  });

  test('time passes by its steps, and a budget or a kick ends KVM_RUN', () => {
    let turns = 0;
    const { kit, guest } = played(function* (guest) {
      for (;;) {
        yield* guest.pause(1000);
        turns++;
      }
    });
    const started = kit.kernel.now;
    expect(kit.kernel.run(guest.vcpu, { budget: 1 })).toBeLessThan(0);
    expect(kit.kernel.now - started).toBe(1_000_000n);
    // The last one has not been told yet.
    expect(turns).toBe(kit.kernel.machine.instructionsPerMs / 1000 - 1);
    guest.run.write8(u.kvm_run.offsetOf('immediate_exit'), 1);
    expect(guest.step()[0]).toBe('EINTR');
  });

  test('what the script throws comes out of KVM_RUN', () => {
    // biome-ignore lint/correctness/useYield: it ends before its first step
    const { guest } = played(function* () {
      throw new Error('not what the guest expected');
    });
    expect(() => guest.step()).toThrow('not what the guest expected');
    expect(guest.step()).toEqual([0, u.KVM_EXIT_SHUTDOWN]);
  });

  test('only a vCPU can be played; a VM that is dead is so for its guest too', () => {
    const { kit, vm, guest } = played(function* (guest) {
      yield* guest.hlt();
    });
    expect(() => kit.kernel.agent(vm, function* () {})).toThrow(`${vm} is no vCPU's descriptor`);
    guest.step();
    kit.vmOf(vm).kill();
    expect(guest.step()[0]).toBe('EIO');
    expect(kit.io(vm, u.KVM_CHECK_EXTENSION, 0)).toBe('EIO');
    expect(kit.io(guest.vcpu, u.KVM_GET_MP_STATE, u.kvm_mp_state.alloc())).toBe('EIO');
  });
});

test('the death of the VM ends what its vCPUs are doing, and their sleep', async () => {
  const kit = new TeeKit();
  const vm = kit.vm();
  kit.kernel.ioctl(vm, u.KVM_CREATE_IRQCHIP);
  const sleeper = kit.guestOf(vm, function* (guest) {
    yield* guest.hlt();
  });
  const worker = kit.vcpu(vm, 1);
  let turns = 0;
  kit.setMpState(worker, u.KVM_MP_STATE_RUNNABLE);
  kit.kernel.agent(worker, function* (guest) {
    for (;;) {
      yield* guest.pause(100);
      if (++turns === 50) kit.vmOf(vm).kill();
    }
  });
  const results = await Promise.all([sleeper.vcpu, worker].map((vcpu) => kit.kernel.runAsync(vcpu).catch((error) => error.code)));
  expect([results.map((result) => (typeof result === 'number' ? named(result) : result)), turns]).toEqual([['EIO', 'EIO'], 50]);
});

describe('exits of the series', () => {
  test('KVM_EXIT_ARM64_TIO: the response, which KVM checks where it accepts', () => {
    const { arm64_tio, KVM_EXIT_ARM64_TIO } = teeIo.ccaV4;
    const call = { nr: 9n, vdev_id: 3n, gpa_base: MMIO, gpa_top: MMIO + 0x2000n, pa_base: 0x1000n };
    const seen: bigint[] = [];
    const { kit, vm, guest } = played(
      function* (guest) {
        for (let i = 0; i < 3; i++) seen.push(yield* guest.tio(call));
      },
      { vendor: 'cca' },
    );
    expect(guest.step()).toEqual([0, KVM_EXIT_ARM64_TIO]);
    expect(arm64_tio.decode(guest.union)).toEqual({ ...call, flags: 0n, response: 0n });
    kit.attributes(vm, MMIO, 0x1000n, PRIVATE);
    expect(guest.step()).toEqual([0, 44]);
    kit.attributes(vm, MMIO, 0x2000n, PRIVATE);
    expect(guest.step()).toEqual([0, 44]);
    guest.write(arm64_tio.offsetOf('response'), Uint8Array.of(7));
    expect(guest.step()).toEqual([0, u.KVM_EXIT_SHUTDOWN]);
    expect(seen).toEqual([BigInt(EINVAL), 0n, 7n]);
  });

  test('KVM_EXIT_VMGEXIT, v2: the request and what is answered in it', () => {
    const { kvm_user_vmgexit, KVM_EXIT_VMGEXIT, KVM_USER_VMGEXIT_TIO_REQ } = teeIo.aikV2;
    let seen: VmgexitAnswer | undefined;
    const { guest } = played(
      function* (guest) {
        seen = yield* guest.vmgexit({ guest_rid: 0x10, flags: 3, data_gpa: 0x3000n, data_npages: 2n });
      },
      { vendor: 'sev', dialects: ['aik-v1', 'aik-v2'] },
    );
    expect(guest.step()).toEqual([0, KVM_EXIT_VMGEXIT]);
    const told = kvm_user_vmgexit.decode(guest.union);
    expect([told.type, told.tio_req.guest_rid, told.tio_req.flags, told.tio_req.data_npages]).toEqual([
      KVM_USER_VMGEXIT_TIO_REQ,
      0x10,
      3,
      2n,
    ]);
    const tio_req = { ...told.tio_req, tdi_status: 1, data_npages: 1n, fw_err: -5 };
    guest.write(0, kvm_user_vmgexit.encode({ ...told, tio_req }));
    expect(guest.step()).toEqual([0, u.KVM_EXIT_SHUTDOWN]);
    expect(seen).toEqual(tio_req);
  });

  test('KVM_EXIT_VMGEXIT, v1: the requester id, and a result', () => {
    const { kvm_user_vmgexit } = teeIo.aikV1;
    let seen = 0;
    const { guest } = played(
      function* (guest) {
        seen = (yield* guest.vmgexit({ guest_rid: 0x10 })).ret;
      },
      { vendor: 'sev', dialects: ['aik-v1'] },
    );
    expect(guest.step()).toEqual([0, 40]);
    expect(kvm_user_vmgexit.decode(guest.union)).toEqual({ type: 4, guest_rid: 0x10, ret: 0 });
    guest.write(kvm_user_vmgexit.offsetOf('ret'), Uint8Array.of(9));
    guest.step();
    expect(seen).toBe(9);
  });

  test("TDX's GHCI: a hypercall with a number of ours", () => {
    let seen = 0n;
    const { guest } = played(
      function* (guest) {
        seen = yield* guest.ghci(1n, 0x10n);
      },
      { vendor: 'tdx' },
    );
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HYPERCALL]);
    const { nr, args, ret } = guest.exit.hypercall;
    expect([nr, args, ret]).toEqual([TDX_GHCI_NR, [1n, 0x10n, 0n, 0n, 0n, 0n], 0n]);
    guest.run.write64(u.kvm_run.offsetOf('hypercall.ret'), 3n);
    guest.step();
    expect(seen).toBe(3n);
  });

  test('each belongs to its vendor', () => {
    const steps: GuestAgent[] = [
      function* (guest) {
        yield* guest.tio({ nr: 9n, vdev_id: 0n, gpa_base: 0n, gpa_top: 0n, pa_base: 0n });
      },
      function* (guest) {
        yield* guest.vmgexit({ guest_rid: 0 });
      },
      function* (guest) {
        yield* guest.ghci();
      },
    ];
    const wants = ["vendor 'cca'", "vendor 'sev' and dialect 'aik-v1' or 'aik-v2'", "vendor 'tdx'"];
    steps.forEach((agent, i) => {
      expect(() => played(agent).guest.step()).toThrow(wants[i]);
    });
  });
});

describe('a script that is none', () => {
  test.each<[string, unknown, RegExp]>([
    ['no function', 5, /generator function, not 5/],
    ['a function', () => 5, /generator function, not one that returns 5/],
    ['an async generator', async function* () {}, /generator function/],
  ])('%s is refused', (_name, agent, message) => {
    expect(() => played(agent as GuestAgent)).toThrow(message);
  });

  test.each<[string, unknown]>([
    ['nothing', undefined],
    ['a step of no kind', { kind: 'fly' }],
    ['what every object has', { kind: 'toString' }],
  ])('a step that is %s: KVM_RUN throws, and the script is not over', (_name, step) => {
    const { guest } = played(function* () {
      yield step as never;
      yield { kind: 'hlt' };
    });
    expect(() => guest.step()).toThrow(/an agent yields steps of its Guest/);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
  });

  test('what it throws comes out of KVM_RUN, and it is over', () => {
    const { guest } = played(function* (guest) {
      yield* guest.pause(3);
      throw new Error('of the script');
    });
    expect(() => guest.step()).toThrow('of the script');
    expect(guest.step()).toEqual([0, u.KVM_EXIT_SHUTDOWN]);
  });

  test('arguments of a step are looked at where the script makes it', () => {
    const thrown: string[] = [];
    const { guest } = played(function* (guest) {
      const steps = [
        () => guest.read(5 as never, 4),
        () => guest.read(-1n, 4),
        () => guest.read(1n << 52n, 4),
        () => guest.read(0n, -1),
        () => guest.write(0n, [1] as never),
        () => guest.readMmio(MMIO, 8 as never),
        () => guest.in(0x1_0000, 1),
        () => guest.out(0x10, 3 as never, 1),
        () => guest.hypercall(1n, 'a' as never),
        () => guest.pause(Number.NaN),
      ];
      for (const step of steps) {
        try {
          yield* step() as Generator<never>;
        } catch (error) {
          thrown.push((error as Error).message);
        }
      }
    });
    expect(guest.step()).toEqual([0, u.KVM_EXIT_SHUTDOWN]);
    expect(thrown.map((message) => message.slice(0, message.indexOf(' must')))).toEqual([
      ...['gpa', 'gpa', 'gpa', 'length', 'data', 'width', 'port', 'size'],
      ...['argument 0 of the hypercall', 'instructions'],
    ]);
  });

  test('the descriptors it runs on are closed in the middle of a step: KVM_RUN goes on, and the next one is EBADF', () => {
    const { kit, vm, guest } = played(function* (guest) {
      kit.kernel.close(vm);
      kit.kernel.close(guest_.vcpu);
      yield* guest.pause(3);
      yield* guest.readMmio(MMIO, 4);
    });
    const guest_ = guest;
    expect(guest.step()).toEqual([0, u.KVM_EXIT_MMIO]);
    expect(() => guest.step()).toThrow(/EBADF/);
  });
});
