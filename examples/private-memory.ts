// A guest with private memory: it converts pages by hypercall (KVM_HC_MAP_GPA_RANGE), and what it touches of private memory that is nowhere is an exit.
import { Kvm, openKernel } from 'kvio';
import {
  KVM_CAP_EXIT_HYPERCALL,
  KVM_CAP_VM_TYPES,
  KVM_MEM_GUEST_MEMFD,
  KVM_MEMORY_ATTRIBUTE_PRIVATE,
  KVM_X86_SW_PROTECTED_VM,
} from 'kvio/uapi';

const KVM_HC_MAP_GPA_RANGE = 12;
const GPA = 0x20000n; // what can be private: 64 KiB with a guest_memfd behind it
const NOWHERE = 0x50000n; // a page with no memory

const kernel = openKernel({ machine: 'amd-svm-7.2' }); // the machine, should it be a simulated one
const kvm = Kvm.open(kernel);
if ((kvm.checkExtension(KVM_CAP_VM_TYPES) & (1 << KVM_X86_SW_PROTECTED_VM)) === 0) {
  console.log('this kernel has no SW_PROTECTED VMs');
} else {
  demonstrate();
}
kernel.close();

function demonstrate(): void {
  const vm = kvm.createVm(KVM_X86_SW_PROTECTED_VM);
  vm.enableCap({ cap: KVM_CAP_EXIT_HYPERCALL, flags: 0, args: [1n << BigInt(KVM_HC_MAP_GPA_RANGE), 0n, 0n, 0n] });
  const code = kernel.guestRam(0x1000);
  const shared = kernel.guestRam(0x10000);
  const memfd = vm.createGuestMemfd(0x10000);
  vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: code });
  vm.setUserMemoryRegion2({ slot: 1, flags: KVM_MEM_GUEST_MEMFD, guest_phys_addr: GPA, memory: shared, guest_memfd: memfd });

  const convert = (isPrivate: boolean) => [
    ...[0x66, 0xb8, KVM_HC_MAP_GPA_RANGE, 0, 0, 0], // mov eax, 12
    ...[0x66, 0xbb, 0, 0, 2, 0], //                    mov ebx, 0x20000: from where
    ...[0x66, 0xb9, 1, 0, 0, 0], //                    mov ecx, 1: how many pages
    ...[0x66, 0xba, isPrivate ? 0x10 : 0, 0, 0, 0], // mov edx, 0x10: to private
    ...[0x0f, 0x01, 0xd9], //                          vmmcall
  ];
  const show = [0xa0, 0, 0, 0xe6, 0x10]; //                mov al, [0]; out 0x10, al
  const store = (value: number) => [0xc6, 0x06, 0, 0, value]; // mov byte [0], value
  const load = [0x64, 0xa0, 0, 0, 0xe6, 0x12]; //          mov al, fs:[0]; out 0x12, al
  code.write(
    0,
    Uint8Array.of(
      ...[...show, ...convert(true), ...show, ...store(0x5e), ...show], // its secret
      ...[...convert(false), ...show, ...convert(true), ...show, 0xe6, 0x11], // port 0x11: the host may punch a hole
      ...[...show, ...load, 0xf4],
    ),
  );
  shared.write8(0, 0x11);
  const vcpu = vm.createVcpu(0);
  const { cs, ds, fs, ...rest } = vcpu.getSregs();
  vcpu.setSregs({
    ...rest,
    cs: { ...cs, base: 0n, selector: 0 },
    ds: { ...ds, base: GPA, selector: Number(GPA >> 4n) },
    fs: { ...fs, base: NOWHERE, selector: Number(NOWHERE >> 4n) },
  });
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });
  vm.setMemoryAttributes({ address: NOWHERE, size: 0x1000n, attributes: KVM_MEMORY_ATTRIBUTE_PRIVATE });

  for (const exit of vcpu.exits()) {
    if (exit.reason === 'hlt') break;
    else if (exit.reason === 'hypercall') {
      const [address = 0n, pages = 0n, wish = 0n] = exit.args;
      const attributes = wish & 0x10n ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0n;
      vm.setMemoryAttributes({ address, size: pages * 0x1000n, attributes });
      exit.ret = 0n;
      console.log(`guest: ${pages} page at 0x${address.toString(16)} to be ${attributes === 0n ? 'shared' : 'private'}`);
    } else if (exit.reason === 'io' && exit.port === 0x10) {
      console.log(`guest reads 0x${exit.data[0]!.toString(16)}; the host's own byte there is 0x${shared.read8(0).toString(16)}`);
    } else if (exit.reason === 'io' && exit.port === 0x12) {
      console.log(`guest reads 0x${exit.data[0]!.toString(16)} where memory is now`);
    } else if (exit.reason === 'io') {
      memfd.punchHole(0, 0x1000);
      console.log('host: the private page is given back');
    } else if (exit.reason === 'memory_fault') {
      const { flags, gpa, size } = exit;
      console.log(
        `memory fault: ${flags & KVM_MEMORY_ATTRIBUTE_PRIVATE ? 'private' : 'shared'} 0x${gpa.toString(16)}, ${size} bytes`,
      );
      vm.setUserMemoryRegion({ slot: 2, guest_phys_addr: gpa, memory: kernel.guestRam(Number(size)) });
      vm.setMemoryAttributes({ address: gpa, size, attributes: 0n });
      console.log('host: memory there, shared');
    } else throw new Error(`unexpected exit ${exit.reason}`);
  }
}
