import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Addon } from './addon.ts';

export type Loaded = { readonly addon: Addon; readonly path: string } | { readonly reason: string };

let loaded: Loaded | undefined;

/**
 * The addon, or why there is none. Never throws; looks once. Prebuilt binaries of the package come first, then what node-gyp
 * built in a checkout. The environment variable KVIO_ADDON names a file instead, or says `none`.
 */
export function loadAddon(): Loaded {
  loaded ??= load(process.env['KVIO_ADDON']);
  return loaded;
}

function load(wanted: string | undefined): Loaded {
  if (wanted === '' || wanted === 'none') return { reason: 'the addon was switched off (KVIO_ADDON)' };
  if (process.platform !== 'linux') return { reason: `the addon exists for linux, this is ${process.platform}` };
  const candidates = wanted === undefined ? builtFiles() : [wanted];
  const path = candidates.find((file) => existsSync(file));
  if (path === undefined) {
    return {
      reason:
        wanted === undefined
          ? `the addon was not built for ${process.platform}-${process.arch} (no ${candidates.join(', no ')})`
          : `KVIO_ADDON names ${wanted}, which does not exist`,
    };
  }
  try {
    // Not require(): that would run a file of another name as JavaScript.
    const module = { exports: {} };
    process.dlopen(module, path);
    return { addon: module.exports as Addon, path };
  } catch (error) {
    return { reason: why(path, error) };
  }
}

/** src/native and dist/native lie equally deep. */
function builtFiles(): string[] {
  const root = (relative: string): string => fileURLToPath(new URL(`../../${relative}`, import.meta.url));
  return [root(`prebuilds/${process.platform}-${process.arch}/kvio.node`), root('build/Release/kvio.node')];
}

function why(path: string, error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ERR_DLOPEN_DISABLED')
    return 'this process may not load addons (ERR_DLOPEN_DISABLED: --no-addons, or the permission model)';
  return `the addon ${path} could not be loaded (${code ?? 'error'}: ${message})`;
}
