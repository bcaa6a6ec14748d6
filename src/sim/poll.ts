import { EBADF, EINVAL, EPERM, POLLERR, POLLHUP, POLLNVAL } from '../uapi/sys.ts';
import type { Process } from './process.ts';

/** One pass of do_poll over (fd, events, revents) triples: how many are ready. */
function scan(p: Process, fds: Int32Array): number {
  let ready = 0;
  for (let i = 0; i < fds.length; i += 3) {
    const fd = fds[i]!;
    const file = p.fds.get(fd);
    const mask = file?.poll(p) ?? POLLNVAL;
    const wanted = fds[i + 1]! | POLLERR | POLLHUP | POLLNVAL;
    fds[i + 2] = fd < 0 ? 0 : mask & wanted;
    if (fds[i + 2] !== 0) ready++;
  }
  return ready;
}

/** poll(2). `timeout` in simulated milliseconds; −1 runs the machine until something is ready, or throws Deadlock. */
export function poll(p: Process, fds: Int32Array, timeout: number): number {
  if (fds.length / 3 > p.fds.limit) return -EINVAL;
  const ready = scan(p, fds);
  if (ready > 0 || timeout === 0) return ready;
  const { runner } = p.system;
  const deadline = timeout < 0 ? undefined : runner.ticks + timeout * runner.instructionsPerMs;
  return runner.block('poll', () => scan(p, fds) || undefined, deadline) ?? 0;
}

/** Calls `done` from the event loop, once, when the file has one of `events`. Files without a poll operation: EPERM, as from epoll. */
export function wait(
  p: Process,
  fd: number,
  events: number,
  ref: boolean,
  done: (revents: number) => void,
): { cancel(): void } | number {
  const file = p.fds.get(fd);
  if (file === undefined) return -EBADF;
  if (file.wait === undefined) return -EPERM;
  const { runner } = p.system;
  const wanted = events | POLLERR | POLLHUP;
  let state: 'waiting' | 'come' | 'cancelled' = 'waiting';
  const leave = (next: 'come' | 'cancelled'): void => {
    if (state === 'waiting') {
      remove();
      arrived();
      if (ref) runner.unhold();
    }
    state = next;
  };
  const check = (): void => {
    const revents = state === 'waiting' ? file.poll(p) & wanted : 0;
    if (revents === 0) return;
    leave('come');
    runner.later(() => {
      if (state === 'come') done(revents);
    });
  };
  const remove = file.wait.add({ wake: check });
  const arrived = runner.awaitEvent();
  if (ref) runner.hold();
  check();
  return { cancel: () => leave('cancelled') };
}
