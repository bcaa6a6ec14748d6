// Which pages a guest writes to: by bitmap, with protection in our own hands, and by ring.
import { dirtyPages, Kvm, openKernel } from 'kvio';
import { KVM_CAP_DIRTY_LOG_RING, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_MEM_LOG_DIRTY_PAGES } from 'kvio/uapi';

const kernel = openKernel();
const kvm = Kvm.open(kernel);
const PAGES = 64;
const RING = 4096;

/** A VM whose guest writes pages 0, 3 and 7 of slot 1 and halts. `capability` is enabled before there is a vCPU. */
function guest(capability: number, value: bigint) {
  const vm = kvm.createVm();
  vm.enableCap({ cap: capability, flags: 0, args: [value, 0n, 0n, 0n] });
  const code = kernel.guestRam(0x1000);
  code.bytes.set([0xa2, 0, 0, 0xa2, 0, 0x30, 0xa2, 0, 0x70, 0xf4]); // mov [0],al; mov [0x3000],al; mov [0x7000],al; hlt
  vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: code });
  const memory = kernel.guestRam(PAGES * 0x1000);
  vm.setUserMemoryRegion({ slot: 1, flags: KVM_MEM_LOG_DIRTY_PAGES, guest_phys_addr: 0x10000n, memory });
  const vcpu = vm.createVcpu(0);
  const { cs, ds, ...sregs } = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cs: { ...cs, base: 0n, selector: 0 }, ds: { ...ds, base: 0x10000n, selector: 0x1000 } });
  const run = () => {
    vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });
    const { reason } = vcpu.run();
    if (reason !== 'hlt') throw new Error(`unexpected exit ${reason}`);
  };
  return { vm, vcpu, run };
}

const bitmap = kernel.guestRam(0x1000);
const show = (what: string) =>
  console.log(`${what}: ${[...dirtyPages(bitmap.bytes.subarray(0, PAGES / 8))].join(' ') || 'none'}`);

const plain = guest(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0n);
plain.run();
plain.vm.getDirtyLog({ slot: 1, dirty_bitmap: bitmap });
show('the guest wrote');
plain.vm.getDirtyLog({ slot: 1, dirty_bitmap: bitmap });
show('fetched already');

const manual = guest(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 1n);
manual.run();
manual.vm.getDirtyLog({ slot: 1, dirty_bitmap: bitmap });
show('manual protection');
bitmap.bytes[0] = 1 << 3;
manual.vm.clearDirtyLog({ slot: 1, num_pages: PAGES, dirty_bitmap: bitmap });
manual.vm.getDirtyLog({ slot: 1, dirty_bitmap: bitmap });
show('page 3 cleared');

const ring = guest(KVM_CAP_DIRTY_LOG_RING, BigInt(RING));
const entries = ring.vcpu.mapDirtyRing(RING);
for (const time of ['first', 'second']) {
  ring.run();
  console.log(
    `the ring, ${time} run: ${entries
      .harvest()
      .map(({ slot, offset }) => `${slot}:${offset}`)
      .join(' ')}`,
  );
  console.log(`${ring.vm.resetDirtyRings()} entries reset`);
}
entries.close();
kernel.close();
