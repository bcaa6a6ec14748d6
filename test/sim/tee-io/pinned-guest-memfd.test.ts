import { expect, test } from 'vitest';
import * as u from '../../../src/uapi/index.ts';
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from '../../../src/uapi/sys.ts';
import { answer, join, Scene, words } from './scene.ts';

const GPA = 0x10_0000n;
const IOVA = 0x4000_0000n;
const PAGES = 4;

/** A guest_memfd of four pages, in a slot and mapped for DMA. */
function mapped(pinnedGuestMemfd = true) {
  const scene = new Scene({ teeIo: { pinnedGuestMemfd } });
  const fd = scene.guest!.memory(1, GPA, PAGES);
  const map = (start: bigint, length: bigint, iova = IOVA): unknown =>
    scene.iommu(u.IOMMU_IOAS_MAP_FILE, join(words(4, 40, 7, scene.ioas, fd), words(8, start, length, iova)));
  const fn = scene.kernel.pci(scene.bdf)!;
  const { fabric } = scene.kernel.process.system.pci;
  fn.config.write(4, 2, 6);
  const dma = (page: number): unknown => {
    const target = fabric.translate(fn, IOVA + BigInt(page * 4096) + 8n, 4, true);
    return target !== undefined && 'page' in target ? target.at % 4096 : undefined;
  };
  const punch = (page: number): unknown =>
    answer(() => scene.kernel.fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, page * 4096, 4096));
  const ready = (): string =>
    Array.from({ length: PAGES }, (_, i) => (scene.guest!.vm.isCommitted(0x100 + i) ? 'x' : '.')).join('');
  return { scene, fd, map, dma, punch, ready };
}

test('a guest_memfd is mapped for DMA, its pages are made and committed', () => {
  const { map, dma, ready } = mapped();
  expect([map(0x1000n, 0x2000n), ready()]).toEqual([0, '.xx.']);
  expect([dma(0), dma(1), dma(2)]).toEqual([8, 8, undefined]);
});

test('the device and the guest have the same page', () => {
  const { scene, map } = mapped();
  map(0n, 0x1000n);
  const fn = scene.kernel.pci(scene.bdf)!;
  const target = scene.kernel.process.system.pci.fabric.translate(fn, IOVA, 4, true);
  if (target === undefined || !('page' in target)) throw new Error('not translated');
  target.page.u8[target.at] = 0x5a;
  const page = scene.guest!.vm.privatePage(0x100, false)!;
  expect(page.u8[page.offset]).toBe(0x5a);
});

test('a punched hole is gone for the device, until it is mapped anew', () => {
  const { scene, map, dma, punch, ready } = mapped();
  map(0n, 0x4000n);
  expect([punch(1), dma(0), dma(1), dma(2), ready()]).toEqual([0, 8, undefined, 8, 'x.xx']);
  // The guest has it again; the device has not.
  expect([scene.guest!.vm.commit(0x101), dma(1)]).toEqual([0, undefined]);
  scene.iommu(u.IOMMU_IOAS_UNMAP, join(words(4, 24, scene.ioas), words(8, IOVA, 0x4000n)));
  expect([map(0n, 0x4000n), dma(1)]).toEqual([0, 8]);
});

test("what is private to the guest, or in no slot of it, is not reached by the host's tables", () => {
  const { scene, map, dma } = mapped();
  const { guest, kernel } = scene;
  map(0n, 0x4000n);
  const attributes = (value: bigint): number =>
    kernel.ioctl(
      guest!.fd,
      u.KVM_SET_MEMORY_ATTRIBUTES,
      u.kvm_memory_attributes.encode({ address: GPA + 0x1000n, size: 0x2000n, attributes: value, flags: 0n }),
    );
  attributes(u.KVM_MEMORY_ATTRIBUTE_PRIVATE);
  expect([0, 1, 2, 3].map(dma)).toEqual([8, undefined, undefined, 8]);
  attributes(0n);
  expect([0, 1, 2, 3].map(dma)).toEqual([8, 8, 8, 8]);
  const region = u.kvm_userspace_memory_region2.alloc();
  u.kvm_userspace_memory_region2.view(region).slot = 1;
  kernel.ioctl(guest!.fd, u.KVM_SET_USER_MEMORY_REGION2, region);
  expect(dma(0)).toBeUndefined();
});

test('the range must be in the file; the CPU gets nothing; the mapping holds the file', () => {
  const { scene, fd, map, dma } = mapped();
  expect([map(0x3000n, 0x2000n), map(0x4000n, 0x1000n)]).toEqual(['EINVAL', 'EINVAL']);
  expect(map(0n, 0x1000n)).toBe(0);
  scene.kernel.close(fd);
  expect(dma(0)).toBe(8);
});

test('without the switch it is no file that can be pinned', () => {
  const { map } = mapped(false);
  expect(map(0n, 0x1000n)).toBe('EINVAL');
});
