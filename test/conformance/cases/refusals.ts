/** Sweeps: every method on descriptors that are not (or no longer) there, and every KVM request on descriptors of the wrong kind. */
import { type Kernel, Kvm, type Vcpu, type Vm } from 'kvio';
import * as uapi from 'kvio/uapi';
import { type Case, define, failure, type Needs, type Observer } from '../case.ts';
import { newVcpu, openKvm } from '../machine.ts';
import { kinds } from './files.ts';

/** Every method of `Kernel` that takes a descriptor. */
const methods: Readonly<Record<string, (kernel: Kernel, fd: number) => unknown>> = {
  close: (kernel, fd) => kernel.close(fd),
  dup: (kernel, fd) => kernel.dup(fd),
  fcntl: (kernel, fd) => kernel.fcntl(fd, uapi.F_GETFD),
  fstat: (kernel, fd) => kernel.fstat(fd).size,
  ioctl: (kernel, fd) => kernel.ioctl(fd, uapi.KVM_GET_API_VERSION),
  tryIoctl: (kernel, fd) => kernel.tryIoctl(fd, uapi.KVM_GET_API_VERSION),
  read: (kernel, fd) => kernel.read(fd, new Uint8Array(8)),
  write: (kernel, fd) => kernel.write(fd, new Uint8Array(8)),
  pread: (kernel, fd) => kernel.pread(fd, new Uint8Array(8), 0),
  pwrite: (kernel, fd) => kernel.pwrite(fd, new Uint8Array(8), 0),
  ftruncate: (kernel, fd) => kernel.ftruncate(fd, 0),
  fallocate: (kernel, fd) => kernel.fallocate(fd, 0, 0, 1),
  poll: (kernel, fd) => kernel.poll([{ fd }]),
  waitAsync: (kernel, fd) => kernel.waitAsync(fd),
  mmap: (kernel, fd) => kernel.mmap({ fd, length: 4096 }).length,
  run: (kernel, fd) => kernel.run(fd),
  runAsync: (kernel, fd) => kernel.runAsync(fd),
  kick: (kernel, fd) => kernel.kick(fd),
  kicker: (kernel, fd) => kernel.kicker(fd).kvio,
};

/** Methods that need no descriptor of the caller's, for a kernel that is closed. */
const others: Readonly<Record<string, (kernel: Kernel) => unknown>> = {
  open: (kernel) => kernel.open('/dev/kvm'),
  adopt: (kernel) => kernel.adopt(0),
  readlink: (kernel) => kernel.readlink('/proc/self/fd/0'),
  eventfd: (kernel) => kernel.eventfd(),
  memfd: (kernel) => kernel.memfd('x'),
  guestRam: (kernel) => kernel.guestRam(4096).length,
  mmap: (kernel) => kernel.mmap({ length: 4096 }).length,
  'poll of none': (kernel) => kernel.poll([]),
};

async function outcome(see: Observer, label: string, make: () => unknown): Promise<void> {
  try {
    const value = await make();
    see.note(label, value === undefined ? 'done' : value);
  } catch (error) {
    see.note(label, failure(error));
  }
}

const anywhere: { needs: Needs } = { needs: { devices: [] } };
const ebadf = 'EBADF';

function sweep(name: string, pick: (kernel: Kernel) => number, more: { needs?: Needs } = anywhere): Case {
  return define(
    `refusals/ebadf/${name}`,
    ebadf,
    async (kernel, see) => {
      for (const [method, call] of Object.entries(methods)) await outcome(see, method, () => call(kernel, pick(kernel)));
    },
    more,
  );
}

function closed(kernel: Kernel, fd: number): number {
  kernel.close(fd);
  return fd;
}

/** What each method of an object wants; all others are called without arguments. */
type Arguments = Readonly<Record<string, readonly unknown[]>>;

/** The methods of an object and of what it inherits from, in order, without those that do not act on the descriptor. */
function methodsOf(object: object): string[] {
  const names: string[] = [];
  for (
    let proto = Object.getPrototypeOf(object);
    proto !== Object.prototype && proto !== null;
    proto = Object.getPrototypeOf(proto)
  ) {
    for (const name of Object.getOwnPropertyNames(proto)) {
      const property = Object.getOwnPropertyDescriptor(proto, name)!;
      if (typeof property.value === 'function' && name !== 'constructor' && !names.includes(name)) names.push(name);
    }
  }
  return names.filter((name) => !['close', 'attach', 'describe', 'queue'].includes(name)).sort();
}

/** Every method of a closed object is EBADF; what is not, is noted with what it did. */
async function sweepObject(see: Observer, what: string, object: object, given: Arguments): Promise<void> {
  const others: string[] = [];
  for (const name of methodsOf(object)) {
    const method = (object as Record<string, (...given: unknown[]) => unknown>)[name]!;
    try {
      const made = await method.apply(object, [...(given[name] ?? [])]);
      // tryIoctl returns what the others throw.
      if (made === -uapi.EBADF) continue;
      // An iterable of exits does nothing until it is asked for the first.
      if (name === 'exits') (made as Iterable<unknown>)[Symbol.iterator]().next();
      others.push(name);
    } catch (error) {
      const { code, name: kind, message } = error as { code?: string; name: string; message: string };
      if (code !== 'EBADF') others.push(`${name}: ${code ?? `${kind} ${message}`}`);
    }
  }
  see.note(`${what}: methods that are not EBADF`, others);
}

function objects(kernel: Kernel): { kvm: Kvm; vm: Vm; vcpu: Vcpu; given: Record<'kvm' | 'vm' | 'vcpu', Arguments> } {
  const kvm = Kvm.open(kernel);
  const vm = kvm.createVm();
  const vcpu = vm.createVcpu(0);
  const memory = kernel.guestRam(4096);
  const slot = { slot: 0, guest_phys_addr: 0n, memory };
  const attr = { flags: 0, group: 0, attr: 0n, addr: memory.address };
  return {
    kvm,
    vm,
    vcpu,
    given: {
      kvm: {
        ioctl: [uapi.KVM_GET_API_VERSION],
        checkExtension: [0],
        createVm: [0],
        getMsrs: [[0xce]],
        getDeviceAttr: [attr],
        hasDeviceAttr: [attr],
      },
      vm: {
        ioctl: [uapi.KVM_CHECK_EXTENSION, 0],
        checkExtension: [0],
        createVcpu: [1],
        setUserMemoryRegion: [slot],
        setUserMemoryRegion2: [slot],
        setTssAddr: [0xfffbd000],
        setDeviceAttr: [attr],
        getDeviceAttr: [attr],
        hasDeviceAttr: [attr],
        armSetDeviceAddr: [{ id: 0n, addr: 0n }],
        armSetCounterOffset: [0n],
        armMteCopyTags: [{ guest_ipa: 0n, length: 4096n, memory }],
        armGetRegWritableMasks: [memory],
        createGuestMemfd: [4096],
        setMemoryAttributes: [{ address: 0n, size: 4096n, attributes: 0n }],
        createDevice: [uapi.KVM_DEV_TYPE_VFIO],
        hasDevice: [uapi.KVM_DEV_TYPE_VFIO],
        setIdentityMapAddr: [0xfffbc000n],
        setBootCpuId: [0],
        setNrMmuPages: [100],
        getIrqchip: [2],
        setIrqchip: [0, uapi.kvm_pic_state.decode(new Uint8Array(16))],
        irqLine: [0, 1],
        irqLineStatus: [0, 1],
        setPit2: [uapi.kvm_pit_state2.decode(uapi.kvm_pit_state2.alloc())],
        reinjectControl: [true],
        setGsiRouting: [[]],
        signalMsi: [{ address_lo: 0xfee00000, data: 0x20 }],
        irqfd: [{ fd: 0, gsi: 0 }],
        ioeventfd: [{ fd: 0, addr: 0n }],
        getDirtyLog: [{ slot: 0, dirty_bitmap: memory }],
        clearDirtyLog: [{ slot: 0, num_pages: 1, dirty_bitmap: memory }],
        registerCoalescedMmio: [{ addr: 0x1000n, size: 8 }],
        unregisterCoalescedMmio: [{ addr: 0x1000n, size: 8 }],
        enableCap: [{ cap: uapi.KVM_CAP_X86_DISABLE_EXITS, flags: 0, args: [0n, 0n, 0n, 0n] }],
        setClock: [vm.getClock()],
        setTscKhz: [0],
        setMsrFilter: [{}],
        setPmuEventFilter: [{ action: 0, fixed_counter_bitmap: 0, flags: 0, events: [] }],
      },
      vcpu: {
        ioctl: [uapi.KVM_RUN],
        interrupt: [0x20],
        setLapic: [{ regs: new Uint8Array(1024) }],
        tprAccessReporting: [false],
        setVapicAddr: [0n],
        mapDirtyRing: [4096],
        setRegs: [vcpu.getRegs()],
        setSregs: [vcpu.getSregs()],
        setSregs2: [{ ...vcpu.getSregs(), flags: 0n, pdptrs: [0n, 0n, 0n, 0n], interrupt_bitmap: undefined }].map(
          ({ interrupt_bitmap: _, ...sregs2 }) => sregs2,
        ),
        setCpuid2: [{ entries: [] }],
        getMsrs: [[0x174]],
        setMsrs: [{ entries: [{ index: 0x174, data: 1n }] }],
        setMpState: [{ mp_state: 0 }],
        setFpu: [vcpu.getFpu()],
        preFaultMemory: [{ gpa: 0n, size: 4096n }],
        setVcpuEvents: [vcpu.getVcpuEvents()],
        setDebugregs: [vcpu.getDebugregs()],
        setXcrs: [vcpu.getXcrs()],
        setXsave: [new Uint8Array(4096)],
        translate: [0n],
        setGuestDebug: [{ control: 0, arch: { debugreg: [0n, 0n, 0n, 0n, 0n, 0n, 0n, 0n] } }],
        setSignalMask: [undefined],
        enableCap: [{ cap: 190, flags: 0, args: [0n, 0n, 0n, 0n] }],
        setupMce: [10n],
        setMce: [{ status: 0n, addr: 0n, misc: 0n, mcg_status: 0n, bank: 0 }],
        armVcpuInit: [{ target: 0, features: [0, 0, 0, 0, 0, 0, 0] }],
        armVcpuFinalize: [4],
        setNestedState: [new Uint8Array(128)],
        getOneReg: [0n],
        setOneReg: [0n, 0n],
        setTscKhz: [0],
        hasDeviceAttr: [0, 0n],
        getDeviceAttr: [0, 0n],
        setDeviceAttr: [0, 0n, 0n],
      },
    },
  };
}

/** All KVM requests of the descriptors there are so far, by the kinds that know them. conformance.test.ts holds it against the ioctl table. */
export const requests: Readonly<Record<string, readonly string[]>> = {
  system: `GET_API_VERSION CREATE_VM GET_MSR_INDEX_LIST GET_VCPU_MMAP_SIZE GET_SUPPORTED_CPUID GET_EMULATED_CPUID
    GET_MSR_FEATURE_INDEX_LIST X86_GET_MCE_CAP_SUPPORTED GET_SUPPORTED_HV_CPUID`.split(/\s+/),
  'system VM': ['CHECK_EXTENSION'],
  'system vCPU': ['GET_MSRS'],
  'system device vCPU': ['GET_DEVICE_ATTR', 'HAS_DEVICE_ATTR'],
  'device vCPU': ['SET_DEVICE_ATTR'],
  VM: `CREATE_VCPU GET_DIRTY_LOG SET_NR_MMU_PAGES GET_NR_MMU_PAGES SET_USER_MEMORY_REGION SET_USER_MEMORY_REGION2 SET_TSS_ADDR
    SET_IDENTITY_MAP_ADDR CREATE_IRQCHIP IRQ_LINE IRQ_LINE_STATUS GET_IRQCHIP SET_IRQCHIP CREATE_PIT CREATE_PIT2 GET_PIT SET_PIT GET_PIT2 SET_PIT2
    REINJECT_CONTROL REGISTER_COALESCED_MMIO UNREGISTER_COALESCED_MMIO SET_GSI_ROUTING IRQFD IOEVENTFD SIGNAL_MSI SET_BOOT_CPU_ID SET_CLOCK
    GET_CLOCK SET_PMU_EVENT_FILTER MEMORY_ENCRYPT_OP MEMORY_ENCRYPT_REG_REGION MEMORY_ENCRYPT_UNREG_REGION CLEAR_DIRTY_LOG X86_SET_MSR_FILTER
    RESET_DIRTY_RINGS SET_MEMORY_ATTRIBUTES CREATE_GUEST_MEMFD CREATE_DEVICE XEN_HVM_CONFIG XEN_HVM_GET_ATTR XEN_HVM_SET_ATTR
    XEN_HVM_EVTCHN_SEND HYPERV_EVENTFD`.split(/\s+/),
  'VM vCPU': ['SET_TSC_KHZ', 'GET_TSC_KHZ', 'ENABLE_CAP', 'GET_STATS_FD'],
  vCPU: `RUN GET_REGS SET_REGS GET_SREGS SET_SREGS GET_SREGS2 SET_SREGS2 TRANSLATE INTERRUPT NMI SMI SET_MSRS SET_CPUID SET_CPUID2 GET_CPUID2
    SET_SIGNAL_MASK GET_FPU SET_FPU GET_LAPIC SET_LAPIC TPR_ACCESS_REPORTING SET_VAPIC_ADDR GET_MP_STATE SET_MP_STATE SET_GUEST_DEBUG
    X86_SETUP_MCE X86_SET_MCE GET_VCPU_EVENTS SET_VCPU_EVENTS GET_DEBUGREGS SET_DEBUGREGS GET_XSAVE SET_XSAVE GET_XSAVE2 GET_XCRS SET_XCRS
    GET_ONE_REG SET_ONE_REG GET_REG_LIST KVMCLOCK_CTRL GET_NESTED_STATE SET_NESTED_STATE PRE_FAULT_MEMORY
    XEN_VCPU_GET_ATTR XEN_VCPU_SET_ATTR`.split(/\s+/),
};

function wrongKind({ name, make }: (typeof kinds)[number]): Case {
  return define(`refusals/wrong-kind/${name}`, 'Requests on descriptors of another kind', (kernel, see) => {
    const fd = make(kernel);
    for (const [owners, list] of Object.entries(requests)) {
      if (owners.split(' ').includes(name)) continue;
      for (const request of list) {
        const number = (uapi as unknown as Record<string, number>)[`KVM_${request}`];
        if (number === undefined) throw new Error(`kvio/uapi has no KVM_${request}`);
        see.call(`KVM_${request}`, () => kernel.ioctl(fd, number, 0));
      }
    }
  });
}

export const refusalCases: Case[] = [
  sweep('closed', (kernel) => closed(kernel, kernel.eventfd())),
  sweep('closed vCPU', (kernel) => closed(kernel, newVcpu(kernel).vcpu), {}),
  sweep('never opened', () => 123456),
  sweep('of the process, not of the kernel', () => 1),
  sweep('negative', () => -1),
  sweep('2^31', () => 2 ** 31),
  sweep('NaN', () => Number.NaN),
  sweep('no number', () => '3' as unknown as number),
  define(
    'refusals/ebadf/closed kernel',
    ebadf,
    async (kernel, see) => {
      const fd = kernel.eventfd();
      const ram = kernel.guestRam(4096);
      kernel.close();
      see.note('closed', kernel.closed);
      for (const [method, call] of Object.entries(methods)) await outcome(see, method, () => call(kernel, fd));
      for (const [method, call] of Object.entries(others))
        if (!(method in methods)) await outcome(see, method, () => call(kernel));
      see.note('its memory is closed', ram.closed);
      see.call('and cannot be read', () => ram.read8(0));
      see.call('closing it again', () => kernel.close());
    },
    anywhere,
  ),
  define(
    'refusals/ebadf/closed memory',
    'Use after close',
    (kernel, see) => {
      const ram = kernel.guestRam(8192);
      const { address, length } = ram;
      const bytes = ram.bytes!;
      bytes.fill(7);
      see.note('memoryAt finds it', kernel.memoryAt(address, length) === ram);
      see.note('one byte more is not in it', kernel.memoryAt(address, length + 1) !== ram);
      ram.close();
      ram.close();
      see.note('closed', ram.closed);
      see.note('memoryAt then', kernel.memoryAt(address) === undefined);
      see.note(
        'a stale view reads zero',
        bytes.every((byte) => byte === 0),
      );
      see.call('read8', () => ram.read8(0));
      see.call('write32', () => ram.write32(0, 1));
      see.call('read', () => ram.read(0, 4));
      see.call('write', () => ram.write(0, new Uint8Array(4)));
      see.call('munmap', () => kernel.munmap(ram));
      see.call('madvise', () => kernel.madvise(ram, 4));
      see.call('mprotect', () => kernel.mprotect(ram, 3));
      const fd = kernel.eventfd();
      see.call('as an ioctl argument', () => kernel.ioctl(fd, uapi.KVM_GET_API_VERSION, ram));
    },
    anywhere,
  ),
  define(
    'refusals/memory-bounds',
    'Memory accessors',
    (kernel, see) => {
      const ram = kernel.guestRam(4096);
      for (const [label, call] of Object.entries({
        'read8 at the end': () => ram.read8(4096),
        'read8 of the last byte': () => ram.read8(4095),
        'read64 across the end': () => ram.read64(4092),
        'read at -1': () => ram.read(-1, 1),
        'read of too much': () => ram.read(0, 4097),
        'read of nothing at the end': () => ram.read(4096, 0).length,
        'write across the end': () => ram.write(4095, new Uint8Array(2)),
        'write8 of 256': () => ram.write8(0, 256),
        'write8 of -1': () => ram.write8(0, -1),
        'write32 of 2^32': () => ram.write32(0, 2 ** 32),
        'write64 of 2^64': () => ram.write64(0, 1n << 64n),
        'read8 at NaN': () => ram.read8(Number.NaN),
        'read8 at 0.5': () => ram.read8(0.5),
        'guestRam of 0': () => kernel.guestRam(0).length,
        'guestRam of 1': () => kernel.guestRam(1).length,
        'guestRam of -4096': () => kernel.guestRam(-4096).length,
        'mmap of 0': () => kernel.mmap({ length: 0 }).length,
        'mmap with MAP_FIXED': () => kernel.mmap({ length: 4096, flags: uapi.MAP_SHARED | uapi.MAP_FIXED }).length,
      })) {
        see.call(label, call as () => unknown);
      }
    },
    anywhere,
  ),
  define('refusals/ebadf/objects', 'Use after close', async (kernel, see) => {
    const { kvm, vm, vcpu, given } = objects(kernel);
    for (const object of [vcpu, vm, kvm]) object.close();
    for (const object of [vcpu, vm, kvm]) object.close();
    await sweepObject(see, 'Kvm', kvm, given.kvm);
    await sweepObject(see, 'Vm', vm, given.vm);
    await sweepObject(see, 'Vcpu', vcpu, given.vcpu);
  }),
  define('refusals/not-a-vcpu', 'Requests on descriptors of another kind', async (kernel, see) => {
    const vm = newVcpu(kernel).vm;
    for (const [name, fd] of Object.entries({ system: openKvm(kernel), VM: vm, eventfd: kernel.eventfd() })) {
      for (const method of ['run', 'runAsync', 'kick', 'kicker'])
        await outcome(see, `${method} on ${name}`, () => methods[method]!(kernel, fd));
    }
  }),
  ...kinds.map(wrongKind),
];
