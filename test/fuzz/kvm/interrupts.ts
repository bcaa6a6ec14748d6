/** Interrupt controllers, routing, eventfds at both ends: VMs that have them from the start, and what is done to them. */
import * as k from 'kvio/uapi';
import type { Call, Patch } from '../call.ts';
import { type Choices, oddValue } from '../choices.ts';
import { type Step, succeeded, type WeightedStep } from '../step.ts';
import { leavesOf, put } from '../struct-bytes.ts';
import type { Descriptor, World } from '../world.ts';

type Name = keyof typeof requests;
const requests = {
  KVM_CREATE_IRQCHIP: k.KVM_CREATE_IRQCHIP,
  KVM_ENABLE_CAP: k.KVM_ENABLE_CAP,
  KVM_CREATE_PIT2: k.KVM_CREATE_PIT2,
  KVM_IRQ_LINE: k.KVM_IRQ_LINE,
  KVM_IRQ_LINE_STATUS: k.KVM_IRQ_LINE_STATUS,
  KVM_GET_IRQCHIP: k.KVM_GET_IRQCHIP,
  KVM_SET_IRQCHIP: k.KVM_SET_IRQCHIP,
  KVM_SET_GSI_ROUTING: k.KVM_SET_GSI_ROUTING,
  KVM_SIGNAL_MSI: k.KVM_SIGNAL_MSI,
  KVM_IRQFD: k.KVM_IRQFD,
  KVM_IOEVENTFD: k.KVM_IOEVENTFD,
} as const;

const call = (fd: Descriptor, name: Name, bytes?: Uint8Array, patches: readonly Patch[] = []): Call => ({
  do: 'ioctl',
  fd: fd.name,
  request: requests[name],
  name,
  arg: bytes === undefined ? { is: 'none' } : { is: 'bytes', bytes, patches },
  unsafe: false,
});

const someVm = (c: Choices, w: World): Descriptor | undefined => {
  const vms = w.live('vm');
  return vms.length === 0 ? undefined : c.pick(vms);
};

/** Controllers for a VM, most often while it has no vCPU yet. */
export const controllers: Step = function* (c, w) {
  const vm = someVm(c, w);
  if (vm === undefined) return;
  if (c.chance(0.4)) {
    const bytes = k.kvm_enable_cap.alloc();
    put(bytes, { at: 0, size: 4 }, BigInt(k.KVM_CAP_SPLIT_IRQCHIP));
    put(bytes, { at: 8, size: 8 }, c.pick([24n, 0n, 1n, 4096n, 4097n, 1n << 63n]));
    yield call(vm, 'KVM_ENABLE_CAP', bytes);
  } else if (succeeded(yield call(vm, 'KVM_CREATE_IRQCHIP')) && c.chance(0.3)) {
    const bytes = k.kvm_pit_config.alloc();
    put(bytes, { at: 0, size: 4 }, BigInt(c.below(3)));
    yield call(vm, 'KVM_CREATE_PIT2', bytes);
  }
};

const GSIS = [0, 1, 2, 4, 5, 7, 8, 9, 15, 16, 23, 24, 100, 4095, 4096, 0xffff_ffff];

const line: Step = function* (c, w) {
  const vm = someVm(c, w);
  if (vm === undefined) return;
  const bytes = new Uint8Array(8);
  put(bytes, { at: 0, size: 4 }, BigInt(c.pick(GSIS)));
  put(bytes, { at: 4, size: 4 }, BigInt(c.below(3)));
  yield call(vm, c.pick(['KVM_IRQ_LINE', 'KVM_IRQ_LINE_STATUS'] as const), bytes);
};

const chip = (id: number): Uint8Array => {
  const bytes = k.kvm_irqchip.alloc();
  put(bytes, { at: 0, size: 4 }, BigInt(id));
  return bytes;
};

/** A chip's state read, changed in a few members, and written back; then all of them looked at. */
const state: Step = function* (c, w) {
  const vm = someVm(c, w);
  if (vm === undefined) return;
  const id = c.below(4);
  const answer = yield call(vm, 'KVM_GET_IRQCHIP', chip(id));
  const seen = answer?.find(({ value }) => value instanceof Uint8Array)?.value;
  if (!succeeded(answer) || !(seen instanceof Uint8Array)) return;
  const bytes = Uint8Array.from(seen);
  const struct = (id === 2 ? k.kvm_ioapic_state : k.kvm_pic_state) as k.Struct<unknown>;
  for (let left = c.below(4); left > 0; left--) {
    const leaf = c.pick(leavesOf(struct));
    // Bits that mean nothing to KVM are kept by it, and what they do in its registers is not modelled: only what a guest could set.
    if (id === 2 && leaf.size === 8 && leaf.at > 0) put(bytes, { at: 8 + leaf.at, size: 8 }, redirection(c));
    else if (id !== 2) put(bytes, { at: 8 + leaf.at, size: leaf.size }, oddValue(c, leaf.size) & memberMask(leaf.name));
  }
  yield call(vm, 'KVM_SET_IRQCHIP', bytes);
  for (const other of [0, 1, 2]) yield call(vm, 'KVM_GET_IRQCHIP', chip(other));
};

/** Members that are states or flags have no more bits than those. */
function memberMask(name: string): bigint {
  if (name === 'init_state') return 3n;
  if (name === 'irq_base') return 0xf8n;
  if (name === 'priority_add') return 7n;
  if (['elcr', 'irr', 'imr', 'isr', 'last_irr', 'elcr_mask'].includes(name)) return 0xffn;
  return 1n;
}

function redirection(c: Choices): bigint {
  const modes = [0n, 0x100n, 0x200n, 0x400n, 0x700n];
  const flags = (c.chance(0.5) ? 0x10000n : 0n) | (c.chance(0.4) ? 0x8000n : 0n) | (c.chance(0.3) ? 0x800n : 0n);
  return (BigInt(c.pick([0, 1, 0xff, 2])) << 56n) | flags | c.pick(modes) | BigInt(0x10 + c.below(0xf0));
}

const routing: Step = function* (c, w) {
  const vm = someVm(c, w);
  if (vm === undefined) return;
  const count = c.below(5);
  const bytes = new Uint8Array(k.kvm_irq_routing.size + count * k.kvm_irq_routing_entry.size);
  put(bytes, { at: 0, size: 4 }, BigInt(count));
  if (c.chance(0.05)) put(bytes, { at: 4, size: 4 }, 1n);
  for (let n = 0; n < count; n++) {
    const from = k.kvm_irq_routing.size + n * k.kvm_irq_routing_entry.size;
    const type = c.weighted([
      [4, 1],
      [4, 2],
      [1, c.pick([0, 3, 6])],
    ]);
    const words =
      type === 2
        ? [c.pick([0xfee0_0000, 0xfee0_1000, 0xfee0_1004, 0, 0xfeef_f000]), c.pick([0, 0, 0, 1, 0x100]), message(c)]
        : [c.below(4), c.pick([0, 1, 5, 7, 8, 15, 23, 24])];
    for (const [i, value] of [c.pick(GSIS), type, c.chance(0.1) ? 1 : 0, 0, ...words].entries())
      put(bytes, { at: from + 4 * i, size: 4 }, BigInt(value));
  }
  yield call(vm, 'KVM_SET_GSI_ROUTING', bytes);
};

/** Data of an MSI: fixed, lowest priority, NMI; a vector; level or edge. */
const message = (c: Choices): number =>
  c.pick([0, 0x100, 0x400, 0x400, 0x300]) | (0x10 + c.below(0xf0)) | (c.chance(0.2) ? 0xc000 : 0);

const msi: Step = function* (c, w) {
  const vm = someVm(c, w);
  if (vm === undefined) return;
  const bytes = k.kvm_msi.alloc();
  const words = [c.pick([0xfee0_0000, 0xfee0_1000, 0xfee0_1004, 0, 0xfeef_f000]), c.pick([0, 0, 0, 0x100, 1]), message(c)];
  for (const [i, value] of words.entries()) put(bytes, { at: 4 * i, size: 4 }, BigInt(value));
  put(bytes, { at: 12, size: 4 }, BigInt(c.pick([0, 0, 0, 1, 2])));
  yield call(vm, 'KVM_SIGNAL_MSI', bytes);
};

/** Only of GSIs no controller has a pin of: the others are injected by a thread of the kernel's, some time later. */
const irqfd: Step = function* (c, w) {
  const vm = someVm(c, w);
  const fds = w.live('eventfd');
  if (vm === undefined || fds.length === 0) return;
  const bytes = k.kvm_irqfd.alloc();
  put(bytes, { at: k.kvm_irqfd.offsetOf('gsi'), size: 4 }, BigInt(c.pick([100, 4095, 4096, 0xffff_ffff])));
  put(bytes, { at: k.kvm_irqfd.offsetOf('flags'), size: 4 }, BigInt(c.pick([0, 0, 1, 4])));
  yield call(vm, 'KVM_IRQFD', bytes, [{ at: 0, ref: c.pick(fds).name, what: 'fd', plus: 0 }]);
};

const ioeventfd: Step = function* (c, w) {
  const vm = someVm(c, w);
  const fds = w.live('eventfd');
  if (vm === undefined || fds.length === 0) return;
  const bytes = k.kvm_ioeventfd.alloc();
  const at = (field: string): number => k.kvm_ioeventfd.offsetOf(field);
  const port = c.chance(0.6);
  put(
    bytes,
    { at: at('addr'), size: 8 },
    port ? BigInt(c.pick([0, 1, 0x7f, 0x80, 0xff, 0x7fff])) : c.pick([0x10000n, 0x20000n, 0x12000n]),
  );
  put(bytes, { at: at('len'), size: 4 }, BigInt(c.pick([0, 1, 2, 4, 8, 3])));
  put(bytes, { at: at('datamatch'), size: 8 }, BigInt(c.pick([0, 1, 0x7f, 0xff])));
  put(bytes, { at: at('flags'), size: 4 }, BigInt((port ? 2 : 0) | c.pick([0, 0, 1, 4, 5, 8, 0x20])));
  yield call(vm, 'KVM_IOEVENTFD', bytes, [{ at: at('fd'), ref: c.pick(fds).name, what: 'fd', plus: 0 }]);
};

export const interruptSteps: readonly WeightedStep[] = [
  { weight: 5, name: 'controllers', step: controllers },
  { weight: 8, name: 'KVM_IRQ_LINE', step: line },
  { weight: 5, name: 'KVM_SET_IRQCHIP', step: state },
  { weight: 5, name: 'KVM_SET_GSI_ROUTING', step: routing },
  { weight: 5, name: 'KVM_SIGNAL_MSI', step: msi },
  { weight: 3, name: 'KVM_IRQFD', step: irqfd },
  { weight: 6, name: 'KVM_IOEVENTFD', step: ioeventfd },
];
