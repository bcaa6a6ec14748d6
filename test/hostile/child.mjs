/**
 * Makes N hostile calls on one kernel and says, as JSON on its last line, what came of them. Exit 0: the property held. Run in a
 * process of its own (hostile.test.ts): a crash, a hang or a broken property must not take the judge with it.
 *
 *   node test/hostile/child.mjs --kernel native --calls 100000 --seed 1 [--trace]
 */
import { writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { isKvioError, openKernel } from 'kvio';
import { KVM_CREATE_VCPU, KVM_CREATE_VM } from 'kvio/uapi';
import { calls, Violation } from './calls.mjs';
import { Canaries } from './canaries.mjs';
import { Random } from './random.mjs';
import { Values } from './values.mjs';
import { World } from './world.mjs';

const options = Object.fromEntries(process.argv.slice(2).map((word, at, all) => [word.replace(/^--/, ''), all[at + 1]]));
const wanted = Number(options.calls ?? 1000);
const seed = Number(options.seed ?? 1);
const trace = process.argv.includes('--trace');
const CHECK_EVERY = 2000;
const YIELD_EVERY = 25;
const HANG_MS = 30_000;

const kernel = openKernel({ kernel: options.kernel ?? 'sim' });
const random = new Random(seed);
const world = new World(kernel, random);
const values = new Values(random, world);
const canaries = new Canaries();
const located = canaries.locate();
world.canaries = canaries.addresses;
world.guarded = kernel.features.guard;

/** Counts the calls that get as far as the back end. */
let reached = 0;
const { backend } = kernel;
for (let proto = Object.getPrototypeOf(backend); proto !== Object.prototype; proto = Object.getPrototypeOf(proto)) {
  for (const name of Object.getOwnPropertyNames(proto)) {
    const method = backend[name];
    if (name === 'constructor' || typeof method !== 'function' || Object.hasOwn(backend, name)) continue;
    Object.defineProperty(backend, name, {
      value(...given) {
        reached++;
        return method.apply(this, given);
      },
    });
  }
}
world.reached = () => reached;

const outcomes = new Map();
/** What broke the property, each once: by call and message. */
const broken = new Map();
const MOST_VIOLATIONS = 20;
const violate = (name, what) => broken.set(`${name}: ${String(what).split('\n')[0]}`, `${name}: ${what}`);

/** Only documented errors: those of kvio, and TypeError and RangeError that carry Node's codes. */
function documented(name, error) {
  if (isKvioError(error)) return true;
  if (error instanceof TypeError) return error.code === 'ERR_INVALID_ARG_TYPE';
  if (error instanceof RangeError) return error.code === 'ERR_OUT_OF_RANGE';
  return (name === 'waitAsync' || name === 'runAsync') && error?.name === 'AbortError';
}

world.judge = (name, error) => {
  const outcome = error === undefined ? 'done' : typeof error?.code === 'string' ? error.code : (error?.name ?? typeof error);
  outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  if (error instanceof Violation) violate(name, error.message);
  else if (error !== undefined && !documented(name, error)) violate(name, `undocumented ${error?.stack ?? String(error)}`);
};

/** The watchdog: another thread, since this one may be inside a system call. */
const progress = new Int32Array(new SharedArrayBuffer(8));
new Worker(
  `const { workerData: { progress, limit } } = require('node:worker_threads');
   let last = -1;
   setInterval(() => {
     const now = Atomics.load(progress, 0);
     if (now === last) { require('node:fs').writeSync(2, 'hang in call ' + now + '\\n'); process.kill(process.pid, 'SIGKILL'); }
     last = now;
   }, limit);`,
  { eval: true, workerData: { progress, limit: HANG_MS } },
).unref();

const usual = calls.map(([weight, , _call], at) => [weight, at]);
world.add(kernel.open('/dev/kvm'), 'kvm');

/** Half of what is open is closed by the calls themselves: without these nothing would be left to call. */
function replenish() {
  if (world.ofKind('kvm').length === 0) world.add(kernel.open('/dev/kvm'), 'kvm');
  if (world.ofKind('vm').length === 0) world.add(kernel.ioctl(world.ofKind('kvm')[0], KVM_CREATE_VM, 0), 'vm');
  if (world.ofKind('eventfd').length === 0) world.add(kernel.eventfd(0, 0x800), 'eventfd');
  if (world.ofKind('memfd').length === 0) world.add(kernel.memfd('m'), 'memfd');
  if (world.memories.length === 0) world.keep(kernel.guestRam(0x4000));
  if (world.ofKind('vcpu').length === 0) {
    try {
      world.add(kernel.ioctl(world.ofKind('vm').at(-1), KVM_CREATE_VCPU, random.below(4000)), 'vcpu');
    } catch {
      world.close(world.ofKind('vm').at(-1));
    }
  }
}

function checkCanaries(at) {
  const changed = canaries.changed();
  if (changed !== undefined) violate('canary', `${changed}, by call ${at}`);
}

let reachedBefore = 0;
let reachedCalls = 0;
for (let at = 0; at < wanted && broken.size < MOST_VIOLATIONS; at++) {
  Atomics.store(progress, 0, at);
  replenish();
  const [, name, call] = calls[random.weighted(usual)];
  if (trace) writeSync(2, `${at} ${name}\n`);
  reachedBefore = reached;
  try {
    call(world, values, random);
    world.judge(name, undefined);
  } catch (error) {
    world.judge(name, error);
  }
  if (reached > reachedBefore) reachedCalls++;
  if (at % YIELD_EVERY === 0) await new Promise(setImmediate);
  if (at % CHECK_EVERY === 0) checkCanaries(at);
}

for (const vcpu of world.ofKind('vcpu')) {
  try {
    kernel.kick(vcpu);
  } catch {
    // ffi has no kick, and nothing runs there.
  }
}
kernel.close();
await Promise.all(world.running);
checkCanaries('the end');

const violations = [...broken.values()];
const counts = Object.fromEntries([...outcomes].sort(([, a], [, b]) => b - a));
console.log(
  JSON.stringify({ kernel: kernel.kind, seed, calls: wanted, reached: reachedCalls, located, violations, outcomes: counts }),
);
process.exitCode = violations.length === 0 ? 0 : 1;
