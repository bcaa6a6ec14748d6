/**
 * What is never called on a real kernel: bugs that hang or corrupt it, and requests that would take from the fuzzer what it lives on. By
 * name as the ioctl table has it, or `0x…` for a request it does not have.
 */
export const excluded: ReadonlyMap<string, string> = new Map([
  ['KVM_SET_SIGNAL_MASK', 'may mask the signal that ends a run: a guest that does not stop could not be stopped'],
  ['0x5421', 'FIONBIO: an eventfd made blocking would wait for ever'],
  ['0x5452', 'FIOASYNC: SIGIO would end the process'],
  ['0xc0045877', 'FIFREEZE: stops the file system the file lies on'],
  ['0xc0045878', 'FITHAW: as FIFREEZE'],
]);

/** Areas: what must not be done there. For those whose steps are still to be written. */
export const trapsOf: Readonly<Record<string, readonly string[]>> = {
  iommufd: ['IOMMU_TEST_OP_MD_CHECK_REFS and what IOMMUFD_TEST adds: a fault injected there leaks objects (trap 18 of iommufd)'],
  vfio: ['mtty: its migration and its interrupts after reset corrupt memory of the kernel'],
};
