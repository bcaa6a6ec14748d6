// kernel.attach and attachKernel: one program text, on the real kernel and on the simulated one.
import { findKernels } from 'kvio';
import { describe, expect, it } from 'vitest';
import { program } from './program.ts';

const kernels = findKernels();

for (const { kind, available, reason } of kernels.filter(({ kind }) => kind !== 'ffi')) {
  const says = (...said: unknown[]): object => ({ status: 0, stderr: '', said });

  describe.skipIf(!available)(`a kernel in several threads, ${kind}${available ? '' : ` (not run: ${reason})`}`, () => {
    it('descriptors are the process’s: a worker reads, runs and answers the exits of a vCPU made elsewhere', () => {
      // in al, 7; add al, 1; out 8, al; jmp $
      const result = program(
        kind,
        `const { vm, ram } = machine([0xe4, 7, 4, 1, 0xe6, 8, 0xeb, 0xfe]);
         const vcpu = processor(vm, 0, 0x1000n);
         const worker = attached(\`
           const vcpu = Vcpu.fromFd(kernel, workerData.vcpu);
           const seen = [vcpu.getRegs().rip];
           const asked = vcpu.run();
           seen.push(asked.reason, asked.port);
           asked.data[0] = 41;
           const told = vcpu.run();
           seen.push(told.reason, told.port, told.data[0]);
           parentPort.postMessage(seen);
           kernel.close();\`, { vcpu: vcpu.fd });
         out(await next(worker));
         await exited(worker);
         kernel.close();`,
      );
      expect(result).toEqual(says([[0x1000, 'io', 7, 'io', 8, 42]]));
    });

    it('every call: memory, files, eventfds, polling, errors', () => {
      const result = program(
        kind,
        `const event = kernel.eventfd(5);
         const worker = attached(\`
           kernel.adopt(workerData.event);
           const eight = new Uint8Array(8);
           const memfd = kernel.memfd('shared');
           kernel.ftruncate(memfd, 8192);
           kernel.pwrite(memfd, Uint8Array.of(1, 2, 3), 4095);
           const memory = kernel.mmap({ fd: memfd, length: 8192 });
           const blind = kernel.mmap({ fd: memfd, length: 8192, view: false });
           memory.bytes[0] = 9;
           blind.write16(4096, 0xbeef);
           const copy = new Uint8Array(4);
           kernel.pread(memfd, copy, 4095n);
           const kvm = Kvm.open(kernel);
           const answers = {
             version: kvm.getApiVersion(),
             list: kvm.getMsrIndexList().length > 10,
             read: [kernel.read(workerData.event, eight), eight[0]],
             polled: kernel.poll([{ fd: workerData.event, events: 5 }]),
             later: kernel.poll([{ fd: workerData.event }], 20),
             copy: [...copy],
             seen: [blind.read8(0), blind.read64(4094), memory.read32(4094), blind.bytes === undefined],
             size: kernel.fstat(memfd).size,
             link: kernel.readlink('/proc/self/fd/' + memfd),
             flags: kernel.fcntl(memfd, 3) & 2,
             dup: kernel.dup(memfd) > memfd,
             protect: failure(() => kernel.mprotect(memory, 0)),
             hidden: (kernel.mprotect(blind, 0), failure(() => blind.read8(0))),
             foreign: failure(() => kernel.read(99, eight)),
             invalid: failure(() => kernel.ioctl(kvm.fd, 0xae01, 0x7fffffffn)),
             path: failure(() => kernel.open('/dev/nothing')),
             names: kernel.readdir('/dev').includes('kvm'),
             directory: failure(() => kernel.readdir('/dev/kvm')),
             fallocate: (kernel.fallocate(memfd, 3, 0, 4096), memory.bytes[0]),
           };
           parentPort.postMessage(answers);
           kernel.close();
           answers.closed = failure(() => kernel.eventfd());
           parentPort.postMessage([answers.closed, memory.bytes === undefined]);\`, { event });
         const first = await next(worker);
         out(first);
         out(await next(worker));
         kernel.close();`,
      );
      expect(result).toEqual(
        says(
          [
            {
              version: 12,
              list: true,
              read: [8, 5],
              polled: [4],
              later: [0],
              copy: [1, 0xef, 0xbe, 0],
              seen: [9, 0xbeef_0100, 0xbeef_0100, true],
              size: 8192,
              link: '/memfd:shared (deleted)',
              flags: 2,
              dup: true,
              protect: 'ERR_OUT_OF_RANGE RangeError',
              hidden: 'EFAULT KernelError',
              foreign: 'EBADF KernelError',
              invalid: 'EINVAL KernelError',
              path: 'ENOENT KernelError',
              names: true,
              directory: 'ENOTDIR KernelError',
              fallocate: 0,
            },
          ],
          [['EBADF KernelError', true]],
        ),
      );
    });

    it('one vCPU per worker, each in a synchronous run: they see each other’s stores', () => {
      // Each writes its own byte and spins until the other's is there, then says so at a port.
      const program2 = (own: number, other: number): number[] => [
        ...[0xc6, 0x06, own & 0xff, own >> 8, 1], // mov byte [own], 1
        ...[0x80, 0x3e, other & 0xff, other >> 8, 1], // cmp byte [other], 1
        ...[0x75, 0xf9], // jne
        ...[0xe6, 5], // out 5, al
      ];
      const code = [...program2(0x2000, 0x2001)];
      while (code.length < 0x100) code.push(0x90);
      code.push(...program2(0x2001, 0x2000));
      const result = program(
        kind,
        `const { vm, ram } = machine(${JSON.stringify(code)});
         const vcpus = [processor(vm, 0, 0x1000n), processor(vm, 1, 0x1100n)];
         const workers = vcpus.map((vcpu) => attached(\`
           const vcpu = Vcpu.fromFd(kernel, workerData.vcpu);
           const exit = vcpu.run();
           parentPort.postMessage([exit.reason, exit.port]);
           kernel.close();\`, { vcpu: vcpu.fd }));
         out(await Promise.all(workers.map(next)));
         out([...ram.read(0x1000, 2)]);
         kernel.close();`,
      );
      expect(result).toEqual(
        says(
          [
            [
              ['io', 5],
              ['io', 5],
            ],
          ],
          [[1, 1]],
        ),
      );
    });

    it('a worker’s blocking read ends with another thread’s write; its synchronous run with a kick', () => {
      const result = program(
        kind,
        `const { vm } = machine([0xeb, 0xfe]);
         const vcpu = processor(vm, 0, 0x1000n);
         const event = kernel.eventfd();
         const reader = attached(\`
           kernel.adopt(workerData.event);
           const eight = new Uint8Array(8);
           parentPort.postMessage('there');
           kernel.read(workerData.event, eight);
           parentPort.postMessage(eight[0]);
           kernel.close();\`, { event });
         await next(reader);
         await sleep(50);
         kernel.write(event, Uint8Array.of(7, 0, 0, 0, 0, 0, 0, 0));
         out(await next(reader));
         const runner = attached(\`
           const vcpu = Vcpu.fromFd(kernel, workerData.vcpu);
           parentPort.postMessage(vcpu.kicker);
           parentPort.postMessage([vcpu.run().reason, vcpu.run().reason, vcpu.run({ budget: 5 }).reason]);
           kernel.close();\`, { vcpu: vcpu.fd });
         const token = await next(runner);
         const done = next(runner);
         await sleep(50);
         kick(token);
         await sleep(50);
         kernel.kick(vcpu.fd);
         out(await done);
         kernel.close();`,
      );
      expect(result).toEqual(says([7], [['intr', 'intr', 'intr']]));
    });

    it('asynchronous forms in a worker: runAsync, waitAsync, abort', () => {
      const result = program(
        kind,
        `const { vm } = machine([0xe6, 3, 0xeb, 0xfe]);
         const vcpu = processor(vm, 0, 0x1000n);
         const event = kernel.eventfd();
         const worker = attached(\`
           const vcpu = Vcpu.fromFd(kernel, workerData.vcpu);
           kernel.adopt(workerData.event);
           const first = await vcpu.runAsync();
           const stop = new AbortController();
           setTimeout(() => stop.abort(), 30);
           const second = await vcpu.runAsync({ signal: stop.signal });
           const pending = vcpu.runAsync();
           const busy = failure(() => vcpu.getRegs());
           vcpu.kick();
           const third = await pending;
           parentPort.postMessage([first.reason, first.port, second.reason, busy, third.reason]);
           const gone = new AbortController();
           setTimeout(() => gone.abort(), 10);
           const aborted = await kernel.waitAsync(workerData.event, 1, { signal: gone.signal }).catch((error) => error.name);
           parentPort.postMessage([await kernel.waitAsync(workerData.event), aborted]);
           kernel.close();\`, { vcpu: vcpu.fd, event });
         out(await next(worker));
         await sleep(30);
         kernel.write(event, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
         out(await next(worker));
         kernel.close();`,
      );
      expect(result).toEqual(says([['io', 3, 'intr', 'ERR_KVIO_VCPU_BUSY VcpuBusy', 'intr']], [[1, 'AbortError']]));
    });

    it('what a worker opened goes with it, however it ends; nothing else does', () => {
      const result = program(
        kind,
        `const { vm } = machine([0xeb, 0xfe]);
         const vcpu = processor(vm, 0, 0x1000n);
         let before;
         const ends = {
           first: '',
           return: 'kernel.close();',
           unclosed: '',
           exit: 'process.exit();',
           throw: 'setTimeout(() => { throw new Error("on purpose"); }, 50);',
           running: 'parentPort.postMessage("running"); Vcpu.fromFd(kernel, workerData.vcpu).run();',
           runningAsync: 'const own = Vcpu.fromFd(kernel, workerData.vcpu); void own.runAsync(); parentPort.postMessage("running"); setTimeout(() => process.exit(), 20);',
           reading: 'parentPort.postMessage("running"); kernel.read(kernel.eventfd(), new Uint8Array(8));',
         };
         for (const [name, end] of Object.entries(ends)) {
           const worker = attached(\`
             const kvm = Kvm.open(kernel), vm = kvm.createVm(), third = vm.createVcpu(0);
             kernel.dup(kvm.fd), kernel.eventfd(), kernel.memfd('x'), kernel.guestRam(4096);
             parentPort.postMessage('there');
             \` + end, { vcpu: vcpu.fd });
           worker.on('error', () => {});
           await next(worker);
           if (end.includes('"running"')) { await next(worker); await sleep(40); if (!end.includes('exit')) worker.terminate(); }
           await exited(worker);
           await sleep(20);
           before ??= descriptors(); // Node has some of its own from its first worker on
           out(name, descriptors() - before);
         }
         out(vcpu.run({ budget: 5 }).reason, vcpu.getRegs().rip);
         kernel.close();`,
      );
      const ends = ['first', 'return', 'unclosed', 'exit', 'throw', 'running', 'runningAsync', 'reading'];
      expect(result).toEqual(says(...ends.map((name) => [name, 0]), ['intr', 0x1000]));
    });

    it('workers that are terminated at any moment of a call leave the kernel usable', () => {
      const result = program(
        kind,
        `const { vm } = machine([0xe6, 3, 0xeb, 0xfc]);
         const vcpu = processor(vm, 0, 0x1000n);
         for (let i = 0; i < 8; i++) {
           const worker = attached(\`
             const vcpu = Vcpu.fromFd(kernel, workerData.vcpu);
             parentPort.postMessage('there');
             for (;;) { vcpu.run({ budget: 1 }); vcpu.getRegs(); }\`, { vcpu: vcpu.fd });
           await next(worker);
           await sleep(i * 3);
           await worker.terminate();
         }
         for (let i = 0; i < 3; i++) out(vcpu.run().reason);
         kernel.close();`,
      );
      expect(result.stderr).toBe('');
      expect(result.status).toBe(0);
      expect(result.said.slice(1)).toEqual([['io'], ['io']]);
    });

    it('the owner waits in the kernel for what a worker does, without its event loop', () => {
      const result = program(
        kind,
        `const event = kernel.eventfd(), { vm, ram } = machine([0x80, 0x3e, 0, 0x20, 7, 0x75, 0xf9, 0xe6, 5]);
         const vcpu = processor(vm, 0, 0x1000n);
         const worker = attached(\`
           kernel.adopt(workerData.event);
           parentPort.postMessage('there');
           await sleep(50);
           kernel.write(workerData.event, Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0));
           await sleep(50);
           workerData.bytes[0] = 7;\`, { event, bytes: ram.bytes.subarray(0x1000) });
         await next(worker);
         const eight = new Uint8Array(8);
         out(kernel.read(event, eight), eight[0]);
         out(vcpu.run().reason);
         await exited(worker);
         kernel.close();`,
      );
      expect(result).toEqual(says([8, 3], ['io']));
    });
  });
}

describe('attachKernel', () => {
  it('tells when nobody attaches a kernel, or it is the same thread’s', () => {
    const result = program(
      'sim',
      `const { port1, port2 } = new MessageChannel();
       out(failure(() => attachKernel(port2, { timeout: 20 })));
       kernel.attach(port1);
       out(failure(() => attachKernel(port2)), failure(() => attachKernel({})), failure(() => kernel.attach({})));
       port1.close();`,
    );
    const typed = 'ERR_INVALID_ARG_TYPE TypeError';
    const said = [['ERR_KVIO_NOT_ATTACHED KvioError'], ['ERR_KVIO_NOT_ATTACHED KvioError', typed, typed]];
    expect(result).toEqual({ status: 0, stderr: '', said });
  });

  it('a simulated kernel that is closed ends all that workers wait for, with answers', () => {
    const result = program(
      'sim',
      `const { vm } = machine([0xeb, 0xfe]);
       const vcpu = processor(vm, 0, 0x1000n);
       const bodies = [
         'const vcpu = Vcpu.fromFd(kernel, workerData.vcpu); parentPort.postMessage(1); out2(vcpu.run().reason, failure(() => vcpu.getRegs()));',
         'parentPort.postMessage(1); out2(failure(() => kernel.read(kernel.eventfd(), new Uint8Array(8))));',
         'const vcpu = Vcpu.fromFd(kernel, workerData.vcpu2); parentPort.postMessage(1); out2((await vcpu.runAsync()).reason);',
         'parentPort.postMessage(1); let said; while ((said = failure(() => kernel.eventfd())) === "nothing") await sleep(20); out2(said); kernel.close();',
       ];
       const vcpu2 = processor(vm, 1, 0x1000n);
       const data = { vcpu: vcpu.fd, vcpu2: vcpu2.fd };
       const workers = bodies.map((body) => attached('const out2 = (...values) => parentPort.postMessage(values);' + body, data));
       await Promise.all(workers.map(next));
       const answers = Promise.all(workers.map(next));
       await sleep(100);
       kernel.close();
       for (const answer of await answers) out(...answer);`,
    );
    const said = [['intr', 'EBADF KernelError'], ['EBADF KernelError'], ['intr'], ['EBADF KernelError']];
    expect(result).toEqual({ status: 0, stderr: '', said });
  });

  it('what a worker opened and another thread closed is no longer the worker’s: its number may be another file’s when it is terminated', () => {
    const result = program(
      'sim',
      `const worker = attached(\`
         parentPort.postMessage(kernel.eventfd());
         parentPort.on('message', () => {});\`);
       const fd = await next(worker);
       kernel.adopt(fd);
       kernel.close(fd);
       const mine = kernel.eventfd(7);
       await worker.terminate();
       await sleep(20);
       out(mine === fd, kernel.read(mine, new Uint8Array(8)));
       kernel.close();`,
    );
    expect(result).toEqual({ status: 0, stderr: '', said: [[true, 8]] });
  });

  it('a worker that owns a simulated kernel may be terminated: its peers learn it', () => {
    const result = program(
      'sim',
      `const { port1, port2 } = new MessageChannel();
       const source = '(async () => {' + COMMON + 'const kernel = openKernel(); kernel.attach(workerData.port); parentPort.postMessage("there"); setInterval(() => {}, 1000); })()';
       const owner = inbox(new Worker(source, { eval: true, workerData: { port: port1 }, transferList: [port1] }));
       await next(owner);
       const attachedTo = attachKernel(port2);
       const kvm = Kvm.open(attachedTo);
       out(kvm.getApiVersion(), attachedTo.kind, attachedTo.features.simulated);
       const waiting = attachedTo.waitAsync(attachedTo.eventfd()).catch((error) => error.code);
       setTimeout(() => owner.terminate(), 50);
       out(await waiting);
       out(failure(() => kvm.getApiVersion()));
       attachedTo.close();
       kernel.close();`,
    );
    const said = [[12, 'sim', true], ['EINTR'], ['EBADF KernelError']];
    expect(result).toEqual({ status: 0, stderr: '', said });
  });

  it('what the simulator does not model is NotModelled there too, and an attached kernel can be handed on', () => {
    const result = program(
      'sim',
      `const worker = attached(\`
         const { port1, port2 } = new MessageChannel();
         kernel.attach(port1);
         const source = '(async () => {' + workerData.common + ' const kernel = attachKernel(workerData.port); parentPort.postMessage(Kvm.open(kernel).getApiVersion()); kernel.close(); })()';
         const inner = inbox(new Worker(source, { eval: true, workerData: { port: port2 }, transferList: [port2] }));
         const version = await next(inner);
         let error;
         try { kernel.open('/dev/iommu'); } catch (thrown) { error = thrown; }
         parentPort.postMessage([version, error.code]);
         kernel.close();\`, { common: COMMON });
       out(await next(worker));
       kernel.close();`,
    );
    expect(result).toEqual({ status: 0, stderr: '', said: [[[12, 'ENOENT']]] });
  });
});
