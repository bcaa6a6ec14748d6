// The objects on the machine that has all of it: a flow for each vendor, door and layout; the TSM's own files.
import { listTsmDevices } from 'kvio';
import { openSim } from 'kvio/sim';
import { describe, expect, it } from 'vitest';
import { thrown } from '../vfio/fake.ts';
import { assigned, BDF } from './kit.ts';

const [UNLOCKED, LOCKED, RUN] = [0, 1, 2];

const layouts = [
  ['type48', {}],
  ['scope40', { tsmReqLayout: 'scope40' }],
  ['op48', { tsmReqLayout: 'op48' }],
  ['op48-june', { tsmReqLayout: 'op48', opNumbering: 'anj' }],
] as const;
const archOf = { sim: 2, cca: 1, sev: 2, tdx: 3 } as const;

describe.each(layouts)('requests as %s', (layout, switches) => {
  it.each(['sim', 'tdx', 'sev', 'cca'] as const)('%s: bound, looked at, running, unbound', (vendor) => {
    const options = { layout, tvm_arch: archOf[vendor], door: vendor === 'tdx' ? ('vfio' as const) : ('iommufd' as const) };
    const { kernel, tdi, context } = assigned({ vendor, ...switches }, options);
    tdi.bind();
    expect(context.tdi.state).toBe(vendor === 'cca' ? UNLOCKED : LOCKED);
    if (vendor === 'cca') tdi.setTdiState(LOCKED!);
    for (const object of [0, 1, 2, 3]) {
      const whole = context.evidence.object(object)!;
      expect(tdi.objectSize(object)).toBe(whole.length);
      expect(tdi.readObject(object, { piece: 7 })).toEqual(whole);
      expect(tdi.readObject(object)).toEqual(whole);
    }
    const nonce = Uint8Array.from({ length: 32 }, (_, i) => i + 1);
    tdi.regenObject('measurements', { nonce });
    expect(Buffer.from(tdi.readObject('measurements')).includes(Buffer.from(nonce))).toBe(true);
    tdi.regenObject('report');
    expect(thrown(() => tdi.objectSize(9))).toMatchObject({ code: 'EINVAL' });
    tdi.setTdiState(RUN!);
    expect(context.tdi.state).toBe(RUN);
    expect(thrown(() => tdi.setTdiState(RUN!))).toMatchObject({ code: 'EINVAL' });
    tdi.unbind();
    expect([context.tdi.state, context.binding]).toEqual([UNLOCKED, undefined]);
    expect(thrown(() => tdi.setTdiState(RUN!))).toMatchObject({ code: 'ENXIO' });
    tdi.unbind();
    kernel.close();
  });
});

it('DMA is accepted by SEV’s operations, and by commands of ours', () => {
  for (const [layout, switches] of layouts) {
    if (layout === 'scope40') continue;
    const { tdi, context } = assigned({ vendor: 'sev', ...switches }, { layout, tvm_arch: 2 });
    tdi.bind();
    tdi.enableDma();
    expect(context.dmaEnabled).toBe(true);
    tdi.disableDma();
    expect(context.dmaEnabled).toBe(false);
  }
});

it('exclusive ranges are an option of the device', () => {
  const { tdi, device } = assigned({});
  const { iommufd } = tdi.vdevice;
  const dev_id = 1;
  expect(iommufd.getExclusiveRanges(dev_id)).toBe(false);
  iommufd.setExclusiveRanges(dev_id, true);
  expect(iommufd.getExclusiveRanges(dev_id)).toBe(true);
  tdi.vdevice.tsmBind();
  expect(thrown(() => device.region(0).read32(0))).toMatchObject({ code: 'EBUSY' });
});

describe('a TSM of the host', () => {
  it('is connected to a device, or not; what is not cannot be bound', () => {
    const { kernel, tdi, context } = assigned({});
    const [tsm, ...more] = listTsmDevices(kernel);
    expect([tsm!.name, more.length, tsm!.isConnected(BDF)]).toEqual(['tsm0', 0, true]);
    tdi.bind();
    tsm!.disconnect(BDF);
    expect([tsm!.isConnected(BDF), context.binding]).toEqual([false, undefined]);
    expect(thrown(() => tdi.bind())).toMatchObject({ code: 'EINVAL' });
    expect(thrown(() => tsm!.disconnect(BDF))).toMatchObject({ code: 'ENXIO' });
    tsm!.connect(BDF);
    expect(thrown(() => tsm!.connect(BDF))).toMatchObject({ code: 'EBUSY' });
    tdi.bind();
    expect(context.tdi.state).toBe(LOCKED);
  });

  it('there is none on a machine without', () => {
    expect(listTsmDevices(openSim({ machine: 'lab-vtd-7.2' }))).toEqual([]);
  });
});
