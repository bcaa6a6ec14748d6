// The objects where the kernel has an older series than the newest: the bytes of its requests, a flow by each, and what a kernel without them says.
import { Iommufd, Kvm, NotAvailable, Tdi, type TdiOptions, Vdevice, VfioDevice } from 'kvio';
import { openSim, type TeeIo } from 'kvio/sim';
import * as u from 'kvio/uapi';
import { describe, expect, it } from 'vitest';
import { fake, thrown } from '../vfio/fake.ts';
import { assigned, GUEST_RID, withVdevice } from './kit.ts';

const { aikV2, aneeshMay25, xuMay25 } = u.teeIo;
const [UNLOCKED, LOCKED, RUN] = [0, 1, 2] as const;

/** The bytes of a request, as the kernel saw them. */
function seen(request: number, make: (vdevice: Vdevice) => void): Uint8Array {
  const { kernel, answer } = fake();
  let bytes = new Uint8Array(0);
  answer(request, (given) => {
    bytes = Uint8Array.from(given);
    return 0;
  });
  make(new Vdevice(Iommufd.open(kernel), 9, { viommu_id: 7, dev_id: 2 }));
  return bytes;
}

describe('bytes', () => {
  it('of SEV-TIO v2', () => {
    const bind = seen(0x3b93, (vdevice) => vdevice.tsmBind({ series: 'aikV2', vm: vdevice.iommufd.fd }));
    const named = { viommu_id: 7, dev_id: 2, vdevice_id: 9 };
    expect(aikV2.iommu_vdevice_tsm_bind.decode(bind)).toMatchObject({ size: 24, ...named, pad: 0 });
    const asked = seen(0x3b94, (vdevice) => {
      const answer = vdevice.tsmGuestRequest({ series: 'aikV2', request: new Uint8Array(5), response_length: 12 });
      expect(answer).toEqual({ response: new Uint8Array(12), fw_err: 0 });
    });
    expect(asked.length).toBe(44);
    expect(aikV2.iommu_vdevice_tsm_guest_request.decode(asked)).toMatchObject({ size: 44, ...named, req_len: 5, rsp_len: 12 });
  });

  it('of the bind of May 2025, and of the requests of TDISP using TSM', () => {
    const named = { size: 8, vdevice_id: 9 };
    const bind = seen(0x3b94, (vdevice) => vdevice.tsmBind({ series: 'aneeshMay25' }));
    const unbind = seen(0x3b95, (vdevice) => vdevice.tsmUnbind({ series: 'aneeshMay25' }));
    for (const bytes of [bind, unbind]) expect(aneeshMay25.iommu_vdevice_id.decode(bytes)).toEqual(named);
    const asked = seen(0x3b94, (vdevice) => vdevice.tsmGuestRequest({ series: 'xuMay25', type: 0, request: new Uint8Array(5) }));
    expect(xuMay25.iommu_vdevice_tsm_guest_request.decode(asked)).toMatchObject({ size: 48, vdevice_id: 9, req_len: 5 });
  });
});

type Flow = readonly [series: NonNullable<TdiOptions['series']>, switches: Partial<TeeIo>, door: Tdi['door']];

const flows: readonly Flow[] = [
  ['aikV1', { vendor: 'sev', dialects: ['aik-v1'] }, 'kvm-vfio'],
  ['aikV2', { vendor: 'sev', dialects: ['aik-v2'] }, 'iommufd'],
  ['xuMay25', { vendor: 'tdx', dialects: ['xu-may25'] }, 'vfio'],
  ['aneeshMay25', { vendor: 'cca', dialects: ['aneesh-may25'] }, 'iommufd'],
];

it.each(flows)('%s: bound, looked at, running, unbound', (series, switches, door) => {
  const { kernel, vm, kvmVfio, device, vdevice } = withVdevice(switches);
  const tdi = new Tdi({ device, vdevice, series, vm, kvmVfio, guest_rid: GUEST_RID });
  const context = kernel.tdi('0000:01:00.0')!;
  tdi.bind();
  expect([context.tdi.state, tdi.door, context.binding!.door]).toEqual([
    switches.vendor === 'cca' ? UNLOCKED : LOCKED,
    door,
    door,
  ]);
  expect(context.binding!.virtId).toBe(BigInt(GUEST_RID));
  if (switches.vendor === 'cca') tdi.setTdiState(LOCKED);
  for (const object of [0, 1, 2, 3]) expect(tdi.readObject(object, { piece: 100 })).toEqual(context.evidence.object(object));
  if (switches.vendor !== 'cca') tdi.enableDma();
  tdi.setTdiState(RUN);
  expect([context.tdi.state, context.dmaEnabled]).toEqual([RUN, true]);
  if (series === 'aikV2') {
    expect(() => tdi.unbind()).toThrow(NotAvailable);
    vdevice.destroy();
  } else tdi.unbind();
  expect([context.tdi.state, context.binding]).toEqual([UNLOCKED, undefined]);
});

describe('what is asked for is what the series has', () => {
  const { device, vdevice } = withVdevice({});
  const refused: readonly (readonly [Omit<TdiOptions, 'device' | 'vdevice'>, RegExp])[] = [
    [{ series: 'aikV3' as never }, /series must be one of aikV1, aikV2, xuMay25, aneeshMay25, not 'aikV3'/],
    [{ series: 'aikV1' }, /'aikV1' binds by the VM's KVM-VFIO device: kvmVfio/],
    [{ series: 'aikV2' }, /'aikV2' names the VM it binds for: vm/],
    [{ series: 'xuMay25', door: 'iommufd' }, /'xuMay25' binds by vfio, not by iommufd/],
    [{ series: 'xuMay25', layout: 'op48' }, /requests of series 'xuMay25' are type48-may25, not op48/],
  ];

  it.each(refused)('%o', (options, message) => {
    expect(() => new Tdi({ device, vdevice, ...options })).toThrow(message);
  });

  it('of a vDEVICE too', () => {
    expect(() => vdevice.tsmBind({ series: 'aikV1' as never })).toThrow(/series must be one of aneeshV5, aneeshMay25, aikV2/);
    expect(() => vdevice.tsmBind({ series: 'aikV2' })).toThrow(/vm must be the VM/);
    const other = new Vdevice(vdevice.iommufd, vdevice.id);
    expect(() => other.tsmBind({ series: 'aikV2', vm: 3 })).toThrow(/new Vdevice\(iommufd, id, \{ viommu_id, dev_id \}\)/);
    expect(() => vdevice.tsmGuestRequest({ series: 'aneeshV5' as never, type: 0, request: new Uint8Array(4) })).toThrow(
      /series must be one of aneeshV1, xuMay25, aikV2/,
    );
  });

  it('layouts of older series can be chosen alone', () => {
    const { tdi, context } = assigned({ vendor: 'sev', dialects: ['aik-v2'] }, { layout: 'sev44', door: 'iommufd' });
    tdi.bind();
    expect(tdi.readObject('report')).toEqual(context.evidence.object(3));
  });
});

describe('on a kernel without the series, whose numbers are other requests', () => {
  const kernel = openSim({ machine: 'lab-vtd-7.2' });
  const vm = Kvm.open(kernel).createVm(u.KVM_X86_SW_PROTECTED_VM);
  const vdevice = new Vdevice(Iommufd.open(kernel), 9, { viommu_id: 7, dev_id: 2 });
  const request = new Uint8Array(4);

  it.each([
    ['IOMMU_VDEVICE_TSM_BIND', 'aikV2', () => vdevice.tsmBind({ series: 'aikV2', vm })],
    ['IOMMU_VDEVICE_TSM_GUEST_REQUEST', 'aikV2', () => vdevice.tsmGuestRequest({ series: 'aikV2', request })],
    ['IOMMU_VDEVICE_TSM_BIND', 'aneeshMay25', () => vdevice.tsmBind({ series: 'aneeshMay25' })],
    ['IOMMU_VDEVICE_TSM_UNBIND', 'aneeshMay25', () => vdevice.tsmUnbind({ series: 'aneeshMay25' })],
    ['IOMMU_VDEVICE_TSM_GUEST_REQUEST', 'xuMay25', () => vdevice.tsmGuestRequest({ series: 'xuMay25', type: 0, request })],
  ] as const)('%s of %s', (name, series, call) => {
    const error = thrown(call);
    expect(error).toMatchObject({ request: name, series });
    expect(error.message).toContain(`“${u.teeIo.SERIES[series].title}”`);
  });

  it('of a Tdi', () => {
    const device = new VfioDevice(fake().kernel, 3);
    expect(thrown(() => new Tdi({ device, vdevice, series: 'aikV2', vm }).bind())).toMatchObject({ series: 'aikV2' });
    expect(thrown(() => new Tdi({ device, vdevice, series: 'xuMay25' }).setTdiState(RUN))).toMatchObject({ series: 'xuMay25' });
  });
});
