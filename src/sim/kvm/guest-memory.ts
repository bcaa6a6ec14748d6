import { KVM_MEM_READONLY } from '../../uapi/kvm.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

const PAGE = 4096n;

/** [address, length] of each page's share. */
function* pieces(gpa: bigint, length: number): Generator<readonly [gpa: bigint, at: number, length: number]> {
  for (let at = 0; at < length; ) {
    const from = gpa + BigInt(at);
    const part = Math.min(length - at, Number(PAGE - (from % PAGE)));
    yield [from, at, part];
    at += part;
  }
}

/** kvm_read_guest: KVM's own look at guest memory, which goes by the slots' `userspace_addr`. Null: not all of it is there. */
export function readGuest(vm: Vm, gpa: bigint, length: number): Uint8Array | null {
  const bytes = new Uint8Array(length);
  for (const [from, at, part] of pieces(gpa, length)) {
    const gfn = Number(from / PAGE);
    const slot = vm.memslots.find(gfn);
    if (slot === undefined) return null;
    const page = vm.mm.resolve(slot.userspace_addr + BigInt(gfn - slot.base_gfn) * PAGE, false);
    if (page === null) return null;
    const start = page.offset + Number(from % PAGE);
    bytes.set(page.u8.subarray(start, start + part), at);
  }
  return bytes;
}

/** kvm_write_guest: false where there is no memory, or it is read-only; what came before is written. The pages count as dirty. */
export function writeGuest(vm: Vm, gpa: bigint, bytes: Uint8Array, vcpu?: Vcpu): boolean {
  for (const [to, at, part] of pieces(gpa, bytes.length)) {
    const gfn = Number(to / PAGE);
    const slot = vm.memslots.find(gfn);
    if (slot === undefined || slot.flags & KVM_MEM_READONLY) return false;
    const page = vm.mm.resolve(slot.userspace_addr + BigInt(gfn - slot.base_gfn) * PAGE, true);
    if (page === null) return false;
    page.u8.set(bytes.subarray(at, at + part), page.offset + Number(to % PAGE));
    vm.dirty.mark(slot, gfn, vcpu);
  }
  return true;
}
