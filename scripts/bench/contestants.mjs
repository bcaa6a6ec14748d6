// Who is measured: for each, how to make one call `count` times. A contestant that cannot be here says why.
import { createRequire } from 'node:module';
import { openKernel } from 'kvio';
import { openBaseline } from './baseline.mjs';
import { makeGuest } from './guest.mjs';
import { measureMemslots } from './memslots.mjs';
import { makeRoundTrip } from './round-trip.mjs';

const KVM_GET_API_VERSION = 0xae00;
const KVM_RUN = 0xae80;

function timed(count, work) {
  const start = process.hrtime.bigint();
  work(count);
  return Number(process.hrtime.bigint() - start) / count;
}

const must = (condition, what) => {
  if (!condition) throw new Error(`${what} did not do what it is measured for`);
};

/** Through the package as a program would use it. */
function throughKernel(kernel, { kvm, vcpu }) {
  const { fd } = kvm;
  return {
    ioctl: (count) =>
      timed(count, () => {
        let sum = 0;
        for (let index = 0; index < count; index++) sum += kernel.ioctl(fd, KVM_GET_API_VERSION);
        must(sum === 12 * count, 'KVM_GET_API_VERSION');
      }),
    exit: (count) =>
      timed(count, () => {
        let exits = 0;
        for (let index = 0; index < count; index++) if (vcpu.run().reason === 'io') exits++;
        must(exits === count, 'KVM_RUN');
      }),
  };
}

/** The flat calls below `Kernel`: what the addon itself costs. */
function throughBackend({ backend }, { kvm, vcpu }) {
  return {
    ioctl: (count) =>
      timed(count, () => {
        let sum = 0;
        for (let index = 0; index < count; index++) sum += backend.ioctl(kvm.fd, KVM_GET_API_VERSION, 0);
        must(sum === 12 * count, 'KVM_GET_API_VERSION');
      }),
    exit: (count) =>
      timed(count, () => {
        let failed = 0;
        for (let index = 0; index < count; index++) failed += backend.run(vcpu.fd, 0);
        must(failed === 0, 'KVM_RUN');
      }),
  };
}

/** koffi, a general binding generator, on the descriptors of a kernel of ours. */
function throughKoffi({ kvm, vcpu }) {
  const koffi = createRequire(import.meta.url)('koffi');
  const ioctl = koffi.load('libc.so.6').func('int ioctl(int fd, unsigned long request, long arg)');
  return {
    ioctl: (count) =>
      timed(count, () => {
        let sum = 0;
        for (let index = 0; index < count; index++) sum += ioctl(kvm.fd, KVM_GET_API_VERSION, 0);
        must(sum === 12 * count, 'KVM_GET_API_VERSION');
      }),
    exit: (count) =>
      timed(count, () => {
        let failed = 0;
        for (let index = 0; index < count; index++) failed += ioctl(vcpu.fd, KVM_RUN, 0);
        must(failed === 0, 'KVM_RUN');
      }),
  };
}

/** All contestants in the order of the table: `{ name, ioctl, exit }` or `{ name, reason }`; and how to end them. */
export async function openContestants() {
  const kernels = {};
  const reasons = {};
  for (const kind of ['native', 'ffi', 'sim']) {
    try {
      kernels[kind] = openKernel({ kernel: kind });
    } catch (error) {
      reasons[kind] = error.message;
    }
  }
  const on = (kind, make) => {
    const kernel = kernels[kind];
    if (kernel === undefined) return { reason: reasons[kind] };
    try {
      return make(kernel, makeGuest(kernel));
    } catch (error) {
      return { reason: error.message };
    }
  };
  const baselines = [await openBaseline(), await openBaseline({ threads: true })];
  const [c, threads] = baselines.map((each) =>
    each.reason === undefined ? { ioctl: (n) => each.measure('ioctl', n), exit: (n) => each.measure('exit', n) } : each,
  );
  const contestants = [
    { name: 'C', ...c },
    { name: 'C, in a process with threads', ...threads },
    { name: 'addon, raw', ...on('native', throughBackend) },
    { name: 'addon, kernel.ioctl / vcpu.run', ...on('native', throughKernel) },
    { name: 'ffi-rs, kernel.ioctl / vcpu.run', slow: true, ...on('ffi', throughKernel) },
    { name: 'koffi', ...on(kernels.native ? 'native' : 'ffi', (_, guest) => throughKoffi(guest)) },
    { name: 'simulator, kernel.ioctl / vcpu.run', ...on('sim', throughKernel) },
  ];
  /** The same work on the real kernel and on the simulator, one after the other. */
  const onBoth = (make) =>
    Object.fromEntries(
      ['native', 'sim'].filter((kind) => kernels[kind] !== undefined).map((kind) => [kind, make(kernels[kind])]),
    );
  const memslots = () => onBoth(measureMemslots);
  const roundTrips = () => onBoth(makeRoundTrip);
  const close = () => {
    for (const baseline of baselines) baseline.stop?.();
    for (const kernel of Object.values(kernels)) kernel.close();
  };
  return { contestants, memslots, roundTrips, close };
}
