/** A system call that may block, made by another thread: what waits for this one must not be this one. */
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { MessageChannel, Worker } from 'node:worker_threads';
import type { Kernel } from 'kvio';

/** Writes a file of /sys, and says what came of it: its count, or the errno's name. */
const script = `
const { parentPort, workerData } = require('node:worker_threads');
import(workerData.kvio).then(({ attachKernel }) => {
  const kernel = attachKernel(workerData.port);
  const fd = kernel.open(workerData.path, 1);
  parentPort.postMessage('begins');
  let answer;
  try {
    answer = kernel.write(fd, Buffer.from(workerData.text));
  } catch (error) {
    answer = error.code;
  }
  parentPort.postMessage({ answer });
  kernel.close();
});
`;

export interface Later {
  /** What the call returned, or the errno's name; undefined as long as it has not. */
  readonly answer: number | string | undefined;
  /** Waits until it has, but not for ever. */
  ended(milliseconds?: number): Promise<number | string>;
}

/** Begins to write `text` to `path` in a thread of its own; resolves when that is about to make the call. */
export async function storeLater(kernel: Kernel, path: string, text: string): Promise<Later> {
  const { port1, port2 } = new MessageChannel();
  kernel.attach(port1);
  const workerData = { kvio: pathToFileURL(createRequire(import.meta.url).resolve('kvio')).href, path, text, port: port2 };
  const worker = new Worker(script, { eval: true, workerData, transferList: [port2] });
  let answer: number | string | undefined;
  await new Promise<void>((resolve, reject) => {
    worker.on('error', reject);
    worker.on('message', (message: 'begins' | { answer: number | string }) => {
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
