import type { Kernel } from 'kvio';
import { KernelCore } from '../../src/kernel/core.ts';
import { FakeBackend } from '../kernel/fake-backend.ts';

export interface Fake {
  readonly backend: FakeBackend;
  readonly kernel: Kernel;
  /** What the request is answered with: a value, or −errno; the argument's bytes may be written. */
  answer(request: number, reply: (bytes: Uint8Array, view: DataView) => number): void;
}

/** A kernel that answers as told. */
export function fake(): Fake {
  const backend = new FakeBackend();
  return {
    backend,
    kernel: new KernelCore(backend, 'a test'),
    answer(request, reply) {
      backend.answers.set(request, (arg) => {
        if (!(arg instanceof Uint8Array)) throw new Error(`request 0x${request.toString(16)} came without bytes`);
        return reply(arg, new DataView(arg.buffer, arg.byteOffset, arg.byteLength));
      });
    },
  };
}

/** What the call throws. */
export function thrown(call: () => unknown): Error & Record<string, unknown> {
  try {
    call();
  } catch (error) {
    return error as Error & Record<string, unknown>;
  }
  throw new Error('nothing was thrown');
}
