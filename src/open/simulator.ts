import { createRequire } from 'node:module';
import type * as Simulator from '../sim/index.ts';

/**
 * The simulator, loaded when it is first opened: it is half of the package, and a program on a real kernel should not pay for it
 * at import. `require` of an ES module is the synchronous way to do that, which Node has since 20.19; it gives the same module
 * that `import 'kvio/sim'` gives.
 */
export const openSim: typeof Simulator.openSim = (options) => {
  const { openSim } = createRequire(import.meta.url)('../sim/index.js') as typeof Simulator;
  return openSim(options);
};
