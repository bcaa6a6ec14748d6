// One vCPU, several threads.
import { describe, expect, test } from 'vitest';
import { child, workerSource } from './child.ts';
import { missing } from './guest.ts';

const pick = ({ status, signal, stderr }: ReturnType<typeof child>): object => ({ status, signal, stderr });
const clean = { status: 7, signal: null, stderr: '' };

describe.skipIf(missing() !== undefined)('a vCPU and several environments', () => {
  test('a synchronous run on a worker goes on unnoticed until it is kicked from another thread', () => {
    const worker = workerSource(`
      const g = guest(spin);
      parentPort.postMessage(kernel.kicker(g.vcpu));
      const start = performance.now();
      const result = kernel.run(g.vcpu);
      parentPort.postMessage([result, performance.now() - start > 250]);
      kernel.close();`);
    const result = child(`
      const worker = new Worker(${JSON.stringify(worker)}, { eval: true });
      worker.once('message', async (kicker) => {
        await sleep(300);
        const kicked = kickNative(kicker);
        worker.once('message', (message) => { console.log(JSON.stringify([kicked, message])); });
        worker.once('exit', () => { console.log(kickNative(kicker)); process.exitCode = 7; });
      });`);
    expect(pick(result)).toEqual(clean);
    expect(result.stdout).toBe('[0,[-4,true]]\n-3\n');
  });

  test('one vCPU used by two environments', () => {
    const worker = workerSource(`
      kernel.adopt(workerData);
      parentPort.postMessage('there');
      let results = [];
      for (let i = 0; i < 5; i++) results.push(kernel.run(workerData));
      parentPort.postMessage(results);`);
    const result = child(`
      const g = guest(spin);
      const worker = new Worker(${JSON.stringify(worker)}, { eval: true, workerData: g.vcpu });
      worker.once('message', () => {
        const timer = setInterval(() => kernel.kick(g.vcpu), 20);
        worker.once('message', (results) => { clearInterval(timer); console.log(JSON.stringify(results)); process.exitCode = 7; });
      });`);
    expect(pick(result)).toEqual(clean);
    expect(result.stdout).toBe('[-4,-4,-4,-4,-4]\n');
  });

  test('an ioctl on a vCPU that another thread runs waits until KVM_RUN is over', () => {
    const worker = workerSource(`
      const { vcpu, over } = workerData;
      kernel.adopt(vcpu);
      parentPort.postMessage('there');
      kernel.ioctl(vcpu, 0x8090ae81, new Uint8Array(144));
      parentPort.postMessage(Atomics.load(new Int32Array(over), 0));`);
    const result = child(`
      const g = guest(spin), over = new SharedArrayBuffer(4);
      const running = kernel.runAsync(g.vcpu);
      await sleep(20);
      const worker = new Worker(${JSON.stringify(worker)}, { eval: true, workerData: { vcpu: g.vcpu, over } });
      worker.once('message', async () => {
        worker.once('message', (after) => { console.log(after); process.exitCode = 7; });
        await sleep(200);
        Atomics.store(new Int32Array(over), 0, 1);
        kernel.kick(g.vcpu);
        await running;
      });`);
    expect(pick(result)).toEqual(clean);
    expect(result.stdout).toBe('1\n');
  });

  test('20 000 kicks from another thread, each answered by exactly one EINTR: none is lost, none comes twice', () => {
    const worker = workerSource(`
      const { kicker, buffer } = workerData;
      const answered = new Int32Array(buffer);
      for (let i = 0; i < 20000; i++) {
        for (let spinning = 0; spinning < (i * 7919) % 500; spinning++) Math.sqrt(spinning);
        kickNative(kicker);
        while (Atomics.load(answered, 0) <= i) Atomics.wait(answered, 0, i, 1000);
      }
      parentPort.postMessage('done');`);
    const result = child(`
      const g = guest(ports), buffer = new SharedArrayBuffer(4), answered = new Int32Array(buffer);
      const worker = new Worker(${JSON.stringify(worker)}, { eval: true, workerData: { kicker: kernel.kicker(g.vcpu), buffer } });
      let exits = 0, interrupts = 0;
      worker.once('online', () => {
        while (interrupts < 20000) {
          const result = kernel.run(g.vcpu);
          if (result === 0) exits++;
          else { interrupts++; Atomics.add(answered, 0, 1); Atomics.notify(answered, 0); }
        }
        for (let i = 0; i < 200; i++) if (kernel.run(g.vcpu) !== 0) interrupts++;
        console.log(interrupts, exits > 0, g.run.read8(1));
        process.exitCode = 7;
      });`);
    expect(pick(result)).toEqual(clean);
    expect(result.stdout).toBe('20000 true 0\n');
  });
});
