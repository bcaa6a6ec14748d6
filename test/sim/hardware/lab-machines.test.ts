/** The lab's machines as their own kernel found them: configuration space, addresses, interrupts, reset methods, groups. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { PciDev } from '../../../src/sim/pci/pci-dev.ts';
import { machineOf } from '../../../src/sim/profiles.ts';
import { System } from '../../../src/sim/system.ts';
import * as r from '../../../src/uapi/pci-regs.ts';

interface Recorded {
  readonly path: string;
  readonly resource: readonly string[];
  readonly config: string;
  readonly configSize: number;
  readonly irq: number;
  readonly driver: string;
  readonly group: string;
  readonly reset_method?: string;
}

interface Golden {
  readonly devices: Readonly<Record<string, Recorded>>;
  readonly groups: readonly { id: number; type: string; devices: readonly string[]; reserved: readonly string[] }[];
}

const machines = ['lab-vtd-7.2', 'lab-amd-7.2', 'lab-virtio-7.2', 'lab-none-7.2'];
const golden = (name: string): Golden =>
  JSON.parse(readFileSync(new URL(`../../golden/pci/${name}.json`, import.meta.url), 'utf8'));
const word = (value: bigint): string => `0x${value.toString(16).padStart(16, '0')}`;

function path({ parent, bdf, segment }: PciDev): string {
  const above = parent === undefined ? `/sys/devices/pci${segment.toString(16).padStart(4, '0')}:00` : path(parent);
  return `${above}/${bdf}`;
}

/** Whether a driver was at work there: it turned bus mastering, MSI-X and its own registers on. */
function untouched({ driver }: Recorded, dev: PciDev): boolean {
  return driver === '' && dev.fn.spec.class >> 8 !== 0x0600 && dev.fn.spec.class >> 8 !== 0x0601 && dev.fn.spec.vendor !== 0x1022;
}

function trimmed(dev: PciDev): string {
  const hex = Buffer.from(dev.fn.config.snapshot()).toString('hex');
  const short = hex.replace(/0+$/, '');
  return short.length % 2 === 0 ? short : `${short}0`;
}

describe.each(machines)('%s', (name) => {
  const { pci } = new System(machineOf(name));
  const { devices, groups } = golden(name);

  test('has the devices, where they are', () => {
    expect(pci.devices.map((dev) => dev.bdf).sort()).toEqual(Object.keys(devices));
    expect(Object.fromEntries(pci.devices.map((dev) => [dev.bdf, path(dev)]))).toEqual(
      Object.fromEntries(Object.entries(devices).map(([bdf, recorded]) => [bdf, recorded.path])),
    );
  });

  test.each(Object.keys(devices))('%s', (bdf) => {
    const recorded = devices[bdf]!;
    const dev = pci.find(bdf)!;
    const resources = dev.resources.map(({ start, end, flags }) => `${word(start)} ${word(end)} ${word(flags)}`);
    expect({
      resources: resources.slice(0, recorded.resource.length),
      configSize: dev.configSize,
      resets: dev.resetMethods.join(' '),
      group: dev.iommuGroup === undefined ? '' : String(dev.iommuGroup.id),
    }).toEqual({
      resources: recorded.resource,
      configSize: recorded.configSize,
      resets: recorded.reset_method ?? '',
      group: recorded.group,
    });
    if (!untouched(recorded, dev)) return;
    expect(trimmed(dev)).toBe(recorded.config);
    expect(dev.irq.line).toBe(recorded.irq);
  });

  test('has the groups', () => {
    const told = pci.groups.map((group) => ({
      id: group.id,
      type: group.type,
      devices: [...group.devices].map((dev) => dev.bdf),
      reserved: group.reservedRegions.map(({ start, last, type }) => `${word(start)} ${word(last)} ${type}`),
    }));
    expect(told).toEqual(groups);
  });
});

test('an enabled device has the line of the IO-APIC, without one that of firmware', () => {
  for (const [name, line] of [
    ['lab-vtd-7.2', 22],
    ['lab-amd-7.2', 11],
  ] as const) {
    const dev = new System(machineOf(name)).pci.find('0000:00:02.0')!;
    expect(dev.irq.line).toBe(11);
    expect(dev.enableDevice()).toBe(0);
    expect(dev.irq.line).toBe(line);
    expect(dev.readConfig(r.PCI_INTERRUPT_LINE, 1)).toBe(11);
  }
});
