/** RFC: KVM_RUN of a vCPU whose guest is a script (src/sim/tee-io/agent.ts). */
import { describe } from '../../kernel/arguments.ts';
import { rangeError, typeError } from '../../kernel/errors.ts';
import {
  KVM_EXIT_HYPERCALL,
  KVM_EXIT_HYPERCALL_LONG_MODE,
  KVM_EXIT_SHUTDOWN,
  KVM_MEMORY_ATTRIBUTE_PRIVATE,
  KVM_MP_STATE_HALTED,
  KVM_MP_STATE_RUNNABLE,
  kvm_run,
} from '../../uapi/kvm.ts';
import { EFAULT, EINVAL, EIO } from '../../uapi/sys.ts';
import { aikV1, aikV2, ccaV4 } from '../../uapi/tee-io.ts';
import type { RamPage } from '../cpu/bus.ts';
import type { TsmRequest, TsmResponse } from '../hardware/tsm/requests.ts';
import type { TeeIo } from '../hardware/tsm/switches.ts';
import type { TdiContext } from '../hardware/tsm/tdi-context.ts';
import { PAGE_SIZE } from '../mm/pages.ts';
import { Guest, type GuestAgent, type GuestScript, type GuestStep, TDX_GHCI_NR, type VmgexitAnswer } from '../tee-io/agent.ts';
import type { Slice } from '../vcpu-like.ts';
import { changeAttributes } from './attributes.ts';
import { writeExit } from './exits.ts';
import { hypercall } from './hypercalls.ts';
import { MemoryFault } from './memory-fault.ts';
import { RUN } from './run-page.ts';
import type { Vcpu } from './vcpu.ts';

/** The exit's part of kvm_run. */
const UNION = kvm_run.offsetOf('hw');
const HYPERCALL_RET = kvm_run.offsetOf('hypercall.ret');
const MMIO_DATA = kvm_run.offsetOf('mmio.data');
const MAX_FRAGMENT = 8;
const PAGE = BigInt(PAGE_SIZE);
const PRIVATE = Number(KVM_MEMORY_ATTRIBUTE_PRIVATE);

/** The step goes on. */
const MORE: unique symbol = Symbol('more');

/** What takes userspace's answer when it comes back: the answer to the step, or MORE. */
type Completion = () => unknown;

/** 'idle': nothing until the vCPU is woken. 'more': the step has not ended. A function: there is an exit in kvm_run. */
type Progress = 'idle' | 'more' | Completion | { readonly answer: unknown };

type StepOf<K extends GuestStep['kind']> = Extract<GuestStep, { kind: K }>;

/** How far a step has come: it is taken up again where a fault or an exit has left it. */
interface Cursor {
  readonly data: Uint8Array;
  at: number;
}

export class Agent {
  readonly #vcpu: Vcpu;
  readonly #script: GuestScript;
  #step: GuestStep | undefined;
  #cursor: Cursor | undefined;
  #completion: Completion | undefined;
  #answer: unknown;

  constructor(vcpu: Vcpu, agent: GuestAgent) {
    this.#vcpu = vcpu;
    if (typeof agent !== 'function') throw typeError(`an agent is a generator function, not ${describe(agent)}`);
    this.#script = agent(new Guest());
    if (typeof this.#script?.next !== 'function' || typeof this.#script[Symbol.iterator] !== 'function')
      throw typeError(`an agent is a generator function, not one that returns ${describe(this.#script)}`);
  }

  /** KVM_RUN has come back from the last exit. */
  complete(): void {
    const completion = this.#completion;
    this.#vcpu.completion = undefined;
    this.#completion = undefined;
    if (completion === undefined) return;
    const answer = completion();
    if (answer !== MORE) this.#done(answer);
  }

  /** Steps, an instruction each, no further than to the machine's next timer. */
  run(fuel: number): Slice {
    const vcpu = this.#vcpu;
    const end = vcpu.cpu.executed + fuel;
    while (vcpu.cpu.executed < end && vcpu.ticksToTimer > 0) {
      if (vcpu.vm.dead) return -EIO;
      const step = this.#next();
      if (step === undefined) {
        vcpu.run.view.setUint32(RUN.exit_reason, KVM_EXIT_SHUTDOWN, true);
        return 0;
      }
      const progress = (steps[step.kind] as (agent: Agent, vcpu: Vcpu, step: GuestStep) => Progress)(this, vcpu, step);
      if (progress === 'idle') return 'idle';
      vcpu.cpu.spin(1);
      if (progress === 'more') continue;
      if (typeof progress === 'function') {
        this.#completion = progress;
        return 0;
      }
      this.#done(progress.answer);
    }
    return 'fuel';
  }

  /** The step under way, or else the script's next; undefined: it is over. */
  #next(): GuestStep | undefined {
    if (this.#step !== undefined) return this.#step;
    const answer = this.#answer;
    this.#answer = undefined;
    const { done, value } = this.#script.next(answer);
    if (done) return undefined;
    if (!Object.hasOwn(steps, value?.kind))
      throw typeError(`an agent yields steps of its Guest (yield* guest.read(…)), not ${describe(value)}`);
    return (this.#step = value);
  }

  #done(answer: unknown): void {
    this.#answer = answer;
    this.#step = undefined;
    this.#cursor = undefined;
  }

  cursor(data: () => Uint8Array): Cursor {
    return (this.#cursor ??= { data: data(), at: 0 });
  }
}

/** The page of an access; null: no RAM. An access of the other kind than the frame is ends in userspace. */
function page({ vm, bus }: Vcpu, gfn: number, write: boolean, wanted: boolean | undefined): RamPage | null {
  const isPrivate = vm.hasPrivateMemory && vm.isPrivate(gfn);
  if (wanted !== undefined && wanted !== isPrivate) throw new MemoryFault(gfn, wanted, -EFAULT);
  vm.mmioFrames.forget(gfn);
  return bus.page(gfn, write ? 'write' : 'read');
}

function access(
  vcpu: Vcpu,
  { gpa: base, private: wanted }: StepOf<'read' | 'write'>,
  cursor: Cursor,
  isWrite: boolean,
): Progress {
  const { data } = cursor;
  while (cursor.at < data.length) {
    const gpa = Number(base) + cursor.at;
    const within = gpa % PAGE_SIZE;
    const room = Math.min(data.length - cursor.at, PAGE_SIZE - within);
    const ram = page(vcpu, Math.floor(gpa / PAGE_SIZE), isWrite, wanted);
    if (ram !== null) {
      const bytes = ram.u8.subarray(ram.offset + within, ram.offset + within + room);
      if (isWrite) bytes.set(data.subarray(cursor.at, cursor.at + room));
      else data.set(bytes, cursor.at);
      cursor.at += room;
      continue;
    }
    const len = Math.min(room, MAX_FRAGMENT);
    const part = data.subarray(cursor.at, cursor.at + len);
    const found = isWrite ? vcpu.bus.mmioWrite(gpa, part) : vcpu.bus.mmioRead(gpa, len);
    if (found === false || found === null) {
      writeExit(vcpu, { kind: 'mmio', gpa, len, isWrite, data: part.slice() });
      return () => {
        if (!isWrite) part.set(vcpu.run.u8.subarray(MMIO_DATA, MMIO_DATA + len));
        cursor.at += len;
        return MORE;
      };
    }
    if (found !== true) part.set(found);
    cursor.at += len;
  }
  return { answer: isWrite ? undefined : data };
}

/** An exit no mainline kernel has on x86: its reason, and what lies in the union. */
function exit({ run, stats }: Vcpu, reason: number, payload: Uint8Array): void {
  run.u8.set(payload, UNION);
  run.view.setUint32(RUN.exit_reason, reason, true);
  stats.add('exits');
}

function needs(vcpu: Vcpu, what: string, of: (teeIo: TeeIo) => boolean, wants: string): void {
  const { teeIo } = vcpu.vm;
  if (teeIo === undefined || !of(teeIo)) throw rangeError(`the guest's ${what} needs a machine with teeIo ${wants}`);
}

const steps: { readonly [K in GuestStep['kind']]: (agent: Agent, vcpu: Vcpu, step: StepOf<K>) => Progress } = {
  read: (agent, vcpu, step) =>
    access(
      vcpu,
      step,
      agent.cursor(() => new Uint8Array(step.length)),
      false,
    ),
  write: (agent, vcpu, step) =>
    access(
      vcpu,
      step,
      agent.cursor(() => step.data.slice()),
      true,
    ),
  in(_agent, vcpu, { port, size }) {
    const found = vcpu.bus.pioRead(port, size, 1);
    if (found !== null) return { answer: found };
    writeExit(vcpu, { kind: 'io', direction: 'in', size, port, count: 1, data: new Uint8Array(size) });
    return () => vcpu.run.pio.slice(0, size);
  },
  out(_agent, vcpu, { port, data }) {
    if (vcpu.bus.pioWrite(port, data)) return { answer: undefined };
    writeExit(vcpu, { kind: 'io', direction: 'out', size: data.length as 1 | 2 | 4, port, count: 1, data });
    return () => undefined;
  },
  hypercall(_agent, vcpu, { nr, args }) {
    const call = { nr, args: [...args, 0n, 0n, 0n, 0n].slice(0, 4), cpl: 0, longMode: true };
    const answer = hypercall(vcpu, call);
    if (answer !== undefined) return { answer };
    writeExit(vcpu, { kind: 'hypercall', call });
    return () => vcpu.run.view.getBigUint64(HYPERCALL_RET, true);
  },
  ghci(_agent, vcpu, { args }) {
    needs(vcpu, 'GHCI request', ({ vendor }) => vendor === 'tdx', "vendor 'tdx'");
    const six = Array.from({ length: 6 }, (_, i) => args[i] ?? 0n);
    const words = [TDX_GHCI_NR, ...six, 0n, BigInt(KVM_EXIT_HYPERCALL_LONG_MODE)];
    exit(vcpu, KVM_EXIT_HYPERCALL, new Uint8Array(BigUint64Array.from(words).buffer));
    return () => vcpu.run.view.getBigUint64(HYPERCALL_RET, true);
  },
  tio(_agent, vcpu, { call }) {
    needs(vcpu, 'TIO call', ({ vendor }) => vendor === 'cca', "vendor 'cca'");
    exit(vcpu, ccaV4.KVM_EXIT_ARM64_TIO, ccaV4.arm64_tio.encode({ ...call, flags: 0n, response: 0n }));
    return () => {
      const view = ccaV4.arm64_tio.view(vcpu.run.u8.subarray(UNION, UNION + ccaV4.arm64_tio.size));
      const validated = call.nr === BigInt(ccaV4.ARM64_TIO_VALIDATE) && view.response === 0n;
      if (validated && !allPrivate(vcpu, call.gpa_base, call.gpa_top)) view.response = BigInt(EINVAL);
      return view.response;
    };
  },
  vmgexit(_agent, vcpu, step) {
    needs(vcpu, 'VMGEXIT', speaksVmgexit, "vendor 'sev' and dialect 'aik-v1' or 'aik-v2'");
    return vcpu.vm.teeIo!.dialects.includes('aik-v2') ? vmgexitV2(vcpu, step) : vmgexitV1(vcpu, step);
  },
  hlt(_agent, vcpu) {
    const { lapic } = vcpu;
    if (lapic === undefined) {
      writeExit(vcpu, { kind: 'hlt' });
      return () => injected(vcpu);
    }
    const vector = lapic.hasInterrupt ? lapic.take() : -1;
    vcpu.mpState = vector < 0 ? KVM_MP_STATE_HALTED : KVM_MP_STATE_RUNNABLE;
    if (vector < 0) return 'idle';
    lapic.endOfInterrupt();
    return { answer: vector };
  },
  pause(agent, _vcpu, { instructions }) {
    const cursor = agent.cursor(() => new Uint8Array());
    return ++cursor.at < instructions ? 'more' : { answer: undefined };
  },
};

const speaksVmgexit = ({ vendor, dialects }: TeeIo): boolean =>
  vendor === 'sev' && (dialects.includes('aik-v1') || dialects.includes('aik-v2'));

const NO_REQUEST = {
  ret: 0,
  flags: 0,
  tdi_status: 0,
  data_gpa: 0n,
  data_npages: 0n,
  req_spa: 0n,
  rsp_spa: 0n,
  mmio_gpa: 0n,
  fw_err: 0,
};

/** What KVM_INTERRUPT has brought. */
function injected({ cpu }: Vcpu): number | undefined {
  const { interrupt } = cpu.events;
  if (!interrupt.injected) return undefined;
  interrupt.injected = false;
  return interrupt.nr;
}

function allPrivate({ vm }: Vcpu, base: bigint, top: bigint): boolean {
  return vm.attributes.all(Number(base / PAGE), Number((top + PAGE - 1n) / PAGE), PRIVATE);
}

function vmgexitV2(vcpu: Vcpu, { request }: StepOf<'vmgexit'>): Progress {
  const { kvm_user_vmgexit, KVM_EXIT_VMGEXIT, KVM_USER_VMGEXIT_TIO_REQ: type } = aikV2;
  exit(vcpu, KVM_EXIT_VMGEXIT, kvm_user_vmgexit.encode({ type, tio_req: { ...NO_REQUEST, ...request } }));
  return () => kvm_user_vmgexit.decode(vcpu.run.u8.slice(UNION, UNION + kvm_user_vmgexit.size)).tio_req;
}

function vmgexitV1(vcpu: Vcpu, { request, tsm }: StepOf<'vmgexit'>): Progress {
  const { kvm_user_vmgexit, KVM_EXIT_VMGEXIT, KVM_USER_VMGEXIT_TIO_REQ: type } = aikV1;
  const { guest_rid } = request;
  const answer = (ret: number, response?: TsmResponse): VmgexitAnswer => ({
    ...NO_REQUEST,
    ...request,
    ret,
    ...(response && { response }),
  });
  const served = (tdi: TdiContext): VmgexitAnswer => {
    const response = tsm && serve(vcpu, tdi, tsm);
    return answer(Math.abs(response?.errno ?? 0), response);
  };
  const bound = boundTdi(vcpu, guest_rid);
  if (bound !== undefined) return { answer: served(bound) };
  exit(vcpu, KVM_EXIT_VMGEXIT, kvm_user_vmgexit.encode({ type, guest_rid, ret: 0 }));
  return () => {
    const { ret } = kvm_user_vmgexit.decode(vcpu.run.u8.slice(UNION, UNION + kvm_user_vmgexit.size));
    const now = ret === 0 ? boundTdi(vcpu, guest_rid) : undefined;
    return now === undefined ? answer(ret) : served(now);
  };
}

/** The TDI the guest knows by this requester id. */
function boundTdi({ vm, system }: Vcpu, rid: number): TdiContext | undefined {
  return system.tsm?.tdis.find(({ binding }) => binding?.kvm === vm && binding.virtId === BigInt(rid));
}

/** KVM makes MMIO private before the TSM looks whether it is. */
function serve({ vm }: Vcpu, tdi: TdiContext, request: TsmRequest): TsmResponse {
  if (request.op === 'validate-mmio' && request.gpaBase < request.gpaTop)
    changeAttributes(vm, Number(request.gpaBase >> 12n), Number(request.gpaTop >> 12n), PRIVATE);
  return tdi.request(request);
}
