import type { Addon } from './addon.ts';

/**
 * The state buffer (`struct State` in native/kvio.h): fd@0 request@4 arg@8 budget@16 result@24. Shared memory, because that cannot be
 * detached under the addon's feet. One per environment and addon.
 */
export interface State {
  /** [0] fd; [6] the result, or −errno. */
  readonly i32: Int32Array;
  /** [1] request; [2], [3] the halves of arg. */
  readonly u32: Uint32Array;
  /** [1] arg. */
  readonly i64: BigInt64Array;
  /** [2] budget in milliseconds. */
  readonly f64: Float64Array;
}

const states: WeakMap<Addon, State> = new WeakMap();

export function stateOf(addon: Addon): State {
  let state = states.get(addon);
  if (state === undefined) {
    const buffer = new SharedArrayBuffer(64);
    addon.attach(new Uint8Array(buffer));
    state = {
      i32: new Int32Array(buffer),
      u32: new Uint32Array(buffer),
      i64: new BigInt64Array(buffer),
      f64: new Float64Array(buffer),
    };
    states.set(addon, state);
  }
  return state;
}
