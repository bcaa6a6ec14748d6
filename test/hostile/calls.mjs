/** The calls: `[weight, name, (world, values, random) => result]`. Every one is made with arguments from values.mjs, right or wrong. */
import { openSync } from 'node:fs';
import {
  ioctls,
  KVM_CHECK_EXTENSION,
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_GET_DEVICE_ATTR,
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KVM_RUN,
  KVM_SET_REGS,
  KVM_SET_SREGS,
  KVM_SET_USER_MEMORY_REGION,
} from 'kvio/uapi';

const O_NONBLOCK = 0x800;
const MAP_POPULATE_OR_LOCKED = 0x8000 | 0x2000;

/**
 * Not called blindly, since what they do then is what they are for: KVM_SET_SIGNAL_MASK may mask the signal that ends a run;
 * KVM_RUN may block for ever (it is called with a kick pending, below).
 */
const excluded = new Set(['KVM_SET_SIGNAL_MASK', 'KVM_RUN']);
const ours = { kvm: 'kvm', vm: 'vm', vcpu: 'vcpu' };
const rows = ioctls().filter((row) => !excluded.has(row.name) && (row.arch ?? 'x86') === 'x86' && row.name.startsWith('KVM_'));
const rowsOf = Object.fromEntries(Object.keys(ours).map((kind) => [kind, rows.filter((row) => row.fds.includes(kind))]));
/** Requests that read and write a fixed struct of registers and the like: the kernel is reached every time. */
const pointerRows = rows.filter((row) => row.arg === 'pointer' && row.size > 0);

const makesFd = { KVM_CREATE_VM: 'vm', KVM_CREATE_VCPU: 'vcpu' };

/** A failure of the property itself, not an error of a call. */
export class Violation extends Error {}

function region(random, userspace_addr, length) {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, random.below(6), true);
  view.setUint32(4, random.pick([0, 0, 0, 1, 2, 3, 4, 8]), true);
  view.setBigUint64(8, random.pick([0n, 0n, 0x1000n, 0x10000n, 0xfffff000n, 5n]), true);
  view.setBigUint64(16, length, true);
  view.setBigUint64(24, BigInt.asUintN(64, userspace_addr), true);
  return bytes;
}

/** A `random` that always takes the first. */
const first = { below: () => 0, pick: ([one]) => one };

/** jmp $; out 0x10,al; jmp back; hlt; in al,dx … something a kick, a close or an unmap can meet in the middle. */
const guests = [
  [0xeb, 0xfe],
  [0xe6, 0x10, 0xeb, 0xfc],
  [0xf4, 0xeb, 0xfd],
  [0xec, 0x42, 0xeb, 0xfc],
  [0xa2, 0, 0, 0xfe, 0xc0, 0xeb, 0xf9],
  [0x0f, 0x0b],
];

/** Gives a VM memory with a guest in it, at a place its vCPUs are set to. */
function prepareGuest(world, random, vm, vcpu) {
  const { kernel } = world;
  const ram = world.keep(kernel.guestRam(0x4000));
  ram.write(0x1000, Uint8Array.from(random.pick(guests)));
  kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, region(first, ram.address, 0x4000n));
  const sregs = new Uint8Array(312);
  kernel.ioctl(vcpu, KVM_GET_SREGS, sregs);
  new DataView(sregs.buffer).setBigUint64(0, 0n, true);
  new DataView(sregs.buffer).setUint16(12, 0, true);
  kernel.ioctl(vcpu, KVM_SET_SREGS, sregs);
  const regs = new Uint8Array(144);
  kernel.ioctl(vcpu, KVM_GET_REGS, regs);
  new DataView(regs.buffer).setBigUint64(128, 0x1000n, true);
  new DataView(regs.buffer).setBigUint64(136, 2n, true);
  kernel.ioctl(vcpu, KVM_SET_REGS, regs);
}

function argumentOf(row, values, random) {
  if (row.arg !== 'pointer') return random.chance(0.7) ? random.below(8) : values.integer();
  if (random.chance(0.12)) return values.address();
  if (random.chance(0.25)) return values.buffer(row.size);
  const bytes = new Uint8Array(row.size + random.pick([0, 0, 16, 4096]));
  return random.chance(0.5) ? bytes : random.fill(bytes);
}

/** Ways to give the kernel an address that is not of Memory: as the argument, and in a struct. */
const strayAddresses = [
  (world, random, address) => {
    const row = random.pick(pointerRows);
    const fd = world.ofKind(row.fds.find((kind) => kind in ours)).at(0);
    return [row.name, () => world.kernel.ioctl(fd, row.request, random.chance(0.5) ? address : Number(address))];
  },
  (world, random, address) => {
    const bytes = region(random, address & ~0xfffn, 0x1000n);
    return ['userspace_addr', () => world.kernel.ioctl(world.ofKind('vm').at(0), KVM_SET_USER_MEMORY_REGION, bytes)];
  },
  (world, _random, address) => {
    const attr = new Uint8Array(24);
    new DataView(attr.buffer).setBigUint64(16, address, true);
    return ['kvm_device_attr.addr', () => world.kernel.ioctl(world.ofKind('kvm').at(0), KVM_GET_DEVICE_ATTR, attr)];
  },
];

export const calls = [
  [
    260,
    'ioctl of its kind',
    (world, values, random) => {
      const kind = random.pick(['kvm', 'vm', 'vcpu', 'vcpu']);
      const row = random.pick(rowsOf[kind]);
      if (row.returns !== undefined && !random.chance(0.05)) return undefined;
      const fd = values.fd(kind);
      const result = world.kernel.tryIoctl(fd, row.request, argumentOf(row, values, random));
      if (result >= 0 && row.returns !== undefined) world.add(result, makesFd[row.name] ?? 'other');
      return result;
    },
  ],
  [
    60,
    'ioctl of any kind',
    (world, values, random) => {
      const row = random.pick(rows);
      if (row.returns !== undefined) return undefined;
      return world.kernel.ioctl(values.fd(), row.request, argumentOf(row, values, random));
    },
  ],
  [
    40,
    'ioctl of no table',
    (world, values, random) => {
      const request = random.pick([0, 0x5401, 0xaeff, 0x3b80, 0xc0000000, 0xffffffff, random.next(), -1, 1.5, '1', undefined]);
      const known = typeof request === 'number' && rows.some((row) => row.request === request);
      return known || request === KVM_RUN
        ? undefined
        : world.kernel.ioctl(values.fd(), request, random.chance(0.5) ? values.buffer(16) : values.integer());
    },
  ],
  [
    40,
    'registers',
    (world, values, random) => {
      const fd = values.fd('vcpu');
      const [get, set, size] = random.pick([
        [KVM_GET_REGS, KVM_SET_REGS, 144],
        [KVM_GET_SREGS, KVM_SET_SREGS, 312],
      ]);
      const bytes = new Uint8Array(size);
      world.kernel.ioctl(fd, get, bytes);
      if (random.chance(0.3)) bytes[random.below(size)] = random.next();
      return world.kernel.ioctl(fd, set, bytes);
    },
  ],
  [
    30,
    'ioctl through a trap',
    (world, values, random) => {
      const row = random.pick(rowsOf.vcpu);
      const bytes = new Uint8Array(row.size);
      const options = {
        get unsafe() {
          if (random.chance(0.5)) structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
          else world.mischief();
          return undefined;
        },
      };
      return row.returns === undefined ? world.kernel.ioctl(values.fd('vcpu'), row.request, bytes, options) : undefined;
    },
  ],
  [
    40,
    'address of a JavaScript buffer',
    (world, _values, random) => {
      const address = random.pick(world.canaries);
      if (address === undefined) return undefined;
      const [what, call] = random.pick(strayAddresses)(world, random, address);
      const before = world.reached();
      try {
        return call();
      } finally {
        if (world.guarded && world.reached() !== before)
          world.judge(what, new Violation('the address of a JavaScript buffer reached the kernel'));
      }
    },
  ],
  [
    3,
    'create a VM',
    (world, values) => {
      const fd = world.kernel.ioctl(values.fd('kvm'), KVM_CREATE_VM, 0);
      return world.add(fd, 'vm');
    },
  ],
  [
    6,
    'create a vCPU',
    (world, values, random) => world.add(world.kernel.ioctl(values.fd('vm'), KVM_CREATE_VCPU, random.below(20)), 'vcpu'),
  ],
  [6, 'map a vCPU', (world, values) => world.keep(world.kernel.mmap({ fd: values.fd('vcpu'), length: 0x3000 }))],
  [
    8,
    'a guest',
    (world, values, random) => {
      const vm = values.fd('vm');
      const vcpu = world.add(world.kernel.ioctl(vm, KVM_CREATE_VCPU, random.below(200)), 'vcpu');
      prepareGuest(world, random, vm, vcpu);
      return vcpu;
    },
  ],
  [
    30,
    'memslot',
    (world, values, random) => {
      const memory = random.pick(world.memories);
      const address = random.chance(0.8) ? world.addressOf(memory) : values.address();
      const length = BigInt(random.pick([0, 0x1000, 0x2000, memory?.length ?? 0, 0x10000, 1]));
      return world.kernel.ioctl(values.fd('vm'), KVM_SET_USER_MEMORY_REGION, region(random, address, length));
    },
  ],
  [
    12,
    'run',
    (world, values, random) => {
      if (!world.kernel.features.kick) return undefined;
      return world.kernel.run(
        values.fd('vcpu'),
        random.chance(0.9) ? { budget: 0.5 } : { budget: random.chance(0.5) ? -1 : (values.nonsense() ?? 1) },
      );
    },
  ],
  [
    6,
    'KVM_RUN with a kick pending',
    (world, values) => {
      if (!world.kernel.features.kick) return undefined;
      const vcpu = values.fd('vcpu');
      world.kernel.kick(vcpu);
      return world.kernel.ioctl(vcpu, KVM_RUN, 0);
    },
  ],
  [
    14,
    'runAsync',
    (world, values, random) => {
      if (!world.kernel.features.async || world.full) return undefined;
      const controller = new AbortController();
      if (random.chance(0.3)) setImmediate(() => controller.abort());
      world.follow(
        world.kernel.runAsync(values.fd('vcpu'), { budget: random.pick([0.2, 1, 3]), signal: controller.signal }),
        (error) => world.judge('runAsync', error),
      );
      return undefined;
    },
  ],
  [
    25,
    'kick',
    (world, values, random) => {
      const fd = values.fd('vcpu');
      if (random.chance(0.2)) return world.kernel.kicker(fd).kvio;
      return world.kernel.kick(fd);
    },
  ],
  [
    10,
    'waitAsync',
    (world, values, random) => {
      if (!world.kernel.features.async || world.full) return undefined;
      const controller = new AbortController();
      setTimeout(() => controller.abort(), random.below(3));
      world.follow(
        world.kernel.waitAsync(values.fd('eventfd'), random.pick([1, 4, 5, 0, 0xffff, -1, 70000]), {
          signal: controller.signal,
          ref: random.chance(0.5),
        }),
        (error) => world.judge('waitAsync', error),
      );
      return undefined;
    },
  ],
  [40, 'read', (world, values) => world.kernel.read(values.fd('eventfd'), values.buffer(8))],
  [40, 'write', (world, values, random) => world.kernel.write(values.fd(random.pick(['eventfd', 'memfd'])), values.buffer(8))],
  [30, 'pread', (world, values) => world.kernel.pread(values.fd('memfd'), values.buffer(64), values.integer())],
  [30, 'pwrite', (world, values) => world.kernel.pwrite(values.fd('memfd'), values.buffer(64), values.integer())],
  [
    20,
    'ftruncate',
    (world, values, random) => world.kernel.ftruncate(values.fd('memfd'), random.chance(0.7) ? values.small() : values.integer()),
  ],
  [
    20,
    'fallocate',
    (world, values, random) =>
      world.kernel.fallocate(values.fd('memfd'), random.pick([0, 1, 2, 3, 8, 16, 64, -1]), values.small(), values.small()),
  ],
  [40, 'fstat', (world, values) => world.kernel.fstat(values.fd('memfd')).mode],
  [
    30,
    'fcntl',
    (world, values, random) => {
      const fd = values.fd('memfd');
      const [command, arg] = random.pick([
        [1, 0],
        [2, 1],
        [3, 0],
        [4, O_NONBLOCK],
        [4, O_NONBLOCK | 0x400],
        [1034, 0],
        [1033, random.below(16)],
        [9999, 0],
        [5, 0],
        [random.next(), 0],
      ]);
      return world.kernel.fcntl(fd, command, arg);
    },
  ],
  [
    15,
    'dup',
    (world, values, random) => {
      const kind = random.pick(['vcpu', 'vm', 'eventfd', 'memfd']);
      const fd = random.pick(world.ofKind(kind)) ?? values.fd();
      return world.add(random.chance(0.5) ? world.kernel.dup(fd) : world.kernel.fcntl(fd, 1030, random.below(100)), kind);
    },
  ],
  [
    40,
    'poll',
    (world, values, random) => {
      const list = Array.from({ length: random.below(4) }, () => ({
        fd: values.fd(),
        events: random.pick([1, 4, 5, 0xffff, undefined, -1, 'x']),
      }));
      if (random.chance(0.1)) {
        list.push({
          get fd() {
            world.mischief();
            return random.pick(world.fds);
          },
        });
      }
      return world.kernel.poll(random.chance(0.95) ? list : values.nonsense(), random.pick([0, 0, 0, 1, undefined, Number.NaN]));
    },
  ],
  [
    8,
    'open',
    (world, values, random) => {
      const path = values.path();
      const flags = random.pick([undefined, 2, 0, 0x80002, 0o10000000, 'r']);
      const fd = world.kernel.open(path, flags);
      return world.add(fd, path === '/dev/kvm' && flags !== 0o10000000 ? 'kvm' : 'other');
    },
  ],
  [
    10,
    'eventfd',
    (world, _values, random) =>
      world.add(world.kernel.eventfd(random.pick([0, 1, 0xffffffff]), O_NONBLOCK | random.pick([0, 1, 0x80000])), 'eventfd'),
  ],
  [
    3,
    'eventfd of nonsense',
    (world, values) => {
      const fd = world.kernel.eventfd(values.nonsense(), O_NONBLOCK);
      return world.add(fd, 'eventfd');
    },
  ],
  [
    8,
    'memfd',
    (world, values, random) =>
      world.add(
        world.kernel.memfd(
          random.pick(['m', '', 'n'.repeat(300), 'a\0b', values.nonsense()]),
          random.pick([0, 1, 2, 3, 0x100, -1]),
        ),
        'memfd',
      ),
  ],
  [
    2,
    'adopt',
    (world, values, random) => {
      const one = random.chance(0.5) ? openSync('/dev/null', 'r') : values.nonsense();
      // −0 is stdin, and adopting it lawful; closing it then would be our doing.
      if (one === 0) return undefined;
      return world.add(world.kernel.adopt(one), 'other');
    },
  ],
  [
    12,
    'close',
    (world, values) => {
      const fd = values.fd();
      world.kernel.close(...(fd === undefined ? [-1] : [fd]));
      world.forget(fd);
    },
  ],
  [
    15,
    'guestRam',
    (world, values, random) =>
      world.keep(world.kernel.guestRam(random.chance(0.8) ? 4096 * (1 + random.below(16)) : values.integer())),
  ],
  [
    15,
    'mmap',
    (world, values, random) => {
      const length = random.chance(0.8) ? 4096 * (1 + random.below(4)) : values.integer();
      return world.keep(
        world.kernel.mmap({
          fd: random.chance(0.3) ? -1 : values.fd('memfd'),
          length,
          prot: random.pick([3, 3, 1, 0, 7, -1, 'rw']),
          flags: random.pick([1, 1, 2, 3, 0, 0x10, 0x100000, 0x4001, random.next() & ~MAP_POPULATE_OR_LOCKED & 0x7fffff]),
          offset: random.chance(0.7) ? 4096 * random.below(4) : values.integer(),
          view: random.chance(0.5),
        }),
      );
    },
  ],
  [
    15,
    'close memory',
    (world, _values, random) => {
      const memory = random.pick(random.chance(0.8) ? world.memories : world.closedMemories);
      if (memory !== undefined) world.closeMemory(memory);
    },
  ],
  [4, 'munmap of nonsense', (world, values) => world.kernel.munmap(values.nonsense())],
  [
    20,
    'mprotect',
    (world, values, random) => {
      const range = random.chance(0.5)
        ? undefined
        : { offset: random.pick([0, 4096, 1, -4096, 2 ** 40]), length: random.pick([0, 4096, 1, -1, 2 ** 40]) };
      return world.kernel.mprotect(random.pick(world.memories) ?? values.nonsense(), random.pick([0, 1, 3, 7, -1]), range);
    },
  ],
  [
    20,
    'madvise',
    (world, values, random) =>
      world.kernel.madvise(random.pick(world.memories) ?? values.nonsense(), random.pick([4, 9, 100, 101, 102, 12, 0, -1])),
  ],
  [
    60,
    'memory access',
    (world, values, random) => {
      const memory = random.pick(random.chance(0.9) ? world.memories : world.closedMemories);
      if (memory === undefined) return undefined;
      const offset = random.chance(0.7) ? random.below(memory.length + 16) : values.integer();
      const width = random.pick([8, 16, 32, 64]);
      if (random.chance(0.4)) return memory[`read${width}`](offset);
      if (random.chance(0.4))
        return memory[`write${width}`](
          offset,
          random.chance(0.7) ? (width === 64 ? random.u64() : random.below(200)) : values.integer(),
        );
      if (random.chance(0.5)) return memory.read(offset, random.chance(0.5) ? random.below(64) : values.buffer(64)).length;
      return memory.write(offset, values.buffer(64));
    },
  ],
  [
    10,
    'bytes of a view',
    (world, _values, random) => {
      const bytes = random.pick(random.chance(0.8) ? world.memories : world.closedMemories)?.bytes;
      if (bytes !== undefined) bytes[random.below(bytes.length)] = random.next();
    },
  ],
  [10, 'memoryAt', (world, values) => world.kernel.memoryAt(values.address(), values.integer())?.length],
  [
    4,
    'readlink',
    (world, values, random) =>
      world.kernel.readlink(random.chance(0.5) ? `/proc/self/fd/${values.random.pick(world.fds)}` : values.path()),
  ],
  [2, 'readdir', (world, values, random) => world.kernel.readdir(random.chance(0.5) ? '/proc/self/fd' : values.path())],
  [10, 'capability', (world, values) => world.kernel.ioctl(values.fd('kvm'), KVM_CHECK_EXTENSION, values.integer())],
];
