/** Every order in which what holds one another can be let go, on the simulator: after each nothing of it is left, in the kernel or in memory. */
import v8 from 'node:v8';
import { openSim, type SimKernel } from 'kvio/sim';
import { describe, expect, test } from 'vitest';
import { parts } from '../conformance/parts.ts';
import { scenes } from '../conformance/teardown/index.ts';
import { orderAt, ordersOf, type Scene } from '../conformance/teardown/scene.ts';

/** KVIO_TEARDOWN_ORDERS: at most how many of a scene's; `all` of them take minutes. */
const ORDERS = process.env['KVIO_TEARDOWN_ORDERS'] === 'all' ? Infinity : Number(process.env['KVIO_TEARDOWN_ORDERS'] ?? 600);
/** After so many the code is compiled and tables have grown. */
const WARM = 300;
function letGo(kernel: SimKernel, scene: Scene, order: readonly string[]): void {
  const { things, end } = scene.make(kernel);
  for (const name of order) things[name]!.close();
  end?.();
}

/** What the process has and the device is, by the back door. */
function left({ process: { fds, mm, system } }: SimKernel): object {
  const edu = system.pci.find(parts.edu.at)!;
  return {
    files: [...fds.open()].map(([fd]) => fd),
    mappings: mm.vmas.length,
    locked: mm.lockedVm,
    pinned: mm.pinnedVm,
    group: [edu.iommuGroup?.viable, edu.iommuGroup?.domain],
    device: [edu.enableCount, edu.irq.allocated, edu.driver?.name],
  };
}

/** Objects of any kind, open file descriptions among them, whoever holds them; and bytes of memory that is theirs. */
function inMemory(files: new () => object): { objects: number; files: number; arenas: number } {
  const [objects, open] = [v8.queryObjects(Object), v8.queryObjects(files)].map(Number) as [number, number];
  return { objects, files: open, arenas: process.memoryUsage().arrayBuffers };
}

/** The class that all open files are of. */
function classOfFiles(kernel: SimKernel): new () => object {
  const fd = kernel.eventfd();
  let of = Object.getPrototypeOf(kernel.process.fds.get(fd)!);
  for (let above = of; above !== Object.prototype; above = Object.getPrototypeOf(above)) of = above;
  kernel.close(fd);
  return of.constructor;
}

describe.each(scenes.map((scene) => ({ scene, name: scene.name, count: Math.min(ORDERS, ordersOf(scene.things)) })))('$name', ({
  scene,
  count,
}) => {
  test(`${count} of ${ordersOf(scene.things)} orders leave nothing behind`, { timeout: 100 * count + 60_000 }, () => {
    const kernel = openSim({ machine: 'lab-vtd-7.2' });
    scene.prepare?.(kernel);
    const before = left(kernel);
    const files = classOfFiles(kernel);
    let warm = inMemory(files);
    for (let at = 0; at < count; at++) {
      const order = orderAt(scene.things, at);
      letGo(kernel, scene, order);
      if (at === WARM) warm = inMemory(files);
      const now = left(kernel);
      if (JSON.stringify(now) !== JSON.stringify(before)) expect(now, order.join(', ')).toEqual(before);
    }
    const after = inMemory(files);
    expect({ files: after.files, arenas: after.arenas }).toEqual({ files: warm.files, arenas: warm.arenas });
    // Less than one for each order: a runtime has some of its own that come and go.
    expect(after.objects - warm.objects).toBeLessThan((count - WARM) / 4);
    kernel.close();
  });
});
