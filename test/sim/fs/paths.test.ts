import { describe, expect, it } from 'vitest';
import { Completion, Pending } from '../../../src/sim/completion.ts';
import { Attribute, BinaryAttribute } from '../../../src/sim/fs/attribute.ts';
import { Directory } from '../../../src/sim/fs/directory.ts';
import { NodeLink, Symlink } from '../../../src/sim/fs/link.ts';
import * as sys from '../../../src/uapi/sys.ts';
import { boot } from '../machine.ts';

function tree(options: Parameters<typeof boot>[0] = {}) {
  const booted = boot(options);
  const { system, kernel } = booted;
  const { fs } = system;
  const device = fs.mkdirp('/sys/devices/bridge/device');
  let value = '(null)';
  device.add(
    'override',
    new Attribute(0o644, {
      show: () => `${value}\n`,
      store: (_p, text) => {
        if (text.length >= 4095) return -sys.EINVAL;
        value = text.replace('\n', '') || '(null)';
        return text.length;
      },
    }),
  );
  device.add('vendor', new Attribute(0o444, { show: () => '0x1234\n' }));
  device.add('probe', new Attribute(0o200, { store: (_p, text) => text.length }));
  const bytes = new Uint8Array(256).map((_, at) => at);
  device.add(
    'config',
    new BinaryAttribute(0o644, 256, {
      read: (_p, into, offset) => {
        into.set(bytes.subarray(offset, offset + into.length));
        return into.length;
      },
    }),
  );
  device.add('resource0', new BinaryAttribute(0o600, 4096, { mmap: () => -sys.EINVAL }));
  fs.mkdirp('/sys/bus/devices').add('device', new NodeLink(device));
  const code = (act: () => unknown): unknown => {
    try {
      return act();
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  const open = (path: string, flags: number): unknown =>
    code(() => {
      kernel.close(kernel.open(path, flags));
      return 'ok';
    });
  const text = (fd: number, length: number, offset?: number): unknown =>
    code(() => {
      const into = new Uint8Array(length);
      const count = offset === undefined ? kernel.read(fd, into) : kernel.pread(fd, into, offset);
      return Buffer.from(into.subarray(0, count)).toString();
    });
  return { ...booted, fs, device, code, open, text };
}

const D = '/sys/bus/devices/device';

describe('paths', () => {
  it('links are relative, followed, and lead to where .. is another directory', () => {
    const { kernel, open, code } = tree();
    expect(kernel.readlink(D)).toBe('../../devices/bridge/device');
    expect(open(`${D}/../device/vendor`, sys.O_RDONLY)).toBe('ok');
    expect(open(`${D}/../devices`, sys.O_RDONLY)).toBe('ENOENT');
    expect(code(() => kernel.readlink(`${D}/`))).toBe('EINVAL');
    expect(kernel.readdir(D)).toEqual(['override', 'vendor', 'probe', 'config', 'resource0']);
    expect(code(() => kernel.readdir(`${D}/vendor`))).toBe('ENOTDIR');
    expect(code(() => kernel.readdir(`${D}/nothing`))).toBe('ENOENT');
  });

  it('a link that leads to itself, or through more than forty, is ELOOP', () => {
    const { fs, open } = tree();
    const folder = fs.mkdirp('/links');
    folder.add('self', new Symlink('self'));
    expect(open('/links/self', sys.O_RDONLY)).toBe('ELOOP');
    folder.add('0', new Directory());
    for (let n = 1; n <= 41; n++) folder.add(String(n), new Symlink(n === 1 ? '/links/0' : String(n - 1)));
    expect(open('/links/40', sys.O_RDONLY)).toBe('ok');
    expect(open('/links/41', sys.O_RDONLY)).toBe('ELOOP');
  });

  it('open flags on attributes, directories and links', () => {
    const { open } = tree();
    const cases: [path: string, flags: number, answer: string][] = [
      [`${D}/vendor`, sys.O_RDWR, 'EACCES'],
      [`${D}/vendor`, sys.O_WRONLY, 'EACCES'],
      [`${D}/probe`, sys.O_RDONLY, 'EACCES'],
      [`${D}/probe`, sys.O_RDWR, 'EACCES'],
      [`${D}/probe`, sys.O_WRONLY, 'ok'],
      [`${D}/vendor`, sys.O_DIRECTORY, 'ENOTDIR'],
      [`${D}/vendor`, sys.O_CREAT, 'ok'],
      [`${D}/vendor`, sys.O_CREAT | sys.O_EXCL, 'EEXIST'],
      [`${D}/vendor`, sys.O_TRUNC, 'ok'],
      [`${D}/vendor/`, sys.O_RDONLY, 'ENOTDIR'],
      [`${D}/vendor/x`, sys.O_RDONLY, 'ENOTDIR'],
      [`${D}/new`, sys.O_CREAT | sys.O_RDWR, 'EACCES'],
      [`${D}/new/x`, sys.O_CREAT | sys.O_RDWR, 'ENOENT'],
      ['/proc/new', sys.O_CREAT | sys.O_RDWR, 'ENOENT'],
      [D, sys.O_RDONLY, 'ok'],
      [D, sys.O_RDWR, 'EISDIR'],
      [D, sys.O_CREAT, 'EISDIR'],
      [D, sys.O_TRUNC, 'EISDIR'],
      [D, sys.O_CREAT | sys.O_DIRECTORY, 'EINVAL'],
      [D, sys.O_NOFOLLOW, 'ELOOP'],
      [D, sys.O_NOFOLLOW | sys.O_DIRECTORY, 'ENOTDIR'],
      [`${D}/`, sys.O_NOFOLLOW, 'ok'],
      ['/proc/self/fd/0', sys.O_NOFOLLOW, 'ELOOP'],
      ['/proc/self/fd/0', sys.O_RDONLY, 'ok'],
    ];
    for (const [path, flags, answer] of cases) expect([path, flags, open(path, flags)]).toEqual([path, flags, answer]);
  });

  it('a directory is open to be looked at, and a walk may begin at its descriptor', () => {
    const { kernel, code } = tree();
    const fd = kernel.open(D, sys.O_RDONLY);
    expect(code(() => kernel.read(fd, new Uint8Array(8)))).toBe('EISDIR');
    expect(code(() => kernel.pread(fd, new Uint8Array(8), 0))).toBe('EISDIR');
    expect(code(() => kernel.write(fd, new Uint8Array(8)))).toBe('EBADF');
    expect(kernel.readlink(`/proc/self/fd/${fd}`)).toBe('/sys/devices/bridge/device');
    expect(kernel.readdir(`/proc/self/fd/${fd}`)).toEqual(kernel.readdir(D));
    expect(kernel.fstat(fd).mode).toBe(0o40755);
    expect(kernel.fstat(fd).nlink).toBe(2);
  });

  it('a user who is not root has what the mode gives', () => {
    const user = { uid: 1000, gid: 1000, capabilities: [] } as const;
    const { open, fs, kernel, code } = tree({ machine: { user } });
    expect(open(`${D}/vendor`, sys.O_RDONLY)).toBe('ok');
    expect(open(`${D}/override`, sys.O_RDWR)).toBe('EACCES');
    expect(open(`${D}/override`, sys.O_RDONLY)).toBe('ok');
    expect(open(`${D}/probe`, sys.O_WRONLY)).toBe('EACCES');
    expect(open('/dev/null', sys.O_RDWR)).toBe('ok');
    fs.mkdirp('/sys/devices/bridge').mode = 0o700;
    expect(open(`${D}/vendor`, sys.O_RDONLY)).toBe('EACCES');
    expect(code(() => kernel.readdir(D))).toBe('EACCES');
  });
});

describe('attributes', () => {
  it('are made when read from the start, and go on from what was made', () => {
    const { kernel, text } = tree();
    const fd = kernel.open(`${D}/override`, sys.O_RDWR);
    expect(text(fd, 3)).toBe('(nu');
    expect(kernel.write(fd, Buffer.from('abcdefghij\n'))).toBe(11);
    // The write moved the position beyond the new text.
    expect([text(fd, 10), text(fd, 10, 0), text(fd, 10), text(fd, 10, 4)]).toEqual(['', 'abcdefghij', '', 'efghij\n']);
    expect(text(fd, 64, 100)).toBe('');
  });

  it('take at most a page of a write, whole', () => {
    const { kernel, code } = tree();
    const fd = kernel.open(`${D}/override`, sys.O_RDWR);
    expect(kernel.write(fd, Buffer.alloc(4094, 'a'))).toBe(4094);
    expect(code(() => kernel.write(fd, Buffer.alloc(5000, 'a')))).toBe('EINVAL');
    expect(kernel.write(fd, new Uint8Array(0))).toBe(0);
  });

  it('binary ones end where their size says; one that can only be mapped is EIO', () => {
    const { kernel, code } = tree();
    expect(code(() => kernel.open(`${D}/config`, sys.O_RDWR))).toBe('EACCES');
    const fd = kernel.open(`${D}/config`, sys.O_RDONLY);
    const into = new Uint8Array(8192);
    expect([kernel.read(fd, into), kernel.read(fd, into)]).toEqual([256, 0]);
    expect(kernel.pread(fd, into, 254)).toBe(2);
    expect([...into.subarray(0, 2)]).toEqual([254, 255]);
    expect(kernel.fstat(fd).size).toBe(256n);
    const mapped = kernel.open(`${D}/resource0`, sys.O_RDWR);
    expect(code(() => kernel.pread(mapped, into.subarray(0, 4), 0))).toBe('EIO');
    expect(code(() => kernel.pwrite(mapped, new Uint8Array(4), 0))).toBe('EIO');
    expect([kernel.pread(mapped, new Uint8Array(0), 0), kernel.pread(mapped, into, 4096)]).toEqual([0, 0]);
    expect(code(() => kernel.pwrite(mapped, new Uint8Array(4), 4096))).toBe('EFBIG');
  });

  it('of a directory that is gone are ENODEV; their path and the directory stay', () => {
    const { kernel, fs, text } = tree();
    const fd = kernel.open(`${D}/vendor`, sys.O_RDONLY);
    const directory = kernel.open(D, sys.O_RDONLY);
    fs.mkdirp('/sys/devices').remove('bridge');
    expect(text(fd, 8, 0)).toBe('ENODEV');
    expect(kernel.readlink(`/proc/self/fd/${fd}`)).toBe('/sys/devices/bridge/device/vendor');
    expect(kernel.fstat(fd).nlink).toBe(0);
    expect(kernel.fstat(directory).nlink).toBe(0);
  });

  it('whose store waits run the machine until it is over, or are a deadlock', () => {
    const { kernel, device, system, code } = tree();
    let completion = new Completion();
    device.add('slow', new Attribute(0o200, { store: (_p, text) => new Pending(completion, () => text.length) }));
    const fd = kernel.open(`${D}/slow`, sys.O_WRONLY);
    const from = Buffer.from('1\n');
    expect(code(() => kernel.write(fd, from))).toBe('ERR_KVIO_DEADLOCK');
    completion = new Completion();
    system.runner.at(system.runner.ticks + 1000, () => completion.complete());
    expect(kernel.pwrite(fd, from, 0)).toBe(2);
  });
});

describe('device nodes', () => {
  const device = (path: string, major: number) => ({
    path,
    major,
    minor: 7,
    mode: 0o600,
    open: () => -sys.EBUSY,
  });

  it('come with their directories and go with those they leave empty', () => {
    const { system, kernel, code } = tree();
    const major = system.allocMajor('vfio-dev');
    system.register(device('/dev/vfio/devices/vfio0', major));
    expect(kernel.readdir('/dev/vfio/devices')).toEqual(['vfio0']);
    expect(code(() => kernel.open('/dev/vfio/devices/vfio0'))).toBe('EBUSY');
    system.unregister('/dev/vfio/devices/vfio0');
    expect(code(() => kernel.readdir('/dev/vfio'))).toBe('ENOENT');
  });

  it('of the misc class have entries in /sys', () => {
    const { system, kernel, text } = tree();
    system.register(device('/dev/folder/thing', 10));
    const read = (path: string): unknown => text(kernel.open(path, sys.O_RDONLY), 4096);
    expect(kernel.readlink('/sys/class/misc/thing')).toBe('../../devices/virtual/misc/thing');
    expect(kernel.readlink('/sys/dev/char/10:7')).toBe('../../devices/virtual/misc/thing');
    expect(read('/sys/class/misc/thing/uevent')).toBe('MAJOR=10\nMINOR=7\nDEVNAME=folder/thing\n');
    expect(read('/sys/class/misc/thing/dev')).toBe('10:7\n');
    expect(kernel.readlink('/sys/class/misc/thing/subsystem')).toBe('../../../../class/misc');
    expect(read('/proc/misc')).toBe('  7 thing\n');
    system.unregister('/dev/folder/thing');
    expect(kernel.readdir('/sys/class/misc')).toEqual([]);
  });
});

describe('/proc', () => {
  it('self, fd and fdinfo', () => {
    const { kernel, text } = tree();
    const fd = kernel.open(`${D}/vendor`, sys.O_RDONLY | sys.O_CLOEXEC);
    const read = (path: string): unknown => text(kernel.open(path, sys.O_RDONLY), 4096);
    expect(kernel.readdir('/proc/self/fd')).toEqual(['0', '1', '2', String(fd)]);
    text(fd, 3);
    expect(read(`/proc/self/fdinfo/${fd}`)).toMatch(/^pos:\t3\nflags:\t02100000\nmnt_id:\t36\nino:\t\d+\n$/);
    expect(read('/proc/devices')).toBe('Character devices:\n  1 mem\n 10 misc\n\nBlock devices:\n');
    expect(read('/proc/sys/kernel/tainted')).toBe('0\n');
  });
});
