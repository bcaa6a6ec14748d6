import {
  KVM_EXIT_AP_RESET_HOLD,
  KVM_EXIT_ARM_LDST64B,
  KVM_EXIT_ARM_NISV,
  KVM_EXIT_ARM_SEA,
  KVM_EXIT_DEBUG,
  KVM_EXIT_DIRTY_RING_FULL,
  KVM_EXIT_EXCEPTION,
  KVM_EXIT_FAIL_ENTRY,
  KVM_EXIT_HLT,
  KVM_EXIT_HYPERCALL,
  KVM_EXIT_HYPERV,
  KVM_EXIT_INTERNAL_ERROR,
  KVM_EXIT_INTR,
  KVM_EXIT_IO,
  KVM_EXIT_IO_IN,
  KVM_EXIT_IOAPIC_EOI,
  KVM_EXIT_IRQ_WINDOW_OPEN,
  KVM_EXIT_MEMORY_FAULT,
  KVM_EXIT_MMIO,
  KVM_EXIT_NMI,
  KVM_EXIT_NOTIFY,
  KVM_EXIT_SET_TPR,
  KVM_EXIT_SHUTDOWN,
  KVM_EXIT_SNP_REQ_CERTS,
  KVM_EXIT_SYSTEM_EVENT,
  KVM_EXIT_TDX,
  KVM_EXIT_TPR_ACCESS,
  KVM_EXIT_UNKNOWN,
  KVM_EXIT_X86_BUS_LOCK,
  KVM_EXIT_X86_RDMSR,
  KVM_EXIT_X86_WRMSR,
  KVM_EXIT_XEN,
  KVM_INTERNAL_ERROR_EMULATION,
  KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES,
  kvm_run,
} from '../uapi/kvm.ts';
import type { Struct, unionMembers } from '../uapi/struct.ts';
import { KVM_EXIT_VMGEXIT, kvm_user_vmgexit } from '../uapi/tee-io/aik-v2.ts';
import { arm64_tio, KVM_EXIT_ARM64_TIO } from '../uapi/tee-io/cca-v4.ts';
import { describeExit, INSPECT } from './show.ts';

/** A member of the union in `struct kvm_run`. */
type Member =
  | 'hw'
  | 'ex'
  | 'io'
  | 'hypercall'
  | 'debug'
  | 'mmio'
  | 'fail_entry'
  | 'tpr_access'
  | 'internal'
  | 'system_event'
  | 'eoi'
  | 'hyperv'
  | 'arm_nisv'
  | 'msr'
  | 'xen'
  | 'notify'
  | 'memory_fault'
  | 'tdx'
  | 'arm_sea'
  | 'snp_req_certs';
type Fields<M extends Member> = Omit<kvm_run[M], typeof unionMembers>;
type Nothing = Record<never, never>;
type MsrFields = Omit<Fields<'msr'>, 'reason'> & {
  /** KVM_MSR_EXIT_REASON_*: the member's own `reason`, under another name since `reason` tells the exits apart. */
  msr_reason: number;
};

/** What each exit carries: the fields of its union member, in the kernel's spelling. */
interface Exits {
  unknown: Fields<'hw'>;
  exception: Fields<'ex'>;
  io: Fields<'io'> & {
    /** `count` × `size` bytes of the PIO data page, in place: what an OUT wrote; write the answer of an IN here. */
    readonly data: Uint8Array;
  };
  hypercall: Fields<'hypercall'>;
  debug: Fields<'debug'>;
  hlt: Nothing;
  mmio: Omit<Fields<'mmio'>, 'data'> & {
    /** The first `len` of the member's 8 bytes, in place: what was written; write the answer of a read here. */
    readonly data: Uint8Array;
  };
  irq_window_open: Nothing;
  shutdown: Nothing;
  fail_entry: Fields<'fail_entry'>;
  /** KVM_RUN was interrupted (EINTR): a kick, a signal, `immediate_exit`, or the end of the budget. */
  intr: Nothing;
  set_tpr: Nothing;
  tpr_access: Fields<'tpr_access'>;
  nmi: Nothing;
  internal_error: Omit<Fields<'internal'>, 'data'> & {
    /** The `ndata` words the kernel gave. */
    readonly data: readonly bigint[];
    /** KVM_INTERNAL_ERROR_EMULATION: the instruction that could not be emulated, where the kernel has its bytes. */
    readonly insn_bytes: Uint8Array | undefined;
  };
  system_event: Fields<'system_event'>;
  ioapic_eoi: Fields<'eoi'>;
  hyperv: Fields<'hyperv'>;
  arm_nisv: Fields<'arm_nisv'>;
  x86_rdmsr: MsrFields;
  x86_wrmsr: MsrFields;
  dirty_ring_full: Nothing;
  ap_reset_hold: Nothing;
  x86_bus_lock: Nothing;
  xen: Fields<'xen'>;
  notify: Fields<'notify'>;
  memory_fault: Fields<'memory_fault'>;
  tdx: Fields<'tdx'>;
  arm_sea: Fields<'arm_sea'>;
  arm_ldst64b: Fields<'arm_nisv'>;
  snp_req_certs: Fields<'snp_req_certs'>;
  /** RFC (aikV2; of aikV1 there are `type`, `guest_rid` and `ret` only): number 40, on a VM of another type than TDX. */
  vmgexit: kvm_user_vmgexit;
  /** RFC (ccaV4). */
  arm64_tio: arm64_tio;
}

type Named = { [R in keyof Exits]: { readonly reason: R } & { [K in keyof Exits[R]]: Exits[R][K] } };

/** An exit that this version has no name for. Its bytes are in `vcpu.kvmRun`. */
export interface OtherExit {
  readonly reason: 'other';
  /** `kvm_run.exit_reason`. */
  readonly number: number;
}

/**
 * Why KVM_RUN came back: `reason` is the constant without `KVM_EXIT_`, in lower case; the other fields are those of the member of
 * `struct kvm_run` that goes with it. Assigning to a field writes the page, which is how exits are answered.
 */
export type KvmExit = Named[keyof Exits] | OtherExit;

/** One kind of exit: `KvmExitOf<'io'>`. */
export type KvmExitOf<R extends KvmExit['reason']> = Extract<KvmExit, { reason: R }>;

interface Row {
  readonly number: number;
  readonly reason: keyof Exits;
  readonly member?: Member;
  /** RFC: what lies in the union, where `struct kvm_run` has no such member. */
  readonly layout?: Struct<kvm_user_vmgexit> | Struct<arm64_tio>;
  /** Fields that are not the member's own: derived, or under another name. */
  readonly special?: (run: kvm_run, page: Uint8Array) => Special;
  /** Whether userspace answers, given the exit: then its bytes stay in place also in an exit of its own. */
  readonly answered?: (run: kvm_run) => boolean;
}

type Special = Readonly<Record<string, { get(): unknown; set?(value: never): void } | null>>;

const always = (): boolean => true;

const rows: readonly Row[] = [
  { number: KVM_EXIT_UNKNOWN, reason: 'unknown', member: 'hw' },
  { number: KVM_EXIT_EXCEPTION, reason: 'exception', member: 'ex' },
  { number: KVM_EXIT_IO, reason: 'io', member: 'io', special: ioData, answered: (run) => run.io.direction === KVM_EXIT_IO_IN },
  { number: KVM_EXIT_HYPERCALL, reason: 'hypercall', member: 'hypercall', answered: always },
  { number: KVM_EXIT_DEBUG, reason: 'debug', member: 'debug' },
  { number: KVM_EXIT_HLT, reason: 'hlt' },
  { number: KVM_EXIT_MMIO, reason: 'mmio', member: 'mmio', special: mmioData, answered: (run) => run.mmio.is_write === 0 },
  { number: KVM_EXIT_IRQ_WINDOW_OPEN, reason: 'irq_window_open' },
  { number: KVM_EXIT_SHUTDOWN, reason: 'shutdown' },
  { number: KVM_EXIT_FAIL_ENTRY, reason: 'fail_entry', member: 'fail_entry' },
  { number: KVM_EXIT_INTR, reason: 'intr' },
  { number: KVM_EXIT_SET_TPR, reason: 'set_tpr' },
  { number: KVM_EXIT_TPR_ACCESS, reason: 'tpr_access', member: 'tpr_access' },
  { number: KVM_EXIT_NMI, reason: 'nmi' },
  { number: KVM_EXIT_INTERNAL_ERROR, reason: 'internal_error', member: 'internal', special: internalData },
  { number: KVM_EXIT_SYSTEM_EVENT, reason: 'system_event', member: 'system_event' },
  { number: KVM_EXIT_IOAPIC_EOI, reason: 'ioapic_eoi', member: 'eoi' },
  { number: KVM_EXIT_HYPERV, reason: 'hyperv', member: 'hyperv', answered: always },
  { number: KVM_EXIT_ARM_NISV, reason: 'arm_nisv', member: 'arm_nisv' },
  { number: KVM_EXIT_X86_RDMSR, reason: 'x86_rdmsr', member: 'msr', special: msrReason, answered: always },
  { number: KVM_EXIT_X86_WRMSR, reason: 'x86_wrmsr', member: 'msr', special: msrReason, answered: always },
  { number: KVM_EXIT_DIRTY_RING_FULL, reason: 'dirty_ring_full' },
  { number: KVM_EXIT_AP_RESET_HOLD, reason: 'ap_reset_hold' },
  { number: KVM_EXIT_X86_BUS_LOCK, reason: 'x86_bus_lock' },
  { number: KVM_EXIT_XEN, reason: 'xen', member: 'xen', answered: always },
  { number: KVM_EXIT_NOTIFY, reason: 'notify', member: 'notify' },
  { number: KVM_EXIT_MEMORY_FAULT, reason: 'memory_fault', member: 'memory_fault' },
  { number: KVM_EXIT_TDX, reason: 'tdx', member: 'tdx', answered: always },
  { number: KVM_EXIT_ARM_SEA, reason: 'arm_sea', member: 'arm_sea' },
  { number: KVM_EXIT_ARM_LDST64B, reason: 'arm_ldst64b', member: 'arm_nisv' },
  { number: KVM_EXIT_SNP_REQ_CERTS, reason: 'snp_req_certs', member: 'snp_req_certs', answered: always },
];

/** RFC: exits of series, which are no constants of the header. */
const arm64Tio: Row = { number: KVM_EXIT_ARM64_TIO, reason: 'arm64_tio', layout: arm64_tio, answered: always };
const vmgexit: Row = { number: KVM_EXIT_VMGEXIT, reason: 'vmgexit', layout: kvm_user_vmgexit, answered: always };

const rowOf: ReadonlyMap<number, Row> = new Map(rows.map((row) => [row.number, row]));

/** The names of exits by number: what `kvm_run.exit_reason` can say and this version can name. */
export const exitNames: ReadonlyMap<number, KvmExit['reason']> = new Map(rows.map((row) => [row.number, row.reason]));

function ioData(run: kvm_run, page: Uint8Array): Special {
  const { io } = run;
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  const offsetAt = kvm_run.offsetOf('io.data_offset');
  const countAt = kvm_run.offsetOf('io.count');
  const sizeAt = kvm_run.offsetOf('io.size');
  let data = page.subarray(0, 0);
  let from = 0;
  return {
    data: {
      // One exit after the other is usually alike: the same view serves as long as place and length do not change.
      get() {
        const length = view.getUint8(sizeAt) * view.getUint32(countAt, true);
        const offset = view.getUint32(offsetAt, true);
        if (length !== data.length || offset !== from) data = page.subarray((from = offset), offset + length);
        return data;
      },
      set: (value: Uint8Array) => page.set(value.subarray(0, io.size * io.count), Number(io.data_offset)),
    },
  };
}

function mmioData(run: kvm_run): Special {
  const { mmio } = run;
  const whole = mmio.data;
  const views = Array.from({ length: whole.length + 1 }, (_, length) => whole.subarray(0, length));
  const data = (): Uint8Array => views[mmio.len] ?? whole;
  return { data: { get: data, set: (value: Uint8Array) => data().set(value.subarray(0, mmio.len)) } };
}

function internalData({ internal, emulation_failure }: kvm_run): Special {
  const emulation = (): boolean =>
    internal.suberror === KVM_INTERNAL_ERROR_EMULATION &&
    internal.ndata > 0 &&
    (Number(emulation_failure.flags) & Number(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) !== 0;
  return {
    data: { get: () => internal.data.slice(0, internal.ndata) },
    insn_bytes: { get: () => (emulation() ? emulation_failure.insn_bytes.slice(0, emulation_failure.insn_size) : undefined) },
  };
}

function msrReason({ msr }: kvm_run): Special {
  return { reason: null, msr_reason: { get: () => msr.reason } };
}

/** The exits of one vCPU, over its mapped run page. */
export class ExitPage {
  /** The typed view of the page. */
  readonly run: kvm_run;
  readonly #page: Uint8Array;
  readonly #words: Uint32Array;
  /** Of `exit_reason`, in words. */
  readonly #reason: number = kvm_run.offsetOf('exit_reason') / 4;
  /** By exit_reason: made when first met, then the same object every time, whose properties read the page. */
  readonly #tdx: boolean;
  readonly #remembered: (KvmExit | undefined)[] = new Array<undefined>(64).fill(undefined);

  /** `tdx`: number 40 is KVM_EXIT_TDX, and not what SEV-TIO's series made of it. */
  constructor(page: Uint8Array, tdx = true) {
    this.#tdx = tdx;
    this.#page = page;
    this.#words = new Uint32Array(page.buffer, page.byteOffset, page.byteLength >> 2);
    this.run = kvm_run.view(page);
  }

  get reason(): number {
    return this.#words[this.#reason]!;
  }

  /** The exit the page holds, in the object that is reused for its kind. */
  current(): KvmExit {
    const number = this.#words[this.#reason]!;
    return this.#remembered[number] ?? this.#remember(number);
  }

  /** The exit the page holds, in an object of its own that stays as it is. Answers written to it still reach the page. */
  own(): KvmExit {
    const row = this.#row(this.reason);
    return row === undefined ? other(this.reason) : this.#make(row, true);
  }

  #remember(number: number): KvmExit {
    const row = this.#row(number);
    if (row === undefined) return other(number);
    return (this.#remembered[number] = this.#make(row, false));
  }

  #row(number: number): Row | undefined {
    if (number === KVM_EXIT_ARM64_TIO) return arm64Tio;
    return number === KVM_EXIT_VMGEXIT && !this.#tdx ? vmgexit : rowOf.get(number);
  }

  #make(row: Row, own: boolean): KvmExit {
    const exit = exitNamed(row.reason);
    const struct = row.layout ?? (row.member && kvm_run.field(row.member)!.struct!);
    if (struct === undefined) return exit;
    const member = (row.layout
      ? row.layout.view(this.#page, kvm_run.offsetOf('hw'))
      : this.run[row.member!]) as unknown as Record<string, unknown>;
    const special = row.special?.(this.run, this.#page) ?? {};
    const keep = own ? (value: unknown) => copied(value, row.answered?.(this.run) === true) : undefined;
    const names = new Set([...struct.fields.map((field) => field.name), ...Object.keys(special)]);
    for (const name of names) {
      const accessor =
        name in special ? special[name] : { get: () => member[name], set: (value: never) => (member[name] = value) };
      if (accessor)
        Object.defineProperty(exit, name, { ...(keep ? kept(accessor, keep) : accessor), enumerable: true, configurable: true });
    }
    return exit;
  }
}

const other = (number: number): KvmExit => exitNamed('other', { number });

function exitNamed(reason: KvmExit['reason'], fields: object = {}): KvmExit {
  return Object.defineProperty({ reason, ...fields } as KvmExit, INSPECT, {
    value(this: KvmExit): string {
      return `KvmExit ${describeExit(this)}`;
    },
  });
}

/** `{ reason: 'intr' }`: what EINTR of KVM_RUN is, whatever `exit_reason` says (after `immediate_exit` it is the previous exit's). */
export const interrupted: KvmExit = Object.freeze(exitNamed('intr'));

/** The value as it is now; what is assigned later is also written to the page. */
function kept(accessor: { get(): unknown; set?(value: never): void }, keep: (value: unknown) => unknown): PropertyDescriptor {
  let value = keep(accessor.get());
  const { set } = accessor;
  const get = (): unknown => value;
  if (set === undefined) return { get };
  return {
    get,
    set(next: unknown) {
      set(next as never);
      value = keep(accessor.get());
    },
  };
}

/** A copy of what the exit said; bytes and nested structs that wait for an answer stay the page's own. */
function copied(value: unknown, answered: boolean): unknown {
  if (value instanceof Uint8Array) return answered ? value : value.slice();
  if (Array.isArray(value)) return value.slice();
  if (typeof value === 'object' && value !== null && !answered) return (value as { toJSON(): unknown }).toJSON();
  return value;
}
