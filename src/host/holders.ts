import type { Kernel } from '../kernel/kernel.ts';
import { isMapped } from '../kernel/mapped-memory.ts';
import type { Memory } from '../kernel/memory.ts';
import { findAttribute, linkName, namesIn } from './sysfs.ts';

/** What is known here of a device that is open: its name is an address (with ` vf_token=…` behind it), or the path of its node. */
interface Holding {
  readonly name: string;
  /** Of its own descriptor; −1 when that is closed. */
  readonly fd?: () => number;
  /** For an error: `descriptor 30`, and what it is where that alone would not tell. Undefined: it is held no longer. */
  readonly describe: () => string | undefined;
}

const holdings: WeakMap<Kernel, Set<Holding>> = new WeakMap();

function note(kernel: Kernel, holding: Holding): void {
  const known = holdings.get(kernel) ?? new Set();
  holdings.set(kernel, known);
  for (const one of known) if (one.describe() === undefined) known.delete(one);
  known.add(holding);
}

/** A device was opened: kernels whose fdinfo names none would not tell. */
export function noteDevice(kernel: Kernel, name: string, device: { readonly fd: number }): void {
  const weak = new WeakRef(device);
  note(kernel, {
    name,
    fd: () => weak.deref()?.fd ?? -1,
    describe: () => {
      const { fd = -1 } = weak.deref() ?? {};
      return fd !== -1 && isVfio(linkName(kernel, `/proc/self/fd/${fd}`)) ? `descriptor ${fd}` : undefined;
    },
  });
}

/** A region was mapped: the mapping keeps the device open, and so does a memslot over it, when all descriptors are closed. */
export function noteMapping(kernel: Kernel, name: string, memory: Memory): void {
  const where = `a mapping at 0x${memory.address.toString(16)}`;
  note(kernel, {
    name,
    describe: () => {
      if (!isMapped(memory)) return undefined;
      return memory.closed ? `${where}, closed but still named by a memslot or a DMA mapping` : where;
    },
  });
}

/** A file of the device is held by something else of the kernel's, for as long as `describe` has words for it. */
export function noteFile(kernel: Kernel, name: string, describe: () => string | undefined): void {
  note(kernel, { name, describe });
}

/** The device behind a descriptor, by the name it was opened by here, or by what the kernel tells of it. */
export function nameOf(kernel: Kernel, fd: number): string | undefined {
  for (const holding of holdings.get(kernel) ?? []) if (holding.fd?.() === fd) return holding.name;
  return deviceOf(kernel, fd);
}

/**
 * What of this process has a device open: descriptors of its own node, or whose fdinfo names it (older kernels name none), and the devices and mappings that were made by this
 * package.
 */
export function heldBy(kernel: Kernel, bdf: string): string[] {
  const found = new Set(descriptorsOf(kernel, bdf).map((fd) => `descriptor ${fd}`));
  for (const { name, describe } of holdings.get(kernel) ?? []) {
    const held = describe();
    if (held !== undefined && addressOf(kernel, name) === bdf) found.add(held);
  }
  return [...found];
}

function descriptorsOf(kernel: Kernel, bdf: string): number[] {
  return namesIn(kernel, '/proc/self/fd')
    .map(Number)
    .filter((fd) => deviceOf(kernel, fd) === bdf);
}

/** The address of the device behind a descriptor, where the kernel tells it. */
export function deviceOf(kernel: Kernel, fd: number): string | undefined {
  const name = linkName(kernel, `/proc/self/fd/${fd}`);
  if (name === undefined || !isVfio(name)) return undefined;
  const syspath = /^vfio-device-syspath:\s*(\S+)$/m.exec(findAttribute(kernel, `/proc/self/fdinfo/${fd}`) ?? '')?.[1];
  return syspath?.slice(syspath.lastIndexOf('/') + 1) ?? deviceOfNode(kernel, name);
}

const isVfio = (name: string | undefined): boolean => name !== undefined && /vfio/.test(name);

const NODES = '/dev/vfio/devices/';

function addressOf(kernel: Kernel, name: string): string | undefined {
  return name.startsWith(NODES) ? deviceOfNode(kernel, name.slice(NODES.length)) : name.split(' ')[0];
}

function deviceOfNode(kernel: Kernel, node: string): string | undefined {
  return linkName(kernel, `/sys/class/vfio-dev/${node}/device`);
}
