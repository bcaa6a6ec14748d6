// What 32 764 memslots cost: set in random order, and deleted in another, through kernel.ioctl; once on each kernel.
import { KVM_CREATE_VM, KVM_SET_USER_MEMORY_REGION, kvm_userspace_memory_region } from 'kvio/uapi';

export const SLOTS = 32764;

/** 0 … count − 1, shuffled: the same for every kernel. */
function shuffled(count, seed) {
  const order = Array.from({ length: count }, (_, index) => index);
  let state = seed;
  for (let at = count - 1; at > 0; at--) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    const other = state % (at + 1);
    [order[at], order[other]] = [order[other], order[at]];
  }
  return order;
}

/** Nanoseconds a slot: `{ insert, remove }`. Slots of one page with a page between, all over the same memory. */
export function measureMemslots(kernel) {
  const kvm = kernel.open('/dev/kvm');
  const vm = kernel.ioctl(kvm, KVM_CREATE_VM, 0);
  const { address } = kernel.guestRam(4096);
  const region = (slot, memory_size) =>
    kvm_userspace_memory_region.encode({
      slot,
      flags: 0,
      guest_phys_addr: BigInt(slot) * 8192n,
      memory_size,
      userspace_addr: address,
    });
  const timed = (regions) => {
    const start = process.hrtime.bigint();
    for (const bytes of regions) kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, bytes);
    return Number(process.hrtime.bigint() - start) / regions.length;
  };
  const insert = timed(shuffled(SLOTS, 1).map((slot) => region(slot, 4096n)));
  const remove = timed(shuffled(SLOTS, 2).map((slot) => region(slot, 0n)));
  kernel.close(vm);
  kernel.close(kvm);
  return { insert, remove };
}
