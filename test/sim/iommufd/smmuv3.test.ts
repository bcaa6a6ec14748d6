// vIOMMUs of an SMMUv3: what the driver takes of a guest, and what becomes of its devices' accesses, events and invalidations. No lab has such an SMMU: these are the rules as read.
import { bindDriver, type InvalidationIncomplete, type Iommufd, pciDevice, VfioDevice } from 'kvio';
import { openSim, profiles } from 'kvio/sim';
import {
  IOMMU_HW_INFO_TYPE_ARM_SMMUV3,
  IOMMU_HW_INFO_TYPE_INTEL_VTD,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_DATA_ARM_SMMUV3,
  IOMMU_HWPT_DATA_VTD_S1,
  IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
  IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
  IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
} from 'kvio/uapi';
import { describe, expect, it } from 'vitest';
import { ABORT, at, BDF, BYPASS, GPA, guest, IOVA, PAGE, registers, S1, SID, scene, V, VSID } from './smmuv3-kit.ts';

const NEST = IOMMU_HWPT_ALLOC_NEST_PARENT;

describe('what the driver makes', () => {
  it('parents: of the second stage, and of nothing else', () => {
    const { iommufd, dev_id, ioas } = scene();
    for (const flags of [NEST | IOMMU_HWPT_ALLOC_DIRTY_TRACKING, NEST | IOMMU_HWPT_ALLOC_PASID])
      expect(() => iommufd.hwptAlloc({ dev_id, pt: ioas, flags })).toThrow(/EOPNOTSUPP/);
    expect(iommufd.hwptAlloc({ dev_id, pt: ioas, flags: NEST }).id).toBeGreaterThan(0);
    expect(iommufd.getHwInfo(dev_id)).toMatchObject({ type: IOMMU_HW_INFO_TYPE_ARM_SMMUV3 });
    expect(() => iommufd.getHwInfo(dev_id, IOMMU_HW_INFO_TYPE_INTEL_VTD)).toThrow(/EOPNOTSUPP/);
  });

  it('a parent reaches as far as physical addresses do', () => {
    const { iommufd, dev_id, ioas } = scene({ hwInfo: registers(5, 7, 2) });
    iommufd.hwptAlloc({ dev_id, pt: ioas, flags: NEST });
    expect(ioas.iovaRanges().ranges.at(-1)!.last).toBe((1n << 40n) - 1n);
  });

  it('as many parents as there are VMIDs', () => {
    const { iommufd, dev_id, ioas } = scene({ hwInfo: registers(0, 1 << 18, 0) });
    ioas.unmapAll();
    const alloc = () => iommufd.hwptAlloc({ dev_id, pt: ioas, flags: NEST });
    const tables = Array.from({ length: 255 }, alloc);
    expect(alloc).toThrow(/ENOSPC/);
    tables[7]!.destroy();
    expect(alloc().id).toBe(tables[7]!.id);
  });

  it('a vIOMMU where the SMMU keeps a VM from getting around caches', () => {
    const types = [
      [{}, IOMMU_VIOMMU_TYPE_ARM_SMMUV3, undefined],
      [{}, IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV, /EOPNOTSUPP/],
      [{}, 9, /EOPNOTSUPP/],
      [{ enforceCoherency: false }, IOMMU_VIOMMU_TYPE_ARM_SMMUV3, undefined],
      [{ enforceCoherency: false, hwInfo: registers(3, 1 << 8, 0) }, IOMMU_VIOMMU_TYPE_ARM_SMMUV3, /EOPNOTSUPP/],
    ] as const;
    for (const [machine, type, errno] of types) {
      const { iommufd, dev_id, ioas } = scene(machine);
      const hwpt = iommufd.hwptAlloc({ dev_id, pt: ioas, flags: NEST });
      const alloc = () => iommufd.viommuAlloc({ type, dev_id, hwpt });
      if (errno === undefined) expect(alloc().id).toBeGreaterThan(hwpt.id);
      else expect(alloc).toThrow(errno);
    }
  });

  it('an SMMU of one stage has neither', () => {
    const { iommufd, dev_id, ioas } = scene({ nesting: false });
    expect(() => iommufd.hwptAlloc({ dev_id, pt: ioas, flags: NEST })).toThrow(/EOPNOTSUPP/);
    const hwpt = iommufd.hwptAlloc({ dev_id, pt: ioas });
    expect(() => iommufd.viommuAlloc({ type: IOMMU_VIOMMU_TYPE_ARM_SMMUV3, dev_id, hwpt })).toThrow(/EOPNOTSUPP/);
  });

  it('one of two stages says what it is', () => {
    const { hwInfo: _, ...iommu } = profiles['smmuv3-7.2']!.iommu!;
    expect(() => openSim({ machine: { ...profiles['smmuv3-7.2']!, iommu } })).toThrow(/hwInfo/);
  });

  it('stream table entries: EIO for what a guest may not say', () => {
    const { iommufd, dev_id, viommu, parent, nested } = guest();
    const make =
      (flags: number, type: number, length: number, pt = viommu as { id: number }) =>
      () =>
        iommufd.hwptAlloc({ dev_id, pt: pt.id, flags, data: { type, bytes: new Uint8Array(length) } });
    expect(make(IOMMU_HWPT_ALLOC_PASID, IOMMU_HWPT_DATA_VTD_S1, 16)).toThrow(/EOPNOTSUPP/);
    expect(make(0, IOMMU_HWPT_DATA_VTD_S1, 16)).toThrow(/EINVAL/);
    expect(make(0, IOMMU_HWPT_DATA_ARM_SMMUV3, 8)).toThrow(/EINVAL/);
    expect(make(0, IOMMU_HWPT_DATA_ARM_SMMUV3, 24)).toThrow(/EINVAL/);
    expect(make(0, IOMMU_HWPT_DATA_ARM_SMMUV3, 16, parent)).toThrow(/EOPNOTSUPP/);
    for (const [first, second] of [
      [S1 | (1n << 52n), 0n],
      [S1, 1n << 8n],
      [S1, 1n << 19n],
      [V | (6n << 1n), 0n],
      [V | (7n << 1n), 0n],
      [V | (1n << 1n), 0n],
      [S1, 2n << 28n],
      [S1, 3n << 28n],
    ] as const)
      expect(() => nested(first, second)).toThrow(/EIO/);
    for (const [first, second] of [
      [S1 | (3n << 4n) | (31n << 59n) | 0xf_ffff_ffff_ffc0n, 0x0800_00ffn],
      [S1, 1n << 28n],
      [BYPASS, 0n],
      [ABORT, 0n],
      [~V & ((1n << 64n) - 1n), (1n << 64n) - 1n],
    ] as const)
      nested(first, second).destroy();
  });

  it('the table holds the vIOMMU, the vIOMMU its parent', () => {
    const { device, parent, viommu, vdevice, queue, nested, ram, ioas, fn } = guest();
    const table = nested(S1 | GPA);
    device.attachIommufdPt({ pt_id: table.id });
    expect(() => table.destroy()).toThrow(/EBUSY/);
    expect(() => viommu.destroy()).toThrow(/EBUSY/);
    expect(() => parent.destroy()).toThrow(/EBUSY/);
    vdevice.destroy();
    expect(fn.dma.write(IOVA, Uint8Array.of(1))).toBe(true);
    expect(ram.read8(at.data * PAGE)).toBe(1);
    device.attachIommufdPt({ pt_id: ioas.id });
    table.destroy();
    queue.destroy();
    viommu.destroy();
    parent.destroy();
  });
});

describe('a device of the VM', () => {
  it('ENOENT: it has no StreamID there, and something is to be translated', () => {
    const { vdevice, attach } = guest();
    vdevice.destroy();
    expect(() => attach(S1 | GPA)).toThrow(/ENOENT/);
    attach(BYPASS);
    attach(ABORT);
    attach(0n);
    expect(() => attach(S1 | GPA)).toThrow(/ENOENT/);
  });

  it('EOPNOTSUPP: it has more than one StreamID', () => {
    const { iommufd, kernel, viommu } = guest();
    const behind = '0000:04:01.0';
    const fn = kernel.process.system.pci.fabric.find(behind)!;
    expect(fn).toBeDefined();
    const { dev_id } = bind(kernel, iommufd, behind);
    expect(() => viommu.vdeviceAlloc({ dev_id, virt_id: 5n })).toThrow(/EOPNOTSUPP/);
    const { dev_id: other } = bind(kernel, iommufd, '0000:00:02.0');
    expect(viommu.vdeviceAlloc({ dev_id: other, virt_id: 5n }).id).toBeGreaterThan(0);
  });

  it('its accesses go through both stages', () => {
    const { fn, ram, attach, hardware } = guest();
    attach(S1 | GPA);
    expect(fn.dma.write(IOVA + 0x10n, Uint8Array.of(1, 2, 3))).toBe(true);
    expect(ram.read(at.data * PAGE + 0x10, 3)).toEqual(Uint8Array.of(1, 2, 3));
    expect(fn.dma.read(IOVA + 0x11n, 2)).toEqual(Uint8Array.of(2, 3));
    expect(hardware.faults).toHaveLength(0);
  });

  it('a table that bypasses is the parent’s, one that aborts lets nothing through and tells nobody', () => {
    const { fn, ram, attach, events, recorded } = guest();
    attach(BYPASS);
    expect(fn.dma.write(GPA + 0x8000n, Uint8Array.of(7))).toBe(true);
    expect(ram.read8(0x8000)).toBe(7);
    for (const entry of [ABORT, 0n]) {
      attach(entry);
      expect(fn.dma.write(GPA + 0x8000n, Uint8Array.of(8))).toBe(false);
    }
    expect([events(), recorded()]).toEqual([[], undefined]);
  });

  it('faults of its own stage are the guest’s, by its StreamID there', () => {
    const { fn, attach, events, recorded } = guest();
    attach(S1 | GPA);
    expect(fn.dma.write(IOVA + 0x1234n, Uint8Array.of(1))).toBe(false);
    const [IN, S1_FAULT] = [2n << 40n, 0x10n];
    expect(events()).toEqual([[S1_FAULT | (VSID << 32n), IN, IOVA + 0x1234n, 0n]]);
    expect([...recorded()!]).toEqual([S1_FAULT | (SID << 32n), IN, IOVA + 0x1234n, 0n]);
    expect(fn.dma.read(IOVA + 0x1000n, 4)).toBeUndefined();
    expect(events()).toEqual([[S1_FAULT | (VSID << 32n), IN | (1n << 35n), IOVA + 0x1000n, 0n]]);
  });

  it('those of the second stage are the host’s', () => {
    const { fn, ram, entry, attach, events, recorded, ioas } = guest();
    attach(S1 | GPA);
    ram.write64(entry(3, IOVA), 0x7000_0000n | 0x443n);
    expect(fn.dma.write(IOVA + 8n, Uint8Array.of(1))).toBe(false);
    expect([...recorded()!]).toEqual([0x10n | (SID << 32n), (2n << 40n) | (1n << 39n), IOVA + 8n, 0x7000_0000n]);
    ioas.unmapAll();
    expect(fn.dma.write(IOVA + 8n, Uint8Array.of(1))).toBe(false);
    expect([...recorded()!]).toEqual([0x10n | (SID << 32n), 1n << 39n, IOVA + 8n, GPA]);
    expect(events()).toEqual([]);
  });

  it('a vDEVICE that goes leaves the number it had; another table has its own', () => {
    const { fn, vdevice, viommu, dev_id, attach, events } = guest();
    attach(S1 | GPA);
    vdevice.destroy();
    viommu.vdeviceAlloc({ dev_id, virt_id: 0x1_0000_0099n });
    const fault = () => fn.dma.write(0n, Uint8Array.of(1));
    fault();
    attach(S1 | GPA);
    fault();
    expect(events().map(([word]) => word! >> 32n)).toEqual([VSID, 0x99n]);
  });

  it('nobody is told once it is elsewhere', () => {
    const { fn, device, parent, attach, events } = guest();
    attach(S1 | GPA);
    device.attachIommufdPt({ pt_id: parent.id });
    expect(fn.dma.write(0n, Uint8Array.of(1))).toBe(false);
    device.detachIommufdPt();
    expect(fn.dma.write(0n, Uint8Array.of(1))).toBe(false);
    expect(events()).toEqual([]);
  });

  it('page requests are refused by the driver: no fault queue hears of them', () => {
    const { fn, iommufd, device, dev_id, viommu } = guest();
    const fault = iommufd.faultQueueAlloc();
    const bytes = new Uint8Array(16);
    const table = iommufd.hwptAlloc({ dev_id, pt: viommu, fault, data: { type: IOMMU_HWPT_DATA_ARM_SMMUV3, bytes } });
    device.attachIommufdPt({ pt_id: table.id });
    let granted: boolean | undefined;
    fn.dma.requestPage({ iova: IOVA }, (answer) => {
      granted = answer;
    });
    expect([granted, fault.read()]).toEqual([false, []]);
  });
});

describe('invalidations', () => {
  const all = (1n << 64n) - 1n;
  const ask = (
    viommu: ReturnType<typeof guest>['viommu'],
    commands: readonly (readonly [bigint, bigint])[],
    data_type = IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
    entry_len = 16,
  ): [string, number] => {
    const bytes = new Uint8Array(commands.length * entry_len);
    const view = new DataView(bytes.buffer);
    for (const [i, [first, second]] of commands.entries()) {
      view.setBigUint64(i * entry_len, first, true);
      if (entry_len >= 16) view.setBigUint64(i * entry_len + 8, second, true);
      if (entry_len > 16) view.setUint8(i * entry_len + 16, Number(second & 1n));
    }
    try {
      viommu.invalidate({ data_type, entries: bytes, entry_len });
      return ['done', commands.length];
    } catch (error) {
      const { code, done } = error as InvalidationIncomplete;
      return [code, done];
    }
  };

  it('reach the SMMU with its own tags', () => {
    const { viommu, hardware } = guest();
    const vmid = 1n << 32n;
    const [own, other] = [VSID << 32n, 0x1234n << 32n];
    const given: [bigint, bigint][] = [
      [0x30n | other, all],
      [0x10n | other, 5n],
      [0x11n | other | (7n << 48n), 0n],
      [0x12n | (7n << 48n), 0x5000n],
      [0x13n, 0x5001n],
      [0x05n | own | (3n << 12n), 1n],
      [0x06n | own, 0n],
      [0x40n | own, 0x34n],
    ];
    expect(ask(viommu, given)).toEqual(['done', 8]);
    const [stream, asid] = [SID << 32n, 7n << 48n];
    expect(hardware.smmu!.commands).toEqual([
      [0x10n | vmid, 0n],
      [0x10n | vmid, 5n],
      [0x11n | vmid | asid, 0n],
      [0x12n | vmid | asid, 0x5000n],
      [0x13n | vmid, 0x5001n],
      [0x05n | stream | (3n << 12n), 1n],
      [0x06n | stream, 0n],
      [0x40n | stream, 0x34n],
    ]);
  });

  it('EIO: not a guest’s, or of a device it has not; those before count', () => {
    const { viommu, hardware } = guest();
    const good = [0x10n, 0n] as const;
    for (const op of [0x00n, 0x01n, 0x03n, 0x04n, 0x20n, 0x28n, 0x2an, 0x41n, 0x44n, 0x46n, 0xffn])
      expect(ask(viommu, [good, [op | (VSID << 32n), 0n], good])).toEqual(['EIO', 1]);
    expect(ask(viommu, [good, good, [0x05n | (SID << 32n), 0n]])).toEqual(['EIO', 2]);
    expect(hardware.smmu!.commands).toEqual([]);
  });

  it('are issued 63 at a time', () => {
    const { viommu, hardware } = guest();
    const many = Array.from({ length: 130 }, () => [0x10n, 0n] as const);
    expect(ask(viommu, [...many, [0x46n, 0n]])).toEqual(['EIO', 130]);
    expect(hardware.smmu!.commands).toHaveLength(126);
    expect(ask(viommu, many)).toEqual(['done', 130]);
    expect(hardware.smmu!.commands).toHaveLength(256);
  });

  it('as the core and the driver read them', () => {
    const { viommu, nested } = guest();
    expect(ask(viommu, [])).toEqual(['EINVAL', 0]);
    expect(ask(viommu, [[0x10n, 0n]], 0)).toEqual(['EINVAL', 0]);
    expect(ask(viommu, [[0x10n, 0n]], undefined, 8)).toEqual(['done', 1]);
    expect(ask(viommu, [[0x10n, 0n]], undefined, 24)).toEqual(['done', 1]);
    expect(ask(viommu, [[0x10n, 1n]], undefined, 24)).toEqual(['E2BIG', 0]);
    expect(ask(nested(BYPASS) as never, [[0x10n, 0n]])).toEqual(['EOPNOTSUPP', 0]);
  });
});

function bind(kernel: ReturnType<typeof guest>['kernel'], iommufd: Iommufd, bdf: string) {
  expect(bdf).not.toBe(BDF);
  bindDriver(kernel, bdf, 'vfio-pci');
  const device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
  return { device, dev_id: device.bindIommufd({ iommufd }) };
}
