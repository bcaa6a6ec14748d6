/** /dev/kvm: every request the table has, on descriptors of every kind, and the steps that lead somewhere. */
import * as k from 'kvio/uapi';
import { type IoctlRow, ioctls } from 'kvio/uapi';
import type { Call } from '../call.ts';
import { type Choices, oddValue } from '../choices.ts';
import { excluded } from '../excluded.ts';
import { anyDescriptor, fileSteps, mapFile } from '../files.ts';
import { type Area, making, type Step, succeeded } from '../step.ts';
import { argumentOf } from '../struct-bytes.ts';
import type { Descriptor, FileState, VmState, World } from '../world.ts';
import { controllers, interruptSteps } from './interrupts.ts';
import { memslot } from './memslots.ts';
import { privateRequests, privateSteps } from './private-memory.ts';
import { trackingSteps } from './tracking.ts';
import { guest, tellAll, vcpuSteps } from './vcpus.ts';

const KINDS = ['kvm', 'vm', 'vcpu'] as const;
/** Those a step of its own makes with better arguments, or that need one. */
const elsewhere = new Set([
  'KVM_RUN',
  'KVM_CREATE_VM',
  'KVM_CREATE_VCPU',
  'KVM_SET_USER_MEMORY_REGION',
  'KVM_SET_USER_MEMORY_REGION2',
  ...privateRequests,
]);
const rows = ioctls().filter((row) => (row.arch ?? 'x86') === 'x86' && row.name.startsWith('KVM_') && !excluded.has(row.name));
const own = Object.fromEntries(
  KINDS.map((kind) => [kind, rows.filter((row) => row.fds.includes(kind) && !elsewhere.has(row.name))]),
);

/** Also those that are never called: not by their number either. */
const known = new Set(ioctls().flatMap(({ name, request }) => (name.startsWith('KVM_') ? [request] : [])));

const open: Step = function* (_c, w) {
  yield* making(w, 'kvm', { kind: 'kvm' }, (as) => ({ do: 'open', path: '/dev/kvm', as }));
};

const TYPES = [0n, 1n, 2n, 31n, 32n, 5n, 1n << 32n, (1n << 64n) - 1n];

const createVm: Step = function* (c, w) {
  const kvm = w.live('kvm');
  if (kvm.length === 0) return;
  const fd = c.pick(kvm).name;
  const vm: VmState = { slots: new Map(), ids: new Set() };
  const value = c.weighted([
    [6, 0n],
    [1, c.pick(TYPES)],
  ]);
  yield* making(w, 'vm', { kind: 'vm', vm }, (as) => integer(fd, 'KVM_CREATE_VM', k.KVM_CREATE_VM, value, as));
};

const IDS = [0n, 1n, 2n, 7n, 255n, 256n, 4095n, 4096n, 0xffff_ffffn, 1n << 32n, (1n << 64n) - 1n];

const createVcpu: Step = function* (c, w) {
  const vms = w.live('vm');
  if (vms.length === 0) return;
  const vm = c.pick(vms);
  const id = c.pick(IDS);
  const file: FileState = { kind: 'vcpu', vcpu: { vm: vm.file.vm!, id: Number(id), odd: false, pending: false } };
  yield* making(w, 'vcpu', file, (as) => integer(vm.name, 'KVM_CREATE_VCPU', k.KVM_CREATE_VCPU, id, as));
};

const integer = (fd: string, name: string, request: number, value: bigint, as?: string): Call => ({
  ...{ do: 'ioctl', fd, request, name, arg: value === 0n ? { is: 'none' } : { is: 'integer', value }, unsafe: false },
  ...(as === undefined ? {} : { as }),
});

/** A request on a descriptor. What returns a descriptor must not go unnoticed: then it is remembered. */
function* request(c: Choices, w: World, fd: Descriptor, row: IoctlRow): ReturnType<Step> {
  const arg = argumentOf(c, w, row);
  const call: Call & { do: 'ioctl' } = { do: 'ioctl', fd: fd.name, request: row.request, name: row.name, arg, unsafe: false };
  if (row.returns === undefined) {
    const answer = yield call;
    // Whatever bytes were taken: a guest is not to run on such segments.
    if (/^KVM_SET_(S?REGS|GUEST_DEBUG)/.test(row.name) && succeeded(answer) && fd.file.vcpu !== undefined)
      fd.file.vcpu.odd = true;
  } else yield* making(w, row.returns, { kind: row.returns }, (as) => ({ ...call, as }));
}

const ownRequest: Step = function* (c, w) {
  const kind = c.pick(['vcpu', 'vm', 'kvm'] as const);
  const fds = w.live(kind);
  if (fds.length > 0) yield* request(c, w, c.pick(fds), c.pick(own[kind]!));
};

/** Requests of other kinds of descriptors, on any descriptor; some bear numbers that mean another thing here. */
const foreignRequest: Step = function* (c, w) {
  const fd = anyDescriptor(c, w);
  const row = c.pick(rows);
  if (fd === undefined || elsewhere.has(row.name)) return;
  if (row.returns !== undefined && row.fds.includes(fd.file.kind as never)) return;
  yield* request(c, w, fd, row);
};

/** Requests the VFS answers for any file, before the file is asked; and a terminal's. */
const VFS = [0x541b, 0x5450, 0x5451, 0x5401, 0x5413, 0x5460, 2, 0x80044501];

/** A request with another size, direction or type; or none of KVM's. */
const unknownRequest: Step = function* (c, w) {
  const fd = anyDescriptor(c, w);
  if (fd === undefined) return;
  const near = c.pick(rows).request;
  const value = c.weighted([
    [3, () => (near ^ (1 << (16 + c.below(14)))) >>> 0],
    [2, () => (near ^ 0x8000_0000) >>> 0],
    [1, () => (near ^ (1 << (8 + c.below(8)))) >>> 0],
    [2, () => 0xae00 + c.below(256)],
    [1, () => c.pick(VFS)],
    [1, () => c.word()],
  ])();
  if (known.has(value) || excluded.has(`0x${value.toString(16)}`)) return;
  yield {
    do: 'ioctl',
    fd: fd.name,
    request: value,
    name: undefined,
    arg: { is: 'integer', value: c.pick([0n, 1n << 63n]) },
    unsafe: false,
  };
};

const capability: Step = function* (c, w) {
  const fd = c.pick([...w.live('vm'), ...w.live('kvm')]);
  if (fd === undefined) return;
  const value = c.chance(0.9) ? BigInt(c.below(260)) : oddValue(c, 8);
  yield integer(fd.name, 'KVM_CHECK_EXTENSION', k.KVM_CHECK_EXTENSION, value);
};

/** The simplest scene has nothing; the last is a guest with everything it needs. */
const scenes: readonly Step[] = [
  function* () {},
  open,
  function* (c, w) {
    yield* open(c, w);
    yield* createVm(c, w);
  },
  function* (c, w) {
    yield* vcpuScene(c, w);
  },
  function* (c, w) {
    yield* vcpuScene(c, w);
    yield* guest(c, w);
  },
  function* (c, w) {
    yield* vcpuScene(c, w);
    yield* guest(c, w);
  },
  function* (c, w) {
    yield* vcpuScene(c, w, controllers);
    if (c.chance(0.7)) yield* guest(c, w);
  },
];

function* vcpuScene(c: Choices, w: World, between?: Step): ReturnType<Step> {
  yield* making(w, 'kvm', { kind: 'kvm' }, (as) => ({ do: 'open', path: '/dev/kvm', as }));
  const vm: VmState = { slots: new Map(), ids: new Set() };
  const made = yield* making(w, 'vm', { kind: 'vm', vm }, (as) => integer('kvm0', 'KVM_CREATE_VM', k.KVM_CREATE_VM, 0n, as));
  if (made === undefined) return;
  if (between !== undefined) yield* between(c, w);
  const name = yield* making(w, 'vcpu', { kind: 'vcpu', vcpu: { vm, id: 0, odd: false, pending: false } }, (as) =>
    integer(made, 'KVM_CREATE_VCPU', k.KVM_CREATE_VCPU, 0n, as),
  );
  const vcpu = w.live('vcpu').find((one) => one.name === name);
  if (vcpu !== undefined && c.chance(0.7)) yield* mapFile(w, vcpu, { length: 0x3000, prot: 3, flags: 1, offset: 0n, view: true });
}

/** State of every vCPU, content of every memory, descriptors. */
const last: Step = function* (_c, w) {
  for (const vcpu of w.live('vcpu').filter((one, at, all) => all.findIndex(({ file }) => file === one.file) === at))
    yield* tellAll(vcpu);
  for (const { name, view, of } of w.liveMemories()) if (view && of?.vcpu === undefined) yield { do: 'look', memory: name };
  for (const { name } of w.descriptors) yield { do: 'fcntl', fd: name, command: k.F_GETFD, value: 0 };
};

export const kvmArea: Area = {
  name: 'kvm',
  devices: ['/dev/kvm'],
  scenes,
  last,
  steps: [
    { weight: 3, name: 'open', step: open },
    { weight: 4, name: 'KVM_CREATE_VM', step: createVm },
    { weight: 7, name: 'KVM_CREATE_VCPU', step: createVcpu },
    { weight: 18, name: 'memslot', step: memslot },
    ...vcpuSteps,
    ...interruptSteps,
    ...privateSteps,
    ...trackingSteps,
    { weight: 20, name: 'a request of its kind', step: ownRequest },
    { weight: 8, name: 'a request of another kind', step: foreignRequest },
    { weight: 6, name: 'an unknown request', step: unknownRequest },
    { weight: 4, name: 'KVM_CHECK_EXTENSION', step: capability },
    ...fileSteps,
  ],
};
