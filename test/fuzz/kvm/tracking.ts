/** Dirty logs of slots that exist and do not, the settings they depend on, and coalesced zones around what guests write to. */
import {
  KVM_CAP_DIRTY_LOG_RING,
  KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
  KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP,
  KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
  KVM_CLEAR_DIRTY_LOG,
  KVM_ENABLE_CAP,
  KVM_GET_DIRTY_LOG,
  KVM_REGISTER_COALESCED_MMIO,
  KVM_RESET_DIRTY_RINGS,
  KVM_UNREGISTER_COALESCED_MMIO,
  kvm_clear_dirty_log,
  kvm_coalesced_mmio_zone,
  kvm_dirty_log,
  kvm_enable_cap,
} from 'kvio/uapi';
import type { Call, Patch } from '../call.ts';
import type { Choices } from '../choices.ts';
import type { Step, WeightedStep } from '../step.ts';
import type { VmState, World } from '../world.ts';

/** What a bitmap may take: memory of a page's length holds those of the slots that are made here. */
const ROOM = 0x1000;

const ioctl = (fd: string, name: string, request: number, bytes: Uint8Array, patches: readonly Patch[] = []): Call => ({
  ...{ do: 'ioctl', fd, request, name, unsafe: false },
  arg: { is: 'bytes', bytes, patches },
});

const someSlot = (c: Choices, { slots }: VmState): number => {
  const logged = [...slots].filter(([, { flags }]) => flags & 1).map(([slot]) => slot);
  return logged.length > 0 && c.chance(0.7)
    ? c.pick(logged)
    : c.pick([0, 1, ...slots.keys(), 32764, 0x10000, 0x20000, 0xffff_ffff]);
};

/** A bitmap in memory of the sequence, or nowhere. Nowhere only where the kernel writes nothing: 0 is never mapped. */
function bitmap(c: Choices, w: World, at: number): Patch[] {
  const rooms = w.rams().filter(({ length }) => length >= ROOM);
  if (rooms.length === 0 || c.chance(0.1)) return [];
  const { name, length } = c.pick(rooms);
  return [{ at, ref: name, what: 'address', plus: length - ROOM }];
}

const getLog: Step = function* (c, w) {
  const vms = w.live('vm');
  if (vms.length === 0) return;
  const vm = c.pick(vms);
  const bytes = kvm_dirty_log.encode({ slot: someSlot(c, vm.file.vm!), dirty_bitmap: 0n });
  const patches = bitmap(c, w, kvm_dirty_log.offsetOf('dirty_bitmap'));
  yield { ...ioctl(vm.name, 'KVM_GET_DIRTY_LOG', KVM_GET_DIRTY_LOG, bytes, patches), unsafe: patches.length === 0 } as Call;
};

const clearLog: Step = function* (c, w) {
  const vms = w.live('vm');
  if (vms.length === 0) return;
  const vm = c.pick(vms);
  const slot = someSlot(c, vm.file.vm!);
  const pages = Number((vm.file.vm!.slots.get(slot)?.size ?? 0x10000n) >> 12n);
  const num_pages = c.pick([pages, 0, 1, 63, 64, 128, pages + 1, 0xffff_ffff]);
  const first_page = c.pick([0n, 64n, 1n, 128n, BigInt(pages), (1n << 64n) - 64n]);
  const bytes = kvm_clear_dirty_log.encode({ slot, num_pages, first_page, dirty_bitmap: 0n });
  // Many pages are refused before their bitmap is read; the guard would refuse them first.
  const patches = num_pages > ROOM * 8 ? [] : bitmap(c, w, kvm_clear_dirty_log.offsetOf('dirty_bitmap'));
  yield { ...ioctl(vm.name, 'KVM_CLEAR_DIRTY_LOG', KVM_CLEAR_DIRTY_LOG, bytes, patches), unsafe: patches.length === 0 } as Call;
};

/** Rings that a guest does not fill: when a full one is noticed depends on the host where KVM's emulator runs the guest. */
const SIZES = [0x100000n, 0n, 1n, 2048n, 0x3000n, 0x200000n, 1n << 32n, (1n << 32n) + 0x100000n];

const settings: Step = function* (c, w) {
  const vms = w.live('vm');
  if (vms.length === 0) return;
  const vm = c.pick(vms).name;
  if (c.chance(0.2)) {
    yield {
      do: 'ioctl',
      fd: vm,
      request: KVM_RESET_DIRTY_RINGS,
      name: 'KVM_RESET_DIRTY_RINGS',
      arg: { is: 'none' },
      unsafe: false,
    };
    return;
  }
  const manual = c.chance(0.7);
  const cap = manual
    ? KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2
    : c.pick([KVM_CAP_DIRTY_LOG_RING, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP]);
  const value = manual ? c.pick([1n, 3n, 0n, 2n, 4n, 1n << 63n]) : c.pick(SIZES);
  const flags = c.chance(0.1) ? 1 : 0;
  yield ioctl(vm, 'KVM_ENABLE_CAP', KVM_ENABLE_CAP, kvm_enable_cap.encode({ cap, flags, args: [value, 0n, 0n, 0n] }));
};

const zone: Step = function* (c, w) {
  const vms = w.live('vm');
  if (vms.length === 0) return;
  const pio = c.pick([0, 1, 0, 1, 2]);
  const addr =
    pio === 1 ? BigInt(c.pick([0, 0x10, 0x80, 0x3f8, 0x12345])) : 0x1000n * BigInt(c.pick([0, 0x10, 0x20, 0x100, 0xb8]));
  const bytes = kvm_coalesced_mmio_zone.encode({
    addr: BigInt.asUintN(64, addr + c.pick([0n, 1n, 4n, -4n])),
    size: c.pick([0x1000, 4, 1, 0, 0x100000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]),
    pio,
  });
  const [name, request] = c.chance(0.3)
    ? (['KVM_UNREGISTER_COALESCED_MMIO', KVM_UNREGISTER_COALESCED_MMIO] as const)
    : (['KVM_REGISTER_COALESCED_MMIO', KVM_REGISTER_COALESCED_MMIO] as const);
  yield ioctl(c.pick(vms).name, name, request, bytes);
};

export const trackingSteps: readonly WeightedStep[] = [
  { weight: 6, name: 'KVM_GET_DIRTY_LOG', step: getLog },
  { weight: 4, name: 'KVM_CLEAR_DIRTY_LOG', step: clearLog },
  { weight: 3, name: 'dirty tracking', step: settings },
  { weight: 3, name: 'coalesced zone', step: zone },
];
