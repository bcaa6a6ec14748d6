import type { MessagePort } from 'node:worker_threads';
import type { Backend, KernelArch, KernelFeatures, Kicker, MapRequest, Stat } from '../kernel/backend.ts';
import type { Mapping } from '../kernel/memory.ts';
import { _IOC_TYPE } from '../uapi/ioc.ts';
import { KVM_RUN, KVMIO } from '../uapi/kvm.ts';
import {
  EACCES,
  EAGAIN,
  EBADF,
  EFBIG,
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EFD_SEMAPHORE,
  EINVAL,
  ENODEV,
  EOPNOTSUPP,
  ESPIPE,
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_UNSHARE_RANGE,
  FALLOC_FL_WRITE_ZEROES,
  FALLOC_FL_ZERO_RANGE,
  MFD_ALLOW_SEALING,
  MFD_CLOEXEC,
  MFD_EXEC,
  MFD_HUGE_MASK,
  MFD_HUGE_SHIFT,
  MFD_HUGETLB,
  MFD_NOEXEC_SEAL,
} from '../uapi/sys.ts';
import { has } from './changes.ts';
import { EventfdFile } from './eventfd.ts';
import { fcntl } from './fcntl.ts';
import type { File } from './file.ts';
import { createHugeMemfd } from './mm/hugetlb.ts';
import { MAX_FILE_SIZE, MemfdFile } from './mm/memfd.ts';
import { MAX_VIEW } from './mm/pages.ts';
import { open, readdir, readlink } from './paths.ts';
import { Peers } from './peers.ts';
import { poll, wait } from './poll.ts';
import type { Process } from './process.ts';
import { isVcpu } from './vcpu-like.ts';
import { vfsIoctl } from './vfs-ioctl.ts';

const MFD_ALL = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_NOEXEC_SEAL | MFD_EXEC;
const MFD_NAME_MAX = 249;
const MAX_RW_COUNT = 0x7fff_f000;

/** Modes vfs_fallocate lets through to the file, without KEEP_SIZE; those that insist on it or exclude it. */
const FALLOC_MODES: ReadonlyMap<number, 'optional' | 'required' | 'excluded'> = new Map([
  [0, 'optional'],
  [FALLOC_FL_UNSHARE_RANGE, 'optional'],
  [FALLOC_FL_ZERO_RANGE, 'optional'],
  [FALLOC_FL_PUNCH_HOLE, 'required'],
  [FALLOC_FL_COLLAPSE_RANGE, 'excluded'],
  [FALLOC_FL_INSERT_RANGE, 'excluded'],
  [FALLOC_FL_WRITE_ZEROES, 'excluded'],
]);

/** System calls of one simulated process. What the VFS checks before it asks a file is here; what the file decides is in its class. */
export class SimBackend implements Backend {
  readonly kind = 'sim';
  readonly arch: KernelArch = 'x86';
  readonly features: KernelFeatures = {
    async: true,
    kick: true,
    guard: false,
    exactAccess: true,
    maxView: MAX_VIEW,
    simulated: true,
  };
  readonly release: string;
  readonly #process: Process;
  /** Kickers made: their ids. */
  #kickers = 0n;
  #peers: Peers | undefined;

  constructor(process: Process) {
    this.#process = process;
    this.release = process.system.machine.release;
  }

  open(path: string, flags: number, _mode: number): number {
    return open(this.#process, path, flags);
  }

  close(fd: number): number {
    return this.#process.fds.close(fd);
  }

  dup(fd: number): number {
    return this.#process.fds.dup(fd, false);
  }

  fcntl(fd: number, command: number, arg: number): number {
    return fcntl(this.#process, fd, command, arg);
  }

  ioctl(fd: number, request: number, arg: number | bigint | Uint8Array): number {
    const p = this.#process;
    const file = p.fds.get(fd);
    if (file === undefined) return -EBADF;
    const call = (word: bigint): number => vfsIoctl(p, fd, file, request, word) ?? file.ioctl(p, request, word);
    this.#lockVcpu(file, request);
    const result = typeof arg === 'object' ? p.mm.withScratch(arg, call) : call(BigInt.asUintN(64, BigInt(arg)));
    p.system.runner.wake();
    return result;
  }

  read(fd: number, into: Uint8Array): number {
    const file = this.#readable(fd);
    if (typeof file === 'number') return file;
    const target = into.subarray(0, MAX_RW_COUNT);
    return this.#blocking('read', file, () => file.read(this.#process, target));
  }

  write(fd: number, from: Uint8Array): number {
    const file = this.#writable(fd);
    if (typeof file === 'number') return file;
    const source = from.subarray(0, MAX_RW_COUNT);
    return this.#blocking('write', file, () => file.write(this.#process, source));
  }

  pread(fd: number, into: Uint8Array, offset: bigint): number {
    if (offset < 0n) return -EINVAL;
    const file = this.#process.fds.get(fd);
    if (file === undefined) return -EBADF;
    if (!file.seekable) return -ESPIPE;
    if (!file.readable) return -EBADF;
    if (offset + BigInt(into.length) > MAX_FILE_SIZE) return -EINVAL;
    return file.pread(this.#process, into.subarray(0, MAX_RW_COUNT), offset);
  }

  pwrite(fd: number, from: Uint8Array, offset: bigint): number {
    if (offset < 0n) return -EINVAL;
    const file = this.#process.fds.get(fd);
    if (file === undefined) return -EBADF;
    if (!file.writableAt) return -ESPIPE;
    if (!file.writable) return -EBADF;
    if (offset + BigInt(from.length) > MAX_FILE_SIZE) return -EINVAL;
    const source = from.subarray(0, MAX_RW_COUNT);
    return this.#blocking('pwrite', file, () => file.pwrite(this.#process, source, offset));
  }

  eventfd(initval: number, flags: number): number {
    if ((flags & ~(EFD_SEMAPHORE | EFD_CLOEXEC | EFD_NONBLOCK)) !== 0) return -EINVAL;
    const { system, fds } = this.#process;
    const file = new EventfdFile(initval, flags, has(system.machine, 'eventfdExactWrite'));
    return fds.install(file, (flags & EFD_CLOEXEC) !== 0);
  }

  memfdCreate(name: string, flags: number): number {
    const { system, fds } = this.#process;
    const huge = (flags & MFD_HUGETLB) !== 0;
    const known = huge ? MFD_ALL | (MFD_HUGE_MASK << MFD_HUGE_SHIFT) : MFD_ALL;
    if ((flags & ~known) !== 0) return -EINVAL;
    if ((flags & MFD_EXEC) !== 0 && (flags & MFD_NOEXEC_SEAL) !== 0) return -EINVAL;
    let effective = flags;
    if ((flags & (MFD_EXEC | MFD_NOEXEC_SEAL)) === 0 && system.machine.memfdNoexec > 0) effective |= MFD_NOEXEC_SEAL;
    if (system.machine.memfdNoexec === 2 && (effective & MFD_NOEXEC_SEAL) === 0) return -EACCES;
    if (Buffer.byteLength(name) > MFD_NAME_MAX) return -EINVAL;
    const fd = fds.reserve((flags & MFD_CLOEXEC) !== 0);
    if (fd < 0) return fd;
    const pool = system.hugePool((flags >>> MFD_HUGE_SHIFT) & MFD_HUGE_MASK);
    if (huge && pool === undefined) {
      fds.unreserve(fd);
      return -ENODEV;
    }
    const p = this.#process;
    fds.set(fd, huge ? createHugeMemfd(p, name, effective, pool!) : MemfdFile.create(p, name, effective));
    return fd;
  }

  ftruncate(fd: number, length: bigint): number {
    if (length < 0n) return -EINVAL;
    const file = this.#process.fds.get(fd);
    if (file === undefined) return -EBADF;
    return file.regular && file.writable ? file.ftruncate(this.#process, length) : -EINVAL;
  }

  fallocate(fd: number, mode: number, offset: bigint, length: bigint): number {
    const file = this.#process.fds.get(fd);
    if (file === undefined) return -EBADF;
    if (offset < 0n || length <= 0n) return -EINVAL;
    const keepSize = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
    const rule = FALLOC_MODES.get(mode & ~FALLOC_FL_KEEP_SIZE);
    if (rule === undefined || (rule === 'required' && !keepSize) || (rule === 'excluded' && keepSize)) return -EOPNOTSUPP;
    if (!file.writable) return -EBADF;
    if (!file.regular) return -ENODEV;
    if (offset + length > MAX_FILE_SIZE) return -EFBIG;
    return file.fallocate(this.#process, mode, offset, length);
  }

  fstat(fd: number): Stat | number {
    return this.#process.fds.get(fd)?.stat(this.#process) ?? -EBADF;
  }

  poll(fds: Int32Array, timeout: number): number {
    return poll(this.#process, fds, timeout);
  }

  readlink(path: string): string | number {
    return readlink(this.#process, path);
  }

  readdir(path: string): string[] | number {
    return readdir(this.#process, path);
  }

  mmap(request: MapRequest): Mapping | number {
    return this.#process.mm.mmap(request);
  }

  run(vcpu: number, budget: number): number {
    const file = this.#process.fds.get(vcpu);
    if (file === undefined) return -EBADF;
    if (!isVcpu(file)) return file.ioctl(this.#process, KVM_RUN, 0n);
    return this.#process.system.runner.run(this.#process, file, budget);
  }

  runAsync(vcpu: number, budget: number, done: (result: number, error?: unknown) => void): number {
    const file = this.#process.fds.get(vcpu);
    if (file === undefined) return -EBADF;
    if (!isVcpu(file)) return -EINVAL;
    this.#process.system.runner.runAsync(this.#process, file, budget, done);
    return 0;
  }

  kick(vcpu: number): number {
    const file = this.#process.fds.get(vcpu);
    if (file === undefined) return -EBADF;
    if (!isVcpu(file)) return -EINVAL;
    this.#process.system.runner.kick(file);
    return 0;
  }

  kicker(vcpu: number): Kicker | undefined {
    const file = this.#process.fds.get(vcpu);
    if (!isVcpu(file)) return undefined;
    return { kvio: 'kicker', kind: 'sim', id: this.#kickers++, flag: this.#process.system.runner.shareKickWord(file) };
  }

  /** The last descriptor of a vCPU that is inside runAsync closes: the run ends, as it does when its thread is told to stop. */
  forget(vcpu: number): void {
    const { fds, system } = this.#process;
    const file = fds.get(vcpu);
    if (!isVcpu(file) || !system.runner.running(file)) return;
    const elsewhere = [...fds.open()].some(([fd, other]) => other === file && fd !== vcpu);
    if (!elsewhere) system.runner.kick(file);
  }

  wait(fd: number, events: number, ref: boolean, done: (revents: number) => void): { cancel(): void } | number {
    return wait(this.#process, fd, events, ref, done);
  }

  attach(port: MessagePort, reason: string): void {
    const { runner } = this.#process.system;
    this.#peers ??= new Peers(this, this.#process);
    runner.threads = this.#peers;
    this.#peers.attach(port, reason);
  }

  dispose(): void {
    this.#process.system.runner.dispose();
    this.#peers?.dispose();
    this.#process.exit();
  }

  /** The vCPU's mutex, which another thread may have; requests of another type fail before. */
  #lockVcpu(file: File, request: number): void {
    const { runner } = this.#process.system;
    if (!isVcpu(file) || _IOC_TYPE(request) !== KVMIO || !runner.running(file)) return;
    runner.block(`an ioctl on ${file.link}, which is inside KVM_RUN`, () => !runner.running(file) || undefined);
  }

  #readable(fd: number): File | number {
    const file = this.#process.fds.get(fd);
    return file?.readable === true ? file : -EBADF;
  }

  #writable(fd: number): File | number {
    const file = this.#process.fds.get(fd);
    return file?.writable === true ? file : -EBADF;
  }

  /** A call on a file that may have to wait; without O_NONBLOCK the machine runs until it can go on. */
  #blocking(call: string, file: File, attempt: () => number): number {
    const { runner } = this.#process.system;
    let result = attempt();
    if (result === -EAGAIN && file.mayWait) {
      result = runner.block(`${call} on ${file.link}`, () => {
        const again = attempt();
        return again === -EAGAIN ? undefined : again;
      })!;
    }
    runner.wake();
    return result;
  }
}
