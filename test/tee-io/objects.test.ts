// The objects of confidential device assignment: what they make of structs, and what they say where the kernel has no such request.
import { Iommufd, KernelError, Kvm, type KvmExit, type KvmExitOf, Tdi, Vdevice, VfioDevice } from 'kvio';
import { openSim } from 'kvio/sim';
import * as u from 'kvio/uapi';
import { describe, expect, it } from 'vitest';
import { ExitPage } from '../../src/kvm/exits.ts';
import { documented, methodsOf, undocumented } from '../kernel/methods.ts';
import { fake, thrown } from '../vfio/fake.ts';

const { teeIo } = u;

/** The bytes of a request, as the kernel saw them. */
function seen(request: number, make: (kernel: ReturnType<typeof fake>['kernel']) => void, answered = 0): Uint8Array {
  const { kernel, answer } = fake();
  let bytes = new Uint8Array(0);
  answer(request, (given) => {
    bytes = Uint8Array.from(given);
    return answered;
  });
  make(kernel);
  return bytes;
}

const device = (kernel: ReturnType<typeof fake>['kernel']): VfioDevice =>
  new VfioDevice(kernel, kernel.open('/dev/vfio/devices/vfio0'));

describe('bytes', () => {
  it('of VFIO’s requests', () => {
    const bind = seen(teeIo.xuMay25.VFIO_DEVICE_TSM_BIND, (kernel) => device(kernel).tsmBind({ vdevice: { id: 7 } }));
    expect(teeIo.xuMay25.vfio_pci_tsm_bind.decode(bind)).toMatchObject({ argsz: 16, flags: 0, vdevice_id: 7 });
    const unbind = seen(teeIo.xuMay25.VFIO_DEVICE_TSM_UNBIND, (kernel) => device(kernel).tsmUnbind());
    expect(teeIo.xuMay25.vfio_pci_tsm_unbind.decode(unbind)).toEqual({ argsz: 8, flags: 0 });
    const given = seen(u.VFIO_DEVICE_BIND_IOMMUFD, (kernel) => {
      device(kernel).bindIommufd({ iommufd: kernel.open('/dev/iommu'), private: true });
    });
    expect(teeIo.xuJan25.vfio_device_bind_iommufd.decode(given)).toMatchObject({ argsz: 16, flags: 1 });
  });

  it('of a dma-buf whose ranges have BARs of their own', () => {
    const range = (region_index: number) => ({ region_index, offset: 0n, length: 0x1000n });
    const bytes = seen(
      u.VFIO_DEVICE_FEATURE,
      (kernel) => expect(device(kernel).getDmaBuf({ dma_ranges: [range(0), range(2)] }).size).toBe(0x2000n),
      40,
    );
    const { open_flags, dma_ranges } = teeIo.xuJan25.vfio_device_feature_dma_buf.decode(bytes, 8);
    expect(open_flags).toBe(u.O_RDWR | u.O_CLOEXEC);
    expect(dma_ranges.map(({ region_index }) => region_index)).toEqual([0, 2]);
  });

  it('of iommufd’s operation and mapping', () => {
    const vdevice = (kernel: ReturnType<typeof fake>['kernel'], make: (vdevice: Vdevice) => void): void =>
      make(new Vdevice(Iommufd.open(kernel), 9));
    const op = seen(teeIo.aneeshV5.IOMMU_VDEVICE_TSM_OP, (kernel) => vdevice(kernel, (one) => one.tsmUnbind()));
    expect(teeIo.aneeshV5.iommu_vdevice_tsm_op.decode(op)).toEqual({ size: 16, type: 2, flags: 0, vdevice_id: 9 });
    const map = seen(teeIo.aneeshV1.IOMMU_VDEVICE_TSM_MAP, (kernel) =>
      vdevice(kernel, (one) => one.tsmMap({ start_gpa: 0x1000n, end_gpa: 0x3000n })),
    );
    expect(teeIo.aneeshV1.iommu_vdevice_tsm_map.decode(map)).toMatchObject({ size: 32, start_gpa: 0x1000n, vdevice_id: 9 });
  });

  it('of a vIOMMU: mainline’s 40 without a VM, 48 with one', () => {
    const alloc = (vm?: number): Uint8Array =>
      seen(u.IOMMU_VIOMMU_ALLOC, (kernel) => {
        const own = vm === undefined ? {} : { vm: kernel.eventfd() };
        Iommufd.open(kernel).viommuAlloc({ type: 1, dev_id: 2, hwpt: 3, ...own });
      });
    expect(alloc().length).toBe(40);
    const { size, flags } = teeIo.aneeshV1.iommu_viommu_alloc.decode(alloc(1));
    expect({ size, flags }).toEqual({ size: 48, flags: 1 });
  });
});

describe('a guest’s request', () => {
  const REPORT = Uint8Array.from({ length: 2500 }, (_, i) => i);

  /** A kernel that has one object, in this layout. */
  function teller(layout: 'type48' | 'scope40' | 'op48' | 'op48-june') {
    const { kernel, answer } = fake();
    const asked: Uint8Array[] = [];
    answer(0x3b96, (bytes, view) => {
      const struct = { type48: teeIo.aneeshV1.iommu_vdevice_tsm_guest_request, scope40: teeIo.aneeshV5.iommu_vdevice_tsm_req };
      const { req_len, resp_len, req_uptr, resp_uptr } = (
        struct[layout as 'type48'] ?? teeIo.aneeshV7.iommu_vdevice_tsm_req
      ).decode(bytes) as { req_len: number; resp_len: number; req_uptr: bigint; resp_uptr: bigint };
      const memory = kernel.memoryAt(req_uptr)!;
      const request = memory.read(Number(req_uptr - memory.address), req_len).slice();
      asked.push(request);
      const response = resp_len === 4 ? Uint8Array.from(Uint32Array.of(REPORT.length)) : answerAt(request, resp_len);
      const bytesOut = resp_len === 4 ? new Uint8Array(Uint32Array.of(REPORT.length).buffer) : response;
      if (resp_uptr !== 0n) memory.write(Number(resp_uptr - memory.address), bytesOut);
      if (layout === 'type48') view.setUint32(20, bytesOut.length, true);
      return layout === 'type48' ? 0 : resp_len - bytesOut.length;
    });
    const answerAt = (request: Uint8Array, length: number): Uint8Array => {
      const at = Number(new DataView(request.buffer).getBigUint64(8, true));
      return REPORT.slice(at, at + length);
    };
    const iommufd = Iommufd.open(kernel);
    return { tdi: new Tdi({ device: device(kernel), vdevice: new Vdevice(iommufd, 5), layout }), asked };
  }

  it.each(['type48', 'scope40', 'op48', 'op48-june'] as const)('%s: an object comes in pieces', (layout) => {
    const { tdi, asked } = teller(layout);
    expect(tdi.readObject('report')).toEqual(REPORT);
    expect(asked.length).toBe(4);
  });

  it('is looked at before anything is asked: a name nobody knows is no other object, nor a piece of nothing the whole', () => {
    const { tdi, asked } = teller('op48');
    const made = { device: tdi.device, vdevice: tdi.vdevice };
    const refused: readonly (readonly [() => unknown, RegExp])[] = [
      [() => tdi.readObject('bogus' as never), /object must be one of vca, certificates, measurements, report, not 'bogus'/],
      [() => tdi.objectSize('toString' as never), /object must be one of/],
      [() => tdi.objectSize(-1), /object must be an integer/],
      [() => tdi.readObject('report', { piece: 0 }), /piece must be an integer from 1/],
      [
        () => tdi.regenObject('measurements', { nonce: new Uint8Array(5) }),
        /the length of nonce must be an integer from 32 to 32, not 5/,
      ],
      [() => tdi.regenObject('measurements', { nonce: 'abc' as never }), /nonce must be a Uint8Array/],
      [() => tdi.setTdiState('run' as never), /state must be an integer, not 'run'/],
      [() => new Tdi({ ...made, door: 'kvm' as never }), /door must be one of vfio, iommufd, not 'kvm'/],
      [
        () => new Tdi({ ...made, layout: 'op49' as never }),
        /layout must be one of type48, scope40, op48, op48-june, type48-may25, sev44, not 'op49'/,
      ],
      [() => tdi.vdevice.tsmReq({ op: 1, tvm_arch: 1, request: 'abc' as never }), /request must be a Uint8Array/],
      [() => tdi.vdevice.tsmReq({ scope: 0, request: new Uint8Array(4), response_length: -5 }), /response_length must be/],
      [
        () => tdi.vdevice.tsmGuestRequest({ type: 0, request: new Uint8Array(4), response_length: 1.5 }),
        /response_length must be/,
      ],
    ];
    for (const [call, message] of refused) expect(call).toThrow(message);
    expect(asked).toEqual([]);
  });

  it('that has no kernel says in which series there is one, and what became of the operation', () => {
    const { kernel } = openOff();
    const vdevice = new Vdevice(Iommufd.open(kernel), 5);
    const series = { type48: 'aneeshV1', scope40: 'aneeshV5', op48: 'aneeshV7', 'op48-june': 'aneeshV7' } as const;
    for (const [layout, one] of Object.entries(series)) {
      const tdi = new Tdi({ device: device(fake().kernel), vdevice, layout: layout as 'type48' });
      expect(thrown(() => tdi.setTdiState(2))).toMatchObject({ code: 'ENOTTY', series: one });
    }
  });
});

/** The lab's machine without any of it. */
function openOff() {
  const kernel = openSim({ machine: 'lab-vtd-7.2' });
  const vm = Kvm.open(kernel).createVm(u.KVM_X86_SW_PROTECTED_VM);
  return { kernel, vm, iommufd: Iommufd.open(kernel) };
}

describe('on a kernel without the series', () => {
  const { kernel, vm, iommufd } = openOff();
  const kvmVfio = vm.createDevice(u.KVM_DEV_TYPE_VFIO);
  const vdevice = new Vdevice(iommufd, 1);
  const slot = { slot: 1, guest_phys_addr: 0x10000n, dma_buf: kernel.eventfd(), memory_size: 0x1000n };

  it.each([
    ['IOMMU_VDEVICE_TSM_OP', 'ENOTTY', 'aneeshV5', () => vdevice.tsmBind()],
    ['IOMMU_VDEVICE_TSM_MAP', 'ENOTTY', 'aneeshV1', () => vdevice.tsmMap({ start_gpa: 0n, end_gpa: 0n })],
    [
      'IOMMU_VDEVICE_TSM_GUEST_REQUEST',
      'ENOTTY',
      'aneeshV1',
      () => vdevice.tsmGuestRequest({ type: 0, request: new Uint8Array(4) }),
    ],
    ['IOMMU_OPTION', 'EOPNOTSUPP', 'aneeshV1', () => iommufd.setExclusiveRanges(1, true)],
    ['IOMMU_VIOMMU_ALLOC', 'E2BIG', 'aneeshV2', () => iommufd.viommuAlloc({ type: 1, dev_id: 1, hwpt: 1, vm })],
    ['KVM_SET_USER_MEMORY_REGION2', 'EINVAL', 'xuJan25', () => vm.setUserMemoryRegion2(slot)],
    ['KVM_SET_DEVICE_ATTR', 'ENXIO', 'kvmVfio2013', () => kvmVfio.addGroup(kernel.eventfd())],
    ['KVM_SET_DEVICE_ATTR', 'ENXIO', 'aikV1', () => kvmVfio.tdiBind({ guest_rid: 0x10, devfd: kernel.eventfd() })],
  ] as const)('%s: %s names %s', (request, code, series, call) => {
    const error = thrown(call);
    expect(error).toBeInstanceOf(KernelError);
    expect(error).toMatchObject({ request, code, series });
    expect(error.message).toContain(`“${teeIo.SERIES[series].title}”`);
  });

  it('another errno is told as it is', () => {
    const closed = new Vdevice(Iommufd.open(kernel), 1);
    closed.iommufd.close();
    expect(thrown(() => closed.tsmBind())).toMatchObject({ code: 'EBADF' });
    expect(thrown(() => closed.tsmBind())['series']).toBeUndefined();
  });
});

describe('exits', () => {
  it('40 is VMGEXIT where the VM is known to be none of TDX; 44 is a request of Arm’s', () => {
    const { kernel, vm } = openOff();
    const vcpu = vm.createVcpu(0);
    const exit = (number: number): KvmExit => {
      vcpu.kvm_run.exit_reason = number;
      return new ExitPage(vcpu.kvmRun, false).current();
    };
    vcpu.kvmRun.set(teeIo.aikV2.kvm_user_vmgexit.encode({ type: 4, tio_req: { ...noRequest, guest_rid: 0x18 } }), 32);
    const vmgexit = exit(40) as KvmExitOf<'vmgexit'>;
    expect([vmgexit.reason, vmgexit.type, vmgexit.tio_req.guest_rid]).toEqual(['vmgexit', 4, 0x18]);
    vmgexit.tio_req.ret = 3;
    expect(new DataView(vcpu.kvmRun.buffer, vcpu.kvmRun.byteOffset).getUint32(40, true)).toBe(3);
    const tio = exit(44) as KvmExitOf<'arm64_tio'>;
    tio.response = 22n;
    expect(new DataView(vcpu.kvmRun.buffer, vcpu.kvmRun.byteOffset).getBigUint64(80, true)).toBe(22n);
    expect(new ExitPage(vcpu.kvmRun).current().reason).toBe('arm64_tio');
    vcpu.kvm_run.exit_reason = 40;
    expect(new ExitPage(vcpu.kvmRun).current().reason).toBe('tdx');
    kernel.close();
  });
});

const noRequest = {
  ...{ guest_rid: 0, ret: 0, flags: 0, tdi_status: 0, data_gpa: 0n, data_npages: 0n, req_spa: 0n, rsp_spa: 0n },
  ...{ mmio_gpa: 0n, fw_err: 0 },
};

describe('docstrings', () => {
  const methods = methodsOf('tee-io');

  it('are found for every method of Tdi', () => expect(undocumented(methods, Tdi)).toEqual([]));

  it('name the request first', () => {
    for (const request of ['VFIO_DEVICE_TSM_BIND', 'VFIO_DEVICE_TSM_UNBIND', 'IOMMU_VDEVICE_TSM_REQ'])
      expect(documented(methods, Tdi, request), request).toBeDefined();
  });
});
