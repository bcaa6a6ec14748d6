// What the kernel was given of our memory stays mapped, whatever happens to its handle, until the kernel has let go of it.
import { beforeEach, describe, expect, it } from 'vitest';
import { KernelCore } from '../../src/kernel/core.ts';
import type { Memory } from '../../src/kernel/memory.ts';
import * as u from '../../src/uapi/index.ts';
import { FakeBackend } from './fake-backend.ts';

const PAGE = 0x1000n;
const ALL = (1n << 64n) - 1n;

let backend: FakeBackend;
let kernel: KernelCore;

beforeEach(() => {
  backend = new FakeBackend();
  kernel = new KernelCore(backend, 'a test');
});

const munmaps = (): number => backend.log.filter((line) => line.startsWith('munmap')).length;

/** The kernel's answer to an unmap: how many bytes it took. */
const took = (request: number, lengthAt: number, bytes: bigint): unknown =>
  backend.answers.set(request, (arg) => {
    const struct = arg as Uint8Array;
    new DataView(struct.buffer, struct.byteOffset).setBigUint64(lengthAt, bytes, true);
    return 0;
  });

describe('an IOAS', () => {
  const IOAS = 5;
  let fd: number;
  beforeEach(() => {
    fd = kernel.open('/dev/iommu');
  });

  const map = (memory: Memory, iova: bigint, length: bigint = BigInt(memory.length), ioas_id = IOAS): number =>
    kernel.ioctl(
      fd,
      u.IOMMU_IOAS_MAP,
      u.iommu_ioas_map.encode({ size: 40, flags: 7, ioas_id, __reserved: 0, user_va: memory.address, length, iova }),
    );
  const unmap = (iova: bigint, length: bigint, answer: bigint, ioas_id = IOAS): number => {
    took(u.IOMMU_IOAS_UNMAP, 16, answer);
    return kernel.ioctl(fd, u.IOMMU_IOAS_UNMAP, u.iommu_ioas_unmap.encode({ size: 24, ioas_id, iova, length }));
  };
  /** To the start of another one. */
  const copy = (src_iova: bigint, length: bigint): number =>
    kernel.ioctl(
      fd,
      u.IOMMU_IOAS_COPY,
      u.iommu_ioas_copy.encode({ size: 40, flags: 7, dst_ioas_id: 6, src_ioas_id: IOAS, length, dst_iova: 0n, src_iova }),
    );
  const destroy = (id: number): number => kernel.ioctl(fd, u.IOMMU_DESTROY, u.iommu_destroy.encode({ size: 8, id }));

  it('keeps what is mapped until exactly that is unmapped', () => {
    const ram = kernel.guestRam(8192);
    map(ram, PAGE);
    ram.close();
    unmap(0n, PAGE, 0n);
    expect(munmaps()).toBe(0);
    unmap(PAGE, 2n * PAGE, 2n * PAGE);
    expect(munmaps()).toBe(1);
  });

  it('lets go of all mappings in a range; one that the kernel left there would not be in it whole', () => {
    const [first, second, third] = [kernel.guestRam(4096), kernel.guestRam(4096), kernel.guestRam(8192)];
    map(first, PAGE);
    map(second, 2n * PAGE);
    map(third, 4n * PAGE);
    for (const ram of [first, second, third]) ram.close();
    unmap(0n, 5n * PAGE, 2n * PAGE);
    expect(munmaps()).toBe(2);
    unmap(0n, ALL, 2n * PAGE);
    expect(munmaps()).toBe(3);
  });

  it('a copy keeps its part, in its own address space, after the source went', () => {
    const ram = kernel.guestRam(16384);
    map(ram, 0n);
    copy(0n, PAGE);
    ram.close();
    destroy(IOAS);
    expect(munmaps()).toBe(0);
    unmap(0n, PAGE, PAGE, 6);
    expect(munmaps()).toBe(1);
  });

  it('a copy from the middle, over two mappings', () => {
    const [first, second] = [kernel.guestRam(8192), kernel.guestRam(8192)];
    map(first, 0n);
    map(second, 2n * PAGE);
    copy(PAGE, 2n * PAGE);
    for (const ram of [first, second]) ram.close();
    destroy(IOAS);
    expect(munmaps()).toBe(0);
    unmap(PAGE, PAGE, PAGE, 6);
    expect(munmaps()).toBe(1);
    destroy(6);
    expect(munmaps()).toBe(2);
  });

  it('destroyed lets go of all that is mapped there, and of nothing else', () => {
    const [here, there] = [kernel.guestRam(4096), kernel.guestRam(4096)];
    map(here, 0n);
    map(there, 0n, PAGE, 6);
    for (const ram of [here, there]) ram.close();
    destroy(7);
    expect(munmaps()).toBe(0);
    destroy(IOAS);
    expect(munmaps()).toBe(1);
    kernel.close(fd);
    expect(munmaps()).toBe(2);
  });
});

describe('a type1 container', () => {
  let fd: number;
  beforeEach(() => {
    fd = kernel.open('/dev/vfio/vfio');
  });

  const map = (memory: Memory, iova: bigint): number =>
    kernel.ioctl(
      fd,
      u.VFIO_IOMMU_MAP_DMA,
      u.vfio_iommu_type1_dma_map.encode({ argsz: 32, flags: 3, vaddr: memory.address, iova, size: BigInt(memory.length) }),
    );
  const unmap = (iova: bigint, size: bigint, answer: bigint, flags = 0): number => {
    took(u.VFIO_IOMMU_UNMAP_DMA, 16, answer);
    return kernel.ioctl(
      fd,
      u.VFIO_IOMMU_UNMAP_DMA,
      u.vfio_iommu_type1_dma_unmap.encode({ argsz: 24, flags, iova, size, data: new Uint8Array(0) }),
    );
  };

  it('of an address alone (VADDR) keeps the memory: DMA goes on', () => {
    const ram = kernel.guestRam(4096);
    map(ram, PAGE);
    ram.close();
    unmap(PAGE, PAGE, PAGE, u.VFIO_DMA_UNMAP_FLAG_VADDR);
    unmap(0n, 0n, PAGE, u.VFIO_DMA_UNMAP_FLAG_VADDR | u.VFIO_DMA_UNMAP_FLAG_ALL);
    expect(munmaps()).toBe(0);
    unmap(0n, 0n, PAGE, u.VFIO_DMA_UNMAP_FLAG_ALL);
    expect(munmaps()).toBe(1);
  });

  it('of a range takes the mappings in it; a refused one none', () => {
    const [first, second] = [kernel.guestRam(4096), kernel.guestRam(4096)];
    map(first, 0n);
    map(second, 4n * PAGE);
    for (const ram of [first, second]) ram.close();
    backend.answers.set(u.VFIO_IOMMU_UNMAP_DMA, () => -22);
    expect(
      kernel.tryIoctl(
        fd,
        u.VFIO_IOMMU_UNMAP_DMA,
        u.vfio_iommu_type1_dma_unmap.encode({ argsz: 24, flags: 0, iova: 0n, size: PAGE, data: new Uint8Array(0) }),
      ),
    ).toBe(-22);
    expect(munmaps()).toBe(0);
    unmap(0n, 8n * PAGE, 2n * PAGE);
    expect(munmaps()).toBe(2);
  });
});
