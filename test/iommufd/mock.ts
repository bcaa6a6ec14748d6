import { Iommufd } from 'kvio';
import { openSim } from 'kvio/sim';
import { Iommufd as Requests } from '../conformance/iommufd.ts';

/** A simulated test kernel: its iommufd as an object, and as raw requests, among them those that make mock devices. */
export function testKernel() {
  const kernel = openSim({ machine: 'iommufd-selftest' });
  const iommufd = Iommufd.open(kernel);
  const raw = new Requests(kernel, iommufd.fd);
  return { kernel, iommufd, raw, [Symbol.dispose]: () => kernel.close() };
}

export const PAGE = 0x1000n;
/** Inside the mock's aperture. */
export const IOVA = 0x2000000n;
/** IOMMU_HWPT_DATA_SELFTEST, and the types of the mock's vIOMMU and its events. */
export const DATA = 0xdead;
export const VIOMMU = 0xdead_beef;
export const VEVENTS = 0xbeef_beef;

export const words = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
