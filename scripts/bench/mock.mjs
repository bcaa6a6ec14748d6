// Mock devices of a kernel with IOMMU_TEST_CMD, and the widest page table they have.
const TEST_CMD = 0x3ba0;
const OP_MOCK_DOMAIN = 2;
const SELFTEST = 0xdead;

/** IOMMU_TEST_CMD; words are [offset, value] of 64 bits. What came back. */
export function test({ kernel, fd }, op, id, words = []) {
  const view = new DataView(new ArrayBuffer(72));
  for (const [at, value] of [
    [0, view.byteLength],
    [4, op],
    [8, id],
  ])
    view.setUint32(at, value, true);
  for (const [at, value] of words) view.setBigUint64(at, value, true);
  kernel.ioctl(fd, TEST_CMD, new Uint8Array(view.buffer), { unsafe: true });
  return view;
}

/** What it translates: below this. */
export const WIDE = 1n << 38n;

/** A table with entries of 1 MiB and 4 KiB on an address space, for a mock device that is elsewhere: attached, it would get one of 2 GiB first. */
export function wideTable(iommufd, ioas, flags) {
  const elsewhere = iommufd.ioasAlloc();
  const dev_id = test(iommufd, OP_MOCK_DOMAIN, elsewhere.id).getUint32(24, true);
  const data = { type: SELFTEST, bytes: new Uint8Array(Uint32Array.of(0, 1).buffer) };
  return iommufd.hwptAlloc({ dev_id, pt: ioas, flags, data });
}
