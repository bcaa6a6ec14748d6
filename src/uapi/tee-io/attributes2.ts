/** RFC: memory attributes with an answer (`SERIES.attributes2`). Known from a secondary source only, which gives the word and with it the size, not the layout. */

/** RFC, 2026, ioctl on a VM: 128 bytes in and out. */
export const KVM_SET_MEMORY_ATTRIBUTES2 = 0xc080aed6;
