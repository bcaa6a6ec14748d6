import type { Kicker } from '../kernel/backend.ts';
import { typeError } from '../kernel/errors.ts';
import { kickNative } from '../native/index.ts';

/**
 * From any worker: makes the vCPU behind this token (`vcpu.kicker`, posted here) leave its run, or else its next one, once. Needs no
 * kernel of its own. A vCPU that is gone meanwhile is none to kick: nothing happens.
 */
export function kick(kicker: Kicker): void {
  if (typeof kicker !== 'object' || kicker === null || kicker.kvio !== 'kicker')
    throw typeError('kicker must be what vcpu.kicker gave');
  if (kicker.flag === null) {
    kickNative(kicker);
    return;
  }
  Atomics.store(kicker.flag, 0, 1);
  Atomics.notify(kicker.flag, 0);
}
