import { EACCES, EINVAL } from '../../../uapi/sys.ts';
import type { System } from '../../system.ts';
import type { VfioPciCoreDevice } from './core.ts';

const OPTION = 'vf_token=';
const UUID_LENGTH = 36;
const UUID = /^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$/;

/** The secret that the users of a physical function and of its virtual ones share. */
export interface VfToken {
  uuid: Uint8Array;
  /** Virtual functions that are open. */
  users: number;
}

/** uuid_gen: random, of version 4. */
export function newToken(system: System): VfToken {
  const uuid = new Uint8Array(16);
  for (let i = 0; i < 16; i++) uuid[i] = system.random();
  uuid[6] = (uuid[6]! & 0x0f) | 0x40;
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  return { uuid, users: 0 };
}

/** vfio_pci_core_match: the device's address, and behind a space its options. False: another device; −errno. */
export function matchName(device: VfioPciCoreDevice, text: string): boolean | number {
  if (!text.startsWith(device.name)) return false;
  const rest = text.slice(device.name.length);
  if (rest !== '' && rest[0] !== ' ') return false;
  let token: Uint8Array | undefined;
  for (let at = 0; at < rest.length; ) {
    if (rest[at] === ' ') {
      at++;
      continue;
    }
    if (token !== undefined || !rest.startsWith(OPTION, at)) return -EINVAL;
    const uuid = rest.slice(at + OPTION.length, at + OPTION.length + UUID_LENGTH);
    if (!UUID.test(uuid)) return -EINVAL;
    token = new Uint8Array(Buffer.from(uuid.replaceAll('-', ''), 'hex'));
    at += OPTION.length + UUID_LENGTH;
  }
  const refused = checkToken(device, token);
  return refused < 0 ? refused : true;
}

/** vfio_pci_validate_vf_token: 0 or −errno. The token of a physical function without users is set to what it is opened with. */
export function checkToken({ isVirtualFunction, physical, vfToken }: VfioPciCoreDevice, token: Uint8Array | undefined): number {
  if (isVirtualFunction) {
    if (physical?.vfToken === undefined) return token === undefined ? 0 : -EINVAL;
    return token !== undefined && equal(token, physical.vfToken.uuid) ? 0 : -EACCES;
  }
  if (vfToken === undefined) return token === undefined ? 0 : -EINVAL;
  if (vfToken.users > 0) return token !== undefined && equal(token, vfToken.uuid) ? 0 : -EACCES;
  if (token !== undefined) vfToken.uuid = token;
  return 0;
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
