// What iommufd's pins cost a program without CAP_IPC_LOCK: cases of real kernels have all capabilities.
import { Iommufd, type Kernel, KernelError } from 'kvio';
import { openSim, profiles } from 'kvio/sim';
import { O_RDONLY } from 'kvio/uapi';
import { expect, it } from 'vitest';
import { Iommufd as Requests } from '../../conformance/iommufd.ts';

const PAGE = 0x1000n;
const IOVA = 0x2000000n;
const LIMIT = 8;

/** A program that may lock so many pages. */
function limited(): Kernel {
  const machine = profiles['iommufd-selftest']!;
  return openSim({
    machine: {
      ...machine,
      limits: { ...machine.limits, memlock: LIMIT * 4096 },
      user: { uid: 1000, gid: 1000, capabilities: ['CAP_DAC_OVERRIDE', 'CAP_SYS_RESOURCE'] },
    },
  });
}

/** An iommufd with an address space that has a device. */
function scene(kernel: Kernel, process = false) {
  const iommufd = Iommufd.open(kernel);
  if (process) iommufd.rlimitMode = true;
  const ioas = iommufd.ioasAlloc();
  const raw = new Requests(kernel, iommufd.fd);
  const mock = raw.mock(ioas.id);
  const ram = kernel.guestRam(0x20000);
  const map = (pages: number, at = 0): string => {
    try {
      ioas.map(ram, { iova: IOVA + BigInt(at) * PAGE, length: pages * 4096 });
      return 'mapped';
    } catch (error) {
      return (error as KernelError).code;
    }
  };
  return { iommufd, ioas, mock, map };
}

function status(kernel: Kernel): { VmLck: number; VmPin: number } {
  const fd = kernel.open('/proc/self/status', O_RDONLY);
  const bytes = new Uint8Array(8192);
  const text = Buffer.from(bytes.subarray(0, kernel.read(fd, bytes))).toString();
  kernel.close(fd);
  const pages = (name: string): number => Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(text)![1]) / 4;
  return { VmLck: pages('VmLck'), VmPin: pages('VmPin') };
}

it('the limit is the user’s, in all iommufds together; what fails leaves nothing', () => {
  using kernel = limited();
  const [one, two] = [scene(kernel), scene(kernel)];
  expect(one.map(LIMIT + 1)).toBe('ENOMEM');
  expect([one.ioas.unmapAll(), status(kernel)]).toEqual([0n, { VmLck: 0, VmPin: 0 }]);
  expect([one.map(5), two.map(4), two.map(3)]).toEqual(['mapped', 'ENOMEM', 'mapped']);
  expect(status(kernel)).toEqual({ VmLck: 0, VmPin: LIMIT });
  one.ioas.unmapAll();
  expect(two.map(5, 16)).toBe('mapped');
});

it('or the process’s, where an iommufd is told so: it is in VmLck too', () => {
  using kernel = limited();
  const { ioas, map } = scene(kernel, true);
  expect([map(LIMIT + 1), map(LIMIT), map(1, 16)]).toEqual(['ENOMEM', 'mapped', 'ENOMEM']);
  expect(status(kernel)).toEqual({ VmLck: LIMIT, VmPin: LIMIT });
  ioas.unmapAll();
  expect(status(kernel)).toEqual({ VmLck: 0, VmPin: 0 });
});

it('a copy and a second table cost nothing; a table over what was never charged is ENOMEM', () => {
  using kernel = limited();
  const { iommufd, ioas, mock, map } = scene(kernel);
  expect(map(LIMIT)).toBe('mapped');
  ioas.copy(ioas, { src_iova: IOVA, length: 4n * PAGE, iova: IOVA + 0x100000n });
  iommufd.hwptAlloc({ dev_id: mock.idev, pt: ioas });
  expect(status(kernel).VmPin).toBe(LIMIT);
  const lazy = iommufd.ioasAlloc();
  lazy.map(kernel.guestRam(0x1000), { iova: IOVA });
  expect(status(kernel).VmPin).toBe(LIMIT);
  expect(() => iommufd.hwptAlloc({ dev_id: mock.idev, pt: lazy })).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
  ioas.unmap(IOVA, BigInt(LIMIT) * PAGE);
  expect(status(kernel).VmPin).toBe(4);
  iommufd.hwptAlloc({ dev_id: mock.idev, pt: lazy });
  iommufd.close();
  expect(status(kernel).VmPin).toBe(0);
});

it('RLIMIT_MODE wants CAP_SYS_RESOURCE, to be set and not to be told', () => {
  const machine = profiles['iommufd-selftest']!;
  using kernel = openSim({ machine: { ...machine, user: { uid: 1000, gid: 1000, capabilities: ['CAP_DAC_OVERRIDE'] } } });
  const iommufd = Iommufd.open(kernel);
  expect(iommufd.rlimitMode).toBe(false);
  expect(() => iommufd.setOption(0, 1n)).toThrow(KernelError);
  expect(() => iommufd.setOption(0, 2n)).toThrow(expect.objectContaining({ code: 'EPERM' }));
});
