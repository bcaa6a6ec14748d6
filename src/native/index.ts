import type { Kicker } from '../kernel/backend.ts';
import { KernelCore } from '../kernel/core.ts';
import { KvioError } from '../kernel/errors.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { NativeBackend } from './backend.ts';
import { loadAddon } from './loader.ts';

export type { Addon } from './addon.ts';
export { NativeBackend } from './backend.ts';
export { type Loaded, loadAddon } from './loader.ts';

/** The host's kernel through the addon. `reason`: why this kernel was chosen. Throws where there is no addon. */
export function openNative(reason: string): Kernel {
  const loaded = loadAddon();
  if ('reason' in loaded) throw new KvioError('ERR_KVIO_NO_ADDON', `the native kernel is not there: ${loaded.reason}`);
  return new KernelCore(new NativeBackend(loaded.addon), reason);
}

/** Kicks a vCPU by the token another worker posted: 0, or −ESRCH where its kernel has gone meanwhile. */
export function kickNative(kicker: Kicker): number {
  const loaded = loadAddon();
  return 'reason' in loaded ? -3 : loaded.addon.kickById(kicker.id);
}
