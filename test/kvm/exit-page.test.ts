// Every kind of exit, over a page made here: what needs a host that this one is not (TDX, SEV, Hyper-V, arm64) is decoded all the same.
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { ExitPage, exitNames } from '../../src/kvm/exits.ts';
import * as uapi from '../../src/uapi/kvm.ts';

const page = (reason: number, fill: (run: uapi.kvm_run) => void = () => {}): { bytes: Uint8Array; exits: ExitPage } => {
  const bytes = new Uint8Array(new SharedArrayBuffer(12288));
  const run = uapi.kvm_run.view(bytes);
  run.exit_reason = reason;
  fill(run);
  return { bytes, exits: new ExitPage(bytes) };
};

/** KVM_EXIT_* that are no exit reasons, and those of machines kvio has no kernel for. */
const notReasons =
  /^KVM_EXIT_(IO_IN|IO_OUT|HYPERV_.*|XEN_.*|HYPERCALL_.*|.*_FLAG_.*|S390_.*|DCR|OSI|PAPR_HCALL|WATCHDOG|EPR|RISCV_.*|LOONGARCH_.*)$/;

describe('the table of exits', () => {
  it('has every exit reason of the header, by the constant’s name', () => {
    const expected = Object.entries(uapi)
      .filter(([name]) => name.startsWith('KVM_EXIT_') && !notReasons.test(name))
      .map(([name, number]) => [number, name.slice('KVM_EXIT_'.length).toLowerCase()]);
    expect(expected.length).toBeGreaterThan(28);
    expect([...exitNames].sort(([a], [b]) => a - b)).toEqual(expected.sort(([a], [b]) => (a as number) - (b as number)));
  });

  it.each([...exitNames])('%d is %s, remembered and fresh alike', (number, reason) => {
    const { exits } = page(number);
    const exit = exits.current();
    expect(exit.reason).toBe(reason);
    expect(exits.current()).toBe(exit);
    const own = exits.own();
    expect(own).not.toBe(exits.own());
    expect(Object.keys(own)).toEqual(Object.keys(exit));
    expect(inspect(own)).toBe(inspect(exit));
    expect(inspect(own)).toMatch(new RegExp(`^KvmExit ${reason}`));
  });

  it('has a place for what it does not know', () => {
    const { exits } = page(4321);
    expect({ ...exits.current() }).toEqual({ reason: 'other', number: 4321 });
    expect({ ...exits.own() }).toEqual({ reason: 'other', number: 4321 });
    expect(inspect(exits.current())).toBe('KvmExit other 4321');
    expect(page(13).exits.current()).toMatchObject({ reason: 'other', number: 13 });
  });
});

describe('answers', () => {
  it('reach the page from remembered and from fresh exits', () => {
    const { exits, bytes } = page(uapi.KVM_EXIT_X86_RDMSR, ({ msr }) => Object.assign(msr, { reason: 2, index: 0x174 }));
    const run = uapi.kvm_run.view(bytes);
    const exit = exits.current() as Extract<ReturnType<ExitPage['current']>, { reason: 'x86_rdmsr' }>;
    expect({ ...exit, pad: undefined }).toEqual({
      reason: 'x86_rdmsr',
      error: 0,
      pad: undefined,
      index: 0x174,
      data: 0n,
      msr_reason: 2,
    });
    exit.data = 0x1234n;
    expect(run.msr.data).toBe(0x1234n);
    const own = exits.own() as typeof exit;
    own.error = 1;
    expect(run.msr.error).toBe(1);
    expect(own.error).toBe(1);
    expect(() => Object.assign(exit, { data: 5 })).toThrow(TypeError);
    expect(inspect(exit)).toBe('KvmExit x86_rdmsr error 1, index 0x174, data 0x1234, msr_reason 2');
  });

  it('of nested structs reach it too', () => {
    const { exits, bytes } = page(uapi.KVM_EXIT_TDX, ({ tdx }) => (tdx.nr = 0x10002n));
    const own = exits.own() as Extract<ReturnType<ExitPage['current']>, { reason: 'tdx' }>;
    own.get_quote.ret = 7n;
    expect(uapi.kvm_run.view(bytes).tdx.get_quote.ret).toBe(7n);
  });

  it('of reads stay the page’s bytes in a fresh exit, what was written is copied', () => {
    const { exits, bytes } = page(uapi.KVM_EXIT_IO, ({ io }) =>
      Object.assign(io, { direction: 1, size: 1, count: 2, data_offset: 4096n }),
    );
    type Io = Extract<ReturnType<ExitPage['current']>, { reason: 'io' }>;
    const out = exits.own() as Io;
    bytes.fill(9, 4096, 4098);
    expect(out.data).toEqual(Uint8Array.of(0, 0));
    expect((exits.current() as Io).data).toEqual(Uint8Array.of(9, 9));
    uapi.kvm_run.view(bytes).io.direction = 0;
    expect(out.direction).toBe(1);
    const input = exits.own() as Io;
    input.data[1] = 5;
    expect(bytes[4097]).toBe(5);
  });
});

describe('a fresh exit', () => {
  it('keeps what was said', () => {
    const { exits, bytes } = page(
      uapi.KVM_EXIT_MEMORY_FAULT,
      (run) => (run.memory_fault = { flags: 8n, gpa: 0x1000n, size: 0x1000n }),
    );
    const own = exits.own();
    uapi.kvm_run.view(bytes).memory_fault.gpa = 0n;
    expect({ ...own }).toEqual({ reason: 'memory_fault', flags: 8n, gpa: 0x1000n, size: 0x1000n });
  });

  it('keeps nested structs nobody answers', () => {
    const { exits, bytes } = page(uapi.KVM_EXIT_DEBUG, (run) => (run.debug.arch.pc = 0x1234n));
    const own = exits.own();
    uapi.kvm_run.view(bytes).debug.arch.pc = 0n;
    expect(own).toMatchObject({ arch: { pc: 0x1234n } });
  });
});

describe('internal errors', () => {
  it('have the words the kernel gave, and the instruction where it has it', () => {
    const { exits } = page(uapi.KVM_EXIT_INTERNAL_ERROR, ({ emulation_failure }) => {
      Object.assign(emulation_failure, { suberror: 1, ndata: 3, flags: 1n, insn_size: 2 });
      emulation_failure.insn_bytes.set([0x0f, 0xff]);
    });
    const exit = exits.current() as Extract<ReturnType<ExitPage['current']>, { reason: 'internal_error' }>;
    expect(exit.data[0]).toBe(1n);
    expect(exit.data).toHaveLength(3);
    expect(exit.insn_bytes).toEqual(Uint8Array.of(0x0f, 0xff));
    expect(inspect(exit)).toBe('KvmExit internal_error emulation at 0f ff');
    expect(
      inspect(
        page(uapi.KVM_EXIT_INTERNAL_ERROR, ({ internal }) => Object.assign(internal, { suberror: 4, ndata: 1 })).exits.current(),
      ),
    ).toBe('KvmExit internal_error unexpected_exit_reason 0x0');
  });
});
