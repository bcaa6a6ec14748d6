import { MessagePort, receiveMessageOnPort, threadId } from 'node:worker_threads';
import { openFfi } from '../ffi/index.ts';
import { KernelCore } from '../kernel/core.ts';
import { KvioError, rangeError, typeError } from '../kernel/errors.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Hello } from '../kernel/remote.ts';
import { RemoteBackend } from '../kernel/remote-backend.ts';
import { openNative } from '../native/index.ts';

export interface AttachOptions {
  /** How long to wait for `kernel.attach(port)` at the other end, in milliseconds; default 10 000. */
  timeout?: number;
}

const TICK = 5;

/**
 * In a worker: the kernel that another thread has given to this port by `kernel.attach(otherPort)`. Descriptors are the process's, the same numbers in every thread:
 * `Vm.fromFd(kernel, fd)`, `Vcpu.fromFd(kernel, fd)`. A real kernel is opened here anew; a simulated one stays in its thread, and calls go there (see `kernel.attach`).
 * `close()` gives back what was opened here. Throws KvioError `ERR_KVIO_NOT_ATTACHED` when nobody attaches a kernel within `timeout`.
 *
 *     const { port1, port2 } = new MessageChannel();                                      // the owner
 *     kernel.attach(port1);
 *     new Worker(file, { workerData: { port: port2, vcpu: vcpu.fd }, transferList: [port2] });
 *
 *     const vcpu = Vcpu.fromFd(attachKernel(workerData.port), workerData.vcpu);           // the worker
 */
export function attachKernel(port: MessagePort, { timeout = 10_000 }: AttachOptions = {}): Kernel {
  if (!(port instanceof MessagePort)) throw typeError('port must be a MessagePort');
  if (!(timeout >= 0)) throw rangeError(`timeout must be a number of milliseconds, not ${timeout}`);
  const hello = firstMessage(port, timeout);
  if (hello.remote === undefined) {
    port.close();
    return hello.kind === 'ffi' ? openFfi(hello.reason) : openNative(hello.reason);
  }
  if (hello.remote.thread === threadId)
    throw new KvioError(
      'ERR_KVIO_NOT_ATTACHED',
      'the kernel lives in this thread, which cannot wait for itself: use it directly',
    );
  return new KernelCore(new RemoteBackend(port, { ...hello, remote: hello.remote }), hello.reason);
}

function firstMessage(port: MessagePort, timeout: number): Hello {
  const sleep = new Int32Array(new SharedArrayBuffer(4));
  const until = performance.now() + timeout;
  for (;;) {
    const message = (receiveMessageOnPort(port) as { message: Partial<Hello> } | undefined)?.message;
    if (message?.kvio === 'attach') return message as Hello;
    if (message !== undefined) throw new KvioError('ERR_KVIO_NOT_ATTACHED', 'something else came by this port first');
    if (performance.now() >= until)
      throw new KvioError('ERR_KVIO_NOT_ATTACHED', `no kernel was attached to the other end of this port within ${timeout} ms`);
    Atomics.wait(sleep, 0, 0, TICK);
  }
}
