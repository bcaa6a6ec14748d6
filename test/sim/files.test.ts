import { describe, expect, it } from 'vitest';
import { Deadlock } from '../../src/kernel/errors.ts';
import { EventfdFile } from '../../src/sim/eventfd.ts';
import { WaitQueue } from '../../src/sim/wait-queue.ts';
import * as sys from '../../src/uapi/sys.ts';
import { boot } from './machine.ts';

const one = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);
const eventfdOf = (process: ReturnType<typeof boot>['process'], fd: number): EventfdFile => process.fds.get(fd) as EventfdFile;

describe('descriptors', () => {
  it('0, 1 and 2 are taken', () => {
    const { process, kernel } = boot();
    expect([...process.fds.open()].map(([fd]) => fd)).toEqual([0, 1, 2]);
    expect(kernel.eventfd()).toBe(3);
  });

  it('a reserved number is not open, is skipped, and can be given back', () => {
    const { process, kernel } = boot();
    const fd = process.fds.reserve(true);
    expect([fd, process.fds.get(fd), process.fds.close(fd)]).toEqual([3, undefined, -sys.EBADF]);
    expect(kernel.eventfd()).toBe(4);
    process.fds.unreserve(fd);
    expect(kernel.eventfd()).toBe(3);
  });

  it('a full table drops the reference of what could not be installed', () => {
    const { process } = boot({ machine: { limits: { nofile: 4, maps: 100, memory: 2 ** 30, memlock: 0 } } });
    const files = [new EventfdFile(0, 0), new EventfdFile(0, 0)];
    expect(files.map((file) => process.fds.install(file, false))).toEqual([3, -sys.EMFILE]);
    expect(files.map((file) => file.references)).toEqual([1, 0]);
  });

  it('the end of the process releases everything, in any order of closing', () => {
    for (const order of [['fd', 'map'], ['map', 'fd'], []] as const) {
      const { kernel, process } = boot();
      const fd = kernel.memfd('m');
      kernel.ftruncate(fd, 4096);
      const file = process.fds.get(fd)!;
      const map = kernel.mmap({ fd, length: 4096 });
      for (const step of order) step === 'fd' ? kernel.close(fd) : map.close();
      kernel.close();
      expect(file.references).toBe(0);
      expect([process.mm.vmas.length, [...process.fds.open()].length]).toEqual([0, 0]);
    }
  });
});

describe('wait queues', () => {
  it('first come, first told; those with priority before all, those at the head behind them, the last first; who takes it ends it', () => {
    const queue = new WaitQueue();
    const told: string[] = [];
    const tell = (name: string, takes = false) => ({
      wake: () => {
        told.push(name);
        return takes;
      },
    });
    queue.add(tell('a'));
    const removeB = queue.add(tell('b'));
    queue.add(tell('p'), 'priority');
    const removeH = queue.add(tell('h'), 'head');
    queue.add(tell('q'), 'priority');
    const removeI = queue.add(tell('i'), 'head');
    queue.wake(1);
    expect(told.splice(0)).toEqual(['p', 'q', 'i', 'h', 'a', 'b']);
    for (const remove of [removeB, removeB, removeH, removeI]) remove();
    queue.add(tell('r', true), 'priority');
    queue.wake(1);
    expect(told).toEqual(['p', 'q', 'r']);
    expect(queue.size).toBe(4);
  });
});

describe('eventfd, from inside the kernel', () => {
  it('signal adds and sticks at the maximum; consume takes', () => {
    const { kernel, process } = boot();
    const fd = kernel.eventfd(0, sys.EFD_NONBLOCK);
    const file = eventfdOf(process, fd);
    const seen: number[] = [];
    file.wait.add({ wake: (events) => void seen.push(events) });
    kernel.write(fd, new Uint8Array(BigUint64Array.of(2n ** 64n - 2n).buffer));
    file.signal();
    file.signal();
    expect([file.count, file.poll()]).toEqual([2n ** 64n - 1n, sys.POLLIN | sys.POLLERR]);
    expect(kernel.poll([{ fd, events: 0 }])).toEqual([sys.POLLERR]);
    expect(file.consume()).toBe(2n ** 64n - 1n);
    expect(file.consume()).toBe(0n);
    expect(seen).toEqual([sys.POLLIN, sys.POLLIN, sys.POLLIN, sys.POLLOUT]);
  });

  it('a holder inside the kernel keeps it after close', () => {
    const { kernel, process } = boot();
    const fd = kernel.eventfd();
    const file = eventfdOf(process, fd).ref();
    kernel.close(fd);
    file.signal();
    expect([file.count, file.references]).toEqual([1n, 1]);
    file.unref(process);
    expect(() => file.unref(process)).toThrow('released twice');
    expect(() => file.ref()).toThrow('released');
  });
});

describe('waiting', () => {
  it('a blocking read or write nobody can end is a Deadlock', () => {
    const { kernel } = boot();
    const fd = kernel.eventfd(1);
    kernel.read(fd, new Uint8Array(8));
    expect(() => kernel.read(fd, new Uint8Array(8))).toThrow(Deadlock);
    kernel.write(fd, new Uint8Array([0xfe, 255, 255, 255, 255, 255, 255, 255]));
    expect(() => kernel.write(fd, one)).toThrow(/write on anon_inode:\[eventfd\]: nothing/);
    expect(() => kernel.poll([{ fd: kernel.eventfd() }], -1)).toThrow(Deadlock);
  });

  it('a blocking read goes on when the machine wakes it', () => {
    const { kernel, process, system } = boot();
    const fd = kernel.eventfd();
    const { runner } = system;
    runner.at(runner.ticks + 5000, () => eventfdOf(process, fd).signal());
    const got = new Uint8Array(8);
    expect(kernel.read(fd, got)).toBe(8);
    expect([got[0], runner.ticks]).toEqual([1, 5000]);
  });

  it('poll with a timeout costs simulated time only', () => {
    const { kernel, process, system } = boot();
    const fd = kernel.eventfd();
    const started = performance.now();
    expect(kernel.poll([{ fd }], 60_000)).toEqual([0]);
    expect(performance.now() - started).toBeLessThan(1000);
    expect(system.runner.now).toBe(60_000_000_000n);
    system.runner.at(system.runner.ticks + 10, () => eventfdOf(process, fd).signal());
    expect(kernel.poll([{ fd }], 60_000)).toEqual([sys.POLLIN]);
    expect(system.runner.now).toBe(60_000_000_010n);
  });

  it('waitAsync completes in the order of the events, each once', async () => {
    const { kernel } = boot();
    const [a, b] = [kernel.eventfd(), kernel.eventfd()];
    const order: string[] = [];
    const waits = [
      kernel.waitAsync(a).then((revents) => order.push(`a1:${revents}`)),
      kernel.waitAsync(b).then((revents) => order.push(`b:${revents}`)),
      kernel.waitAsync(a).then((revents) => order.push(`a2:${revents}`)),
    ];
    kernel.write(b, one);
    kernel.write(a, one);
    kernel.write(a, one);
    expect(order).toEqual([]);
    await Promise.all(waits);
    expect(order).toEqual(['b:1', 'a1:1', 'a2:1']);
    expect(await kernel.waitAsync(a, sys.POLLOUT)).toBe(sys.POLLOUT);
  });

  it('waitAsync can be aborted, ends with the descriptor, and refuses files without poll', async () => {
    const { kernel, process } = boot();
    const fd = kernel.eventfd();
    const controller = new AbortController();
    const wait = kernel.waitAsync(fd, sys.POLLIN, { signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(wait).rejects.toThrow('enough');
    expect(eventfdOf(process, fd).wait.size).toBe(0);
    const closed = kernel.waitAsync(fd);
    kernel.close(fd);
    await expect(closed).rejects.toMatchObject({ code: 'EBADF' });
    await expect(kernel.waitAsync(kernel.memfd('m'))).rejects.toMatchObject({ code: 'EPERM', syscall: 'epoll_ctl' });
  });
});
