/** A SW_PROTECTED VM: private memory in a guest_memfd, conversion both ways, and the exit for what is private and nowhere. */
import type { Kernel, Memory } from 'kvio';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  KVM_CHECK_EXTENSION,
  KVM_CREATE_VCPU,
  KVM_EXIT_IO,
  KVM_EXIT_MEMORY_FAULT,
  KVM_X86_SW_PROTECTED_VM,
} from 'kvio/uapi';
import { type Case, define, type Observer, result } from '../case.ts';
import { addRam, getRegs, mapRun, RunPage, setRegs, setSregs } from '../machine.ts';
import { guestMemfd, PRIVATE, protectedVm, setAttributes, setGmem } from '../private.ts';

const KVM_CAP_VM_TYPES = 235;
const KVM_CAP_MEMORY_ATTRIBUTES = 233;
const KVM_CAP_GUEST_MEMFD = 234;

/** The slot with a guest_memfd, the one without; in reach of real-mode segments. */
const BOTH = 0x20000n;
const SHARED_ONLY = 0x30000n;
const SIZE = 0x10000;
const ENTRY = 0x1000;

/** loop: mov al,[0]; out 0x10,al; mov byte [0],0x5a; mov al,[0]; out 0x10,al; jmp loop */
const code = [0xa0, 0, 0, 0xe6, 0x10, 0xc6, 0x06, 0, 0, 0x5a, 0xa0, 0, 0, 0xe6, 0x10, 0xeb, 0xef];

interface Scene {
  readonly kernel: Kernel;
  readonly vm: number;
  readonly vcpu: number;
  readonly run: RunPage;
  readonly memfd: number;
  /** The shared side of the slot that has both. */
  readonly both: Memory;
  readonly sharedOnly: Memory;
}

function newScene(kernel: Kernel, see: Observer): Scene {
  const vm = protectedVm(kernel, see);
  const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
  addRam(kernel, vm, 0, 0n, SIZE).write(ENTRY, Uint8Array.from(code));
  const memfd = see.descriptor('CREATE_GUEST_MEMFD', () => guestMemfd(kernel, vm, BigInt(SIZE)));
  const both = kernel.guestRam(SIZE);
  see.call('SET_USER_MEMORY_REGION2 with a guest_memfd', () =>
    setGmem(kernel, vm, { slot: 1, gpa: BOTH, size: BigInt(SIZE), memfd, hva: both.address }),
  );
  const sharedOnly = addRam(kernel, vm, 2, SHARED_ONLY, SIZE);
  return { kernel, vm, vcpu, run: new RunPage(mapRun(kernel, vcpu)), memfd, both, sharedOnly };
}

/** Starts the loop over, with its data segment at `gpa`. */
function start({ kernel, vcpu }: Scene, gpa: bigint): void {
  setSregs(kernel, vcpu, (sregs) => {
    Object.assign(sregs.cs, { base: 0n, selector: 0 });
    Object.assign(sregs.ds, { base: gpa, selector: Number(gpa >> 4n) });
  });
  setRegs(kernel, vcpu, { rip: BigInt(ENTRY), rflags: 2n, rax: 0n });
}

function attributes({ kernel, vm }: Scene, gpa: bigint, attributes: bigint): number {
  return setAttributes(kernel, vm, gpa, 0x1000n, attributes);
}

/** The value the guest sends to its port, or why there is none. */
function next({ kernel, vcpu, run }: Scene): unknown {
  const returned = kernel.run(vcpu);
  const reason = Number(run.get('exit_reason'));
  if (returned === 0 && reason === KVM_EXIT_IO)
    return { port: run.get('io.port'), value: run.slice(Number(run.get('io.data_offset')), 1) };
  if (reason !== KVM_EXIT_MEMORY_FAULT) return { returned: result(returned), reason };
  return {
    returned: result(returned),
    flags: run.get('memory_fault.flags'),
    gpa: run.get('memory_fault.gpa'),
    size: run.get('memory_fault.size'),
    rip: getRegs(kernel, vcpu).rip,
  };
}

/** One turn of the loop: what the byte was, and is after the guest wrote 0x5a. */
function turn(see: Observer, scene: Scene, when: string): void {
  see.note(`${when}: before`, next(scene));
  see.note(`${when}: after`, next(scene));
}

function conversion(kernel: Kernel, see: Observer): void {
  const scene = newScene(kernel, see);
  const { vm, memfd, both } = scene;
  for (const [name, capability] of Object.entries({ KVM_CAP_VM_TYPES, KVM_CAP_MEMORY_ATTRIBUTES, KVM_CAP_GUEST_MEMFD })) {
    see.call(`CHECK_EXTENSION(${name}) of the VM`, () => kernel.ioctl(vm, KVM_CHECK_EXTENSION, capability));
  }
  both.write8(0, 0x11);
  start(scene, BOTH);
  turn(see, scene, 'shared');
  see.note('the shared page after it', both.read8(0));
  both.write8(0, 0x77);
  see.call('SET_MEMORY_ATTRIBUTES to private', () => attributes(scene, BOTH, PRIVATE));
  start(scene, BOTH);
  turn(see, scene, 'private');
  see.note('the shared page, meanwhile', both.read8(0));
  see.call('SET_MEMORY_ATTRIBUTES to shared', () => attributes(scene, BOTH, 0n));
  start(scene, BOTH);
  turn(see, scene, 'shared again');
  see.call('SET_MEMORY_ATTRIBUTES to private again', () => attributes(scene, BOTH, PRIVATE));
  start(scene, BOTH);
  turn(see, scene, 'private again');
  see.call('punching a hole', () => kernel.fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 0x1000));
  start(scene, BOTH);
  turn(see, scene, 'private, after the hole');
}

function fault(kernel: Kernel, see: Observer): void {
  const scene = newScene(kernel, see);
  scene.sharedOnly.write8(0, 0x33);
  start(scene, SHARED_ONLY);
  turn(see, scene, 'shared');
  see.call('SET_MEMORY_ATTRIBUTES to private', () => attributes(scene, SHARED_ONLY, PRIVATE));
  start(scene, SHARED_ONLY);
  see.note('private without a guest_memfd', next(scene));
  see.note('and again', next(scene));
  scene.sharedOnly.write8(0, 0x44);
  see.call('SET_MEMORY_ATTRIBUTES to shared', () => attributes(scene, SHARED_ONLY, 0n));
  turn(see, scene, 'converted, the same instruction');
}

function closedFile(kernel: Kernel, see: Observer): void {
  const scene = newScene(kernel, see);
  see.call('SET_MEMORY_ATTRIBUTES to private', () => attributes(scene, BOTH, PRIVATE));
  start(scene, BOTH);
  turn(see, scene, 'private');
  kernel.close(scene.memfd);
  start(scene, BOTH);
  see.note('after the guest_memfd was closed', next(scene));
}

const onProtected = { needs: { vmType: KVM_X86_SW_PROTECTED_VM } };

export const privateMemoryCases: readonly Case[] = [
  define('kvm/private/conversion', 'Private memory', conversion, onProtected),
  define('kvm/private/memory-fault', 'Private memory', fault, onProtected),
  define('kvm/private/closed-guest-memfd', 'Private memory', closedFile, onProtected),
];
