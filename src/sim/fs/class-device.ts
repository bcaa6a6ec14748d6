import { EINVAL, EIO } from '../../uapi/sys.ts';
import type { CharDevice, System } from '../system.ts';
import { Attribute } from './attribute.ts';
import { Directory } from './directory.ts';
import { NodeLink } from './link.ts';
import { line } from './text.ts';

/** The actions that may be written to `uevent`, with whatever comes behind a space. */
const ACTIONS: ReadonlySet<string> = new Set(['add', 'remove', 'change', 'move', 'online', 'offline', 'bind', 'unbind']);

/** kobject_synth_uevent. Nobody listens: there is no netlink here. */
export function synthUevent(text: string): number {
  return ACTIONS.has(line(text).split(' ')[0]!) ? text.length : -EINVAL;
}

/** `uevent`, as every device has it: the variables, and writes that send them. */
export function ueventAttribute(show: () => string): Attribute {
  return new Attribute(0o644, { show, store: (_p, text) => synthUevent(text) });
}

/** An attribute that only tells; a newline is added. */
export function shows(mode: number, value: () => string | number): Attribute {
  return new Attribute(mode, {
    show: () => {
      const shown = value();
      return typeof shown === 'number' && shown < 0 ? shown : `${shown}\n`;
    },
  });
}

/** What power/ tells of a device: `control` is what userspace may write. */
export interface PowerState {
  control: 'on' | 'auto';
  readonly status: 'active' | 'suspended' | 'unsupported';
}

/** power/ of a device; by default of one without runtime power management. */
export function powerDirectory(state: PowerState = { control: 'on', status: 'unsupported' }): Directory {
  const power = new Directory();
  const unset = (): number => -EIO;
  power.add('autosuspend_delay_ms', new Attribute(0o644, { show: unset, store: unset }));
  power.add(
    'control',
    new Attribute(0o644, {
      show: () => `${state.control}\n`,
      store: (_p, text) => {
        const word = line(text);
        if (word !== 'on' && word !== 'auto') return -EINVAL;
        state.control = word;
        return text.length;
      },
    }),
  );
  power.add(
    'runtime_status',
    shows(0o444, () => state.status),
  );
  return power;
}

export interface ClassDeviceOptions {
  readonly class: string;
  /** As /sys/class/CLASS has it. */
  readonly name: string;
  /** The directory of the device it is of; absent: /sys/devices/virtual. */
  readonly parent?: Directory;
  /** Its character device: `dev`, the variables of `uevent`, /sys/dev/char; the node itself is registered too. */
  readonly device?: CharDevice;
  /** DEVMODE= of uevent; default: none, the node has devtmpfs' own 0600. */
  readonly devmode?: number | undefined;
}

/** device_add of a device of a class: its directory, the links to it, its node. */
export class ClassDevice {
  readonly directory: Directory;
  readonly #system: System;
  readonly #options: ClassDeviceOptions;

  constructor(system: System, options: ClassDeviceOptions) {
    this.#system = system;
    this.#options = options;
    const { name, parent, device } = options;
    const { fs } = system;
    const above = parent === undefined ? fs.mkdirp(`/sys/devices/virtual/${options.class}`) : glue(parent, options.class);
    const classes = fs.mkdirp(`/sys/class/${options.class}`);
    const directory = above.add(name, new Directory());
    this.directory = directory;
    if (parent !== undefined) directory.add('device', new NodeLink(parent));
    directory.add('power', powerDirectory());
    directory.add('subsystem', new NodeLink(classes));
    directory.add(
      'uevent',
      ueventAttribute(() => this.#uevent()),
    );
    classes.add(name, new NodeLink(directory));
    if (device === undefined) return;
    const number = `${device.major}:${device.minor}`;
    directory.add(
      'dev',
      shows(0o444, () => number),
    );
    fs.mkdirp('/sys/dev/char').add(number, new NodeLink(directory));
    system.addNode(device);
  }

  /** The directory of the device it is of. */
  get parent(): Directory | undefined {
    return this.#options.parent;
  }

  /** device_del. A directory between it and its parent goes with the last of its class. */
  remove(): void {
    const { device, name, parent } = this.#options;
    const { fs } = this.#system;
    if (device !== undefined) {
      this.#system.removeNode(device.path);
      fs.mkdirp('/sys/dev/char').remove(`${device.major}:${device.minor}`);
    }
    fs.mkdirp(`/sys/class/${this.#options.class}`).remove(name);
    const above = this.directory.parent!;
    above.remove(name);
    if (parent !== undefined && above.empty) parent.remove(this.#options.class);
  }

  #uevent(): string {
    const { device, devmode } = this.#options;
    if (device === undefined) return '';
    const mode = devmode === undefined ? '' : `DEVMODE=0${devmode.toString(8)}\n`;
    return `MAJOR=${device.major}\nMINOR=${device.minor}\nDEVNAME=${device.path.replace('/dev/', '')}\n${mode}`;
  }
}

/** The class's directory below the parent: shared by its devices of that class. */
function glue(parent: Directory, name: string): Directory {
  const found = parent.get(name);
  return found instanceof Directory ? found : parent.add(name, new Directory());
}
