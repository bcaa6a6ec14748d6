/**
 * What is never called on a real kernel: bugs that hang or corrupt it, and requests that would take from the fuzzer what it lives on. By
 * name as the ioctl table has it, `0x…` for a request it does not have, or what a guest is not to do.
 */
export const excluded: ReadonlyMap<string, string> = new Map([
  ['KVM_SET_SIGNAL_MASK', 'may mask the signal that ends a run: a guest that does not stop could not be stopped'],
  ['guest debugging', 'a KVM_RUN under KVM_SET_GUEST_DEBUG: a step over an IN differs from 6.18, and is still to be mended'],
  ['KVM_GET_NESTED_STATE', 'nested virtualisation is not modelled: the simulator answers as a host without it'],
  ['KVM_SET_NESTED_STATE', 'as KVM_GET_NESTED_STATE'],
  ['KVM_GET_STATS_FD', 'what it counts depends on the host: its cases compare what does not'],
  [
    'request_interrupt_window',
    'where KVM emulates in turns: on a busy host a turn ends early, and with it the wait for the window (6.18)',
  ],
  ['IN from a PIT', 'ports 0x40 to 0x43 and 0x61, where the PIT is in the kernel: its counters run by a clock'],
  ['0x5421', 'FIONBIO: an eventfd made blocking would wait for ever'],
  ['0x5452', 'FIOASYNC: SIGIO would end the process'],
  ['0xc0045877', 'FIFREEZE: stops the file system the file lies on'],
  ['0xc0045878', 'FITHAW: as FIFREEZE'],
  [
    'INT n',
    'of 0x80 and above in emulated real mode: KVM takes the vector as signed, reads below the table, and KVM_RUN never returns (6.18)',
  ],
  [
    'IDT base',
    'at an address without memory: INT n in emulated real mode cannot read its vector, and KVM_RUN never returns (6.18)',
  ],
  ['SGDT, SIDT', 'to an address without memory, in emulated real mode: KVM_RUN never returns (6.18)'],
  [
    'DELIVERY_EV',
    'a KVM_RUN after that exit: in the lab KVM spins over the same event until a signal, even where the memory it lacked is there by then',
  ],
  ['INTR', 'a rerun of RIP beyond 32 bits, and of segments no processor has: on PVM KVM_RUN may go on until a signal'],
]);

/** The same for areas whose steps are still to be written. */
export const trapsOf: Readonly<Record<string, readonly string[]>> = {
  iommufd: [
    'GET_DIRTY_BITMAP of the mock format whose first byte lies in the last item of a dirty multi-item entry: the kernel loops for ever',
    'IOMMU_IOAS_CHANGE_PROCESS of memory mapped under CAP_IPC_LOCK: corrupts the accounting of pinned pages',
  ],
  vfio: ['mtty: BAR2 to BAR5, and config space from 0xff on: the sample driver reads and writes outside its own memory'],
};
