#!/usr/bin/env python3
"""Plays the scripts of syscall-scripts.ts on the kernel this runs on, without a line of kvio's, and prints the golden file.

    KVIO_SCRIPTS=/tmp/scripts.json npx vitest run test/sim/syscalls.test.ts
    python3 test/sim/record-syscalls.py /tmp/scripts.json > test/golden/syscalls-6.18.json

Each script runs in a process of its own whose lowest free descriptor is 3. Needs root (MAP_LOCKED, and vm.nr_hugepages, which is set for
the scripts that say so and back to 0), vm.overcommit_memory=0 and vm.memfd_noexec=0. User memory is read and written by write(2) and read(2) on a
pipe, which give EFAULT where a load or store would end the process.
"""
import ctypes
import errno
import json
import os
import resource
import struct
import subprocess
import sys

NR = {'read': 0, 'write': 1, 'open': 2, 'close': 3, 'fstat': 5, 'poll': 7, 'mmap': 9, 'mprotect': 10, 'munmap': 11,
      'ioctl': 16, 'pread': 17, 'pwrite': 18, 'madvise': 28, 'dup': 32, 'fcntl': 72, 'ftruncate': 77, 'readlink': 89,
      'fallocate': 285, 'eventfd': 290, 'memfd': 319}
HUGE = 2 ** 21
POOL = '/sys/kernel/mm/hugepages/hugepages-2048kB'
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def syscall(name, *args):
    words = [a if isinstance(a, (bytes, ctypes.Array)) else ctypes.c_ulong(a & (2**64 - 1)) for a in args]
    result = libc.syscall(ctypes.c_long(NR[name]), *words)
    return -ctypes.get_errno() if result == -1 else result


def named(result):
    return errno.errorcode[-result].replace('ENOTSUP', 'EOPNOTSUPP') if -4096 < result < 0 else result


class Player:
    def __init__(self):
        """Only 0, 1 and 2 are open, and the pipe, above RLIMIT_NOFILE."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        read, write = os.pipe()
        self.pipe = syscall('fcntl', read, 0, 2000), syscall('fcntl', write, 0, 2001)
        os.closerange(3, 1500)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
        self.names, self.lengths = {}, {}

    def value(self, given):
        if not isinstance(given, str):
            return given
        if given.startswith('#'):
            return int(given[1:], 16)
        if given.startswith('$'):
            return self.names[given[1:]]
        at = given.find('$')
        return given if at < 0 else given[:at] + str(self.names[given[at + 1:]])

    def step(self, name, call, *raw):
        args = [self.value(arg) for arg in raw]
        if call in ('load', 'store', 'madvise', 'mprotect', 'munmap', 'munmapPart') and args[0] < 0:
            return 'unmapped'
        if call == 'munmap':
            args.append(self.lengths[raw[0][1:]])
        result = getattr(self, call)(*args)
        if call == 'mmap':
            address, result = result, 'mapped' if result > 0 else named(result)
            self.lengths[name] = args[0]
            if name:
                self.names[name] = address
            elif address > 0 and syscall('munmap', address, args[0]) < 0:
                syscall('munmap', address, -(-args[0] // HUGE) * HUGE)
        elif name:
            self.names[name] = result if isinstance(result, int) else -1
        return result

    def open(self, path, flags): return named(syscall('open', path.encode() + b'\0', flags, 0o600))
    def close(self, fd): return named(syscall('close', fd))
    def dup(self, fd): return named(syscall('dup', fd))
    def fcntl(self, fd, command, arg): return named(syscall('fcntl', fd, command, arg))
    def eventfd(self, initval, flags): return named(syscall('eventfd', initval, flags))
    def memfd(self, name, flags): return named(syscall('memfd', name.encode() + b'\0', flags & 0xffffffff))
    def ftruncate(self, fd, length): return named(syscall('ftruncate', fd, length))
    def fallocate(self, fd, mode, offset, length): return named(syscall('fallocate', fd, mode, offset, length))
    def ioctl(self, fd, request, arg): return named(syscall('ioctl', fd, request, arg))
    def mmap(self, length, prot, flags, fd, offset): return syscall('mmap', 0, length, prot, flags, fd, offset)
    def munmap(self, address, length): return named(syscall('munmap', address, length))
    def munmapPart(self, address, offset, length): return named(syscall('munmap', address + offset, length))
    def mprotect(self, address, offset, length, prot): return named(syscall('mprotect', address + offset, length, prot))
    def madvise(self, address, offset, length, advice): return named(syscall('madvise', address + offset, length, advice))

    def read(self, fd, length, *offset):
        buffer = ctypes.create_string_buffer(max(1, length))
        got = syscall('pread' if offset else 'read', fd, buffer, length, *offset)
        return named(got) if got < 0 else buffer.raw[:got].hex()

    pread = read

    def write(self, fd, text, *offset):
        data = bytes.fromhex(text)
        buffer = ctypes.create_string_buffer(data, max(1, len(data)))
        return named(syscall('pwrite' if offset else 'write', fd, buffer, len(data), *offset))

    pwrite = write

    def pwriteZeros(self, fd, length, offset):
        return named(syscall('pwrite', fd, ctypes.create_string_buffer(max(1, length)), length, offset))

    def fstat(self, fd):
        buffer = ctypes.create_string_buffer(144)
        result = syscall('fstat', fd, buffer)
        if result < 0:
            return named(result)
        _, _, nlink, mode, _, _, _, rdev, size, blksize, blocks = struct.unpack_from('<QQQIIIIQqqq', buffer.raw)
        return {'mode': oct(mode)[2:], 'nlink': nlink, 'rdev': rdev, 'size': str(size), 'blksize': blksize, 'blocks': blocks}

    def poll(self, fds):
        packed = b''.join(struct.pack('<ihh', self.value(fd), events, 0) for fd, events in fds)
        buffer = ctypes.create_string_buffer(packed, max(8, len(packed)))
        ready = syscall('poll', buffer, len(fds), 0)
        return [named(ready)] + [struct.unpack_from('<ihh', buffer.raw, 8 * i)[2] for i in range(len(fds))]

    def readlink(self, path):
        buffer = ctypes.create_string_buffer(4096)
        got = syscall('readlink', path.encode() + b'\0', buffer, 4096)
        return named(got) if got < 0 else buffer.raw[:got].decode()

    def drain(self):
        os.set_blocking(self.pipe[0], False)
        try:
            while os.read(self.pipe[0], 100):
                pass
        except BlockingIOError:
            pass
        os.set_blocking(self.pipe[0], True)
        return 'EFAULT'

    def load(self, address, offset, width):
        if syscall('write', self.pipe[1], address + offset, width) != width:
            return self.drain()
        return hex(int.from_bytes(os.read(self.pipe[0], width), 'little'))

    def store(self, address, offset, width, value):
        os.write(self.pipe[1], (value & (2**64 - 1)).to_bytes(8, 'little')[:width])
        return 0 if syscall('read', self.pipe[0], address + offset, width) == width else self.drain()

    def pool(self): return [int(open(f'{POOL}/{name}_hugepages').read()) for name in ('nr', 'free', 'resv', 'surplus')]

    def fill(self, fd):
        count = 0
        while (result := syscall('dup', fd)) >= 0:
            count += 1
        return [count, named(result)]


def set_pool(pages):
    with open(f'{POOL}/nr_hugepages', 'w') as file:
        file.write(str(pages))
    if Player.pool(None)[:2] != [pages, pages]:
        sys.exit(f'there are not {pages} huge pages that are free: {Player.pool(None)}')


def main():
    scripts = json.load(open(sys.argv[1], encoding='utf8'))
    if len(sys.argv) > 2:
        player = Player()
        print(json.dumps([player.step(*step) for step in scripts[int(sys.argv[2])]['steps']]))
        return
    release = os.uname().release.split('-')[0]
    parts = []
    for index, script in enumerate(scripts):
        set_pool(script.get('pool', 0))
        run = subprocess.run([sys.executable, __file__, sys.argv[1], str(index)], capture_output=True, text=True, check=False)
        if run.returncode != 0:
            sys.exit(f"{script['name']}: status {run.returncode}\n{run.stderr}")
        lines = ',\n'.join('   ' + json.dumps(answer, ensure_ascii=False) for answer in json.loads(run.stdout))
        parts.append(f"  {json.dumps(script['name'])}: [\n{lines}\n  ]")
    set_pool(0)
    print(f'{{\n "kernel": {{"release": "{release}", "filesystem": "tmpfs without huge pages", "nofile": 1024}},\n "scripts": {{')
    print(',\n'.join(parts) + '\n }\n}')


main()
