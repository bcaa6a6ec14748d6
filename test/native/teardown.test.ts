// Leaving at every stage of a handle's life: the process ends as it was told to, at once, and an environment leaves nothing.
import { describe, expect, test } from 'vitest';
import { child, workerSource } from './child.ts';
import { missing } from './guest.ts';

/** What is alive when the environment ends. */
const stages: Record<string, string> = {
  'a descriptor open': `kernel.open('/dev/kvm');`,
  'a VM': `kernel.ioctl(kernel.open('/dev/kvm'), 0xae01);`,
  'a vCPU, memory mapped': `guest(spin);`,
  'own memory mapped': `guest(spin, 64 << 20);`,
  'a memfd and accessors': `const fd = kernel.memfd('x'); kernel.ftruncate(fd, 8192); kernel.mmap({ length: 8192, fd }).bytes[5000] = 1; kernel.ftruncate(fd, 0);
    const m = kernel.mmap({ length: 8192, fd }); try { m.read8(0); } catch {}`,
  'after a synchronous run': `const g = guest(ports); kernel.run(g.vcpu); kernel.run(g.vcpu, { budget: 50 });`,
  'an asynchronous run pending': `const g = guest(spin); kernel.runAsync(g.vcpu); await sleep(10);`,
  'an asynchronous run just started': `const g = guest(spin); kernel.runAsync(g.vcpu);`,
  'many asynchronous runs': `for (let i = 0; i < 8; i++) kernel.runAsync(guest(spin).vcpu); await sleep(5);`,
  'an asynchronous run finished': `const g = guest(ports); await kernel.runAsync(g.vcpu);`,
  'results on their way': `const g = guest(ports); (async () => { for (;;) await kernel.runAsync(g.vcpu); })(); await sleep(5);`,
  'a wait pending': `kernel.waitAsync(kernel.eventfd());`,
  'waits finished and pending': `await kernel.waitAsync(kernel.eventfd(1)); kernel.waitAsync(kernel.eventfd());`,
  'a kick in flight': `const g = guest(spin); kernel.runAsync(g.vcpu); kernel.kick(g.vcpu); kernel.kick(g.vcpu);`,
  'a kick without a run': `const g = guest(spin); kernel.kick(g.vcpu);`,
};

const pick = ({ status, signal, stderr }: ReturnType<typeof child>): object => ({ status, signal, stderr });
const clean = { status: 7, signal: null, stderr: '' };

describe.skipIf(missing() !== undefined)('leaving', () => {
  describe.each(Object.entries(stages))('with %s', (_, stage) => {
    test('process.exit()', () => {
      expect(pick(child(`${stage} process.exit(7);`))).toEqual(clean);
    });

    test('an uncaught exception', () => {
      const result = child(`${stage} setImmediate(() => { throw new Error('on purpose'); });`);
      expect([result.status, result.signal]).toEqual([1, null]);
      expect(result.stderr).toContain('on purpose');
    });

    test('worker.terminate()', () => {
      const worker = workerSource(`${stage} parentPort.postMessage('there'); await sleep(60000);`);
      const result = child(`
        const worker = new Worker(${JSON.stringify(worker)}, { eval: true });
        worker.on('error', (error) => { console.error(error); process.exit(9); });
        worker.once('message', async () => { await worker.terminate(); process.exitCode = 7; });`);
      expect(pick(result)).toEqual(clean);
    });

    test('process.exit() under a worker', () => {
      const worker = workerSource(`${stage} parentPort.postMessage('there'); await sleep(60000);`);
      const result = child(`
        const worker = new Worker(${JSON.stringify(worker)}, { eval: true });
        worker.once('message', () => process.exit(7));`);
      expect(pick(result)).toEqual(clean);
    });

    test('process.exit() in a worker', () => {
      const worker = workerSource(`${stage} process.exit(3);`);
      const result = child(`
        const worker = new Worker(${JSON.stringify(worker)}, { eval: true });
        worker.once('exit', (code) => { process.exitCode = code + 4; });`);
      expect(pick(result)).toEqual(clean);
    });
  });

  const insideRun = workerSource(`const g = guest(spin); parentPort.postMessage('there'); kernel.run(g.vcpu);`);
  const insideRead = workerSource(
    `const fd = kernel.eventfd(); parentPort.postMessage('there'); kernel.read(fd, new Uint8Array(8));`,
  );
  const insidePoll = workerSource(`const fd = kernel.eventfd(); parentPort.postMessage('there'); kernel.poll([{ fd }], -1);`);

  test.each([
    ['KVM_RUN', insideRun],
    ['poll', insidePoll],
    ['read', insideRead],
  ])('a worker inside a synchronous %s is terminated', (_, source) => {
    const result = child(`
      const worker = new Worker(${JSON.stringify(source)}, { eval: true });
      worker.once('message', async () => { await sleep(150); await worker.terminate(); process.exitCode = 7; });`);
    expect(pick(result)).toEqual(clean);
  });

  test.each([
    ['KVM_RUN', insideRun],
    ['poll', insidePoll],
    ['read', insideRead],
  ])('process.exit() while a worker is inside a synchronous %s', (_, source) => {
    const result = child(`
      const worker = new Worker(${JSON.stringify(source)}, { eval: true });
      worker.once('message', async () => { await sleep(150); process.exit(7); });`);
    expect(pick(result)).toEqual(clean);
  });

  test('nothing pending: the process ends by itself; something pending keeps it, unless ref is false', () => {
    expect(pick(child(`guest(spin); process.exitCode = 7;`))).toEqual(clean);
    const waited = child(`const g = guest(spin); setTimeout(() => kernel.kick(g.vcpu), 100).unref();
      kernel.runAsync(g.vcpu).then((result) => { process.exitCode = result + 11; });`);
    expect([waited.status, waited.signal]).toEqual([7, null]);
    expect(pick(child(`kernel.waitAsync(kernel.eventfd(), 1, { ref: false }); process.exitCode = 7;`))).toEqual(clean);
    const result =
      child(`const fd = kernel.eventfd(); setTimeout(() => kernel.write(fd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0)), 50).unref();
      kernel.waitAsync(fd).then((revents) => { process.exitCode = revents + 6; });`);
    expect(pick(result)).toEqual(clean);
  });

  test('workers that come and go leave no threads, descriptors or mappings', () => {
    const worker = workerSource(`
      const g = guest(spin, 16 << 20), h = guest(ports), i = guest(spin);
      kernel.runAsync(g.vcpu);
      kernel.run(h.vcpu);
      kernel.waitAsync(kernel.eventfd());
      const fd = kernel.memfd('x');
      kernel.ftruncate(fd, 65536);
      kernel.mmap({ length: 65536, fd });
      kernel.mmap({ length: 65536, fd, view: false });
      parentPort.postMessage('there');
      if (workerData % 2) await sleep(60000);
      else kernel.run(i.vcpu);`);
    const result = child(`
      const count = () => ({
        threads: readdirSync('/proc/self/task').length,
        fds: readdirSync('/proc/self/fd').length,
        kvm: readFileSync('/proc/self/maps', 'latin1').split('\\n').filter((line) => /kvm|memfd/.test(line)).length,
        reserved: Math.round(Number(/VmSize:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'latin1'))[1]) / 1e6),
      });
      const cycle = async (number) => {
        const worker = new Worker(${JSON.stringify(worker)}, { eval: true, workerData: number });
        worker.on('error', (error) => { console.error(error); process.exit(9); });
        await new Promise((resolve) => worker.once('message', resolve));
        await sleep(number % 3 * 10);
        await worker.terminate();
      };
      for (let i = 0; i < 3; i++) await cycle(i);
      const before = count();
      for (let i = 0; i < 30; i++) await cycle(i);
      console.log(JSON.stringify({ before, after: count() }));
      process.exit(7);`);
    expect(pick(result)).toEqual(clean);
    const { before, after } = JSON.parse(result.stdout);
    expect(after.threads).toBeLessThanOrEqual(before.threads + 1);
    expect(after.fds).toBeLessThanOrEqual(before.fds + 1);
    expect(after.kvm).toBe(0);
    expect(after.reserved - before.reserved).toBeLessThan(25);
  });
});
