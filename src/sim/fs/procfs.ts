import { EINVAL, O_CLOEXEC } from '../../uapi/sys.ts';
import type { File } from '../file.ts';
import type { Process } from '../process.ts';
import type { System } from '../system.ts';
import { Attribute } from './attribute.ts';
import { Directory } from './directory.ts';
import { MagicLink, Symlink } from './link.ts';
import type { FsNode } from './node.ts';

/** Fills /proc with what is simulated of it. */
export function makeProc(system: System): void {
  const proc = system.fs.root.add('proc', new Proc(system.fs.mkdirp('/proc').fileSystem));
  proc.add('self', new Self());
  proc.add('devices', new Attribute(0o444, { show: () => devices(system) }));
  proc.add('misc', new Attribute(0o444, { show: () => misc(system) }));
  if (system.hugePool(0) !== undefined) proc.add('meminfo', new Attribute(0o444, { show: () => meminfo(system) }));
  const tainted = (): string => `${system.tainted}\n`;
  system.fs.mkdirp('/proc/sys/kernel').add('tainted', new Attribute(0o644, { show: tainted }));
}

/** The root of /proc: besides its files a directory for the process that looks; of others nothing is known. */
class Proc extends Directory {
  readonly #processes: WeakMap<Process, Directory> = new WeakMap();

  constructor(mounted: Directory['fileSystem']) {
    super(0o555, mounted);
  }

  override get(name: string, p?: Process): FsNode | undefined {
    return p !== undefined && name === String(p.pid) ? this.#of(p) : super.get(name);
  }

  override names(p?: Process): string[] {
    return p === undefined ? super.names() : [...super.names(), String(p.pid)];
  }

  #of(p: Process): Directory {
    let found = this.#processes.get(p);
    if (found === undefined) {
      this.#processes.set(p, (found = new Directory(0o555)));
      found.attach(this, String(p.pid));
      found.add('status', new Attribute(0o444, { show: () => status(p) }));
      found.add('fd', new PerDescriptor((file) => new MagicLink(file)));
      found.add('fdinfo', new PerDescriptor((file, fd) => new Attribute(0o444, { show: () => fdinfo(p, fd, file) })));
    }
    return found;
  }
}

/** /proc/PID/status: of its lines those of memory that is locked, or pinned by a driver that counts it apart. */
function status({ mm }: Process): string {
  const line = (name: string, pages: number): string => `${name}:\t${String(pages * 4).padStart(8)} kB\n`;
  return line('VmLck', mm.lockedVm) + line('VmPin', mm.pinnedVm);
}

/** /proc/meminfo: of its lines those of huge pages. The counts are of the default size, the sum of all. */
function meminfo(system: System): string {
  const { total, free, reserved, surplus, pageSize } = system.hugePool(0)!;
  const all = [...system.hugePools.values()].reduce((sum, pool) => sum + (pool.total * pool.pageSize) / 1024, 0);
  const count = (name: string, value: number): string => {
    const unsigned = String(BigInt.asUintN(64, BigInt(value)));
    return `${`HugePages_${name}:`.padEnd(19)}${unsigned.padStart(5)}\n`;
  };
  const size = (name: string, kilobytes: number): string => `${`${name}:`.padEnd(16)}${String(kilobytes).padStart(8)} kB\n`;
  const counts = count('Total', total) + count('Free', free) + count('Rsvd', reserved) + count('Surp', surplus);
  return counts + size('Hugepagesize', pageSize / 1024) + size('Hugetlb', all);
}

class Self extends Symlink {
  constructor() {
    super('');
  }

  override target(p: Process): string {
    return String(p.pid);
  }
}

/** Something for each open descriptor of the process that looks. */
class PerDescriptor extends Directory {
  readonly #make: (file: File, fd: number) => FsNode;

  constructor(make: (file: File, fd: number) => FsNode) {
    super(0o555);
    this.#make = make;
  }

  override get(name: string, p?: Process): FsNode | undefined {
    const fd = /^(0|[1-9]\d*)$/.test(name) ? Number(name) : -1;
    const file = p?.fds.get(fd);
    if (file === undefined) return undefined;
    const node = this.#make(file, fd);
    node.attach(this, name);
    return node;
  }

  override names(p?: Process): string[] {
    return p === undefined ? [] : [...p.fds.open()].map(([fd]) => String(fd));
  }
}

function fdinfo(p: Process, fd: number, file: File): string | number {
  const more = file.fdinfo(p);
  if (more === undefined) return p.system.notModelled(`fdinfo of ${file.link}`, -EINVAL);
  const flags = file.flags | (p.fds.cloexec(fd) ? O_CLOEXEC : 0);
  const mount = p.system.fs.mountOf(file.stat(p).dev);
  return `pos:\t${file.position}\nflags:\t0${flags.toString(8)}\nmnt_id:\t${mount}\nino:\t${file.stat(p).ino}\n${more}`;
}

/** /proc/devices: numbers are three wide. There are no block devices. */
function devices(system: System): string {
  const lines = [...system.majors].sort(([a], [b]) => a - b).map(([major, name]) => `${String(major).padStart(3)} ${name}\n`);
  return `Character devices:\n${lines.join('')}\nBlock devices:\n`;
}

/** /proc/misc: the newest first. */
function misc(system: System): string {
  return system
    .devices()
    .filter(({ major }) => major === 10)
    .reverse()
    .map(({ minor, path }) => `${String(minor).padStart(3)} ${path.slice(path.lastIndexOf('/') + 1)}\n`)
    .join('');
}
