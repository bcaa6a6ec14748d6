import { EBADF, EINVAL, EMFILE } from '../uapi/sys.ts';
import type { File } from './file.ts';
import { AddressSpace } from './mm/address-space.ts';
import type { System } from './system.ts';
import { type Capability, capable, root, type User } from './user.ts';

/** One descriptor: an open file description and FD_CLOEXEC, which is kept per descriptor. `file` is undefined while only reserved. */
interface Slot {
  file: File | undefined;
  cloexec: boolean;
}

/** `struct files_struct`: descriptors, lowest free number first. */
export class FdTable {
  readonly #slots: (Slot | undefined)[] = [];
  readonly #process: Process;
  /** RLIMIT_NOFILE. */
  readonly limit: number;
  /** No descriptor below this is free. */
  #next = 0;

  constructor(process: Process, limit: number) {
    this.#process = process;
    this.limit = limit;
  }

  /** The open file, without a new reference; undefined: EBADF. */
  get(fd: number): File | undefined {
    return this.#slots[fd]?.file;
  }

  /** get_unused_fd_flags: the lowest free number not below `from`, taken but not yet open; −EMFILE. */
  reserve(cloexec: boolean, from = 0): number {
    let fd = Math.max(from, this.#next);
    while (this.#slots[fd] !== undefined) fd++;
    if (fd >= this.limit) return -EMFILE;
    this.#slots[fd] = { file: undefined, cloexec };
    if (from <= this.#next) this.#next = fd + 1;
    return fd;
  }

  /** fd_install: takes over the caller's reference. */
  set(fd: number, file: File): void {
    const slot = this.#slots[fd];
    if (slot === undefined || slot.file !== undefined) throw new Error(`descriptor ${fd} was not reserved`);
    slot.file = file;
  }

  /** put_unused_fd: gives a reserved number back. */
  unreserve(fd: number): void {
    this.#slots[fd] = undefined;
    this.#next = Math.min(this.#next, fd);
  }

  /** reserve and set. The caller's reference goes to the descriptor; where the table is full it is dropped: −EMFILE. */
  install(file: File, cloexec: boolean): number {
    const fd = this.reserve(cloexec);
    if (fd < 0) file.unref(this.#process);
    else this.set(fd, file);
    return fd;
  }

  /** dup (and F_DUPFD with `from`): the new descriptor shares the file; close-on-exec is its own. */
  dup(fd: number, cloexec: boolean, from = 0): number {
    const file = this.get(fd);
    if (file === undefined) return -EBADF;
    if (from < 0 || from >= this.limit) return -EINVAL;
    const copy = this.reserve(cloexec, from);
    if (copy >= 0) this.set(copy, file.ref());
    return copy;
  }

  close(fd: number): number {
    const file = this.get(fd);
    if (file === undefined) return -EBADF;
    this.unreserve(fd);
    file.unref(this.#process);
    return 0;
  }

  cloexec(fd: number): boolean {
    return this.#slots[fd]?.cloexec ?? false;
  }

  setCloexec(fd: number, cloexec: boolean): void {
    const slot = this.#slots[fd];
    if (slot !== undefined) slot.cloexec = cloexec;
  }

  /** Open descriptors, ascending. */
  *open(): Generator<[fd: number, file: File]> {
    for (const [fd, slot] of this.#slots.entries()) if (slot?.file !== undefined) yield [fd, slot.file];
  }
}

/** A process of the simulated kernel: what `current` is to a handler. */
export class Process {
  readonly system: System;
  readonly pid: number;
  readonly user: User;
  readonly fds: FdTable;
  /** Identity matters: KVM answers EIO to a process with another mm. */
  readonly mm: AddressSpace;

  constructor(system: System, pid: number) {
    this.system = system;
    this.pid = pid;
    this.user = system.machine.user ?? root;
    this.fds = new FdTable(this, system.machine.limits.nofile);
    this.mm = new AddressSpace(this, system.machine.limits);
  }

  /** capable(). */
  capable(capability: Capability): boolean {
    return capable(this.user, capability);
  }

  /** exit: descriptors, then mappings. */
  exit(): void {
    for (const [fd] of [...this.fds.open()]) this.fds.close(fd);
    this.mm.exit();
  }
}
