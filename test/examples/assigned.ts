/** What the examples of an assigned device print, by its group and by its own node: in the lab on real devices, and on a simulated machine that has the same. */
export const assigned: Readonly<Record<string, readonly string[]>> = {
  'edu-driver': [
    'identification 0x10000ed, alive: true',
    '10! is 3628800',
    'interrupt, its bits 0x5a',
    '2048 bytes to the device and back: the same',
    'unmapped, the device reaches nothing',
    'the host is as it was',
  ],
  nvme: [
    "disk 'kvio-lab': 32768 blocks of 512 bytes",
    '512 bytes at block 7: read back as written',
    '8192 bytes at block 100: read back as written',
    '65536 bytes at block 1000: read back as written',
    'block 8 is zeros, as it was',
    'beyond the end: the command failed with status 0x80',
  ],
  'dma-map': [
    'empty: 0x0-0xffffffffffffffff',
    'a place the kernel chose: 0x4000',
    'a place of ours: 0x100000',
    'part of it elsewhere too: 0x7000',
    'where it may be: 0x200000',
    'the device is object 3, its page table object 4',
    'interrupts are at 0xfee00000: reserved',
    'mapping there: EINVAL',
    'moved to the other address space; unmapped of the first: 0x7000',
    'gone with the device: 0x0-0xffffffffffffffff',
  ],
  bind: [
    'viable: true',
    '0000:04:01.0 1234:11e8 (vfio-pci): 2 regions, command 259',
    '0000:04:01.1 1b36:0005 (vfio-pci): 3 regions, command 259',
    '0000:04:01.0: as it was',
    '0000:04:01.1: as it was',
  ],
};
