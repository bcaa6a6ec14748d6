// Two vCPUs: the boot processor starts the other one by INIT and SIPI, both count in one word of memory, and an NMI wakes the other. First one thread runs
// both, asynchronously; then each has a worker of its own, which runs it synchronously.
import { isMainThread, MessageChannel, parentPort, Worker, workerData } from 'node:worker_threads';
import { attachKernel, type Kernel, Kvm, type KvmExit, openKernel, Vcpu } from 'kvio';

// Real mode. The APIC's registers are at DS:0 on the boot processor (its DS begins at 0xfee00000), the memory at CS:0 on both.
const APIC = 0xfee00000n;
const apicWrite = (register: number, value: number): number[] => [
  ...[0x66, 0xc7, 0x06, register & 0xff, register >> 8], // mov dword [register], value
  ...[value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24],
];
const boot = [
  ...apicWrite(0xf0, 0x1ff), // SPIV: the APIC is on
  ...apicWrite(0x310, 1 << 24), // ICR: to the APIC with id 1 …
  ...apicWrite(0x300, 0x4500), // … INIT
  ...apicWrite(0x300, 0x4609), // … SIPI, vector 9: it begins at 0x9000
  ...[0xb9, 0xe8, 0x03], // mov cx, 1000
  ...[0xf0, 0x2e, 0xff, 0x06, 0x00, 0x05], // again: lock inc word cs:[0x500]
  ...[0xe2, 0xf8], // loop again
  ...[0x2e, 0x80, 0x3e, 0x02, 0x05, 0x01, 0x75, 0xf8], // wait: cmp byte cs:[0x502], 1; jne wait
  ...apicWrite(0x300, 0x4400), // wake: an NMI, which may come before the other one halts, and so …
  ...[0x2e, 0x80, 0x3e, 0x03, 0x05, 0x01, 0x75, 0xef], // … until it says so: cmp byte cs:[0x503], 1; jne wake
  ...[0x2e, 0xa1, 0x00, 0x05, 0xe7, 0x10], // mov ax, cs:[0x500]; out 0x10, ax
];
const second = [
  ...[0xe6, 0x11, 0xb9, 0xe8, 0x03], // out 0x11, al; mov cx, 1000
  ...[0xf0, 0xff, 0x06, 0x00, 0x05, 0xe2, 0xf9], // again: lock inc word [0x500]; loop again
  ...[0xc6, 0x06, 0x02, 0x05, 0x01, 0xf4], // mov byte [0x502], 1; hlt
  ...[0xc6, 0x06, 0x03, 0x05, 0x01, 0xe6, 0x12], // mov byte [0x503], 1; out 0x12, al
];

/** A fresh VM: the boot processor and the other one. */
function machine(kernel: Kernel): [bsp: Vcpu, ap: Vcpu] {
  const vm = Kvm.open(kernel).createVm();
  vm.createIrqchip(); // local APICs, before the first vCPU
  const ram = kernel.guestRam(0x10000);
  vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0n, memory: ram });
  ram.write(0x1000, Uint8Array.from(boot));
  ram.write(0x9000, Uint8Array.from(second));
  ram.write(2 * 4, Uint8Array.of(0x00, 0x20, 0, 0)); // interrupt vector 2, NMI: at 0:0x2000
  ram.write(0x2000, Uint8Array.of(0xcf)); // iret
  const bsp = vm.createVcpu(0);
  const sregs = bsp.getSregs();
  bsp.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 }, ds: { ...sregs.ds, base: APIC } });
  bsp.setRegs({ ...bsp.getRegs(), rip: 0x1000n, rflags: 2n, rsp: 0x800n });
  return [bsp, vm.createVcpu(1)];
}

interface Part {
  readonly name: string;
  /** The port it says its last word on. */
  readonly last: number;
}
const parts: readonly [Part, Part] = [
  { name: 'the boot processor', last: 0x10 },
  { name: 'the other', last: 0x12 },
];

const say = ({ name }: Part, exit: KvmExit | undefined): string => {
  if (exit === undefined) return `${name} has got INIT`;
  if (exit.reason !== 'io') throw new Error(`${name}: ${exit.reason}`);
  return `${name} says ${exit.data.length === 2 ? exit.data[0]! + 256 * exit.data[1]! : 'hello'} on port ${exit.port}`;
};
const isLast = ({ last }: Part, exit: KvmExit | undefined): boolean => exit?.reason === 'io' && exit.port === last;

/** The first KVM_RUN of a vCPU that waits for INIT ends with EAGAIN. */
function init(error: { code?: string }): undefined {
  if (error.code !== 'EAGAIN') throw error;
}

async function runAsync(part: Part, vcpu: Vcpu): Promise<string[]> {
  const said: string[] = [];
  for (let exit: KvmExit | undefined; !isLast(part, exit); said.push(say(part, exit))) exit = await vcpu.runAsync().catch(init);
  return said;
}

function runSync(part: Part, vcpu: Vcpu): string[] {
  const said: string[] = [];
  for (let exit: KvmExit | undefined; !isLast(part, exit); said.push(say(part, exit))) {
    try {
      exit = vcpu.run();
    } catch (error) {
      exit = init(error as { code?: string });
    }
  }
  return said;
}

/** A worker that has this kernel, and in it this vCPU: descriptors are the process's. */
function inWorker(kernel: Kernel, part: Part, { fd }: Vcpu): Promise<string[]> {
  const { port1, port2 } = new MessageChannel();
  kernel.attach(port1);
  const worker = new Worker(new URL(import.meta.url), { workerData: { port: port2, part, fd }, transferList: [port2] });
  return new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
}

async function main(): Promise<void> {
  const kernel = openKernel();
  if (!kernel.features.async) {
    console.log(`the ${kernel.kind} kernel has synchronous calls only`);
    return;
  }
  const ways = { 'in one thread': runAsync, 'in a thread each': (part: Part, vcpu: Vcpu) => inWorker(kernel, part, vcpu) };
  for (const [way, run] of Object.entries(ways)) {
    const [bsp, ap] = machine(kernel);
    const said = await Promise.all([run(parts[0], bsp), run(parts[1], ap)]);
    for (const line of said.flat().sort()) console.log(`${way}, ${line}`);
    // Kept until here: a handle that nobody has any more is closed, for the worker that runs it too.
    for (const vcpu of [bsp, ap]) vcpu.close();
  }
  kernel.close();
}

if (isMainThread) await main();
else {
  const kernel = attachKernel(workerData.port);
  parentPort!.postMessage(runSync(workerData.part, Vcpu.fromFd(kernel, workerData.fd)));
  kernel.close();
}
