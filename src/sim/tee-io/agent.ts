/**
 * The guest's side of confidential device assignment. No Arm processor, no TDX module and no SNP launch are simulated: on a vCPU given to `SimKernel.agent`, what
 * a trusted guest does is a script, a generator of TypeScript, and KVM_RUN plays it to the next exit.
 *
 *   kernel.agent(vcpuFd, function* (guest) {
 *     yield* guest.convert(mmio, 4, true);                        // KVM_EXIT_HYPERCALL: userspace changes the attributes
 *     const id = yield* guest.readMmio(mmio, 4, { private: true });
 *     while ((yield* guest.readMmio(mmio + 8n, 4)) !== 0) yield* guest.pause();
 *   });
 */
import { bytes, describe, integer, word } from '../../kernel/arguments.ts';
import { rangeError, typeError } from '../../kernel/errors.ts';
import { KVM_HC_MAP_GPA_RANGE, KVM_MAP_GPA_RANGE_DECRYPTED, KVM_MAP_GPA_RANGE_ENCRYPTED } from '../../uapi/kvm.ts';
import type { Input } from '../../uapi/struct.ts';
import type { aikV2, ccaV4 } from '../../uapi/tee-io.ts';
import type { TsmRequest, TsmResponse } from '../hardware/tsm/requests.ts';

/** How an access is made. */
export interface AccessKind {
  /** A private access or a shared one: where the frame's attribute says the other, KVM_RUN ends with −EFAULT and KVM_EXIT_MEMORY_FAULT. Default: as the attribute says. */
  readonly private?: boolean;
}

/** KVM_EXIT_ARM64_TIO as the guest has it made: `nr` is the call, 9 validates a mapping of device memory. */
export type TioCall = Omit<ccaV4.arm64_tio, 'flags' | 'response'>;

/** KVM_EXIT_VMGEXIT of type KVM_USER_VMGEXIT_TIO_REQ as the guest has it made. SEV-TIO v1 has `guest_rid` alone. */
export type VmgexitRequest = Pick<Input<aikV2.kvm_user_vmgexit['tio_req']>, 'guest_rid'> &
  Partial<Input<aikV2.kvm_user_vmgexit['tio_req']>>;

/** What userspace has answered in the payload. v1 has `ret` alone, and what the TSM has answered to KVM. */
export type VmgexitAnswer = aikV2.kvm_user_vmgexit['tio_req'] & { readonly response?: TsmResponse };

/** What the guest does next. KVM_RUN carries it out, leaves for userspace where the step does so, and answers when it comes back. */
export type GuestStep =
  | ({ readonly kind: 'read'; readonly gpa: bigint; readonly length: number } & AccessKind)
  | ({ readonly kind: 'write'; readonly gpa: bigint; readonly data: Uint8Array } & AccessKind)
  | { readonly kind: 'in'; readonly port: number; readonly size: 1 | 2 | 4 }
  | { readonly kind: 'out'; readonly port: number; readonly data: Uint8Array }
  | { readonly kind: 'hypercall'; readonly nr: bigint; readonly args: readonly bigint[] }
  | { readonly kind: 'ghci'; readonly args: readonly bigint[] }
  | { readonly kind: 'tio'; readonly call: TioCall }
  | { readonly kind: 'vmgexit'; readonly request: VmgexitRequest; readonly tsm: TsmRequest | undefined }
  | { readonly kind: 'hlt' }
  | { readonly kind: 'pause'; readonly instructions: number };

/** A part of a guest's script, by `yield*`. */
export type GuestScript<T = void> = Generator<GuestStep, T, unknown>;

/** A guest: when its script ends, the vCPU shuts down (KVM_EXIT_SHUTDOWN). */
export type GuestAgent = (guest: Guest) => GuestScript;

/**
 * The hypercall number by which a TDX guest's request of a device comes to userspace, as KVM_EXIT_HYPERCALL with six arguments. Ours: no series has said what
 * exit TDG.VP.VMCALL becomes for devices.
 */
export const TDX_GHCI_NR = 0x5444_4958n;

const PHYSICAL_BITS = 52n;
const MAX_ACCESS = 2 ** 30;
const MAX_PORT = 0xffff;

function address(gpa: unknown): bigint {
  if (typeof gpa !== 'bigint') throw typeError(`gpa must be a bigint, not ${describe(gpa)}`);
  if (gpa < 0n || gpa >> PHYSICAL_BITS !== 0n)
    throw rangeError(`gpa must have at most ${PHYSICAL_BITS} bits, not ${describe(gpa)}`);
  return gpa;
}

function widthOf<T extends number>(value: T, name: string, choices: readonly T[]): T {
  if (!choices.includes(value)) throw rangeError(`${name} must be one of ${choices.join(', ')}, not ${describe(value)}`);
  return value;
}

/** Steps as a script reads: each is a generator for `yield*`. */
export class Guest {
  /** Loads of guest memory or of what is mapped there, a page's worth at a time; of devices in accesses of at most 8 bytes. */
  *read(gpa: bigint, length: number, kind: AccessKind = {}): GuestScript<Uint8Array> {
    integer(length, 'length', 0, MAX_ACCESS);
    return (yield { kind: 'read', gpa: address(gpa), length, ...kind }) as Uint8Array;
  }

  *write(gpa: bigint, data: Uint8Array, kind: AccessKind = {}): GuestScript {
    yield { kind: 'write', gpa: address(gpa), data: bytes(data, 'data'), ...kind };
  }

  /** One load of 1, 2 or 4 bytes. */
  *readMmio(gpa: bigint, width: 1 | 2 | 4, kind: AccessKind = {}): GuestScript<number> {
    return Number(yield* this.#load(gpa, widthOf(width, 'width', [1, 2, 4]), kind));
  }

  /** One load of 8 bytes. */
  *readMmio64(gpa: bigint, kind: AccessKind = {}): GuestScript<bigint> {
    return yield* this.#load(gpa, 8, kind);
  }

  /** One store; of 8 bytes where the value is a bigint. */
  *writeMmio(gpa: bigint, width: 1 | 2 | 4 | 8, value: number | bigint, kind: AccessKind = {}): GuestScript {
    const data = new Uint8Array(8);
    widthOf(width, 'width', [1, 2, 4, 8]);
    new DataView(data.buffer).setBigUint64(0, BigInt.asUintN(width * 8, word(value, 'value')), true);
    yield* this.write(gpa, data.subarray(0, width), kind);
  }

  *#load(gpa: bigint, width: number, kind: AccessKind): GuestScript<bigint> {
    const data = new Uint8Array(8);
    data.set(yield* this.read(gpa, width, kind));
    return new DataView(data.buffer).getBigUint64(0, true);
  }

  /** IN. */
  *in(port: number, size: 1 | 2 | 4): GuestScript<number> {
    const data = new Uint8Array(4);
    integer(port, 'port', 0, MAX_PORT);
    data.set((yield { kind: 'in', port, size: widthOf(size, 'size', [1, 2, 4]) }) as Uint8Array);
    return new DataView(data.buffer).getUint32(0, true);
  }

  /** OUT. */
  *out(port: number, size: 1 | 2 | 4, value: number): GuestScript {
    const data = new Uint8Array(4);
    new DataView(data.buffer).setUint32(0, value, true);
    integer(port, 'port', 0, MAX_PORT);
    yield { kind: 'out', port, data: data.subarray(0, widthOf(size, 'size', [1, 2, 4])) };
  }

  /** A hypercall: what KVM or userspace answers. */
  *hypercall(nr: bigint, ...args: readonly bigint[]): GuestScript<bigint> {
    const words = args.map((arg, at) => word(arg, `argument ${at} of the hypercall`));
    return (yield { kind: 'hypercall', nr: word(nr, 'nr'), args: words }) as bigint;
  }

  /** KVM_HC_MAP_GPA_RANGE: asks for pages to be private, or shared; with KVM_CAP_EXIT_HYPERCALL of userspace. Answers 0 or −errno. */
  *convert(gpa: bigint, pages: number, isPrivate: boolean): GuestScript<bigint> {
    const attributes = isPrivate ? KVM_MAP_GPA_RANGE_ENCRYPTED : KVM_MAP_GPA_RANGE_DECRYPTED;
    const answer = yield* this.hypercall(BigInt(KVM_HC_MAP_GPA_RANGE), gpa, BigInt(pages), BigInt(attributes));
    return BigInt.asIntN(64, answer);
  }

  /** vendor 'tdx': TDG.VP.VMCALL for a device, with at most six arguments; `TDX_GHCI_NR` says how it comes to userspace. */
  *ghci(...args: readonly bigint[]): GuestScript<bigint> {
    return (yield { kind: 'ghci', args: args.map((arg, at) => word(arg, `argument ${at} of the call`)) }) as bigint;
  }

  /** vendor 'cca', KVM_EXIT_ARM64_TIO: the response, 0 accepts. EINVAL where userspace accepts a range that is not private by then. */
  *tio(call: TioCall): GuestScript<bigint> {
    return (yield { kind: 'tio', call }) as bigint;
  }

  /**
   * vendor 'sev' with the dialects 'aik-v1' or 'aik-v2', KVM_EXIT_VMGEXIT. v2 leaves for userspace each time. In v1 it is KVM that passes `tsm` on to the TSM, and makes MMIO
   * private that is to be validated: it leaves only while the TDI is not bound, so that userspace binds it.
   */
  *vmgexit(request: VmgexitRequest, tsm?: TsmRequest): GuestScript<VmgexitAnswer> {
    return (yield { kind: 'vmgexit', request, tsm }) as VmgexitAnswer;
  }

  /**
   * HLT: with a local APIC in the kernel the vCPU sleeps until an interrupt comes, else KVM_EXIT_HLT. The vector of the interrupt taken, which has ended then;
   * undefined for none.
   */
  *hlt(): GuestScript<number | undefined> {
    return (yield { kind: 'hlt' }) as number | undefined;
  }

  /** Lets time pass: as many instructions. */
  *pause(instructions = 1000): GuestScript {
    yield { kind: 'pause', instructions: integer(instructions, 'instructions', 0, Number.MAX_SAFE_INTEGER) };
  }
}
