// Queues of events: page requests and their answers, a vIOMMU's events, and waiting for either.
import * as u from 'kvio/uapi';
import { expect, it } from 'vitest';
import { op } from '../conformance/iommufd.ts';
import { thrown } from '../vfio/fake.ts';
import { DATA, testKernel, VEVENTS, VIOMMU, words } from './mock.ts';

/** A device on a nested table with a fault queue. */
function faulting(test: ReturnType<typeof testKernel>) {
  const { iommufd, raw } = test;
  const ioas = iommufd.ioasAlloc();
  const mock = raw.mock(ioas.id, 4);
  const parent = iommufd.hwptAlloc({ dev_id: mock.idev, pt: ioas, flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT });
  const fault = iommufd.faultQueueAlloc();
  const table = iommufd.hwptAlloc({ dev_id: mock.idev, pt: parent, fault, data: { type: DATA, bytes: words(1) } });
  raw.replace(mock.stdev, table.id);
  const ask = (grpid: number, pasid = 0): void => {
    const said = [
      [16, mock.idev],
      [20, pasid],
      [24, grpid],
      [28, u.IOMMU_PGFAULT_PERM_READ],
      [32, BigInt(grpid) << 12n],
    ] as const;
    expect(raw.test(op.TRIGGER_IOPF, 0, said).returned).toBe(0);
  };
  const leave = (): unknown => raw.replace(mock.stdev, ioas.id);
  return { mock, fault, table, ask, leave };
}

it('a fault queue gives groups of requests, and takes one answer for each', () => {
  using test = testKernel();
  const { mock, fault, ask } = faulting(test);
  expect(fault.read()).toEqual([]);
  ask(5);
  ask(6, 3);
  const groups = fault.read();
  expect(groups.map(({ cookie, faults }) => [cookie, faults.length])).toEqual([
    [1, 1],
    [2, 1],
  ]);
  expect(groups[0]!.faults[0]).toMatchObject({ dev_id: mock.idev, grpid: 5, addr: 0x5000n, perm: 1, pasid: 0, flags: 2 });
  expect(groups[1]!.faults[0]).toMatchObject({ grpid: 6, pasid: 3, flags: 3 });
  fault.respond(1, u.IOMMUFD_PAGE_RESP_SUCCESS);
  expect(thrown(() => fault.respond(1, u.IOMMUFD_PAGE_RESP_SUCCESS))).toMatchObject({ code: 'EINVAL', syscall: 'write' });
  fault.respond(2, u.IOMMUFD_PAGE_RESP_INVALID);
});

it('hundreds of them are read at once or one after the other', () => {
  using test = testKernel();
  const { fault, ask } = faulting(test);
  for (let grpid = 1; grpid <= 250; grpid++) ask(grpid);
  const cookies: number[] = [];
  for (let groups = fault.read(); groups.length > 0; groups = fault.read()) cookies.push(...groups.map(({ cookie }) => cookie));
  expect(cookies).toEqual(Array.from({ length: 250 }, (_, at) => at + 1));
});

it('requests are waited for; leaving the loop, an abort and close end it', async () => {
  using test = testKernel();
  const { fault, ask } = faulting(test);
  ask(1);
  ask(2);
  const seen: number[] = [];
  for await (const { cookie, faults } of fault) {
    seen.push(faults[0]!.grpid);
    fault.respond(cookie, u.IOMMUFD_PAGE_RESP_SUCCESS);
    if (seen.length === 2) break;
  }
  expect(seen).toEqual([1, 2]);
  const late = fault.events();
  const next = late.next();
  ask(3);
  expect((await next).value).toMatchObject({ cookie: 1 });
  await late.return();
  const abort = new AbortController();
  const waiting = fault.events({ signal: abort.signal }).next();
  abort.abort();
  await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
  const closed = fault.events().next();
  fault.close();
  expect(await closed).toEqual({ done: true, value: undefined });
});

it('a queue goes once no table reports to it, and its descriptor with it', () => {
  using test = testKernel();
  const { fault, table, leave } = faulting(test);
  expect(thrown(() => fault.destroy())).toMatchObject({ code: 'EBUSY' });
  expect(fault.closed).toBe(true);
  expect(thrown(() => fault.read())).toMatchObject({ code: 'EBADF', syscall: 'read' });
  expect(thrown(() => fault.respond(1, 0))).toMatchObject({ code: 'EBADF', syscall: 'write' });
  leave();
  table.destroy();
  fault.destroy();
  expect(thrown(() => test.iommufd.destroy(fault.id))).toMatchObject({ code: 'ENOENT' });
});

it('a vIOMMU’s events have numbers, data of their type, and a mark where some were lost', async () => {
  using test = testKernel();
  const { iommufd, raw } = test;
  const ioas = iommufd.ioasAlloc();
  const mock = raw.mock(ioas.id);
  const parent = iommufd.hwptAlloc({ dev_id: mock.idev, pt: ioas, flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT });
  const viommu = iommufd.viommuAlloc({ type: VIOMMU, dev_id: mock.idev, hwpt: parent });
  const queue = viommu.veventqAlloc({ type: VEVENTS, veventq_depth: 2, dataLength: 4 });
  expect(thrown(() => viommu.veventqAlloc({ type: VEVENTS, veventq_depth: 2, dataLength: 4 }))).toMatchObject({ code: 'EEXIST' });
  viommu.vdeviceAlloc({ dev_id: mock.idev, virt_id: 0x99n });
  const nested = iommufd.hwptAlloc({ dev_id: mock.idev, pt: viommu, data: { type: DATA, bytes: words(1) } });
  raw.replace(mock.stdev, nested.id);
  const trigger = (): unknown => raw.test(op.TRIGGER_VEVENT, 0, [[16, mock.idev]]).returned;
  trigger();
  expect(queue.read()).toEqual([{ flags: 0, sequence: 0, data: words(0x99) }]);
  for (let i = 0; i < 5; i++) trigger();
  expect(queue.read()).toEqual([
    { flags: 0, sequence: 1, data: words(0x99) },
    { flags: 0, sequence: 2, data: words(0x99) },
    { flags: u.IOMMU_VEVENTQ_FLAG_LOST_EVENTS, sequence: 5, data: undefined },
  ]);
  const events = queue.events();
  const next = events.next();
  trigger();
  expect((await next).value).toMatchObject({ sequence: 6 });
  await events.return();
  queue.destroy();
});
