import type { Width } from '../../kernel/memory.ts';

/**
 * Memory of a device as another master or the CPU reaches it (peer-to-peer). `store` answers 0 or −errno. `t`: the request carries the T bit, it comes out of
 * a trusted VM; default: it does not.
 */
export interface DeviceMemory {
  /** Where it begins on the bus; absent: it is no BAR's. */
  readonly address?: bigint;
  load(offset: number, width: Width, t?: boolean): number | bigint;
  store(offset: number, width: Width, value: number | bigint, t?: boolean): number;
}
