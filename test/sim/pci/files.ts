import type { Kernel } from '../../../src/kernel/kernel.ts';

/** Files of /sys as a shell would use them: what is read, how much was written, or the error's code. */
export function filesOf(kernel: Kernel) {
  const code = (act: () => unknown): unknown => {
    try {
      return act();
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  const opened = (path: string, flags: number, use: (fd: number) => unknown): unknown =>
    code(() => {
      const fd = kernel.open(path, flags);
      try {
        return use(fd);
      } finally {
        kernel.close(fd);
      }
    });
  const read = (path: string, length = 4096): unknown =>
    opened(path, 0, (fd) => {
      const into = new Uint8Array(length);
      return Buffer.from(into.subarray(0, kernel.read(fd, into))).toString();
    });
  const write = (path: string, text: string): unknown => opened(path, 1, (fd) => kernel.write(fd, Buffer.from(text)));
  const driver = (bdf: string): unknown => code(() => kernel.readlink(`/sys/bus/pci/devices/${bdf}/driver`).split('/').at(-1));
  return { code, read, write, driver };
}
