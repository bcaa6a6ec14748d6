import { iommufd } from './iommufd.mjs';
import { kvm } from './kvm.mjs';
import { vfio } from './vfio.mjs';

/**
 * Small faults to put into the simulator, one at a time: each must be found by a conformance case, or by a minute of fuzzing. `file` is what
 * tsc made of one of src/sim, `from` stands there exactly once. Kinds: errno, order, lifetime, off-by-one, state.
 */
export const mutations = [...kvm, ...vfio, ...iommufd];
