/** Capabilities that something simulated asks for. */
export type Capability =
  | 'CAP_CHOWN'
  | 'CAP_DAC_OVERRIDE'
  | 'CAP_DAC_READ_SEARCH'
  | 'CAP_IPC_LOCK'
  | 'CAP_SYS_ADMIN'
  | 'CAP_SYS_RAWIO'
  | 'CAP_SYS_RESOURCE';

/** Who the simulated program is. */
export interface User {
  readonly uid: number;
  readonly gid: number;
  /** Effective capabilities. */
  readonly capabilities: 'all' | readonly Capability[];
}

export const root: User = { uid: 0, gid: 0, capabilities: 'all' };

/** capable(): true where the user has it. */
export function capable({ capabilities }: User, capability: Capability): boolean {
  return capabilities === 'all' || capabilities.includes(capability);
}
