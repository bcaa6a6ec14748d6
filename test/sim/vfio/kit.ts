import { KernelCore } from '../../../src/kernel/core.ts';
import { SimBackend } from '../../../src/sim/backend.ts';
import type { Backing, FileMap } from '../../../src/sim/file.ts';
import type { IommuDomain } from '../../../src/sim/hardware/dma-target.ts';
import type { IommuMachine } from '../../../src/sim/hardware/machine-pci.ts';
import { makeNodes, newProcess } from '../../../src/sim/init.ts';
import type { IommuGroup, IommuMember } from '../../../src/sim/iommu/group.ts';
import type { Machine } from '../../../src/sim/machine.ts';
import type { ParameterValues } from '../../../src/sim/parameters.ts';
import type { PciDev } from '../../../src/sim/pci/pci-dev.ts';
import type { Process } from '../../../src/sim/process.ts';
import { System } from '../../../src/sim/system.ts';
import { VfioDevice, type VfioDeviceFile } from '../../../src/sim/vfio/device.ts';
import { registerVfio, type VfioCore } from '../../../src/sim/vfio/vfio-main.ts';
import * as sys from '../../../src/uapi/sys.ts';
import { vtd as withPasids } from '../hardware/kit.ts';
import { plainMachine } from '../machine.ts';

export const P = 4096;

/** Without PASIDs. */
export const vtd: IommuMachine = { ...withPasids, pasidBits: 0 };

type Hardware = NonNullable<IommuGroup['iommu']>;

/** The kernel's IOMMU groups, without the devices. */
export class TestGroup {
  readonly id: number;
  readonly iommu: Hardware | undefined;
  readonly devices = new Set<IommuMember>();
  domain: IommuDomain | 'default' | 'blocked' = 'default';
  owner: object | undefined;
  hostDriver = false;
  readonly machine: IommuMachine;

  constructor(id: number, machine: IommuMachine, iommu: Hardware | undefined) {
    this.id = id;
    this.machine = machine;
    this.iommu = iommu;
  }

  get reservedRegions(): IommuMachine['reserved'] {
    return this.machine.reserved;
  }

  get msiIsolated(): boolean {
    return this.machine.interruptRemapping;
  }

  get cacheCoherent(): boolean {
    return this.machine.coherent;
  }

  get enforceCoherency(): boolean {
    return this.machine.enforceCoherency;
  }

  get viable(): boolean {
    return this.owner === undefined && !this.hostDriver;
  }

  add(dev: IommuMember): void {
    this.devices.add(dev);
  }

  claimDma(owner: object): number {
    if (!this.viable) return -sys.EPERM;
    this.owner = owner;
    this.domain = 'blocked';
    return 0;
  }

  releaseDma(): void {
    this.owner = undefined;
    this.domain = 'default';
  }

  attach(domain: IommuDomain): number {
    if (typeof this.domain !== 'string') return -sys.EBUSY;
    this.domain = domain;
    return 0;
  }

  detach(): void {
    this.domain = 'blocked';
  }

  /** What a device of the group sees: a byte, or undefined for a fault. */
  load(iova: bigint): number | undefined {
    if (typeof this.domain === 'string') return undefined;
    const target = this.domain.translate(iova, 1, false);
    if (target === undefined) return undefined;
    return 'page' in target ? target.page.u8[target.at] : Number(target.device.load(target.offset, 1));
  }

  store(iova: bigint, value: number): boolean {
    if (typeof this.domain === 'string') return false;
    const target = this.domain.translate(iova, 1, true);
    if (target === undefined) return false;
    if ('page' in target) target.page.u8[target.at] = value;
    else target.device.store(target.offset, 1, value);
    return true;
  }
}

/** A driver that does nothing but say what it was asked. */
export class TestDevice extends VfioDevice {
  readonly asked: string[] = [];
  openError = 0;
  backing: Backing | undefined;

  openDevice(): number {
    this.asked.push('open');
    return this.openError;
  }

  closeDevice(): void {
    this.asked.push('close');
  }

  ioctl(_file: VfioDeviceFile, _p: Process, request: number): number {
    this.asked.push(`ioctl ${request.toString(16)}`);
    return -sys.ENOTTY;
  }

  read(_file: VfioDeviceFile, _p: Process, into: Uint8Array, offset: bigint): number {
    into.fill(Number(offset & 0xffn));
    return into.length;
  }

  write(_file: VfioDeviceFile, _p: Process, from: Uint8Array): number {
    return from.length;
  }

  mmap(_file: VfioDeviceFile, _p: Process, { shared }: FileMap): Backing | number {
    return shared && this.backing !== undefined ? this.backing : -sys.EINVAL;
  }

  override request(count: number): void {
    this.asked.push(`request ${count}`);
  }
}

export interface Rig {
  readonly system: System;
  readonly process: Process;
  readonly kernel: KernelCore;
  readonly core: VfioCore;
  /** A group of the machine's IOMMU; `machine` may say otherwise than VT-d. */
  group(machine?: Partial<IommuMachine>): TestGroup;
  /** A device that VFIO has, in a group, in none (no-IOMMU), or mediated. */
  device(name: string, group: TestGroup | 'none' | 'mediated'): TestDevice;
}

export function rig(options: { machine?: Partial<Machine>; parameters?: ParameterValues } = {}): Rig {
  const machine: Machine = {
    ...plainMachine,
    release: '7.2.13',
    devices: { '/dev/vfio/vfio': true, '/dev/iommu': true },
    ...(options.parameters === undefined ? {} : { parameters: options.parameters }),
    ...options.machine,
  };
  const system = new System(machine);
  makeNodes(system);
  let groups = 0;
  const made = (hardware: IommuMachine, iommu: boolean): TestGroup =>
    new TestGroup(groups++, hardware, iommu ? ({ machine: hardware } as unknown as Hardware) : undefined);
  const shared = new Map<string, Hardware>();
  const core = registerVfio(system, {
    create: () => made({ ...vtd, reserved: [] }, false) as unknown as IommuGroup,
    remove: () => {},
  })!;
  const process = newProcess(system);
  return {
    system,
    process,
    core,
    kernel: new KernelCore(new SimBackend(process), 'test'),
    group(more = {}) {
      const hardware = { ...vtd, ...more };
      const key = JSON.stringify(hardware, (_key, value) => (typeof value === 'bigint' ? value.toString() : value));
      const iommu = shared.get(key) ?? ({ machine: hardware } as unknown as Hardware);
      shared.set(key, iommu);
      return new TestGroup(groups++, hardware, iommu);
    },
    device(name, group) {
      const iommuGroup = group instanceof TestGroup ? group : undefined;
      const pci = group === 'mediated' ? undefined : ({ iommuGroup } as unknown as PciDev);
      const device = new TestDevice(system, name, pci);
      const error = core.registerDevice(device, system.fs.mkdirp(`/sys/devices/test/${name}`));
      if (error < 0) throw new Error(`${name}: errno ${-error}`);
      return device;
    },
  };
}

/** The errno a call fails with, by name; 0 and up are what it returns. */
export function answer(body: () => unknown): unknown {
  try {
    return body() ?? 0;
  } catch (error) {
    if (error instanceof Error && 'syscall' in error) return (error as Error & { code?: string }).code;
    throw error;
  }
}

/** Fields of `width` bytes one after the other. */
export function words(width: 4 | 8, ...values: (number | bigint)[]): Uint8Array {
  const bytes = new Uint8Array(width * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) {
    if (width === 8) view.setBigUint64(8 * i, BigInt.asUintN(64, BigInt(value)), true);
    else view.setUint32(4 * i, Number(value) >>> 0, true);
  }
  return bytes;
}

export function join(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
