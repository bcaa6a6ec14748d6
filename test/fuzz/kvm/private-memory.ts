/** guest_memfds, attributes, pre-faulting, devices: over memory small enough for kernels that look at every page of a range. */
import * as k from 'kvio/uapi';
import type { Call, Patch } from '../call.ts';
import type { Choices } from '../choices.ts';
import { making, type Step, type WeightedStep } from '../step.ts';
import { put } from '../struct-bytes.ts';
import type { Descriptor, VmState, World } from '../world.ts';
import { setRegion } from './memslots.ts';

const requests = {
  KVM_CREATE_GUEST_MEMFD: k.KVM_CREATE_GUEST_MEMFD,
  KVM_SET_MEMORY_ATTRIBUTES: k.KVM_SET_MEMORY_ATTRIBUTES,
  KVM_PRE_FAULT_MEMORY: k.KVM_PRE_FAULT_MEMORY,
  KVM_CREATE_DEVICE: k.KVM_CREATE_DEVICE,
  KVM_SET_DEVICE_ATTR: k.KVM_SET_DEVICE_ATTR,
  KVM_GET_DEVICE_ATTR: k.KVM_GET_DEVICE_ATTR,
  KVM_HAS_DEVICE_ATTR: k.KVM_HAS_DEVICE_ATTR,
} as const;

/**
 * Made here alone: any range of private memory may take a real kernel all its memory, and a device's descriptor is a number in a struct, which
 * differs from kernel to kernel.
 */
export const privateRequests: readonly string[] = [
  'KVM_CREATE_GUEST_MEMFD',
  'KVM_SET_MEMORY_ATTRIBUTES',
  'KVM_PRE_FAULT_MEMORY',
  'KVM_CREATE_DEVICE',
];

const call = (fd: Descriptor, name: keyof typeof requests, bytes: Uint8Array, patches: readonly Patch[] = []): Call => ({
  ...{ do: 'ioctl', fd: fd.name, request: requests[name], name, arg: { is: 'bytes', bytes, patches }, unsafe: false },
});

const some = (c: Choices, w: World, kind: string): Descriptor | undefined => {
  const live = w.live(kind);
  return live.length === 0 ? undefined : c.pick(live);
};

/** The bytes of 64-bit members in a row. */
const words = (size: number, ...values: readonly bigint[]): Uint8Array => {
  const bytes = new Uint8Array(size);
  values.forEach((value, at) => {
    put(bytes, { at: at * 8, size: 8 }, BigInt.asUintN(64, value));
  });
  return bytes;
};

/** A SW_PROTECTED VM, where the kernel has them. */
const createProtectedVm: Step = function* (c, w) {
  const kvm = some(c, w, 'kvm');
  if (kvm === undefined) return;
  const vm: VmState = { slots: new Map(), ids: new Set() };
  const [name, request, value] = ['KVM_CREATE_VM', k.KVM_CREATE_VM, BigInt(k.KVM_X86_SW_PROTECTED_VM)] as const;
  yield* making(w, 'vm', { kind: 'vm', vm }, (as) => ({
    ...{ do: 'ioctl', fd: kvm.name, request, name, arg: { is: 'integer', value }, unsafe: false, as },
  }));
};

const createGuestMemfd: Step = function* (c, w) {
  const vm = some(c, w, 'vm');
  if (vm === undefined) return;
  const size = c.weighted([
    [6, 0x1000n * BigInt(c.pick([16, 1, 4]))],
    [1, c.pick([0n, 1n, 0x1001n, -0x1000n, 1n << 63n])],
  ]);
  const flags = c.weighted([
    [5, BigInt(c.below(4))],
    [1, 1n << BigInt(c.below(64))],
  ]);
  const bytes = words(k.kvm_create_guest_memfd.size, size, flags);
  yield* making(w, 'guest-memfd', { kind: 'guest-memfd' }, (as) => ({ ...call(vm, 'KVM_CREATE_GUEST_MEMFD', bytes), as }));
};

const GPAS = [0n, 0x1000n, 0x10000n, 0x20000n, 0x21000n, 0x30000n, 0x100000n];

/** A slot with a guest_memfd, of this VM or not. */
const bind: Step = function* (c, w) {
  const vm = some(c, w, 'vm');
  const memfd = some(c, w, 'guest-memfd');
  if (vm === undefined || memfd === undefined || vm.file.vm!.slots.size >= 8) return;
  const size = 0x1000n * BigInt(c.pick([1, 2, 4, 16, 17]));
  const plain = w.liveMemories().filter(({ length, of }) => BigInt(length) >= size && of === undefined);
  const hva = plain.length > 0 ? { memory: c.pick(plain).name, offset: 0 } : { address: 0n };
  const flags = c.weighted([
    [6, k.KVM_MEM_GUEST_MEMFD],
    [1, k.KVM_MEM_GUEST_MEMFD | 1 | c.below(4)],
  ]);
  const offset = 0x1000n * BigInt(c.pick([0, 0, 1, 4, 15, 16]));
  yield* setRegion(vm, { slot: c.below(6), flags, gpa: c.pick(GPAS), size, hva, second: { guest_memfd: memfd.name, offset } });
};

const attributes: Step = function* (c, w) {
  const vm = some(c, w, 'vm');
  if (vm === undefined) return;
  const [address, size] = c.weighted([
    [8, [c.pick(GPAS), 0x1000n * BigInt(c.pick([1, 2, 16, 32]))]],
    [1, [c.pick([1n, 1n << 52n, -0x1000n, -0x2000n]), 0x1000n]],
    [1, [c.pick(GPAS), c.pick([0n, 1n, 0xfffn, -0x1000n + 1n])]],
  ] as const);
  const value = c.weighted([
    [4, k.KVM_MEMORY_ATTRIBUTE_PRIVATE],
    [3, 0n],
    [1, 1n << BigInt(c.below(64))],
  ]);
  yield call(vm, 'KVM_SET_MEMORY_ATTRIBUTES', words(32, address, size, value, c.chance(0.05) ? 1n : 0n));
};

const preFault: Step = function* (c, w) {
  const vcpu = some(c, w, 'vcpu');
  if (vcpu === undefined) return;
  const size = 0x1000n * BigInt(c.pick([1, 2, 16, 32]));
  const odd = c.pick([1n, 0n, -0x1000n]);
  yield call(vcpu, 'KVM_PRE_FAULT_MEMORY', words(64, c.pick(GPAS), c.chance(0.9) ? size : odd, c.chance(0.05) ? 1n : 0n));
};

/** Types that are not there, and tests of all types. */
const testDevice: Step = function* (c, w) {
  const vm = some(c, w, 'vm');
  if (vm === undefined) return;
  const type = c.pick([k.KVM_DEV_TYPE_VFIO, 0, 1, 3, 5, 16, 17, 0x8000_0004, 0xffff_ffff]);
  const test = type === k.KVM_DEV_TYPE_VFIO || c.chance(0.5);
  const bytes = new Uint8Array(12);
  put(bytes, { at: 0, size: 4 }, BigInt(type));
  put(bytes, { at: 4, size: 4 }, BigInt(c.word()));
  put(bytes, { at: 8, size: 4 }, test ? BigInt(c.word() | 1) & 0xffff_ffffn : BigInt(c.below(3) * 2));
  yield call(vm, 'KVM_CREATE_DEVICE', bytes);
};

/** Device attributes of descriptors that have none, or others. */
const deviceAttribute: Step = function* (c, w) {
  const device = some(c, w, c.pick(['guest-memfd', 'vm']));
  if (device === undefined) return;
  const name = c.pick(['KVM_SET_DEVICE_ATTR', 'KVM_GET_DEVICE_ATTR', 'KVM_HAS_DEVICE_ATTR'] as const);
  const bytes = new Uint8Array(24);
  put(bytes, { at: 0, size: 4 }, BigInt(c.pick([0, 1])));
  put(bytes, { at: 4, size: 4 }, BigInt(c.pick([1, 1, 1, 0, 2])));
  put(bytes, { at: 8, size: 8 }, BigInt(c.pick([1, 2, 1, 2, 0, 3])));
  const memories = w.liveMemories().filter(({ view, of }) => view && of === undefined);
  if (memories.length === 0 || c.chance(0.3)) yield call(device, name, bytes);
  else yield call(device, name, bytes, [{ at: 16, ref: c.pick(memories).name, what: 'address', plus: 0 }]);
};

export const privateSteps: readonly WeightedStep[] = [
  { weight: 2, name: 'a SW_PROTECTED VM', step: createProtectedVm },
  { weight: 5, name: 'KVM_CREATE_GUEST_MEMFD', step: createGuestMemfd },
  { weight: 6, name: 'a slot with a guest_memfd', step: bind },
  { weight: 6, name: 'KVM_SET_MEMORY_ATTRIBUTES', step: attributes },
  { weight: 4, name: 'KVM_PRE_FAULT_MEMORY', step: preFault },
  { weight: 3, name: 'KVM_CREATE_DEVICE, as a test', step: testDevice },
  { weight: 3, name: 'attributes of no device', step: deviceAttribute },
];
