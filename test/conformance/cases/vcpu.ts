/** KVM_CREATE_VCPU, the mapping of a vCPU, and what keeps what alive. */
import {
  EFD_NONBLOCK,
  F_GETFD,
  KVM_CHECK_EXTENSION,
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_GET_MP_STATE,
  KVM_GET_REGS,
  KVM_RUN,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from 'kvio/uapi';
import { type Case, define, hex } from '../case.ts';
import {
  addRam,
  getRegs,
  getSregs,
  mapRun,
  newVcpu,
  newVm,
  openKvm,
  RUN_SIZE,
  RunPage,
  setRegion,
  setRegs,
  setSregs,
} from '../machine.ts';

const lifetimes = 'References and destruction';

export const vcpuCases: Case[] = [
  define('kvm/vcpu/create', 'CREATE_VCPU', (kernel, see) => {
    const vm = newVm(kernel);
    const create = (label: string, id: number | bigint) => see.descriptor(label, () => kernel.ioctl(vm, KVM_CREATE_VCPU, id));
    for (const id of [
      4096n,
      5000n,
      0x7fffffffn,
      0x80000000n,
      0xffffffffn,
      1n << 32n,
      (1n << 32n) + 1n,
      1n << 63n,
      (1n << 64n) - 1n,
    ]) {
      create(`id ${hex(id)}`, id);
    }
    create('id 5 first', 5);
    create('id 0 after it', 0);
    create('id 4095', 4095);
    create('id 5 again', 5);
    create('id 4096 after others', 4096);
    const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, 9);
    kernel.close(vcpu);
    create('id of a closed vCPU', 9);
    create('a number between', 8);
    const other = newVm(kernel);
    see.descriptor('the same id in another VM', () => kernel.ioctl(other, KVM_CREATE_VCPU, 5));
    const a = kernel.ioctl(vm, KVM_CREATE_VCPU, 20);
    kernel.close(a);
    see.descriptor('one refused', () => kernel.ioctl(vm, KVM_CREATE_VCPU, 20));
    see.note('leaves no descriptor behind', kernel.ioctl(vm, KVM_CREATE_VCPU, 21) === a);
    see.call('is close-on-exec', () => kernel.fcntl(a, F_GETFD));
  }),
  define('kvm/vcpu/create-many', 'CREATE_VCPU', (kernel, see) => {
    const vm = newVm(kernel);
    const fds = Array.from({ length: 64 }, (_, at) => kernel.ioctl(vm, KVM_CREATE_VCPU, at * 3));
    see.note('64 sparse ids give different descriptors', new Set(fds).size === 64);
    see.call('link of the last', () => kernel.readlink(`/proc/self/fd/${fds[63]}`));
    see.descriptor('a used one', () => kernel.ioctl(vm, KVM_CREATE_VCPU, 189));
    see.descriptor('an unused one', () => kernel.ioctl(vm, KVM_CREATE_VCPU, 188));
  }),
  define('kvm/vcpu/initial-run-page', 'The vCPU mapping', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const run = mapRun(kernel, vcpu);
    for (const [name, page] of [
      ['kvm_run', 0],
      ['PIO data', 1],
      ['coalesced ring', 2],
    ] as const) {
      see.note(
        `${name} is zero`,
        run.bytes!.subarray(page * 4096, page * 4096 + 4096).every((byte) => byte === 0),
      );
    }
  }),
  define('kvm/vcpu/mmap', 'The vCPU mapping', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const map = (label: string, options: object) =>
      see.call(label, () => {
        kernel.mmap({ fd: vcpu, length: RUN_SIZE, view: false, ...options }).close();
        return 'mapped';
      });
    map('three pages', {});
    map('one byte', { length: 1 });
    map('one page', { length: 4096 });
    map('64 pages', { length: 64 * 4096 });
    map('at page 2', { length: 4096, offset: 0x2000 });
    map('at page 3', { length: 4096, offset: 0x3000 });
    map('at page 64', { length: 4096, offset: 64 * 4096 });
    map('at page 2^30', { length: 4096, offset: 1n << 42n });
    map('unaligned offset', { length: 4096, offset: 1 });
    map('read-only', { prot: PROT_READ });
    map('PROT_NONE', { prot: 0 });
    map('write-only', { prot: PROT_WRITE });
    map('PROT_EXEC', { prot: PROT_READ | PROT_EXEC });
    map('PROT_EXEC at page 3', { prot: PROT_EXEC, offset: 0x3000, length: 4096 });
    map('private', { flags: MAP_PRIVATE });
    map('private and PROT_EXEC', { flags: MAP_PRIVATE, prot: PROT_READ | PROT_EXEC });
    map('neither shared nor private', { flags: 0 });
    map('MAP_SHARED_VALIDATE', { flags: 3 });
    map('shared with MAP_NORESERVE', { flags: MAP_SHARED | 0x4000 });
  }),
  define(
    'kvm/vcpu/mmap-touch',
    'The vCPU mapping',
    (kernel, see) => {
      const { vcpu } = newVcpu(kernel);
      const wide = kernel.mmap({ fd: vcpu, length: 66 * 4096, view: false });
      for (const page of [0, 1, 2, 3, 4, 63, 64, 65]) {
        see.call(`read of page ${page}`, () => wide.read32(page * 4096));
        see.call(`write of page ${page}`, () => wide.write32(page * 4096 + 0x800, 0x1234));
      }
      const again = kernel.mmap({ fd: vcpu, length: RUN_SIZE, view: false });
      see.note(
        'another mapping shows the same bytes',
        [0, 1, 2].map((page) => hex(again.read32(page * 4096 + 0x800))),
      );
      const high = kernel.mmap({ fd: vcpu, length: 4096, offset: 0x2000, view: false });
      see.note('page 2 mapped alone', hex(high.read32(0x800)));
    },
    { needs: { features: ['exactAccess'] } },
  ),
  define('kvm/vcpu/ring-is-per-vm', 'The vCPU mapping', (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    const other = kernel.ioctl(vm, KVM_CREATE_VCPU, 1);
    const [a, b] = [mapRun(kernel, vcpu), mapRun(kernel, other)];
    for (const page of [0, 1, 2]) {
      a.write32(page * 4096 + 0xff0, 0x5555);
      see.note(`page ${page} of the other vCPU`, hex(b.read32(page * 4096 + 0xff0)));
    }
  }),
  define('kvm/vcpu/two-mappings', 'The vCPU mapping', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const [a, b] = [new RunPage(mapRun(kernel, vcpu)), new RunPage(mapRun(kernel, vcpu))];
    b.set('immediate_exit', 1);
    see.note('shared: seen through the other', a.get('immediate_exit'));
    see.call('KVM_RUN sees it', () => kernel.run(vcpu));
    b.memory.close();
    see.call('KVM_RUN after one is unmapped', () => kernel.run(vcpu));
    a.memory.close();
    see.call('KVM_RUN after both are unmapped', () => kernel.run(vcpu));
    see.note('mapped again: the byte is still there', new RunPage(mapRun(kernel, vcpu)).get('immediate_exit'));
  }),
  define('kvm/lifetimes/vcpu-outlives-vm-descriptor', lifetimes, (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    const ram = addRam(kernel, vm, 0, 0n, 0x1000);
    ram.bytes!.set([0xf4]);
    kernel.close(vm);
    see.call('KVM_GET_REGS', () => getRegs(kernel, vcpu).rip);
    setSregs(kernel, vcpu, (sregs) => Object.assign(sregs.cs, { base: 0n, selector: 0 }));
    setRegs(kernel, vcpu, { rip: 0n, rflags: 2n });
    const run = new RunPage(mapRun(kernel, vcpu));
    see.call('KVM_RUN', () => kernel.run(vcpu));
    see.note('exit_reason', run.get('exit_reason'));
    see.note('its memory is still there: rip', getRegs(kernel, vcpu).rip);
  }),
  define('kvm/lifetimes/mapping-outlives-vcpu', lifetimes, (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    const run = new RunPage(mapRun(kernel, vcpu));
    run.set('immediate_exit', 1);
    kernel.close(vcpu);
    see.note('the page after close', run.get('immediate_exit'));
    run.set('cr8', 5n);
    see.note('and writable', run.get('cr8'));
    see.descriptor('the id stays taken', () => kernel.ioctl(vm, KVM_CREATE_VCPU, 0));
    kernel.close(vm);
    see.note('the page after close of the VM', run.get('cr8'));
    run.memory.close();
    see.call('unmapped after all', () => run.memory.closed);
  }),
  define('kvm/lifetimes/dup-of-vcpu', lifetimes, (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    setRegs(kernel, vcpu, { rax: 0x77n });
    const twin = kernel.dup(vcpu);
    kernel.close(vcpu);
    kernel.close(vm);
    see.call('rax through the dup', () => getRegs(kernel, twin).rax);
    see.call('the link of the dup', () => kernel.readlink(`/proc/self/fd/${twin}`));
    see.note('mappable', mapRun(kernel, twin).length);
    see.call('the closed one', () => kernel.ioctl(vcpu, KVM_GET_REGS, new Uint8Array(144)));
  }),
  define('kvm/lifetimes/dup-of-vm', lifetimes, (kernel, see) => {
    const vm = newVm(kernel);
    const twin = kernel.dup(vm);
    setRegion(kernel, vm, { slot: 3, memory_size: 0x1000n });
    kernel.close(vm);
    see.call('the slot is there through the dup', () => setRegion(kernel, twin, { slot: 3 }));
    see.descriptor('a vCPU through the dup', () => kernel.ioctl(twin, KVM_CREATE_VCPU, 0));
    see.descriptor('its id again', () => kernel.ioctl(twin, KVM_CREATE_VCPU, 0));
  }),
  define('kvm/lifetimes/system-descriptor', lifetimes, (kernel, see) => {
    const kvm = openKvm(kernel);
    const vm = kernel.ioctl(kvm, KVM_CREATE_VM, 0);
    kernel.close(kvm);
    see.call('a VM without the system descriptor: CHECK_EXTENSION', () => kernel.ioctl(vm, KVM_CHECK_EXTENSION, 3));
    const vcpu = see.descriptor('and CREATE_VCPU', () => kernel.ioctl(vm, KVM_CREATE_VCPU, 0));
    see.call('the vCPU: GET_MP_STATE', () => kernel.ioctl(vcpu, KVM_GET_MP_STATE, new Uint8Array(4)));
  }),
  define('kvm/lifetimes/close-orders', lifetimes, (kernel, see) => {
    for (const order of ['kvm vm vcpu run', 'run vcpu vm kvm', 'vm vcpu run kvm', 'vcpu kvm run vm', 'vm kvm vcpu run']) {
      const kvm = openKvm(kernel);
      const vm = kernel.ioctl(kvm, KVM_CREATE_VM, 0);
      const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
      const ram = addRam(kernel, vm, 0, 0n, 0x1000);
      const run = mapRun(kernel, vcpu);
      ram.close();
      const parts: Record<string, () => void> = {
        kvm: () => kernel.close(kvm),
        vm: () => kernel.close(vm),
        vcpu: () => kernel.close(vcpu),
        run: () => run.close(),
      };
      for (const part of order.split(' ')) {
        parts[part]!();
        if (part === 'vm' && order.indexOf('vcpu') > order.indexOf('vm '))
          see.call(`${order}: vCPU after the VM`, () => getSregs(kernel, vcpu).cr0);
      }
      see.call(`${order}: vCPU at the end`, () => kernel.ioctl(vcpu, KVM_RUN));
    }
  }),
  define('kvm/lifetimes/ram-stays-for-the-slot', lifetimes, (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    const ram = addRam(kernel, vm, 0, 0n, 0x1000);
    ram.bytes!.set([0xb0, 0x42, 0xf4]); // mov al,0x42; hlt
    ram.close();
    setSregs(kernel, vcpu, (sregs) => Object.assign(sregs.cs, { base: 0n, selector: 0 }));
    setRegs(kernel, vcpu, { rip: 0n, rflags: 2n });
    see.call('KVM_RUN', () => kernel.run(vcpu));
    see.note('rax', getRegs(kernel, vcpu).rax);
  }),
  define('kvm/lifetimes/eventfd', lifetimes, (kernel, see) => {
    const fd = kernel.eventfd(0, EFD_NONBLOCK);
    const twin = kernel.dup(fd);
    kernel.write(fd, Uint8Array.of(7, 0, 0, 0, 0, 0, 0, 0));
    kernel.close(fd);
    const value = new Uint8Array(8);
    see.call('read through the dup', () => kernel.read(twin, value));
    see.note('count', value);
    see.call('the closed one', () => kernel.read(fd, value));
  }),
];
