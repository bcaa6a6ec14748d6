/** A confidential VM, with what the properties are judged by kept apart from the simulator: attributes, and frames that are committed to DMA. */
import type { GuestMemfd, Handle, Kvm, KvmVfio, Ram, Vcpu, Vm } from 'kvio';
import type { GuestAgent, SimKernel } from 'kvio/sim';
import * as u from 'kvio/uapi';
import { FRAMES, HOSTS, PAGE, result } from './world.ts';

/** What the simulator has of it: looked at, never changed. */
interface Inside {
  readonly vm: { readonly alive: boolean; readonly tdis: ReadonlySet<unknown> };
}

interface Inode {
  has(index: number): boolean;
  guestPage(index: number): { readonly u8: Uint8Array; readonly offset: number } | number;
}

export class GuestVm {
  readonly name: string;
  readonly #kernel: SimKernel;
  readonly ram: Ram;
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly memfd: GuestMemfd;
  readonly kvmVfio: KvmVfio;
  readonly #inside: Inside;
  readonly #inode: Inode;
  /** Frames whose attribute is private, by what was asked. */
  readonly isPrivate: Set<number> = new Set();
  readonly committed: Set<number> = new Set();
  hasRam = true;

  constructor(kernel: SimKernel, kvm: Kvm, name: string) {
    this.name = name;
    this.#kernel = kernel;
    this.ram = kernel.guestRam(FRAMES * 4096);
    this.ram.bytes.fill(HOSTS);
    this.vm = kvm.createVm(u.KVM_X86_SW_PROTECTED_VM);
    this.#inside = kernel.process.fds.get(this.vm.fd) as never;
    this.memfd = this.vm.createGuestMemfd(FRAMES * 4096);
    this.#inode = (kernel.process.fds.get(this.memfd.fd) as never as { inode: Inode }).inode;
    this.vcpu = this.vm.createVcpu(0);
    this.kvmVfio = this.vm.createDevice(u.KVM_DEV_TYPE_VFIO);
    this.addRam();
  }

  get handles(): readonly Handle[] {
    return [this.vm, this.vcpu, this.kvmVfio, this.memfd];
  }

  get alive(): boolean {
    return this.#inside.vm.alive;
  }

  get tdis(): ReadonlySet<unknown> {
    return this.#inside.vm.tdis;
  }

  /** Whether a TSM that has bound a TDI to `kvm` has bound it to this one. */
  is(kvm: unknown): boolean {
    return kvm === this.#inside.vm;
  }

  addRam(): void {
    const { ram: memory, memfd: guest_memfd } = this;
    this.vm.setUserMemoryRegion2({ slot: 0, flags: u.KVM_MEM_GUEST_MEMFD, guest_phys_addr: 0n, memory, guest_memfd });
    this.hasRam = true;
  }

  deleteSlot(slot: number): void {
    const nothing = {
      flags: 0,
      guest_phys_addr: 0n,
      memory_size: 0n,
      userspace_addr: 0n,
      guest_memfd: 0,
      guest_memfd_offset: 0n,
    };
    this.vm.setUserMemoryRegion2({ slot, ...nothing });
    if (slot !== 0) return;
    this.hasRam = false;
    this.committed.clear();
  }

  convert(gpa: bigint, pages: number, isPrivate: boolean): void {
    const attributes = isPrivate ? u.KVM_MEMORY_ATTRIBUTE_PRIVATE : 0n;
    this.vm.setMemoryAttributes({ address: gpa, size: BigInt(pages) * PAGE, attributes });
    for (let gfn = Number(gpa / PAGE); gfn < Number(gpa / PAGE) + pages; gfn++) {
      if (isPrivate) this.isPrivate.add(gfn);
      // A frame that was shared is not converted: TSM_MAP, which asks for no attribute, may have committed it.
      else if (this.isPrivate.delete(gfn)) this.committed.delete(gfn);
    }
  }

  /** Plays a guest: how its KVM_RUN ended. */
  play(script: GuestAgent): string {
    if (this.vcpu.closed) return 'closed';
    this.#kernel.agent(this.vcpu.fd, script);
    let reason = '';
    const called = result(() => {
      reason = this.vcpu.run().reason;
    });
    return called === 'done' ? reason : called;
  }

  /** The first bytes of every page there is, the host's and the guest's own, by name. */
  pages(): ReadonlyMap<string, Uint8Array> {
    const all = new Map<string, Uint8Array>();
    for (let gfn = 0; gfn < FRAMES; gfn++) {
      all.set(this.page('ram', gfn), this.ram.read(gfn * 4096, 16).slice());
      const page = this.#inode.has(gfn) ? this.#inode.guestPage(gfn) : 0;
      if (typeof page !== 'number') all.set(this.page('memfd', gfn), page.u8.slice(page.offset, page.offset + 16));
    }
    return all;
  }

  page(kind: 'ram' | 'memfd', gfn: number): string {
    return `${kind === 'ram' ? 'shared' : 'private'} page ${gfn} of ${this.name}`;
  }
}
