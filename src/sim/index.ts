import { KernelCore } from '../kernel/core.ts';
import { rangeError, typeError } from '../kernel/errors.ts';
import { SimBackend } from './backend.ts';
import type { CoverageRow } from './coverage.ts';
import type { PciFunction } from './hardware/pci-function.ts';
import { type TeeIoOption, teeIoOf } from './hardware/tsm/switches.ts';
import type { TdiContext } from './hardware/tsm/tdi-context.ts';
import { makeNodes, newProcess } from './init.ts';
import { registerPci } from './initcalls.ts';
import { registerIommufd } from './iommufd/main.ts';
import { Agent } from './kvm/agent.ts';
import { registerKvm } from './kvm/dev-kvm.ts';
import { VcpuFile } from './kvm/vcpu-file.ts';
import type { Machine } from './machine.ts';
import type { PciPlug } from './pci/pci-subsystem.ts';
import type { Process } from './process.ts';
import { machineOf } from './profiles.ts';
import { System } from './system.ts';
import type { GuestAgent } from './tee-io/agent.ts';

export type { CoverageRow } from './coverage.ts';
export * from './hardware/index.ts';
export type { TeeIo, TeeIoDialect, TeeIoOption } from './hardware/tsm/switches.ts';
export type { CapabilityValue, CpuidLeaf, KvmMachine, Limits, Machine } from './machine.ts';
export { DEFAULT_PROFILE, profiles } from './profiles.ts';
export {
  type AccessKind,
  Guest,
  type GuestAgent,
  type GuestScript,
  type GuestStep,
  TDX_GHCI_NR,
  type TioCall,
  type VmgexitAnswer,
  type VmgexitRequest,
} from './tee-io/agent.ts';

export interface SimOptions {
  /** A profile's name, or a description of one's own. Default: 'pvm-6.18'. */
  machine?: string | Machine;
  /** What to do with what the simulator does not model: throw `NotModelled` (default), or refuse it as a kernel without it does. */
  notModelled?: 'throw' | 'refuse';
  /** Seeds what a kernel takes from its entropy pool. The same seed and the same calls give the same bytes. Default 1. */
  seed?: number;
  /** PCI functions besides the machine's own: `[{ at: '0000:00:10.0', device: new Edu() }]`. */
  pci?: readonly PciPlug[];
  /** RFC: confidential device assignment as posted series have it: 'rfc', or switches of one's own. Default: what the machine says, 'off' for those with a released kernel. */
  teeIo?: TeeIoOption;
  /** `kernel.reason`. */
  reason?: string;
}

/** A kernel in TypeScript: the same system calls, bytes and errnos, on a machine that is data. It belongs to the thread that made it. */
export class SimKernel extends KernelCore {
  readonly machine: Machine;
  /** The back door for tests: the process this kernel serves, with its descriptors, files and address space. */
  readonly process: Process;

  /** `system`: a machine that runs already; default: it is booted. */
  constructor(options: SimOptions = {}, system: System = boot(options)) {
    const process = newProcess(system);
    super(new SimBackend(process), options.reason ?? 'the simulated kernel was asked for');
    this.machine = system.machine;
    this.process = process;
  }

  /** Another process of the same machine: a kernel with descriptors and memory of its own. Closing one leaves the other alone. */
  newProcess(): SimKernel {
    return new SimKernel({ reason: this.reason }, this.process.system);
  }

  /** Simulated time since boot in nanoseconds: what was executed, not what the clock on the wall says. */
  get now(): bigint {
    return this.process.system.runner.now;
  }

  /** Plugs a function into a running machine: at a free place of a bus there is. */
  plug(device: PciFunction, at: string): void {
    const { system } = this.process;
    system.pci.plug(device, at);
    registerPci(system);
  }

  /** Surprise removal: its registers answer all ones from now on. */
  unplug(device: PciFunction): void {
    this.process.system.pci.unplug(device);
  }

  /** The function at an address ('0000:00:02.0'): the back door to the machine's own. */
  pci(at: string): PciFunction | undefined {
    return this.process.system.pci.fabric.find(at);
  }

  /** RFC. The back door to a guest's side: from its next KVM_RUN on the vCPU does what `agent` says, and its own code no more. */
  agent(vcpu: number | { readonly fd: number }, agent: GuestAgent): void {
    const fd = typeof vcpu === 'number' ? vcpu : vcpu.fd;
    const file = this.process.fds.get(fd);
    if (!(file instanceof VcpuFile)) throw rangeError(`an agent plays the guest of a vCPU: ${fd} is no vCPU's descriptor`);
    file.vcpu.agent = new Agent(file.vcpu, agent);
  }

  /** RFC. What the TSM knows of the function at an address: its state, who has it, what was rejected and dropped. The back door to its evidence and its lock flags. */
  tdi(at: string): TdiContext | undefined {
    const { tsm, pci } = this.process.system;
    const fn = tsm === undefined ? undefined : pci.fabric.find(at);
    return fn === undefined ? undefined : tsm!.tdiOf(fn);
  }

  /** What is modelled: system calls, ioctls … as their handler tables have them. */
  coverage(): CoverageRow[] {
    return this.process.system.coverage.rows();
  }
}

/** Boots a simulated machine and gives its kernel. */
export function openSim(options: SimOptions = {}): SimKernel {
  return new SimKernel(options);
}

function boot({ machine, teeIo, notModelled = 'throw', seed = 1, pci = [], reason: _, ...unknown }: SimOptions): System {
  const [stranger] = Object.keys(unknown);
  if (stranger !== undefined) throw typeError(`a simulated kernel has no option ${stranger}`);
  if (notModelled !== 'throw' && notModelled !== 'refuse')
    throw rangeError(`notModelled must be 'throw' or 'refuse', not '${notModelled}'`);
  if (!Number.isInteger(seed)) throw rangeError(`seed must be an integer, not ${seed}`);
  const system = new System(withTeeIo(machineOf(machine), teeIo), { notModelled, seed, pci });
  makeNodes(system);
  registerKvm(system);
  registerIommufd(system);
  registerPci(system);
  return system;
}

function withTeeIo(machine: Machine, option: TeeIoOption | undefined): Machine {
  if (option === undefined) return machine;
  const { teeIo: _, ...mainline } = machine;
  const teeIo = teeIoOf(option);
  return teeIo === undefined ? mainline : { ...mainline, teeIo };
}
