/** KVM_SET_USER_MEMORY_REGION(2): slots that exist and do not, ranges that touch, overlap and wrap, addresses inside and outside memory. */
import { KVM_SET_USER_MEMORY_REGION, KVM_SET_USER_MEMORY_REGION2, kvm_userspace_memory_region2 } from 'kvio/uapi';
import type { Call, Patch, Ref } from '../call.ts';
import type { Choices } from '../choices.ts';
import { type Answer, type Step, succeeded } from '../step.ts';
import { put } from '../struct-bytes.ts';
import type { Descriptor, SlotMemory, VmState, World } from '../world.ts';

export interface Region {
  readonly slot: number;
  readonly flags: number;
  readonly gpa: bigint;
  readonly size: bigint;
  readonly hva: SlotMemory;
  /** KVM_SET_USER_MEMORY_REGION2, with this for guest_memfd. */
  readonly second?: { readonly guest_memfd: bigint | Ref; readonly offset: bigint };
}

const at = (path: string): { at: number; size: number } => ({
  at: kvm_userspace_memory_region2.offsetOf(path),
  size: kvm_userspace_memory_region2.sizeOf(path),
});
const MEMBERS = {
  slot: at('slot'),
  flags: at('flags'),
  gpa: at('guest_phys_addr'),
  size: at('memory_size'),
  hva: at('userspace_addr'),
};
const GUEST_MEMFD = { fd: at('guest_memfd'), offset: at('guest_memfd_offset') };

/** Makes the call, and remembers the slot where it was accepted. */
export function* setRegion(vm: Descriptor, region: Region): Generator<Call, void, Answer> {
  const { slot, flags, gpa, size, hva, second } = region;
  const bytes = new Uint8Array(second === undefined ? 32 : 160);
  const patches: Patch[] = [];
  for (const [member, value] of [
    [MEMBERS.slot, BigInt(slot)],
    [MEMBERS.flags, BigInt(flags)],
    [MEMBERS.gpa, gpa],
    [MEMBERS.size, size],
  ] as const)
    put(bytes, member, value);
  if ('memory' in hva) patches.push({ at: MEMBERS.hva.at, ref: hva.memory, what: 'address', plus: hva.offset });
  else put(bytes, MEMBERS.hva, hva.address);
  if (second !== undefined) {
    if (typeof second.guest_memfd === 'bigint') put(bytes, GUEST_MEMFD.fd, second.guest_memfd);
    else patches.push({ at: GUEST_MEMFD.fd.at, ref: second.guest_memfd, what: 'fd', plus: 0 });
    put(bytes, GUEST_MEMFD.offset, second.offset);
  }
  const name = second === undefined ? 'KVM_SET_USER_MEMORY_REGION' : 'KVM_SET_USER_MEMORY_REGION2';
  const request = second === undefined ? KVM_SET_USER_MEMORY_REGION : KVM_SET_USER_MEMORY_REGION2;
  const answer = yield { do: 'ioctl', fd: vm.name, request, name, arg: { is: 'bytes', bytes, patches }, unsafe: refused(region) };
  if (!succeeded(answer) || vm.file.vm === undefined) return;
  if (size === 0n) vm.file.vm.slots.delete(slot);
  else vm.file.vm.slots.set(slot, { gpa, size, hva, flags });
}

/** KVM refuses it whatever else is true: then nothing can come of an address nobody mapped, and the guard need not look at it. */
function refused({ size, hva }: Region): boolean {
  if ((size & 0xfffn) !== 0n || size > 0x7fffffff000n) return true;
  return 'address' in hva && (hva.address & 0xfffn) !== 0n;
}

const SLOTS = [0, 1, 2, 3, 4, 32763, 32764, 0xffff, 0x10000, 0x10001, 0xffff_ffff];
const FLAGS = [0, 1, 2, 3, 4, 5, 6, 8, 0x10000, 0x8000_0000];
const TOP = 1n << 52n;

function someGpa(c: Choices, vm: VmState, size: bigint): bigint {
  const slots = [...vm.slots.values()];
  const near = slots.length === 0 ? undefined : c.pick(slots);
  const value = c.weighted([
    [4, 0x1000n * BigInt(c.pick([0, 0x10, 0x20, 1, 2, 0xf, 0x30, 0x100000, 0xfee00]))],
    [
      4,
      near === undefined
        ? 0x10000n
        : c.pick([
            near.gpa,
            near.gpa + near.size,
            near.gpa - size,
            near.gpa + 0x1000n,
            near.gpa - 0x1000n,
            near.gpa + near.size - 0x1000n,
          ]),
    ],
    [1, c.pick([TOP - size, TOP, TOP - 0x1000n, TOP - size + 0x1000n, 1n << 36n, (1n << 64n) - 0x1000n, -size, 1n << 63n])],
    [1, c.pick([1n, 0xfffn, 0x800n, 0x1_0001n])],
  ]);
  return BigInt.asUintN(64, value);
}

function someHva(c: Choices, w: World, size: bigint): SlotMemory {
  const fitting = w.liveMemories().filter(({ length, of }) => BigInt(length) >= size && of?.vcpu === undefined);
  if (fitting.length > 0 && !c.chance(0.15)) {
    const memory = c.pick(fitting);
    const pages = Number((BigInt(memory.length) - size) >> 12n);
    return { memory: memory.name, offset: 0x1000 * c.below(pages + 1) };
  }
  return {
    address: c.pick([
      0n,
      0x1000n,
      0x8000n,
      0x800n,
      1n << 47n,
      (1n << 47n) - 0x1000n,
      0xffff_8000_0000_0000n,
      (1n << 64n) - 0x1000n,
      1n,
    ]),
  };
}

/** A change of a slot there is (delete, move, other flags, other size), or a new one. */
export const memslot: Step = function* (c, w) {
  const vms = w.live('vm');
  if (vms.length === 0) return;
  const vm = c.pick(vms);
  const state = vm.file.vm!;
  const existing = [...state.slots.entries()];
  if (existing.length > 0 && c.chance(0.4)) {
    const [slot, old] = c.pick(existing);
    const change = c.pick<Partial<Region>>([
      { size: 0n },
      {},
      { flags: c.pick(FLAGS) },
      { gpa: someGpa(c, state, old.size) },
      { gpa: someGpa(c, state, old.size), flags: c.pick(FLAGS) },
      { size: old.size + 0x1000n },
      { size: 0x1000n },
      { hva: someHva(c, w, old.size) },
      { size: 0n, gpa: 1n },
      { size: 0n, flags: c.pick(FLAGS) },
    ]);
    yield* setRegion(vm, { slot, ...old, ...change, ...second(c, w) });
    return;
  }
  if (existing.length >= 8) return;
  const size = c.weighted([
    [8, 0x1000n * BigInt(c.pick([16, 1, 2, 4]))],
    [1, 0n],
    [1, c.pick([1n, 0xfffn, 0x1001n, 1n << 43n, 1n << 47n, (1n << 64n) - 0x1000n, 1n << 63n])],
  ]);
  yield* setRegion(vm, {
    slot: c.pick(SLOTS),
    flags: c.weighted([
      [4, 0],
      [3, c.pick(FLAGS)],
    ]),
    gpa: someGpa(c, state, size),
    size,
    hva: someHva(c, w, size),
    ...second(c, w),
  });
};

function second(c: Choices, w: World): Pick<Region, 'second'> {
  if (!c.chance(0.4)) return {};
  const open = w.live();
  const nobody = BigInt.asUintN(32, c.pick([-1n, 0x7fff_ffffn, 0x100000n]));
  const guest_memfd = open.length > 0 && c.chance(0.5) ? c.pick(open).name : nobody;
  return { second: { guest_memfd, offset: c.pick([0n, 0x1000n, 1n, 1n << 63n, (1n << 64n) - 0x1000n]) } };
}
