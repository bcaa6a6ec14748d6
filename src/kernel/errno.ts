/**
 * Linux errno numbers (the generic table, the same on x86-64 and arm64) with their names and the sentence an error
 * message carries. The simulator runs on any operating system, so this table does not ask the host's.
 */
const table: readonly (readonly [number, string, string])[] = [
  [1, 'EPERM', 'operation not permitted'],
  [2, 'ENOENT', 'no such file or directory'],
  [3, 'ESRCH', 'no such process'],
  [4, 'EINTR', 'interrupted system call'],
  [5, 'EIO', 'i/o error'],
  [6, 'ENXIO', 'no such device or address'],
  [7, 'E2BIG', 'argument list too long'],
  [8, 'ENOEXEC', 'exec format error'],
  [9, 'EBADF', 'bad file descriptor'],
  [10, 'ECHILD', 'no child processes'],
  [11, 'EAGAIN', 'resource temporarily unavailable'],
  [12, 'ENOMEM', 'not enough memory'],
  [13, 'EACCES', 'permission denied'],
  [14, 'EFAULT', 'bad address'],
  [15, 'ENOTBLK', 'block device required'],
  [16, 'EBUSY', 'resource busy or locked'],
  [17, 'EEXIST', 'already exists'],
  [18, 'EXDEV', 'cross-device link'],
  [19, 'ENODEV', 'no such device'],
  [20, 'ENOTDIR', 'not a directory'],
  [21, 'EISDIR', 'is a directory'],
  [22, 'EINVAL', 'invalid argument'],
  [23, 'ENFILE', 'file table overflow'],
  [24, 'EMFILE', 'too many open files'],
  [25, 'ENOTTY', 'inappropriate ioctl for device'],
  [26, 'ETXTBSY', 'text file is busy'],
  [27, 'EFBIG', 'file too large'],
  [28, 'ENOSPC', 'no space left on device'],
  [29, 'ESPIPE', 'invalid seek'],
  [30, 'EROFS', 'read-only file system'],
  [31, 'EMLINK', 'too many links'],
  [32, 'EPIPE', 'broken pipe'],
  [33, 'EDOM', 'argument out of domain'],
  [34, 'ERANGE', 'result too large'],
  [35, 'EDEADLK', 'resource deadlock avoided'],
  [36, 'ENAMETOOLONG', 'name too long'],
  [38, 'ENOSYS', 'function not implemented'],
  [39, 'ENOTEMPTY', 'directory not empty'],
  [42, 'ENOMSG', 'no message of desired type'],
  [40, 'ELOOP', 'too many symbolic links encountered'],
  [61, 'ENODATA', 'no data available'],
  [62, 'ETIME', 'timer expired'],
  [71, 'EPROTO', 'protocol error'],
  [74, 'EBADMSG', 'bad message'],
  [75, 'EOVERFLOW', 'value too large for defined data type'],
  [77, 'EBADFD', 'file descriptor in bad state'],
  [95, 'EOPNOTSUPP', 'operation not supported'],
  [98, 'EADDRINUSE', 'address already in use'],
  [99, 'EADDRNOTAVAIL', 'address not available'],
  [110, 'ETIMEDOUT', 'connection timed out'],
  [114, 'EALREADY', 'already in progress'],
  [115, 'EINPROGRESS', 'operation in progress'],
  [121, 'EREMOTEIO', 'remote i/o error'],
  [122, 'EDQUOT', 'disk quota exceeded'],
  [125, 'ECANCELED', 'operation canceled'],
  [133, 'EHWPOISON', 'memory page has a hardware error'],
];

const byNumber: ReadonlyMap<number, readonly [number, string, string]> = new Map(table.map((row) => [row[0], row]));
const byName: ReadonlyMap<string, number> = new Map(table.map((row) => [row[1], row[0]]));

/** `'EINVAL'` for 22 (or −22); `'E4095'`-like for a number Linux has no name for in our table. */
export function errnoName(errno: number): string {
  const positive = Math.abs(errno);
  return byNumber.get(positive)?.[1] ?? `E${positive}`;
}

/** `'invalid argument'` for 22 (or −22). */
export function errnoMessage(errno: number): string {
  return byNumber.get(Math.abs(errno))?.[2] ?? 'unknown error';
}

/** 22 for `'EINVAL'`; undefined for a name that is not in the table. */
export function errnoNumber(name: string): number | undefined {
  return byName.get(name);
}
