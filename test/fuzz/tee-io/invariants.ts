/** What must hold at any time, and when nobody has anything open any more. What accesses may come to: accesses.ts. */
import type { Choices } from '../choices.ts';
import { barPages } from './trusted-device.ts';
import { demand, type World } from './world.ts';

/** Of a device's interface. */
const PAGES = barPages(0) + barPages(2);

/** What must hold at any time. */
export function always(w: World): void {
  for (const { tdi: context, owner, pulled } of w.devices) {
    const { binding, tdi, accepted, dmaEnabled, fenced } = context;
    demand(!pulled || !tdi.isLocked, `pulled out, and in state ${tdi.state}`);
    if (binding === undefined) {
      demand(tdi.state === 0, `bound to nobody, and in state ${tdi.state}`);
      demand(accepted.length === 0 && !dmaEnabled, 'bound to nobody, and what a guest has accepted is still accepted');
    } else {
      demand(owner?.tdis.has(binding) === true, 'bound to a VM that knows nothing of it');
      demand(owner!.alive, 'bound to a VM that is gone');
      demand(accepted.length <= PAGES, `${accepted.length} pieces of ${PAGES} pages are accepted`);
      demand(fenced !== 1 || w.faulted.has(owner!), "behind the fence of another guest's");
    }
  }
  for (const guest of w.guests) {
    const bound = w.devices.filter(({ owner }) => owner === guest).length;
    demand(guest.tdis.size === bound, `the VM has ${guest.tdis.size} TDIs, and ${bound} are bound to it`);
    if (bound === 0) w.faulted.delete(guest);
  }
}

/** Closes every descriptor, in a random order: who they were. */
export function closeAll(w: World, c: Choices): string[] {
  const order: string[] = [];
  for (let open = w.handles; open.length > 0; open = w.handles) {
    const handle = c.pick(open);
    order.push(handle.constructor.name);
    handle.close();
    always(w);
  }
  nothingIsLeft(w);
  return order;
}

function nothingIsLeft(w: World): void {
  for (const device of w.devices) {
    const { tdi, state, name } = device;
    demand(tdi.binding === undefined && state === 0, `${name} is in state ${state} after the last close`);
    demand(!device.pulled || device.isGone, `${name}, which was pulled out, is there after the last close`);
    device.assigned = undefined;
    device.dmaBufs.length = 0;
  }
  for (const guest of w.guests) demand(!guest.alive, `${guest.name} is still there`);
  const { lockedVm, pinnedVm } = w.kernel.process.mm;
  demand(lockedVm === 0 && pinnedVm === 0, `${lockedVm} pages are locked, ${pinnedVm} pinned after the last close`);
}
