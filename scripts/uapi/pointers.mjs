// 64-bit struct members, classed: those that hold an address in the caller's memory, and those that do not.
export const POINTERS = new Set([]);
