/** Everything that holds a device, let go in many orders: by group with a container, by its own node with an iommufd. All orders: docs/fuzzing.md. */
import type { Kernel } from 'kvio';
import { type Case, define, type Fact, type Observer } from '../../case.ts';
import { bindToVfio, parts, unbindFromVfio } from '../../parts.ts';
import { iommufdFiles } from '../../teardown/iommufd.ts';
import { inOrder, letGo, type Scene, turns } from '../../teardown/scene.ts';
import { vfioByGroup, vfioByNode } from '../../teardown/vfio.ts';
import { attempt, groupPath } from '../../vfio.ts';

/** For each two of them an order that begins with the one and ends with the other, and the rest between them in turns. */
function* orders(names: readonly string[]): Generator<string[]> {
  for (const [i, first] of names.entries())
    for (const [j, last] of names.entries()) {
      if (first === last) continue;
      const rest = names.filter((name) => name !== first && name !== last);
      const turn = (i * names.length + j) % rest.length;
      yield [first, ...rest.slice(turn), ...rest.slice(0, turn), last];
    }
}

/** Who was the last to keep the group from being opened, what is still held at the end, and whether the driver lets go then. */
const inOrders =
  (scene: Scene) =>
  (kernel: Kernel, see: Observer): void => {
    const address = parts.edu.at;
    bindToVfio(kernel, address);
    const path = groupPath(kernel, address);
    letGo(kernel, scene, scene.things);
    for (const order of orders(scene.things)) {
      const facts = letGo(kernel, scene, order);
      const opens = (name: string): boolean => typeof (facts[name] as { around: Fact[] }).around[0] === 'number';
      const last = order.findLastIndex((name) => !opens(name));
      see.note(order.join(', '), { 'the group opens after': order[last + 1]!, ...(facts['nothing is left'] as object) });
    }
    unbindFromVfio(kernel, address);
    see.note(
      'the driver lets go',
      attempt(() => kernel.open(path)),
    );
    bindToVfio(kernel, address);
  };

export const teardownCases: readonly Case[] = [
  define('vfio/teardown/by-group', 'Lifetimes', inOrders(vfioByGroup), { needs: vfioByGroup.needs }),
  define('vfio/teardown/by-node', 'Lifetimes', inOrders(vfioByNode), { needs: vfioByNode.needs }),
  inOrder('vfio/teardown/iommufd-files', iommufdFiles, ...turns(iommufdFiles)),
];
