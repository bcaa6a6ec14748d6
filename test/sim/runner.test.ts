import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { Deadlock } from '../../src/kernel/errors.ts';
import { EventfdFile } from '../../src/sim/eventfd.ts';
import { AnonFile } from '../../src/sim/file.ts';
import type { Process } from '../../src/sim/process.ts';
import type { Pending, Slice, VcpuLike } from '../../src/sim/vcpu-like.ts';
import { EINTR, O_RDWR } from '../../src/uapi/sys.ts';
import { boot } from './machine.ts';

type Program = (fuel: number, self: FakeVcpu) => Slice;

/** A vCPU whose guest is a function. */
class FakeVcpu extends AnonFile implements VcpuLike {
  readonly isVcpu = true;
  executed = 0;
  entries = 0;
  readonly signals: Pending[] = [];
  readonly program: Program;

  constructor(program: Program) {
    super('anon_inode:kvm-vcpu:0', O_RDWR);
    this.program = program;
  }

  slice(_p: Process, fuel: number, first: boolean, pending: Pending): Slice {
    if (first) this.entries++;
    if (pending !== 'none') {
      this.signals.push(pending);
      return -EINTR;
    }
    return this.program(fuel, this);
  }
}

const spin: Program = (fuel, self) => {
  self.executed += fuel;
  return 'fuel';
};
const exitAfter =
  (instructions: number): Program =>
  (fuel, self) => {
    const left = instructions - self.executed;
    self.executed += Math.min(fuel, left);
    return left <= fuel ? 0 : 'fuel';
  };

function machine(...programs: Program[]) {
  const { system, process, backend } = boot();
  const vcpus = programs.map((program) => new FakeVcpu(program));
  const fds = vcpus.map((vcpu) => process.fds.install(vcpu, true));
  return { system, process, backend, vcpus, fds, runner: system.runner };
}

it('a blocking call sees what a vCPU did in the slice after which it sleeps', () => {
  const { system, process, backend } = boot();
  const event = process.fds.install(new EventfdFile(0, 0, true), true);
  const vcpu = new FakeVcpu((_fuel, self) => {
    if (self.executed === 0) backend.write(event, Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0));
    self.executed = 10;
    return 'idle';
  });
  const fd = process.fds.install(vcpu, true);
  backend.runAsync(fd, 0, () => {});
  const eight = new Uint8Array(8);
  expect([backend.read(event, eight), eight[0]]).toEqual([8, 5]);
  expect(() => backend.read(event, eight)).toThrow(Deadlock);
  system.runner.dispose();
});

describe('KVM_RUN, synchronously', () => {
  it('enters once, runs any number of slices, and moves simulated time', () => {
    const { backend, fds, vcpus, runner } = machine(exitAfter(1_234_567));
    expect(backend.run(fds[0]!, 0)).toBe(0);
    expect([vcpus[0]!.entries, runner.ticks]).toEqual([1, 1_234_567]);
    expect(vcpus[0]!.references).toBe(1);
  });

  it('a budget is simulated milliseconds, to the instruction', () => {
    const { backend, fds, vcpus, runner } = machine(spin);
    expect(backend.run(fds[0]!, 0.5)).toBe(-EINTR);
    expect([vcpus[0]!.executed, runner.ticks, vcpus[0]!.signals]).toEqual([500_000, 500_000, ['running']]);
    expect(backend.run(fds[0]!, 2)).toBe(-EINTR);
    expect(runner.ticks).toBe(2_500_000);
  });

  it('a kick before entry ends the next run, once', () => {
    const { backend, fds, vcpus } = machine(exitAfter(10));
    expect([backend.kick(fds[0]!), backend.kick(fds[0]!)]).toEqual([0, 0]);
    expect([backend.run(fds[0]!, 0), backend.run(fds[0]!, 0)]).toEqual([-EINTR, 0]);
    expect(vcpus[0]!.signals).toEqual(['entry']);
  });

  it('a kick during the run ends it, and is not lost when an exit came first', () => {
    const box: { kick?: () => void } = {};
    const { backend, fds, vcpus } = machine((fuel, self) => {
      self.executed += fuel;
      if (self.entries === 1) box.kick?.();
      return self.entries === 1 && self.executed > 100_000 ? 0 : 'fuel';
    });
    box.kick = () => backend.kick(fds[0]!);
    expect(backend.run(fds[0]!, 0)).toBe(-EINTR);
    expect(vcpus[0]!.signals).toEqual(['running']);
    const last = machine((_fuel, self) => {
      if (self.entries > 1) return 'fuel';
      box.kick?.();
      return 0;
    });
    box.kick = () => last.backend.kick(last.fds[0]!);
    expect([last.backend.run(last.fds[0]!, 0), last.backend.run(last.fds[0]!, 0)]).toEqual([0, -EINTR]);
  });

  it('a sleeping vCPU is a Deadlock, or sleeps until a timer, or until its budget', () => {
    const box = { awake: false };
    const { backend, fds, runner, vcpus } = machine(() => (box.awake ? 0 : 'idle'));
    expect(() => backend.run(fds[0]!, 0)).toThrow(Deadlock);
    expect([runner.running(vcpus[0]!), vcpus[0]!.references]).toEqual([false, 1]);
    expect(backend.run(fds[0]!, 3)).toBe(-EINTR);
    expect(runner.ticks).toBe(3_000_000);
    runner.at(runner.ticks + 77, () => (box.awake = true));
    expect(backend.run(fds[0]!, 0)).toBe(0);
    expect(runner.ticks).toBe(3_000_077);
  });

  it('an error inside the run comes out, and the vCPU is free again', () => {
    const { backend, fds, runner, vcpus } = machine(() => {
      throw new Error('not modelled');
    });
    expect(() => backend.run(fds[0]!, 0)).toThrow('not modelled');
    expect(runner.running(vcpus[0]!)).toBe(false);
  });

  it('a vCPU that sleeps synchronously is kicked from another thread', async () => {
    const { backend, fds } = machine(() => 'idle');
    const kicker = backend.kicker(fds[0]!)!;
    const code = `const { workerData } = require('node:worker_threads');
      setTimeout(() => { Atomics.store(workerData.flag, 0, 1); Atomics.notify(workerData.flag, 0); }, 30);`;
    const worker = new Worker(code, { eval: true, workerData: kicker });
    await new Promise((resolve) => worker.once('online', resolve));
    expect(backend.run(fds[0]!, 0)).toBe(-EINTR);
    await worker.terminate();
  });
});

describe('KVM_RUN, asynchronously', () => {
  it('runs in turn with others and completes in simulated order', async () => {
    const { backend, fds } = machine(exitAfter(400_000), exitAfter(100_000), exitAfter(250_000));
    const order: number[] = [];
    await Promise.all(
      fds.map((fd, i) => new Promise((resolve) => backend.runAsync(fd, 0, (result) => resolve(order.push(i, result))))),
    );
    expect(order).toEqual([1, 0, 2, 0, 0, 0]);
  });

  it('goes on while a synchronous run is under way; its completion waits for the event loop', async () => {
    const box = { flag: false };
    const { backend, fds } = machine(
      (fuel, self) => {
        self.executed += fuel;
        if (self.executed < 500_000) return 'fuel';
        box.flag = true;
        return 0;
      },
      (fuel, self) => {
        self.executed += fuel;
        return box.flag ? 0 : 'fuel';
      },
    );
    let done = false;
    const finished = new Promise<number>((resolve) => {
      backend.runAsync(fds[0]!, 0, (result) => {
        done = true;
        resolve(result);
      });
    });
    expect(backend.run(fds[1]!, 0)).toBe(0);
    expect([box.flag, done]).toEqual([true, false]);
    expect(await finished).toBe(0);
  });

  it('a sleeping vCPU wakes by an eventfd; a spinning one is kicked, by this thread or another', async () => {
    const { backend, fds, process } = machine((_fuel, self) => (self.entries === 1 && event.count > 0n ? 0 : 'idle'), spin, spin);
    const event = new EventfdFile(0, 0);
    const fd = process.fds.install(event, false);
    const results = fds.map((vcpu) => new Promise<number>((resolve) => backend.runAsync(vcpu, 0, resolve)));
    await new Promise((resolve) => setTimeout(resolve, 20));
    backend.write(fd, new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]));
    expect(await results[0]).toBe(0);
    backend.kick(fds[1]!);
    expect(await results[1]).toBe(-EINTR);
    const code = `const { workerData } = require('node:worker_threads'); Atomics.store(workerData.flag, 0, 1);`;
    new Worker(code, { eval: true, workerData: backend.kicker(fds[2]!) });
    expect(await results[2]).toBe(-EINTR);
  });

  it('a sleeping vCPU wakes by the kick of another thread', async () => {
    const { backend, fds } = machine(() => 'idle');
    const result = new Promise<number>((resolve) => backend.runAsync(fds[0]!, 0, resolve));
    const code = `const { workerData } = require('node:worker_threads');
      setTimeout(() => { Atomics.store(workerData.flag, 0, 1); Atomics.notify(workerData.flag, 0); }, 20);`;
    new Worker(code, { eval: true, workerData: backend.kicker(fds[0]!) });
    expect(await result).toBe(-EINTR);
  });

  it('ends with the descriptor, with the kernel, and with an error', async () => {
    const { backend, fds, vcpus, process } = machine(spin, spin, () => {
      throw new Error('unknown instruction');
    });
    const ends = fds.map((fd) => new Promise<unknown>((resolve) => backend.runAsync(fd, 0, (r, error) => resolve(error ?? r))));
    backend.forget(fds[0]!);
    process.fds.close(fds[0]!);
    expect(vcpus[0]!.references).toBe(1);
    expect(await ends[0]).toBe(-EINTR);
    expect(vcpus[0]!.references).toBe(0);
    expect(await ends[2]).toMatchObject({ message: 'unknown instruction' });
    backend.dispose();
    expect(await ends[1]).toBe(-EINTR);
    expect(vcpus[1]!.references).toBe(0);
  });
});
