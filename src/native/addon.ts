/**
 * The addon's exports (native/*.cc): flat calls, ≥ 0 or −errno. A wrong argument is a TypeError or RangeError that names it.
 */
export interface Addon {
  // calls.cc
  open(path: string, flags: number, mode: number): number;
  close(fd: number): number;
  /** Whether the descriptor is to be closed when the environment ends. What the calls below open is so from the start. */
  own(fd: number, on: boolean): number;
  dup(fd: number): number;
  fcntl(fd: number, command: number, arg: number): number;
  read(fd: number, into: Uint8Array): number;
  write(fd: number, from: Uint8Array): number;
  pread(fd: number, into: Uint8Array, offset: bigint): number;
  pwrite(fd: number, from: Uint8Array, offset: bigint): number;
  eventfd(initval: number, flags: number): number;
  memfdCreate(name: string, flags: number): number;
  ftruncate(fd: number, length: bigint): number;
  fallocate(fd: number, mode: number, offset: bigint, length: bigint): number;
  /** Ten words: dev ino mode nlink uid gid rdev size blksize blocks. */
  fstat(fd: number, into: BigUint64Array): number;
  poll(triples: Int32Array, timeout: number): number;
  readlink(path: string): string | number;

  // state.cc
  /** state.result = ioctl(state.fd, state.request, state.arg). */
  call(): void;
  /** state.result = ioctl(state.fd, state.request, these bytes). */
  callBytes(bytes: Uint8Array): void;
  /** state.result = KVM_RUN of state.fd for at most state.budget ms. */
  run(): void;

  // memory.cc: a mapping is named by its id (> 0)
  keep(pages: Uint8Array): number;
  place(pages: Uint8Array, prot: number, flags: number, fd: number, offset: bigint, pageSize: number): number;
  map(length: number, prot: number, flags: number, fd: number, offset: bigint): number;
  unmap(mapping: number): number;
  address(mapping: number): bigint;
  addressOf(view: Uint8Array): bigint;
  /** The page size of a mapping that cannot fault; 0 where a touch may. */
  steady(fd: number, offset: bigint, length: number, flags: number): number;
  protect(mapping: number, offset: number, length: number, prot: number): number;
  advise(mapping: number, offset: number, length: number, advice: number): number;
  load(mapping: number, offset: number, width: number): number | bigint;
  store(mapping: number, offset: number, width: number, value: number | bigint): number;
  copyOut(mapping: number, offset: number, into: Uint8Array): number;
  copyIn(mapping: number, offset: number, from: Uint8Array): number;

  // vcpu.cc
  /** The number of the signal that kicks; below 0 where none was free. */
  kickSignal(): number;
  kick(vcpu: number): number;
  kickById(id: bigint): number;
  kickerId(vcpu: number): number;
  /** An id (> 0) under which the listener gets the result. */
  runAsync(vcpu: number, budget: number): number;
  forget(vcpu: number): number;

  // wait.cc
  /** An id (> 0) under which the listener gets the revents. */
  wait(fd: number, events: number): number;
  cancelWait(id: number): number;

  // addon.cc
  attach(state: Uint8Array): number;
  listen(listener: (id: number, value: number) => void): number;
  hold(on: boolean): number;
}
