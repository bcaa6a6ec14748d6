import { KernelCore } from '../../src/kernel/core.ts';
import { SimBackend } from '../../src/sim/backend.ts';
import { makeNodes, newProcess } from '../../src/sim/init.ts';
import type { Machine } from '../../src/sim/machine.ts';
import type { Process } from '../../src/sim/process.ts';
import { System, type SystemOptions } from '../../src/sim/system.ts';

/** A machine without KVM: what the core of the simulated kernel needs to know. */
export const plainMachine: Machine = {
  name: 'test',
  release: '6.18.44',
  backend: 'pvm',
  cpus: 2,
  instructionsPerMs: 1_000_000,
  limits: { nofile: 1024, maps: 65530, memory: 24 * 2 ** 30, memlock: Number.POSITIVE_INFINITY },
  hugePages: { [2 ** 21]: 0, [2 ** 30]: 0 },
  memfdNoexec: 0,
  devices: {},
  kvm: {
    capabilities: {},
    vmTypeCapabilities: {},
    cpuid: [],
    emulatedCpuid: [],
    msrs: [],
    featureMsrs: [],
    mceCap: 0n,
    hostXcr0: 7n,
    mxcsrMask: 0xffff,
    tscKhz: 1_000_000,
    gpaBits: 52,
    hvaBits: 47,
    vmTypes: 1,
  },
};

export interface Boot {
  system: System;
  process: Process;
  backend: SimBackend;
  kernel: KernelCore;
}

export function boot(options: SystemOptions & { machine?: Partial<Machine> } = {}): Boot {
  const system = new System({ ...plainMachine, ...options.machine }, options);
  makeNodes(system);
  const process = newProcess(system);
  const backend = new SimBackend(process);
  return { system, process, backend, kernel: new KernelCore(backend, 'test') };
}
