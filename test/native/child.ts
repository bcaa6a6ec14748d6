// Programs for child processes and workers: they import what ships.
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { loadAddon } from '../../src/native/index.ts';

const dist: string = new URL(process.env['KVIO_TEST_DIST'] ?? '../../dist/', import.meta.url).href;
const loaded = loadAddon();

/** `loadAddon`, `openNative`, `kickNative` from the built package. */
const imports = `const nativeModule = ${JSON.stringify(`${dist}native/index.js`)};
const { openNative, kickNative, loadAddon } = await import(nativeModule);`;

/**
 * What each program begins with: `kernel`, and a guest that spins or writes to a port for ever (see guest.ts). Plain
 * JavaScript in a function body that may await.
 */
const prelude = `${imports}
const { Worker, isMainThread, parentPort, workerData, threadId } = await import('node:worker_threads');
const { readdirSync, readFileSync } = await import('node:fs');
const kernel = openNative('test');
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const spin = [0xeb, 0xfe], ports = [0xba, 0xf8, 0x03, 0xee, 0xeb, 0xfd];
function guest(code, length = 0x1000) {
  const kvm = kernel.open('/dev/kvm');
  const vm = kernel.ioctl(kvm, 0xae01);
  const ram = kernel.guestRam(length);
  ram.write(0, Uint8Array.from(code));
  const region = new DataView(new ArrayBuffer(32));
  region.setBigUint64(8, 0x1000n, true);
  region.setBigUint64(16, BigInt(length), true);
  region.setBigUint64(24, ram.address, true);
  kernel.ioctl(vm, 0x4020ae46, region);
  const vcpu = kernel.ioctl(vm, 0xae41);
  const run = kernel.mmap({ length: 12288, fd: vcpu });
  const sregs = new DataView(new ArrayBuffer(312));
  kernel.ioctl(vcpu, 0x8138ae83, sregs);
  sregs.setBigUint64(0, 0n, true);
  sregs.setUint16(12, 0, true);
  kernel.ioctl(vcpu, 0x4138ae84, sregs);
  const regs = new DataView(new ArrayBuffer(144));
  regs.setBigUint64(128, 0x1000n, true);
  regs.setBigUint64(136, 2n, true);
  kernel.ioctl(vcpu, 0x4090ae82, regs);
  return { kvm, vm, vcpu, ram, run };
}
`;

/** A worker's program: the same prelude, then `body`. */
export function workerSource(body: string): string {
  return `(async () => { ${prelude} ${body} })();`;
}

function start(program: string, options: readonly string[], environment: Record<string, string>): SpawnSyncReturns<string> {
  return spawnSync(process.env['KVIO_TEST_NODE'] ?? process.execPath, [...options, '--input-type=module', '-e', program], {
    encoding: 'utf8',
    timeout: 30_000,
    killSignal: 'SIGKILL',
    env: { ...process.env, ...('path' in loaded ? { KVIO_ADDON: loaded.path } : {}), ...environment },
  });
}

/** Runs `body` after the prelude in a fresh process. */
export function child(body: string): SpawnSyncReturns<string> {
  return start(`${prelude} ${body}`, [], {});
}

/** Runs `body` with nothing but the imports. */
export function bareChild(
  body: string,
  options: readonly string[],
  environment: Record<string, string>,
): SpawnSyncReturns<string> {
  return start(`${imports} ${body}`, options, environment);
}
