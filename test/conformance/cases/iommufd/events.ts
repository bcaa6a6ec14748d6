/** Descriptors events come by: page requests and their answers, events of a vIOMMU. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { attempt, buffer, Iommufd, MOCK, op } from '../../iommufd.ts';

const DATA = 0xdead;
const VIOMMU = 0xdead_beef;
const VEVENTQ = 0xbeef_beef;
const { IOMMU_HWPT_ALLOC_NEST_PARENT: NEST, IOMMU_HWPT_FAULT_ID_VALID: FAULT, IOMMU_HWPT_ALLOC_PASID: PASID } = u;

const readFrom =
  (kernel: Kernel, fd: number) =>
  (length: number): unknown => {
    const bytes = new Uint8Array(length);
    const count = attempt(() => kernel.read(fd, bytes));
    return typeof count === 'number' ? bytes.slice(0, count) : count;
  };

function faultQueueAlloc(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  see.note('flags', iommufd.call(u.IOMMU_FAULT_QUEUE_ALLOC, u.iommu_fault_alloc, { flags: 1 }).returned);
  const { id, fd } = iommufd.faultQueue();
  see.note('id', id);
  see.note('close-on-exec', kernel.fcntl(fd, u.F_GETFD));
  see.note('status flags', kernel.fcntl(fd, u.F_GETFL) & ~u.O_LARGEFILE);
  see.note('DESTROY while it is open', iommufd.destroy(id));
  const read = readFrom(kernel, fd);
  see.note('read of nothing', [read(40), read(80), read(0), read(41), read(39)]);
  see.note('poll', kernel.poll([{ fd, events: 0x7fff }]));
  see.note(
    'write',
    [0, 1, 8, 12].map((length) => attempt(() => kernel.write(fd, new Uint8Array(length)))),
  );
  see.note(
    'pread',
    attempt(() => kernel.pread(fd, new Uint8Array(40), 0)),
  );
  see.note(
    'pwrite',
    attempt(() => kernel.pwrite(fd, new Uint8Array(8), 0)),
  );
  see.note(
    'ioctl',
    attempt(() => kernel.ioctl(fd, u.IOMMU_DESTROY, new Uint8Array(8))),
  );
  kernel.close(fd);
  see.note('DESTROY', iommufd.destroy(id));
}

function pageRequests(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const ram = buffer(kernel);
  const mock = iommufd.mock(ioas, 4);
  const parent = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas, flags: NEST });
  const { id, fd } = iommufd.faultQueue();
  const read = readFrom(kernel, fd);
  const respond = (...records: number[]) => attempt(() => kernel.write(fd, new Uint8Array(Uint32Array.from(records).buffer)));
  const ask = (grpid: number, pasid = 0, addr = 0xabcd000n, perm = 1, device = mock.idev) =>
    iommufd.test(op.TRIGGER_IOPF, 0, [
      [16, device],
      [20, pasid],
      [24, grpid],
      [28, perm],
      [32, addr],
    ]).returned;
  see.note('of no device', ask(1, 0, 0n, 0, 99));
  see.note('nobody to answer', ask(1));
  see.note('nothing to read', read(40));
  const data = { data_type: DATA, data_len: 4, data_uptr: ram.address };
  const table = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: parent, flags: FAULT, fault_id: id, ...data });
  const mute = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: parent, ...data });
  see.note('attached', iommufd.replace(mock.stdev, table) === table);
  see.note('a request', ask(1));
  see.note('poll', kernel.poll([{ fd, events: 0x7fff }]));
  see.note('too small', [read(0), read(39)]);
  see.note('the record', read(40));
  see.note('poll then', kernel.poll([{ fd, events: 0x7fff }]));
  see.note('unknown cookie', respond(2, 0));
  see.note('unknown code', respond(1, 2));
  see.note('answered', respond(1, 0));
  see.note('twice', respond(1, 0));
  see.note('three more', [ask(5), ask(6, 0, 0n, 15), ask(7, 3)]);
  see.note('two of them', read(80));
  see.note('the third, which has a PASID', read(400));
  see.note('answers, one of them wrong', respond(1, 0, 9, 0, 2, 0));
  see.note('the lowest cookie is free again', [ask(8), read(40)]);
  see.note('another PASID', ask(9, 77));
  see.note('attached elsewhere', iommufd.replace(mock.stdev, mute) === mute);
  see.note('what was not read is gone', read(80));
  see.note('and what was not answered', respond(2, 0));
  see.note('nobody hears', [ask(10), read(40)]);
  see.note('DESTROY of the queue', iommufd.destroy(id));
  kernel.close(fd);
  see.note('closed, with a table that uses it', iommufd.destroy(id));
  see.note('without', [iommufd.destroy(table), iommufd.destroy(id)]);
}

/** Without a descriptor left nothing is made. */
function noDescriptor(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  let last = -1;
  for (let more = true; more; ) {
    try {
      last = kernel.dup(iommufd.fd);
    } catch {
      more = false;
    }
  }
  see.note('FAULT_QUEUE_ALLOC', iommufd.call(u.IOMMU_FAULT_QUEUE_ALLOC, u.iommu_fault_alloc, {}).returned);
  see.note('the next id', iommufd.ioas());
  see.note('CREATE_ACCESS', iommufd.test(op.CREATE_ACCESS, ioas, [[20, 1]]).returned);
  see.note('the next id then', iommufd.ioas());
  kernel.close(last);
  see.note('with one left', iommufd.call(u.IOMMU_FAULT_QUEUE_ALLOC, u.iommu_fault_alloc, {}).returned);
}

/** A request of a PASID goes to the PASID's table; where that has no queue, to nobody. */
function pageRequestsOfPasids(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const mock = iommufd.mock(ioas, 4);
  const { id, fd } = iommufd.faultQueue();
  const read = readFrom(kernel, fd);
  const ask = (grpid: number, pasid: number) =>
    iommufd.test(op.TRIGGER_IOPF, 0, [
      [16, mock.idev],
      [20, pasid],
      [24, grpid],
      [28, 2],
      [32, 0x1000n],
    ]).returned;
  const heard = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas, flags: FAULT | PASID, fault_id: id });
  const plain = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas, flags: PASID });
  see.note('the device has no queue', iommufd.replace(mock.stdev, plain) === plain);
  see.note(
    'its PASID 5 has',
    iommufd.test(op.PASID_ATTACH, mock.stdev, [
      [16, 5],
      [20, heard],
    ]).returned,
  );
  see.note('requests', [ask(1, 5), ask(2, 0), ask(3, 6)]);
  see.note('what is heard', read(400));
  see.note('detached', iommufd.test(op.PASID_DETACH, mock.stdev, [[16, 5]]).returned);
  see.note(
    'an answer that comes too late',
    attempt(() => kernel.write(fd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0))),
  );
  see.note('the device on a table with a queue', iommufd.replace(mock.stdev, heard) === heard);
  see.note('requests then', [ask(4, 0), ask(5, 9)]);
  see.note('what is heard then', read(400));
}

/** Page requests of a device on a table made through a vIOMMU. */
function pageRequestsOfViommus(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const ram = buffer(kernel);
  const mock = iommufd.mock(ioas);
  const parent = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas, flags: NEST });
  const viommu = Number(iommufd.viommu({ type: VIOMMU, dev_id: mock.idev, hwpt_id: parent }));
  const { id, fd } = iommufd.faultQueue();
  const base = { dev_id: mock.idev, pt_id: viommu, data_type: DATA, data_len: 4, data_uptr: ram.address };
  see.note('no such queue', iommufd.hwpt({ ...base, flags: FAULT, fault_id: 99 }));
  see.note('an unknown flag', iommufd.hwpt({ ...base, flags: (FAULT | 0x8000_0000) >>> 0, fault_id: id }));
  const table = iommufd.mustHwpt({ ...base, flags: FAULT, fault_id: id });
  see.note('attached without a vDEVICE', iommufd.replace(mock.stdev, table));
  see.note('vDEVICE', iommufd.vdevice(viommu, mock.idev, 5n));
  see.note('attached', iommufd.replace(mock.stdev, table) === table);
  const words = [
    [16, mock.idev],
    [20, 0],
    [24, 1],
    [28, 1],
    [32, 0xabcd000n],
  ] as const;
  see.note('a request', iommufd.test(op.TRIGGER_IOPF, 0, words).returned);
  see.note('is read', readFrom(kernel, fd)(40));
  see.note(
    'and answered',
    attempt(() => kernel.write(fd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0))),
  );
  see.note('the device goes', [typeof iommufd.replace(mock.stdev, ioas), iommufd.destroy(table)]);
  kernel.close(fd);
  see.note('the queue', iommufd.destroy(id));
}

function veventq(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const ram = buffer(kernel);
  const mock = iommufd.mock(ioas);
  const parent = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas, flags: NEST });
  const viommu = Number(iommufd.viommu({ type: VIOMMU, dev_id: mock.idev, hwpt_id: parent }));
  const alloc = (fields: object) => {
    const base = { viommu_id: viommu, type: VEVENTQ, veventq_depth: 2 };
    return iommufd.call(u.IOMMU_VEVENTQ_ALLOC, u.iommu_veventq_alloc, { ...base, ...fields });
  };
  for (const [label, fields] of Object.entries({
    'unknown flag': { flags: 1, veventq_depth: 0 },
    reserved: { __reserved: 1, veventq_depth: 0 },
    'type 0': { type: 0, veventq_depth: 0 },
    'depth 0': { veventq_depth: 0, viommu_id: 99 },
    'too deep': { veventq_depth: 524289, viommu_id: 99 },
    'no vIOMMU': { viommu_id: 99 },
    'a parent for a vIOMMU': { viommu_id: parent },
  }))
    see.note(label, alloc(fields).returned);
  const { returned, out } = alloc({});
  see.note('ALLOC', { returned, id: out.out_veventq_id });
  see.note('of the same type', alloc({}).returned);
  see.note('of a type that never comes', alloc({ type: 77, veventq_depth: 524288 }).returned);
  const fd = out.out_veventq_fd;
  const read = readFrom(kernel, fd);
  see.note('DESTROY while it is open', iommufd.destroy(out.out_veventq_id));
  see.note('DESTROY of the vIOMMU', iommufd.destroy(viommu));
  see.note('read of nothing', [read(0), read(7), read(8), read(64)]);
  see.note(
    'write',
    [0, 8].map((length) => attempt(() => kernel.write(fd, new Uint8Array(length)))),
  );
  see.note('poll', kernel.poll([{ fd, events: 0x7fff }]));
  const trigger = (device = mock.idev) => iommufd.test(op.TRIGGER_VEVENT, 0, [[16, device]]).returned;
  see.note('of no device', trigger(99));
  see.note('of a device that has no vIOMMU', trigger());
  const vdevice = iommufd.vdevice(viommu, mock.idev, 0x99n);
  see.note('vDEVICE', vdevice);
  const data = { data_type: DATA, data_len: 4, data_uptr: ram.address };
  const nested = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: viommu, ...data });
  see.note('attached', iommufd.replace(mock.stdev, nested) === nested);
  see.note('an event', trigger());
  see.note('poll then', kernel.poll([{ fd, events: 0x7fff }]));
  see.note('too small', [read(8), read(11)]);
  see.note('the record', read(64));
  see.note('five', [trigger(), trigger(), trigger(), trigger(), trigger()]);
  see.note('two of them, and a marker', read(64));
  see.note('four', [trigger(), trigger(), trigger(), trigger()]);
  see.note('one is read', read(12));
  see.note('one more comes', trigger());
  see.note('the marker is gone', read(64));
  see.note('nothing left', read(64));
  kernel.close(fd);
  see.note('DESTROY', iommufd.destroy(out.out_veventq_id));
  see.note('nobody listens', trigger());
}

export const eventCases: Case[] = [
  define('iommufd/events/no-descriptor', 'IOMMU_FAULT_QUEUE_ALLOC', noDescriptor, { needs: { ...MOCK, nofile: 4096 } }),
  define('iommufd/events/fault-queue', 'IOMMU_FAULT_QUEUE_ALLOC', faultQueueAlloc, { needs: MOCK }),
  define('iommufd/events/page-requests', 'IOMMU_FAULT_QUEUE_ALLOC', pageRequests, { needs: MOCK }),
  define('iommufd/events/page-requests-of-pasids', 'IOMMU_FAULT_QUEUE_ALLOC', pageRequestsOfPasids, { needs: MOCK }),
  define('iommufd/events/page-requests-of-viommus', 'IOMMU_VIOMMU_ALLOC', pageRequestsOfViommus, { needs: MOCK }),
  define('iommufd/events/veventq', 'IOMMU_VEVENTQ_ALLOC', veventq, { needs: MOCK }),
];
