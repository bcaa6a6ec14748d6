// A write to /sys that waits for other users of a device, and threads that are those users.
import { expect, it } from 'vitest';
import { program } from './program.ts';

/** `kernel` is a machine with an edu that is bound to vfio-pci and open; `device` is its descriptor. */
const open = `
  const { openSim } = await import('kvio/sim');
  const lab = openSim({ machine: 'lab-vtd-7.2' });
  const bdf = '0000:00:02.0';
  const store = (path, text) => { const fd = lab.open(path, 1); try { return lab.write(fd, Buffer.from(text)); } finally { lab.close(fd); } };
  store('/sys/bus/pci/devices/' + bdf + '/driver_override', 'vfio-pci');
  store('/sys/bus/pci/drivers_probe', bdf);
  const container = lab.open('/dev/vfio/vfio');
  const group = lab.open('/dev/vfio/2');
  lab.ioctl(group, 0x3b68, new Uint8Array(Int32Array.of(container).buffer));
  lab.ioctl(container, 0x3b66, 3);
  const device = lab.ioctl(group, 0x3b6a, Buffer.from(bdf + '\\0'));
  const share = (body, data) => {
    const { port1, port2 } = new MessageChannel();
    lab.attach(port1);
    const source = '(async () => {' + COMMON + ' const kernel = attachKernel(workerData.port);' + body + '})()';
    return inbox(new Worker(source, { eval: true, workerData: { port: port2, ...data }, transferList: [port2] }));
  };
  const driver = () => failure(() => lab.readlink('/sys/bus/pci/devices/' + bdf + '/driver'));
`;

it('a worker’s unbind waits until this thread has closed the device', () => {
  const result = program(
    'sim',
    `${open}
     const worker = share(\`
       const fd = kernel.open('/sys/bus/pci/drivers/vfio-pci/unbind', 1);
       parentPort.postMessage('there');
       parentPort.postMessage(kernel.write(fd, Buffer.from(workerData.bdf)));
       kernel.close();\`, { bdf });
     await next(worker);
     await sleep(100);
     out(driver(), lab.pread(device, new Uint8Array(4), 7n << 40n));
     const done = next(worker);
     lab.close(device);
     out(await done);
     out(failure(() => lab.open('/dev/vfio/2')));
     lab.close();
     kernel.close();`,
  );
  expect(result).toEqual({ status: 0, stderr: '', said: [['ENOENT KernelError', 4], [12], ['ENOENT KernelError']] });
});

it('this thread’s unbind waits until a worker has closed the device', () => {
  const result = program(
    'sim',
    `${open}
     const worker = share(\`
       kernel.adopt(workerData.device);
       parentPort.postMessage('there');
       await sleep(100);
       kernel.close(workerData.device);
       kernel.close();\`, { device });
     await next(worker);
     out(store('/sys/bus/pci/drivers/vfio-pci/unbind', bdf));
     out(driver());
     kernel.close();`,
  );
  expect(result).toEqual({ status: 0, stderr: '', said: [[12], ['ENOENT KernelError']] });
});

it('a worker that ends while it waits leaves the unbind to be finished', () => {
  const result = program(
    'sim',
    `${open}
     const worker = share(\`
       const fd = kernel.open('/sys/bus/pci/drivers/vfio-pci/unbind', 1);
       parentPort.postMessage('there');
       kernel.write(fd, Buffer.from(workerData.bdf));\`, { bdf });
     await next(worker);
     await sleep(100);
     await worker.terminate();
     lab.close(device);
     out(failure(() => lab.open('/dev/vfio/2')));
     out(store('/sys/bus/pci/drivers_probe', bdf), lab.readlink('/sys/class/vfio-dev/vfio0/device'));
     lab.close();
     kernel.close();`,
  );
  expect(result).toEqual({ status: 0, stderr: '', said: [['ENOENT KernelError'], [12, '../../../0000:00:02.0']] });
});

it('nobody else is there: a deadlock', () => {
  const result = program(
    'sim',
    `${open}
     out(failure(() => store('/sys/bus/pci/drivers/vfio-pci/unbind', bdf)));
     lab.close(device);
     out(failure(() => lab.open('/dev/vfio/2')));
     lab.close();
     kernel.close();`,
  );
  expect(result).toEqual({ status: 0, stderr: '', said: [['ERR_KVIO_DEADLOCK Deadlock'], ['ENOENT KernelError']] });
});
