// Programs of several threads on one kernel: what ships, in a process of its own.
import { spawnSync } from 'node:child_process';
import { loadAddon } from '../../src/native/index.ts';

const dist: string = new URL(process.env['KVIO_TEST_DIST'] ?? '../../dist/', import.meta.url).href;
const loaded = loadAddon();

/** Plain JavaScript in a function body that may await; the same for the process and its workers. */
const common = `
const { attachKernel, Kvm, Vm, Vcpu, KernelError, NotModelled, openKernel, kick } = await import(${JSON.stringify(`${dist}index.js`)});
const { Worker, MessageChannel, parentPort, workerData } = await import('node:worker_threads');
const { readdirSync } = await import('node:fs');
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const inboxes = new WeakMap();
const inbox = (worker) => {
  const box = { came: [], wanted: [], exited: new Promise((resolve) => worker.once('exit', resolve)) };
  inboxes.set(worker, box);
  worker.on('message', (message) => { const want = box.wanted.shift(); if (want) want.resolve(message); else box.came.push(message); });
  worker.on('error', (error) => { for (const want of box.wanted.splice(0)) want.reject(error); });
  return worker;
};
const next = (worker) => new Promise((resolve, reject) => {
  const { came, wanted } = inboxes.get(worker);
  if (came.length > 0) resolve(came.shift()); else wanted.push({ resolve, reject });
});
const exited = (worker) => inboxes.get(worker).exited;
const failure = (call) => { try { call(); return 'nothing'; } catch (error) { return error.code + ' ' + error.constructor.name; } };
const processor = (vm, id, ip) => {
  const vcpu = vm.createVcpu(id);
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
  vcpu.setRegs({ ...vcpu.getRegs(), rip: ip, rflags: 2n });
  return vcpu;
};
const out = (...values) => console.log(JSON.stringify(values, (_, value) => (typeof value === 'bigint' ? Number(value) : value)));
`;

/** In the process: \`kernel\`; a VM with a page of code at 0x1000 and one of data behind it; \`attached(body, data)\` starts a worker that has \`kernel\` too. */
const owner = `
const kernel = openKernel();
const attached = (body, data = {}) => {
  const { port1, port2 } = new MessageChannel();
  kernel.attach(port1);
  const source = '(async () => {' + COMMON + ' const kernel = attachKernel(workerData.port);' + body + '})()';
  return inbox(new Worker(source, { eval: true, workerData: { port: port2, ...data }, transferList: [port2] }));
};
const machine = (code) => {
  const kvm = Kvm.open(kernel);
  const vm = kvm.createVm();
  const ram = kernel.guestRam(0x2000);
  ram.write(0, Uint8Array.from(code));
  vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: ram });
  return { kvm, vm, ram };
};
const descriptors = () => {
  const open = [];
  for (let fd = 0; fd < 128; fd++) {
    try { kernel.readlink('/proc/self/fd/' + fd); open.push(fd); } catch {}
  }
  return open.length;
};
`;

export interface Outcome {
  status: number | null;
  stderr: string;
  /** Each \`out(…)\` of the process. */
  said: unknown[];
}

export function program(kind: string, body: string): Outcome {
  const text = `const COMMON = ${JSON.stringify(common)}; ${common} ${owner} ${body}`;
  const { status, stderr, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', text], {
    encoding: 'utf8',
    timeout: 30_000,
    killSignal: 'SIGKILL',
    env: { ...process.env, KVIO_KERNEL: kind, ...('path' in loaded ? { KVIO_ADDON: loaded.path } : {}) },
  });
  const lines = stdout.split('\n').filter((line) => line !== '');
  return { status, stderr, said: lines.map((line) => JSON.parse(line)) };
}
