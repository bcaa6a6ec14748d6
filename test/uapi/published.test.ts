import { expect, test } from 'vitest';
import { published } from '../../scripts/uapi/publish.mjs';
import * as u from '../../src/uapi/index.ts';

test('uapi.json holds everything, and survives JSON', () => {
  const json = published(u, '7.2');
  expect(JSON.parse(JSON.stringify(json))).toEqual(json);
  expect(json.ioctls.length).toBe(u.ioctls().length);
  expect(json.constants.KVM_REG_X86).toBe(String(u.KVM_REG_X86));
  expect(json.constants.KVM_GET_REGS).toBe(0x8090ae81);
  expect(json.structs.kvm_run?.fields.find(({ name }: { name: string }) => name === 'io')).toMatchObject({
    offset: 32,
    union: 0,
    layout: { size: u.kvm_run.sizeOf('io') },
  });
  expect(json.ioctls.find(({ name }: { name: string }) => name === 'KVM_SET_USER_MEMORY_REGION')).toMatchObject({
    struct: 'kvm_userspace_memory_region',
    pointers: [{ field: 'userspace_addr', length: 'memory_size' }],
  });
  expect(json.arm64.structs.kvm_regs?.size).toBe(864);
  expect(json.teeIo.aneeshV1?.structs.iommu_vdevice_tsm_map?.size).toBe(32);
  expect(json.teeIo.aneeshV1?.series).toEqual(u.teeIo.SERIES.aneeshV1);
});
