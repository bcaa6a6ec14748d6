import { loadFfi, openFfi } from './ffi/index.ts';
import type { KernelKind } from './kernel/backend.ts';
import { KvioError, rangeError, typeError } from './kernel/errors.ts';
import type { Kernel } from './kernel/kernel.ts';
import { loadAddon, openNative } from './native/index.ts';
import { deviceTrouble } from './open/devices.ts';
import { openSim } from './open/simulator.ts';
import type { SimOptions } from './sim/index.ts';

/** Which kernel to open. What else is given goes to the simulator, if it is the simulator (`machine` …). */
export interface OpenOptions extends Omit<SimOptions, 'reason'> {
  /** Decides, whatever `KVIO_KERNEL` says; an error where it is not there. */
  kernel?: KernelKind;
  /** Devices that must come from this kernel, all of them: default `['/dev/kvm']`. */
  devices?: readonly string[];
}

/** A kernel that could be opened here, or why it cannot. */
export interface KernelFound {
  readonly kind: KernelKind;
  readonly available: boolean;
  /** Why it is available, or what is in the way and what to do about it. */
  readonly reason: string;
}

const kinds: readonly KernelKind[] = ['native', 'ffi', 'sim'];
const defaultDevices: readonly string[] = ['/dev/kvm'];

let warned = false;

/**
 * Opens the kernel that answers: this host's where all of `devices` can be opened (through the addon, or through ffi-rs where only
 * the addon is missing), otherwise the simulator, with one `process.emitWarning` (code `KVIO_SIMULATED`) that says why. Real and
 * simulated devices are never mixed.
 *
 * `options.kernel`, then the environment's `KVIO_KERNEL` (`native`, `ffi`, `sim`), decide otherwise, without a warning; then a
 * kernel that is not there throws KvioError `ERR_KVIO_NO_KERNEL`, whose message says what to do.
 */
export function openKernel(options: OpenOptions = {}): Kernel {
  const { kernel, devices = defaultDevices, ...simOptions } = options;
  const asked = askedKernel(kernel);
  const found = findKernels(devices);
  if (asked !== undefined) {
    const { available, reason } = found.find(({ kind }) => kind === asked.kind)!;
    if (!available)
      throw new KvioError('ERR_KVIO_NO_KERNEL', `the ${asked.kind} kernel (${asked.by}) is not available: ${reason}`);
    return open(asked.kind, `asked for by ${asked.by}`, simOptions);
  }
  const [native, ffi] = found as [KernelFound, KernelFound];
  if (native.available) return open('native', native.reason, simOptions);
  if (ffi.available) return open('ffi', `${ffi.reason}; not the addon: ${native.reason}`, simOptions);
  if (!warned) {
    warned = true;
    process.emitWarning(`no real kernel, so a simulated one answers: ${native.reason}`, {
      type: 'KvioWarning',
      code: 'KVIO_SIMULATED',
    });
  }
  return open('sim', `no real kernel: ${native.reason}`, simOptions);
}

/** All kernels, in the order of preference, each with its reason. Opens none. */
export function findKernels(devices: readonly string[] = defaultDevices): KernelFound[] {
  if (!Array.isArray(devices) || !devices.every((path) => typeof path === 'string')) {
    throw typeError('devices must be an array of paths, such as ["/dev/kvm"]');
  }
  const trouble = devices.map(deviceTrouble).find((text) => text !== undefined);
  const all = devices.join(', ') || 'no device';
  return [
    real('native', trouble, all, loadAddon(), 'the addon is loaded'),
    real('ffi', trouble, all, loadFfi(), 'ffi-rs is loaded'),
    { kind: 'sim', available: true, reason: 'runs anywhere' },
  ];
}

/** What the road to the real kernel is missing goes before what the host is missing only where the host is missing nothing. */
function real(kind: KernelKind, trouble: string | undefined, devices: string, road: object, loaded: string): KernelFound {
  const missing = 'reason' in road ? `${String(road.reason)}${kind === 'native' ? remedy(String(road.reason)) : ''}` : undefined;
  const reason = trouble ?? missing;
  return reason === undefined
    ? { kind, available: true, reason: `${devices} can be opened, ${loaded}` }
    : { kind, available: false, reason };
}

function remedy(reason: string): string {
  if (!/not built|could not be loaded/.test(reason)) return '';
  return '; to build it: npm run build in a checkout, npx node-gyp rebuild --directory node_modules/kvio in a project';
}

/** What decides the kernel, if anything does: the option, then `KVIO_KERNEL`. Throws RangeError for a name that is none of the three. */
export function askedKernel(option?: unknown): { kind: KernelKind; by: string } | undefined {
  if (option !== undefined)
    return { kind: kernelKind(option, 'the option kernel'), by: `the option kernel: '${String(option)}'` };
  const variable = process.env['KVIO_KERNEL'];
  if (variable === undefined || variable === '') return undefined;
  return { kind: kernelKind(variable, 'KVIO_KERNEL'), by: `KVIO_KERNEL=${variable}` };
}

function kernelKind(value: unknown, what: string): KernelKind {
  if (typeof value !== 'string') throw typeError(`${what} must be one of 'native', 'ffi', 'sim', not ${typeof value}`);
  if (!(kinds as readonly string[]).includes(value))
    throw rangeError(`${what} must be one of 'native', 'ffi', 'sim', not '${value}'`);
  return value as KernelKind;
}

function open(kind: KernelKind, reason: string, options: SimOptions): Kernel {
  if (kind === 'native') return openNative(reason);
  if (kind === 'ffi') return openFfi(reason);
  return openSim({ ...options, reason });
}
