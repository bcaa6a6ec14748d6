/** Confidential device assignment as posted series have it. Off, every number of theirs is answered as mainline answers it. */
import { rangeError } from '../../../kernel/errors.ts';

/** RFC. What a simulated kernel has of the series, and which of their meanings where they disagree. */
export interface TeeIo {
  /** Whose TSM is in the machine: its ordering rules, its vetoes, what a violation does. 'sim': of no vendor, without vetoes. */
  readonly vendor: 'sim' | 'tdx' | 'sev' | 'cca';
  /** BIND ends in CONFIG_LOCKED. Default: but for 'cca', where locking is the guest's business. */
  readonly bindLocks: boolean;
  /** The struct of request 0x96: 48 bytes by type (ARM CCA v1), 40 by scope (iommufd: TSM v5), 48 by operation (its thread, and v7). */
  readonly tsmReqLayout: 'type48' | 'scope40' | 'op48';
  /** How 'op48' numbers its operations: as v7, or as the mail of June 2026. */
  readonly opNumbering: 'v7' | 'anj';
  /** Errors of IOMMU_VDEVICE_TSM_OP: passed through (v5), or ENODEV all of them (v1). */
  readonly tsmOpErrno: 'v5' | 'v1';
  /** Resets and the like of a bound device: unbind it first, refuse them, or let them happen (the TDI goes to ERROR). */
  readonly whileBound: 'auto-unbind' | 'block' | 'error';
  /** An access without T to memory of a TDI that is not CONFIG_UNLOCKED: rejected, and the TDI goes to ERROR or stays. */
  readonly hostMmio: 'error' | 'reject';
  /** IOMMU_DESTROY of a bound vdevice: unbinds ('an'), or EBUSY ('xm'). */
  readonly bindRefPolicy: 'an' | 'xm';
  /** The payload of VFIO_DEVICE_FEATURE_DMA_BUF. */
  readonly dmaBufLayout: 'mainline' | 'rfc';
  /** Whose dma-buf a memslot takes: anybody's, a private VFIO device's that belongs to the VM ('xj'), a device's that belongs to the VM ('xm'). */
  readonly dmabufOwner: 's0' | 'xj' | 'xm';
  /** Attributes of the KVM-VFIO device: 0 has the meaning of 2013 and 1 to 3 mainline's, or one of both only. */
  readonly kvmVfioDialect: 'both' | 'mainline' | '2013';
  /** Numbers of the capabilities of guest_memfd: mainline's, or those of v13, one lower. */
  readonly capNumbering: 'mainline' | 'v13';
  /** Older series whose numbers displace mainline's. */
  readonly dialects: readonly TeeIoDialect[];
  /** 0x95 is IOMMU_IOAS_NOIOMMU_GET_PA: TSM_OP moves to 0x96, the request to 0x97, TSM_MAP is gone. */
  readonly noiommuGetPa: boolean;
  /** A guest_memfd may be mapped for DMA as a whole, and unmapped where a hole is punched: discussed, never posted. */
  readonly pinnedGuestMemfd: boolean;
}

export type TeeIoDialect = 'aik-v1' | 'aik-v2' | 'xu-may25' | 'aneesh-may25';

/** 'off', the recommended profile of the series, or that profile with switches of one's own. */
export type TeeIoOption = 'off' | 'rfc' | Partial<TeeIo>;

const CHOICES: { readonly [K in keyof TeeIo]: readonly TeeIo[K][] | undefined } = {
  vendor: ['sim', 'tdx', 'sev', 'cca'],
  bindLocks: [true, false],
  tsmReqLayout: ['type48', 'scope40', 'op48'],
  opNumbering: ['v7', 'anj'],
  tsmOpErrno: ['v5', 'v1'],
  whileBound: ['auto-unbind', 'block', 'error'],
  hostMmio: ['error', 'reject'],
  bindRefPolicy: ['an', 'xm'],
  dmaBufLayout: ['mainline', 'rfc'],
  dmabufOwner: ['s0', 'xj', 'xm'],
  kvmVfioDialect: ['both', 'mainline', '2013'],
  capNumbering: ['mainline', 'v13'],
  dialects: undefined,
  noiommuGetPa: [false, true],
  pinnedGuestMemfd: [false, true],
};

const DIALECTS: readonly TeeIoDialect[] = ['aik-v1', 'aik-v2', 'xu-may25', 'aneesh-may25'];

/** Requests of iommufd that a switch gives another meaning. */
const CLAIMS: Readonly<Record<TeeIoDialect | 'noiommuGetPa', readonly number[]>> = {
  'aik-v1': [],
  'aik-v2': [0x93, 0x94],
  'xu-may25': [0x94],
  'aneesh-may25': [0x94, 0x95],
  noiommuGetPa: [0x95],
};

/** One number has one meaning. */
function checkClaims({ dialects, noiommuGetPa }: TeeIo): void {
  const claimed = new Map<number, string>();
  for (const one of [...dialects, ...(noiommuGetPa ? (['noiommuGetPa'] as const) : [])]) {
    for (const number of CLAIMS[one]) {
      const other = claimed.get(number);
      if (other !== undefined)
        throw rangeError(`teeIo: '${other}' and '${one}' both want request 0x${number.toString(16)} of iommufd`);
      claimed.set(number, one);
    }
  }
}

/** The switches in full; undefined: off. Throws a RangeError that names the switch, the value and what there is to choose from. */
export function teeIoOf(option: TeeIoOption | undefined): TeeIo | undefined {
  if (option === undefined || option === 'off') return undefined;
  const given: Partial<TeeIo> = option === 'rfc' ? {} : option;
  if (typeof given !== 'object' || given === null)
    throw rangeError(`teeIo must be 'off', 'rfc' or an object of switches, not '${String(option)}'`);
  for (const [name, value] of Object.entries(given)) {
    const choices: readonly unknown[] | undefined = CHOICES[name as keyof TeeIo];
    if (!Object.hasOwn(CHOICES, name))
      throw rangeError(`teeIo has no switch '${name}': there are ${Object.keys(CHOICES).join(', ')}`);
    if (choices !== undefined && !choices.includes(value))
      throw rangeError(`teeIo.${name} must be one of ${choices.join(', ')}, not ${String(value)}`);
  }
  const { dialects = [] } = given;
  if (!Array.isArray(dialects))
    throw rangeError(`teeIo.dialects must be an array of ${DIALECTS.join(', ')}, not ${String(dialects)}`);
  if (new Set(dialects).size < dialects.length) throw rangeError(`teeIo.dialects has one twice: ${dialects.join(', ')}`);
  for (const dialect of dialects)
    if (!DIALECTS.includes(dialect)) throw rangeError(`teeIo.dialects takes ${DIALECTS.join(', ')}, not '${String(dialect)}'`);
  const switches: TeeIo = {
    vendor: 'sim',
    bindLocks: given.vendor !== 'cca',
    tsmReqLayout: 'type48',
    opNumbering: 'v7',
    tsmOpErrno: 'v5',
    whileBound: 'auto-unbind',
    hostMmio: 'error',
    bindRefPolicy: 'an',
    dmaBufLayout: 'mainline',
    dmabufOwner: 's0',
    kvmVfioDialect: 'both',
    capNumbering: 'mainline',
    dialects: [],
    noiommuGetPa: false,
    pinnedGuestMemfd: false,
    ...given,
  };
  checkClaims(switches);
  return switches;
}
