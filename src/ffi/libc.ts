import { createRequire } from 'node:module';

/** What we use of ffi-rs; declared here because the package is optional. */
interface FfiRs {
  open(options: { library: string; path: string }): void;
  load(call: Call & { paramsValue: readonly Value[] }): { value: number | bigint; errnoCode: number };
}

interface Call {
  library: string;
  funcName: string;
  retType: number;
  paramsType: readonly number[];
  /** ffi-rs reads errno right behind the call, before anything else of this thread can change it. */
  errno: true;
}

type Value = number | bigint | Uint8Array;
/** C `int`; any 64-bit integer or address, all bits exact; a pointer to these bytes, on shared memory too. */
type CType = 'int' | 'word' | 'bytes';

/** DataType of ffi-rs: I32, BigInt (an i64; higher values wrap, so all 64 bits arrive), U8Array (a pointer to the very bytes). */
const dataType: Readonly<Record<CType, number>> = { int: 1, word: 16, bytes: 10 };

const library = 'kvio-libc';

/** Result and parameter types of each libc function, by the name it has here. `x:y` calls x too, with other parameters. */
const functions = {
  open: ['int', 'bytes', 'int', 'int'],
  close: ['int', 'int'],
  dup: ['int', 'int'],
  fcntl: ['int', 'int', 'int', 'int'],
  ioctl: ['int', 'int', 'word', 'word'],
  'ioctl:bytes': ['int', 'int', 'word', 'bytes'],
  read: ['word', 'int', 'bytes', 'word'],
  write: ['word', 'int', 'bytes', 'word'],
  pread: ['word', 'int', 'bytes', 'word', 'word'],
  pwrite: ['word', 'int', 'bytes', 'word', 'word'],
  eventfd: ['int', 'int', 'int'],
  memfd_create: ['int', 'bytes', 'int'],
  ftruncate: ['int', 'int', 'word'],
  fallocate: ['int', 'int', 'int', 'word', 'word'],
  statx: ['int', 'int', 'bytes', 'int', 'int', 'bytes'],
  fstatfs: ['int', 'int', 'bytes'],
  poll: ['int', 'bytes', 'word', 'int'],
  readlink: ['word', 'bytes', 'bytes', 'word'],
  mmap: ['word', 'word', 'word', 'int', 'int', 'int', 'word'],
  mremap: ['word', 'word', 'word', 'word', 'int', 'word'],
  munmap: ['int', 'word', 'word'],
  mprotect: ['int', 'word', 'word', 'int'],
  madvise: ['int', 'word', 'word', 'int'],
  process_vm_readv: ['word', 'int', 'bytes', 'word', 'bytes', 'word', 'word'],
  process_vm_writev: ['word', 'int', 'bytes', 'word', 'bytes', 'word', 'word'],
  memmove: ['word', 'bytes', 'bytes', 'word'],
} as const;

export type LibcFunction = keyof typeof functions;

/** The C library of this process, through ffi-rs. */
export class Libc {
  readonly #ffi: FfiRs;
  readonly #calls: Readonly<Record<LibcFunction, Call>>;

  constructor(ffi: FfiRs) {
    this.#ffi = ffi;
    // No path: the symbols this process already has, whichever C library it runs on.
    ffi.open({ library, path: '' });
    this.#calls = Object.fromEntries(
      Object.entries<readonly [CType, ...CType[]]>(functions).map(([name, [result, ...parameters]]) => [
        name,
        {
          library,
          funcName: name.split(':')[0],
          retType: dataType[result],
          paramsType: parameters.map((each) => dataType[each]),
          errno: true,
        },
      ]),
    ) as unknown as Record<LibcFunction, Call>;
  }

  /** Result ≥ 0, or −errno. errno means something only where the result is −1. */
  call(name: LibcFunction, ...values: Value[]): number {
    return Number(this.word(name, ...values));
  }

  /** The same for functions that return an address. */
  word(name: LibcFunction, ...values: Value[]): bigint {
    const { value, errnoCode } = this.#ffi.load({ ...this.#calls[name], paramsValue: values });
    return BigInt(Number(value) === -1 ? -errnoCode : value);
  }

  /** Where these bytes lie: memmove returns its first argument, and moves nothing when told to move 0 bytes. */
  addressOf(bytes: Uint8Array): bigint {
    return BigInt.asUintN(64, this.word('memmove', bytes, bytes, 0n));
  }
}

/** ffi-rs, if it is installed and loads on this platform; otherwise the reason. Never throws. */
export function loadLibc(): { libc: Libc } | { reason: string } {
  if (process.platform !== 'linux') return { reason: `${process.platform} has no Linux kernel` };
  try {
    return { libc: new Libc(createRequire(import.meta.url)('ffi-rs') as FfiRs) };
  } catch (error) {
    return { reason: why(error as NodeJS.ErrnoException) };
  }
}

function why({ code, message }: NodeJS.ErrnoException): string {
  if (code === 'ERR_DLOPEN_DISABLED')
    return 'ffi-rs may not be loaded (ERR_DLOPEN_DISABLED: --no-addons, or the permission model)';
  const missing = code === 'MODULE_NOT_FOUND' ? /^Cannot find module '([^']+)'/.exec(message)?.[1] : undefined;
  if (missing !== undefined) return `${missing} is not installed (an optional dependency: npm install ffi-rs)`;
  return `ffi-rs does not load: ${message.split('\n', 1)[0]}`;
}
