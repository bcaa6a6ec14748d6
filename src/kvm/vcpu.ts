import { wide } from '../kernel/arguments.ts';
import type { Kicker } from '../kernel/backend.ts';
import { KernelError, NotAvailable, VcpuBusy } from '../kernel/errors.ts';
import { getStruct, setStruct } from '../kernel/handle.ts';
import type { IoctlArgument, IoctlOptions, Kernel, RunAsyncOptions, RunOptions } from '../kernel/kernel.ts';
import type { Memory } from '../kernel/memory.ts';
import { type FdKind, ioctlByRequest } from '../uapi/ioctls.ts';
import {
  KVM_COALESCED_MMIO_PAGE_OFFSET,
  KVM_EXIT_MEMORY_FAULT,
  KVM_GET_CPUID2,
  KVM_GET_FPU,
  KVM_GET_MP_STATE,
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KVM_GET_SREGS2,
  KVM_GET_VCPU_MMAP_SIZE,
  KVM_PRE_FAULT_MEMORY,
  KVM_SET_CPUID2,
  KVM_SET_FPU,
  KVM_SET_MP_STATE,
  KVM_SET_REGS,
  KVM_SET_SREGS,
  KVM_SET_SREGS2,
  KVM_X86_TDX_VM,
  kvm_cpuid2,
  kvm_fpu,
  kvm_mp_state,
  kvm_pre_fault_memory,
  kvm_regs,
  type kvm_run,
  kvm_sregs,
  kvm_sregs2,
} from '../uapi/kvm.ts';
import type { Input } from '../uapi/struct.ts';
import { EAGAIN, EBADF, EFAULT, EHWPOISON, EINTR, EINVAL } from '../uapi/sys.ts';
import { CoalescedRing } from './coalesced-ring.ts';
import { counted } from './counted.ts';
import { DirtyRing } from './dirty-ring.ts';
import { ExitPage, interrupted, type KvmExit } from './exits.ts';
import { type Msrs, type MsrsInput, readMsrs, writeMsrs } from './msrs.ts';
import { printable } from './show.ts';
import type { Kvm } from './system.ts';
import { VcpuArm64 } from './vcpu-arm64.ts';
import type { Vm } from './vm.ts';

/** What is known of a failed KVM_RUN besides its errno (virt/kvm/kvm_main.c, arch/x86/kvm/x86.c: kvm_arch_vcpu_ioctl_run). */
const runNotes: ReadonlyMap<number, string> = new Map([
  [
    EINVAL,
    'kvm_valid_regs, kvm_dirty_regs, the registers they name, or cr8 of kvm_run are not valid; or the vCPU waits for a SIPI in SMM',
  ],
  [EFAULT, 'the host memory behind a memslot cannot be accessed as the guest asked'],
  [EAGAIN, 'the vCPU left the uninitialized state: run it again'],
]);

/** `for (… of exits)` runs synchronously, `for await` asynchronously; neither ends by itself. */
export interface ExitIterable extends Iterable<KvmExit, undefined>, AsyncIterable<KvmExit, undefined> {}

/** What a Vcpu is made of, where it was made here. */
export interface VcpuOrigin {
  id: number;
  vm: Vm;
}

/** The mapping of a vCPU's `kvm_run` and the pages behind it. Where that fails the descriptor is closed: nobody else will. */
export function mapRunPage(kernel: Kernel, fd: number, kvm: Kvm | undefined): Memory {
  try {
    const page = kernel.mmap({ fd, length: mappingSize(kernel, kvm) });
    if (page.bytes !== undefined) return page;
    page.close();
    throw new NotAvailable(`KVM_CREATE_VCPU: the ${kernel.kind} kernel cannot show kvm_run as bytes`);
  } catch (error) {
    kernel.close(fd);
    throw error;
  }
}

function mappingSize(kernel: Kernel, kvm: Kvm | undefined): number {
  if (kvm !== undefined && !kvm.closed) return kvm.getVcpuMmapSize();
  const system = kernel.open('/dev/kvm');
  try {
    return kernel.ioctl(system, KVM_GET_VCPU_MMAP_SIZE);
  } finally {
    kernel.close(system);
  }
}

/**
 * A vCPU descriptor and its run page.
 *
 * While a `runAsync` is under way (or waits its turn) every other call throws VcpuBusy: the real kernel would block on the vCPU's
 * mutex, and with it the event loop. `runAsync` and `queue` wait their turn instead, in the order of the calls.
 */
export class Vcpu extends VcpuArm64 {
  /** The id given to KVM_CREATE_VCPU; undefined for a descriptor from outside. */
  readonly id: number | undefined;
  readonly vm: Vm | undefined;
  /**
   * The bytes of the mapping: `struct kvm_run`, then the PIO data page, then the coalesced MMIO ring. The kernel writes them during KVM_RUN.
   * After `close()` they read as zero.
   */
  readonly kvmRun: Uint8Array;
  readonly #exits: ExitPage;
  #coalesced: CoalescedRing | undefined;
  /** Async turns that are under way or waiting. */
  #turns = 0;
  #tail: Promise<unknown> = Promise.resolve();
  /** `#turns > 0`, except inside the call that `queue` runs. */
  #busy = false;

  constructor(kernel: Kernel, fd: number, page: Memory, origin?: VcpuOrigin) {
    super(kernel, fd);
    this.attach(page);
    this.id = origin?.id;
    this.vm = origin?.vm;
    this.kvmRun = page.bytes!;
    const type = origin?.vm.type;
    this.#exits = new ExitPage(this.kvmRun, type === undefined || type === BigInt(KVM_X86_TDX_VM));
  }

  protected override get kind(): FdKind {
    return 'vcpu';
  }

  /** A vCPU descriptor from outside: it is mapped here a second time, which shares the page. */
  static fromFd(kernel: Kernel, fd: number): Vcpu {
    kernel.adopt(fd);
    return new Vcpu(kernel, fd, mapRunPage(kernel, fd, undefined));
  }

  /** The VM's ring of coalesced writes, as this vCPU's mapping shows it. x86 only. */
  get coalescedRing(): CoalescedRing {
    const at = KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE_SIZE;
    return (this.#coalesced ??= new CoalescedRing(this.kvmRun.subarray(at, at + PAGE_SIZE)));
  }

  /** mmap(2) of this vCPU's dirty ring: `bytes` as KVM_CAP_DIRTY_LOG_RING was enabled with on the VM, before the vCPU was made. Close it yourself. */
  mapDirtyRing(bytes: number): DirtyRing {
    if (this.closed) throw new KernelError(EBADF, 'mmap', { note: 'this Vcpu is closed' });
    return DirtyRing.map(this.kernel, this.fd, bytes);
  }

  /** `struct kvm_run`, live: `kvm_run.immediate_exit = 1`, `kvm_run.s.regs.regs.rip`. */
  get kvm_run(): kvm_run {
    return this.#exits.run;
  }

  /**
   * KVM_RUN. Returns why it came back. The object is remembered and reused: it shows the page, and so the next exit of the same
   * kind, after the next run; answers (`exit.data` of an IN or an MMIO read, `ret`, `error` …) are written to it before that.
   *
   * EINTR is `{ reason: 'intr' }`; EFAULT and EHWPOISON with exit reason MEMORY_FAULT are that exit; any other errno throws
   * KernelError. `budget` bounds the run in milliseconds of the kernel's time and then gives `intr`.
   */
  run(options?: RunOptions): KvmExit {
    if (this.#busy) throw this.#isBusy('KVM_RUN');
    const result = this.kernel.run(this.fd, options);
    return result === 0 ? this.#exits.current() : this.#failed(result);
  }

  /**
   * KVM_RUN off this thread (in slices on the simulator), once earlier async calls on this vCPU are done. Resolves with a fresh
   * object that keeps what the exit said; answers written to it reach the page. An aborted signal kicks: `intr`.
   */
  runAsync(options?: RunAsyncOptions): Promise<KvmExit> {
    return this.#enqueue(async () => {
      const result = await this.kernel.runAsync(this.fd, options);
      return result === 0 ? this.#exits.own() : this.#failed(result, true);
    });
  }

  /**
   * Exit after exit: `for (const exit of vcpu.exits())` reuses the exit objects as `run` does and allocates nothing, `for await`
   * gives fresh ones as `runAsync` does. It ends when you leave it, or when the signal is aborted.
   */
  exits(options: RunAsyncOptions = {}): ExitIterable {
    const { signal, ...runOptions } = options;
    const next: IteratorYieldResult<KvmExit> = { done: false, value: interrupted };
    const sync: Iterator<KvmExit, undefined> = {
      next: () => {
        if (signal?.aborted) return finished;
        next.value = this.run(runOptions);
        return next;
      },
    };
    const async: AsyncIterator<KvmExit, undefined> = {
      next: async () => (signal?.aborted ? finished : { done: false, value: await this.runAsync(options) }),
    };
    return { [Symbol.iterator]: () => sync, [Symbol.asyncIterator]: () => async };
  }

  /**
   * Calls `call` once earlier async calls on this vCPU are done, before later ones: `await vcpu.queue(() => vcpu.getRegs())` is
   * KVM_GET_REGS as it waits on the vCPU's mutex, without blocking the event loop. `call` must be synchronous.
   */
  queue<T>(call: () => T): Promise<T> {
    return this.#enqueue(() => {
      this.#busy = false;
      try {
        return call();
      } finally {
        this.#busy = true;
      }
    });
  }

  /** Makes the run that is under way, or else the next one, return `intr`, once. Never lost, never blocks. */
  kick(): void {
    this.kernel.kick(this.fd);
  }

  /** A token that can be posted to another worker: `kick(kicker)` there does what `vcpu.kick()` does here. */
  get kicker(): Kicker {
    return this.kernel.kicker(this.fd);
  }

  override ioctl(request: number, arg?: IoctlArgument, options?: IoctlOptions): number {
    this.#refuseWhileBusy(request);
    return super.ioctl(request, arg, options);
  }

  override tryIoctl(request: number, arg?: IoctlArgument, options?: IoctlOptions): number {
    this.#refuseWhileBusy(request);
    return super.tryIoctl(request, arg, options);
  }

  /** KVM_GET_REGS. x86 only, as all register structs below. */
  getRegs(): kvm_regs {
    return printable('kvm_regs', getStruct(this, KVM_GET_REGS, kvm_regs));
  }

  /** KVM_SET_REGS: all of them (`{ ...vcpu.getRegs(), rip }`). Nothing is checked; bit 1 of rflags is forced to 1. */
  setRegs(regs: Input<kvm_regs>): void {
    setStruct(this, KVM_SET_REGS, kvm_regs, regs);
  }

  /** KVM_GET_SREGS. */
  getSregs(): kvm_sregs {
    return printable('kvm_sregs', getStruct(this, KVM_GET_SREGS, kvm_sregs));
  }

  /** KVM_SET_SREGS. EINVAL, with nothing changed, for control registers that contradict each other or the guest's CPUID. */
  setSregs(sregs: Input<kvm_sregs>): void {
    setStruct(this, KVM_SET_SREGS, kvm_sregs, sregs);
  }

  /** KVM_GET_SREGS2: with the PDPTRs of PAE paging in place of the interrupt bitmap. KVM_CAP_SREGS2. */
  getSregs2(): kvm_sregs2 {
    return printable('kvm_sregs2', getStruct(this, KVM_GET_SREGS2, kvm_sregs2));
  }

  /** KVM_SET_SREGS2. EINVAL as KVM_SET_SREGS, and for KVM_SREGS2_FLAGS_PDPTRS_VALID without PAE paging. */
  setSregs2(sregs: Input<kvm_sregs2>): void {
    setStruct(this, KVM_SET_SREGS2, kvm_sregs2, sregs);
  }

  /** KVM_GET_CPUID2: the guest's table, as large as it is; empty on a fresh vCPU. */
  getCpuid2(): kvm_cpuid2 {
    const bytes = kvm_cpuid2.alloc(MAX_CPUID_ENTRIES);
    kvm_cpuid2.view(bytes).nent = MAX_CPUID_ENTRIES;
    this.ioctl(KVM_GET_CPUID2, bytes);
    return kvm_cpuid2.decode(bytes);
  }

  /**
   * KVM_SET_CPUID2 (`nent` may be left out: the array says it). E2BIG above 256 entries; EINVAL for a table that differs from
   * the present one once the vCPU has run, or an impossible address width.
   */
  setCpuid2(cpuid: Omit<Input<kvm_cpuid2>, 'nent'> & { readonly nent?: number }): void {
    setStruct(this, KVM_SET_CPUID2, kvm_cpuid2, counted(cpuid, 'nent', 'kvm_cpuid2'));
  }

  /** KVM_GET_MSRS. Throws MsrsIncomplete, with what was read, at the first MSR the kernel cannot read; E2BIG for 256 or more. */
  getMsrs(indices: readonly number[]): Msrs {
    return readMsrs(this, indices);
  }

  /**
   * KVM_SET_MSRS, in order (`nmsrs` may be left out). Throws MsrsIncomplete at the first MSR the kernel does not take: those
   * before it are applied, and the error says how many. E2BIG for 256 or more.
   */
  setMsrs(msrs: MsrsInput): void {
    writeMsrs(this, msrs);
  }

  /** KVM_GET_MP_STATE: `{ mp_state: KVM_MP_STATE_* }`. */
  getMpState(): kvm_mp_state {
    return getStruct(this, KVM_GET_MP_STATE, kvm_mp_state);
  }

  /** KVM_SET_MP_STATE. EINVAL for all but RUNNABLE without an in-kernel interrupt controller. */
  setMpState(state: Input<kvm_mp_state>): void {
    setStruct(this, KVM_SET_MP_STATE, kvm_mp_state, state);
  }

  /** KVM_GET_FPU. `mxcsr` is never filled by the kernel (0). */
  getFpu(): kvm_fpu {
    return getStruct(this, KVM_GET_FPU, kvm_fpu);
  }

  /** KVM_SET_FPU. `mxcsr` is ignored by the kernel. */
  setFpu(fpu: Input<kvm_fpu>): void {
    setStruct(this, KVM_SET_FPU, kvm_fpu, fpu);
  }

  /**
   * KVM_PRE_FAULT_MEMORY: maps guest-physical memory before the guest touches it, and returns what is left of the range: `size` 0n is all of it.
   * It throws only where not one page was mapped. ENOENT: no memslot. EFAULT: the memory cannot be had; with private memory the page says where as for
   * a `memory_fault` exit. EOPNOTSUPP without two-dimensional paging. KVM_CAP_PRE_FAULT_MEMORY.
   */
  preFaultMemory(range: { gpa: bigint; size: number | bigint; flags?: bigint }): { gpa: bigint; size: bigint } {
    const bytes = kvm_pre_fault_memory.encode({ flags: 0n, ...range, size: wide(range.size, 'size') });
    this.ioctl(KVM_PRE_FAULT_MEMORY, bytes);
    const { gpa, size } = kvm_pre_fault_memory.decode(bytes);
    return { gpa, size };
  }

  protected override describe(): string {
    return `${this.id === undefined ? '' : `id ${this.id}, `}${super.describe()}${this.#busy ? ', running' : ''}`;
  }

  #refuseWhileBusy(request: number): void {
    if (this.#busy) throw this.#isBusy(ioctlByRequest(request, 'vcpu')?.name ?? `ioctl 0x${request.toString(16)}`);
  }

  #isBusy(what: string): VcpuBusy {
    return new VcpuBusy(this.fd, what);
  }

  #failed(result: number, own = false): KvmExit {
    if (result === -EINTR) return interrupted;
    const memoryFault = (result === -EFAULT || result === -EHWPOISON) && this.#exits.reason === KVM_EXIT_MEMORY_FAULT;
    if (memoryFault) return own ? this.#exits.own() : this.#exits.current();
    throw new KernelError(result, 'ioctl', { request: 'KVM_RUN', fd: this.fd, note: runNotes.get(-result) });
  }

  /** Starts at once when nothing is under way, so that the next line of the caller sees a busy vCPU. */
  #enqueue<T>(turn: () => T | Promise<T>): Promise<T> {
    const idle = this.#turns++ === 0;
    this.#busy = true;
    const result = idle ? settle(turn) : this.#tail.then(turn);
    const done = (): void => {
      this.#busy = --this.#turns > 0;
    };
    this.#tail = result.then(done, done);
    return result;
  }
}

const MAX_CPUID_ENTRIES = 256;
const PAGE_SIZE = 4096;
const finished: IteratorReturnResult<undefined> = Object.freeze({ done: true, value: undefined });

async function settle<T>(turn: () => T | Promise<T>): Promise<T> {
  return turn();
}
