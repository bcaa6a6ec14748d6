/** A guest's own tables on an SMMUv3. No machine of the lab has one that takes them: until somebody’s does, what is in `smmuv3-7.2` was read. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, NotHere, type Observer } from '../../case.ts';
import { moves } from '../../edu.ts';
import { attempt, ConfigSpace, mapRegion, withDevices } from '../../vfio.ts';
import { bound } from './iommufd.ts';

const GPA = 0x4000_0000n;
const IOVA = 0x1234_5000n;
const PAGE = 0x1000;
const VSID = 0x77n;
const [CONTEXT, TABLES, DATA] = [0, 1, 8];
const NEST = u.IOMMU_HWPT_ALLOC_NEST_PARENT;

const VALID = 1n;
const [ABORT, BYPASS, STAGE1] = [VALID, VALID | (4n << 1n), VALID | (5n << 1n)];
/** 48 bits of 4 KiB pages, TTB1 off, valid, 48 bits out, VMSAv8-64, faults recorded and aborted. */
const CD = 16n | (1n << 30n) | (1n << 31n) | (5n << 32n) | (1n << 41n) | (1n << 45n) | (1n << 46n);
const LEAF = 3n | (1n << 6n) | (1n << 10n);

/** The device, and a VM's memory under a table that may be a parent; not run where there is none. */
function start(kernel: Kernel, edu: string) {
  const scene = bound(kernel, edu);
  const { iommufd, devid } = scene;
  const ram = kernel.guestRam(0x10_0000);
  const { out } = iommufd.call(u.IOMMU_GET_HW_INFO, u.iommu_hw_info, { dev_id: devid, data_len: 64, data_uptr: ram.address });
  if (out.out_data_type !== u.IOMMU_HW_INFO_TYPE_ARM_SMMUV3) throw new NotHere('the IOMMU is no SMMUv3');
  ram.bytes.fill(0);
  const ioas = iommufd.ioas();
  iommufd.mapAt(ioas, ram.address, GPA, BigInt(ram.length));
  const parent = iommufd.hwpt({ dev_id: devid, pt_id: ioas, flags: NEST });
  const base = { type: u.IOMMU_VIOMMU_TYPE_ARM_SMMUV3, dev_id: devid, hwpt_id: Number(parent) };
  if (typeof parent !== 'number') throw new NotHere('the SMMU has one stage');
  const viommu = iommufd.viommu(base);
  if (typeof viommu !== 'number') throw new NotHere('this kernel has no vIOMMUs of an SMMUv3');
  const data = kernel.guestRam(PAGE);
  const nested = (first: bigint, second = 0n, fields: object = {}) => {
    data.write(0, u.iommu_hwpt_arm_smmuv3.encode({ ste: [first, second] }));
    const more = { data_type: u.IOMMU_HWPT_DATA_ARM_SMMUV3, data_len: 16, data_uptr: data.address, ...fields };
    return iommufd.hwpt({ dev_id: devid, pt_id: viommu, ...more });
  };
  return { ...scene, ram, ioas, parent, viommu, data, nested };
}

function entries(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { iommufd, devid, ioas, parent, viommu, nested } = start(kernel, edu!);
  const ask = (label: string, first: bigint, second = 0n, fields: object = {}): void => {
    const made = nested(first, second, fields);
    see.note(label, typeof made === 'number' ? 'a table' : made);
    if (typeof made === 'number') iommufd.destroy(made);
  };
  for (const flags of [NEST | u.IOMMU_HWPT_ALLOC_PASID, NEST | u.IOMMU_HWPT_ALLOC_DIRTY_TRACKING])
    see.note(`a parent, flags ${flags}`, iommufd.hwpt({ dev_id: devid, pt_id: ioas, flags }));
  ask('with PASID', STAGE1, 0n, { flags: u.IOMMU_HWPT_ALLOC_PASID, data_type: 1 });
  ask('of another type', STAGE1, 0n, { data_type: 1 });
  ask('short', STAGE1, 0n, { data_len: 8 });
  ask('long', STAGE1, 0n, { data_len: 24 });
  ask('on the parent', STAGE1, 0n, { pt_id: parent });
  ask('a reserved bit', STAGE1 | (1n << 52n));
  ask('a bit that is the host’s', STAGE1, 1n << 19n);
  for (let config = 0n; config < 8n; config++) ask(`Config ${config}`, VALID | (config << 1n));
  for (let eats = 0n; eats < 4n; eats++) ask(`EATS ${eats}`, STAGE1, eats << 28n);
  ask('not valid, whatever else', ~VALID & ((1n << 64n) - 1n), (1n << 64n) - 1n);
  see.note('a vIOMMU of an unknown type', iommufd.viommu({ type: 9, dev_id: devid, hwpt_id: parent }));
  see.note('DESTROY of the parent', iommufd.destroy(parent));
  see.note('DESTROY of the vIOMMU', iommufd.destroy(viommu));
}

/** What attaching wants. */
function streams(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { iommufd, devid, viommu, nested, attach } = start(kernel, edu!);
  const tables = { abort: nested(ABORT), bypass: nested(BYPASS), 'stage 1': nested(STAGE1 | GPA), 'not valid': nested(0n) };
  const try_ = (when: string): void => {
    for (const [name, table] of Object.entries(tables)) see.note(`${name}, ${when}`, attach(Number(table)) === table);
  };
  see.note('stage 1, no vDEVICE', attach(Number(tables['stage 1'])));
  try_('without a vDEVICE');
  const vdevice = iommufd.vdevice(viommu, devid, VSID);
  try_('with a vDEVICE');
  see.note('DESTROY of the vDEVICE', iommufd.destroy(Number(vdevice)));
  see.note('stage 1 again', attach(Number(tables['stage 1'])));
}

/** DMA through both stages, and what the guest is told. */
async function translation(kernel: Kernel, see: Observer, [edu]: string[]): Promise<void> {
  const { iommufd, device, devid, ioas, ram, viommu, nested, attach } = start(kernel, edu!);
  iommufd.vdevice(viommu, devid, VSID);
  const { out } = iommufd.call(u.IOMMU_VEVENTQ_ALLOC, u.iommu_veventq_alloc, {
    viommu_id: viommu,
    type: u.IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
    veventq_depth: 16,
  });
  const gpa = (page: number): bigint => GPA + BigInt(page * PAGE);
  const entry = (level: number): number => (TABLES + level) * PAGE + Number((IOVA >> BigInt(12 + 9 * (3 - level))) & 0x1ffn) * 8;
  ram.write64(CONTEXT * PAGE, CD);
  ram.write64(CONTEXT * PAGE + 8, gpa(TABLES));
  for (let level = 0; level < 3; level++) ram.write64(entry(level), gpa(TABLES + level + 1) | 3n);
  const leaf = (value: bigint): void => ram.write64(entry(3), value);
  attach(Number(nested(STAGE1 | GPA)));
  new ConfigSpace(kernel, device).enable();
  const bar = mapRegion(kernel, device, 0);
  const ask = (commands: readonly (readonly [bigint, bigint])[]) => {
    const at = 0x20 * PAGE;
    for (const [i, [first, second]] of commands.entries()) {
      ram.write64(at + i * 16, first);
      ram.write64(at + i * 16 + 8, second);
    }
    const data = { data_type: u.IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3, data_uptr: ram.address + BigInt(at) };
    const fields = { hwpt_id: viommu, entry_len: 16, entry_num: commands.length, ...data };
    const { returned, out: done } = iommufd.call(u.IOMMU_HWPT_INVALIDATE, u.iommu_hwpt_invalidate, fields);
    return { returned, entry_num: done.entry_num };
  };
  const all = (): unknown =>
    ask([
      [0x10n, 0n],
      [0x06n | (VSID << 32n), 0n],
    ]);
  // The fourth word is unknown where it is not the second stage's.
  const events = (): unknown => {
    const bytes = new Uint8Array(4 * 40);
    const count = attempt(() => kernel.read(out.out_veventq_fd, bytes));
    return typeof count === 'number' && count > 0 ? [...new BigUint64Array(bytes.buffer, 8, 3)] : count;
  };
  const moved = async (label: string, value: bigint): Promise<void> => {
    leaf(value);
    see.note(`${label}: invalidated`, all());
    ram.bytes.fill(0xee, DATA * PAGE, (DATA + 1) * PAGE);
    see.note(`${label}: ends`, await moves(bar, IOVA + 0x10n, 16));
    see.note(`${label}: what is written`, [...new Set(ram.read(DATA * PAGE + 0x10, 16))]);
    see.note(`${label}: event`, events());
  };
  await moved('mapped', gpa(DATA) | LEAF);
  await moved('not mapped', 0n);
  await moved('to read', gpa(DATA) | LEAF | (1n << 7n));
  await moved('not accessed', gpa(DATA) | (LEAF & ~(1n << 10n)));
  await moved('nowhere in the VM', 0x7000_0000n | LEAF);
  ram.write64(CONTEXT * PAGE, CD & ~(1n << 31n));
  await moved('no context', gpa(DATA) | LEAF);
  see.note(
    'a command for the host',
    ask([
      [0x10n, 0n],
      [0x04n, 0n],
    ]),
  );
  see.note('of no device', ask([[0x05n | (0x99n << 32n), 0n]]));
  see.note('none', ask([]));
  see.note('DESTROY of the address space', iommufd.destroy(ioas));
}

export const smmuv3Cases: Case[] = [
  withDevices('vfio/smmuv3/entries', 'SMMUv3', ['edu'], entries, { needs: { devices: ['/dev/iommu'], iommu: true } }),
  withDevices('vfio/smmuv3/streams', 'SMMUv3', ['edu'], streams, { needs: { devices: ['/dev/iommu'], iommu: true } }),
  withDevices('vfio/smmuv3/translation', 'SMMUv3', ['edu'], translation, { needs: { devices: ['/dev/iommu'], iommu: true } }),
];
