/** System calls that may block, made by another thread: what waits for this one must not be this one. */
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { MessageChannel, Worker } from 'node:worker_threads';
import type { Kernel } from 'kvio';

/** The thread: runs the source of a function, and says what it returned, or the errno's name. */
const script = `
const { parentPort, workerData } = require('node:worker_threads');
import(workerData.kvio).then(({ attachKernel }) => {
  const kernel = attachKernel(workerData.port);
  const body = eval('(' + workerData.source + ')');
  let answer;
  try {
    answer = body(kernel, workerData.data, () => parentPort.postMessage('begins'));
  } catch (error) {
    answer = error.code;
  }
  parentPort.postMessage({ answer });
  kernel.close();
});
`;

export type Answer = number | string | readonly (number | string)[];

export interface Later<T extends Answer = number | string> {
  /** What came of it, or the errno's name; undefined as long as nothing has. */
  readonly answer: T | string | undefined;
  /** Waits until something has, but not for ever. */
  ended(milliseconds?: number): Promise<T | string>;
}

/** Runs `body` in a thread of its own, to which only its source goes: it may use nothing but its parameters. Resolves when it says that it begins. */
export async function inThread<D, T extends Answer>(
  kernel: Kernel,
  body: (kernel: Kernel, data: D, begins: () => void) => T,
  data: D,
): Promise<Later<T>> {
  const { port1, port2 } = new MessageChannel();
  kernel.attach(port1);
  const kvio = pathToFileURL(createRequire(import.meta.url).resolve('kvio')).href;
  const workerData = { kvio, source: body.toString(), data, port: port2 };
  const worker = new Worker(script, { eval: true, workerData, transferList: [port2] });
  let answer: T | string | undefined;
  await new Promise<void>((resolve, reject) => {
    worker.on('error', reject);
    worker.on('message', (message: 'begins' | { answer: T | string }) => {
      if (message === 'begins') resolve();
      else answer = message.answer;
    });
  });
  worker.unref();
  return {
    get answer() {
      return answer;
    },
    async ended(milliseconds = 20_000) {
      const end = Date.now() + milliseconds;
      while (answer === undefined && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
      port1.close();
      return answer ?? 'did not end';
    },
  };
}

/** Begins to write `text` to `path`; resolves when that is about to be done. */
export function storeLater(kernel: Kernel, path: string, text: string): Promise<Later<number>> {
  return inThread(
    kernel,
    (threads, data, begins) => {
      const fd = threads.open(data.path, 1);
      begins();
      return threads.write(fd, new TextEncoder().encode(data.text));
    },
    { path, text },
  );
}

/** Begins to read an eventfd: its count. */
export function readLater(kernel: Kernel, eventfd: number): Promise<Later<number>> {
  return inThread(
    kernel,
    (threads, fd, begins) => {
      const bytes = new Uint8Array(8);
      threads.adopt(fd);
      begins();
      threads.read(fd, bytes);
      return Number(new DataView(bytes.buffer).getBigUint64(0, true));
    },
    eventfd,
  );
}
