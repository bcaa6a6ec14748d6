import { describe, expect, test } from 'vitest';
import { Accelerator, openSim, PciFunction, type SimKernel, type TeeIoOption } from '../../../src/sim/index.ts';
import { O_RDONLY, O_WRONLY } from '../../../src/uapi/sys.ts';
import { FakeBinding, FakeVm } from '../hardware/tsm/kit.ts';

const ONE = '0000:01:00.0';
const TWO = '0000:02:00.0';
const at = (bdf: string, file: string): string => `/sys/bus/pci/devices/${bdf}/tsm/${file}`;

/** The machine with two accelerators. */
function machine(teeIo?: TeeIoOption) {
  const kernel = openSim({ machine: 'tee-io-7.2', ...(teeIo === undefined ? {} : { teeIo }) });
  const { tsm, pci } = kernel.process.system;
  return { kernel, tsm, tdi: (bdf: string) => tsm!.tdiOf(pci.find(bdf)!.fn)! };
}

const code = <T>(act: () => T): T | string => {
  try {
    return act();
  } catch (error) {
    return (error as { code: string }).code;
  }
};

function read(kernel: SimKernel, path: string): string {
  return code(() => {
    const fd = kernel.open(path, O_RDONLY);
    const into = new Uint8Array(64);
    const length = kernel.read(fd, into);
    kernel.close(fd);
    return new TextDecoder().decode(into.subarray(0, length));
  });
}

function write(kernel: SimKernel, path: string, text: string): number | string {
  return code(() => {
    const fd = kernel.open(path, O_WRONLY);
    try {
      return kernel.write(fd, new TextEncoder().encode(text));
    } finally {
      kernel.close(fd);
    }
  });
}

describe('tsm/ of a function', () => {
  test('connected at boot; disconnect, and connect again', () => {
    const { kernel } = machine();
    expect(read(kernel, at(ONE, 'connect'))).toBe('tsm0\n');
    expect(write(kernel, at(ONE, 'connect'), 'tsm0\n')).toBe('EBUSY');
    expect(write(kernel, at(ONE, 'connect'), 'tpm0\n')).toBe('EINVAL');
    expect(write(kernel, at(ONE, 'disconnect'), 'tsm1\n')).toBe('EINVAL');
    expect(write(kernel, at(ONE, 'disconnect'), 'tsm0\n')).toBe(5);
    expect(read(kernel, at(ONE, 'connect'))).toBe('\n');
    expect(read(kernel, at(TWO, 'connect'))).toBe('tsm0\n');
    expect(write(kernel, at(ONE, 'disconnect'), 'tsm0')).toBe('ENXIO');
    expect(write(kernel, at(ONE, 'disconnect'), 'tsm1')).toBe('ENXIO');
    expect(write(kernel, at(ONE, 'connect'), 'tsm1')).toBe('ENODEV');
    expect(write(kernel, at(ONE, 'connect'), 'tsm0')).toBe(4);
    expect(read(kernel, at(ONE, 'connect'))).toBe('tsm0\n');
  });

  test('disconnect unbinds first', () => {
    const { kernel, tdi } = machine();
    const log: string[] = [];
    const one = tdi(ONE);
    expect(one.bind(new FakeBinding(new FakeVm(), 'vfio', log, () => one.tdi.state))).toBe(0);
    expect(read(kernel, at(ONE, 'bound'))).toBe('tsm0\n');
    expect(read(kernel, at(TWO, 'bound'))).toBe('\n');
    expect(write(kernel, at(ONE, 'disconnect'), 'tsm0\n')).toBe(5);
    expect(log.at(-1)).toBe('ended 0');
    expect(read(kernel, at(ONE, 'bound'))).toBe('\n');
    expect(one.bind(new FakeBinding(new FakeVm(), 'vfio', log, () => one.tdi.state))).toBe(-22);
  });

  test('is there for a function that is plugged in, not for one without TEE-IO, and goes with it', () => {
    const { kernel } = machine();
    expect(read(kernel, '/sys/bus/pci/devices/0000:00:04.0/tsm/connect')).toBe('ENOENT');
    const late = new Accelerator();
    kernel.plug(late, '0000:00:10.0');
    expect(read(kernel, at('0000:00:10.0', 'connect'))).toBe('tsm0\n');
    kernel.unplug(late);
    expect(read(kernel, at('0000:00:10.0', 'connect'))).toBe('ENOENT');
  });

  test('of a virtual function: its physical one\u2019s session', () => {
    class Virtual extends PciFunction {
      constructor() {
        super({ vendor: 0x1234, device: 0x5679, class: 0x120000, virtual: true, express: { deviceCapabilities: 0x4000_8020 } });
      }
    }
    class Physical extends PciFunction {
      constructor() {
        super({
          vendor: 0x1234,
          device: 0x5678,
          class: 0x120000,
          express: { deviceCapabilities: 0x4000_8020 },
          flr: true,
          sriov: {
            totalVfs: 2,
            firstOffset: 1,
            stride: 1,
            vfDevice: 0x5679,
            vfBars: { 0: { size: 0x2000, space: 'mem64' } },
            create: () => new Virtual(),
          },
        });
      }
    }
    const physical = new Physical();
    const kernel = openSim({ machine: 'tee-io-7.2', pci: [{ at: '0000:00:10.0', device: physical }] });
    const { tsm, pci } = kernel.process.system;
    pci.fabric.virtualFunctions(physical, 2);
    pci.rescan();
    const [first, second] = pci.fabric.virtualOf(physical);
    const pf = tsm!.tdiOf(physical)!;
    const vf = tsm!.tdiOf(first!)!;
    expect(vf.tdi.interfaceId).toEqual({ requesterId: 0x81, segment: 0 });
    expect(tsm!.tdiOf(second!)!.tdi.interfaceId).toEqual({ requesterId: 0x82, segment: 0 });
    const log: string[] = [];
    const bind = (): number => vf.bind(new FakeBinding(new FakeVm(), 'vfio', log, () => vf.tdi.state));
    expect(vf.connect()).toBe(-6);
    expect(bind()).toBe(0);
    pf.disconnect();
    expect([vf.binding, vf.connected, vf.tdi.state]).toEqual([undefined, false, 0]);
    expect(bind()).toBe(-22);
    pf.connect();
    expect(bind()).toBe(0);
    pf.tdi.happens('flr');
    expect(vf.tdi.state).toBe(3);
    vf.unbind();
    pci.fabric.virtualFunctions(physical, 0);
    expect(tsm!.tdis.map(({ fn }) => fn)).not.toContain(first);
  });
});

test('the class has one TSM; without TEE-IO there is neither', () => {
  const { kernel } = machine();
  expect(kernel.readlink('/sys/class/tsm/tsm0')).toContain('virtual/tsm/tsm0');
  expect(
    kernel
      .coverage()
      .filter(({ name }) => name.includes('(RFC)'))
      .map(({ name }) => name),
  ).toContain('tsm sim (RFC)');
  const off = machine('off');
  expect(off.tsm).toBeUndefined();
  expect(code(() => off.kernel.readlink('/sys/class/tsm/tsm0'))).toBe('ENOENT');
  expect(read(off.kernel, at(ONE, 'connect'))).toBe('ENOENT');
});
