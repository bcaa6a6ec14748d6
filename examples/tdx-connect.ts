// TDX Connect (RFC): a trust domain takes a device, from the bind it asks for to private DMA, and gives it back; then what goes wrong in another order. On a simulated machine: no released
// kernel has it.
import { PCI_COMMAND_MEMORY } from 'kvio';
import { type Guest, type GuestAgent, type GuestScript, TDX_GHCI_NR } from 'kvio/sim';
import { BAR0, BAR2, ConfidentialVm } from './parts/confidential-vm.ts';
import { attest, BUFFERS, DATA, ranges, sum } from './parts/guest-driver.ts';
import { Request, serve } from './parts/guest-requests.ts';
import { context, outcome } from './parts/timeline.ts';

const teeIo = { vendor: 'tdx' } as const;

/** Runs a guest of TDX. It asks by TDG.VP.VMCALL, which comes to the VMM as a hypercall. */
function play(td: ConfidentialVm, script: GuestAgent): void {
  td.kernel.agent(td.vcpu.fd, script);
  td.run((exit) => {
    if (exit.reason !== 'hypercall' || exit.nr !== TDX_GHCI_NR) throw new Error(`unexpected exit ${exit.reason}`);
    const [op = 0n, ...args] = exit.args;
    exit.ret = BigInt.asUintN(64, serve(td, Number(op), args));
  });
}

/** Bound, looked at, accepted, started. */
function* takeDevice(guest: Guest, td: ConfidentialVm, { dma = true } = {}): GuestScript {
  const ask = (op: number, ...args: readonly bigint[]): GuestScript<bigint> => guest.ghci(BigInt(op), ...args);
  td.timeline.guest('TDG.VP.VMCALL: bind');
  yield* ask(Request.BIND);
  const report = yield* attest(guest, ask, td.timeline);
  yield* guest.convert(BAR0.gpa, Number(BAR0.size >> 12n), true);
  yield* guest.convert(BAR2.gpa, Number(BAR2.size >> 12n), true);
  for (const { gpa, pages, paBase } of ranges(report)) yield* ask(Request.ACCEPT_MMIO, gpa, gpa + BigInt(pages << 12), paBase);
  if (dma) yield* ask(Request.ACCEPT_DMA);
  yield* ask(Request.START);
}

console.log('— the flow');
const td = new ConfidentialVm({ teeIo });
td.timeline.vmm('C', 'KVM_PRE_FAULT_MEMORY: the pages for the device', () => td.vcpu.preFaultMemory(BUFFERS));
play(td, function* (guest) {
  yield* takeDevice(guest, td);
  yield* guest.write(DATA, Uint8Array.of(1, 2, 3, 4), { private: true });
  td.timeline.guest(`the device adds up private memory: ${yield* sum(guest, 4)}`);
  yield* guest.ghci(BigInt(Request.UNBIND));
  yield* guest.convert(BAR0.gpa, Number(BAR0.size >> 12n), false);
  td.timeline.guest(`its registers, shared again: 0x${(yield* guest.readMmio(BAR0.gpa, 4)).toString(16)}`);
});
td.close();

console.log('— other orders');
branch('bound by iommufd, which cannot silence the device', { door: 'iommufd' }, (one) => outcome(() => one.tdi.bind()));
branch('a BAR was mapped before, though it is not any more', {}, (one) => {
  one.device.region(0).mmap().close();
  return outcome(() => one.tdi.bind());
});
branch('started before it is bound', {}, (one) => outcome(() => one.tdi.setTdiState(2)));
branch('private DMA to pages that are not there', {}, (one) => {
  play(one, function* (guest) {
    yield* takeDevice(guest, one);
    yield* sum(guest, 4);
  });
  return `dropped ${context(one).counters.droppedDma} time; the TDI: ${one.timeline.access}`;
});
branch('DMA is not accepted', {}, (one) => {
  one.vcpu.preFaultMemory(BUFFERS);
  play(one, function* (guest) {
    yield* takeDevice(guest, one, { dma: false });
    yield* sum(guest, 4);
  });
  return `dropped ${context(one).counters.droppedDma} time`;
});
branch('the host clears Memory Space Enable', {}, (one) => {
  play(one, (guest) => takeDevice(guest, one));
  one.device.config.setCommand(0, PCI_COMMAND_MEMORY);
  return `unbound first; the TDI: ${one.timeline.access}`;
});
branch('the host takes MMIO away while it is bound', {}, (one) => {
  play(one, (guest) => takeDevice(guest, one));
  one.convert(BAR0.gpa, BAR0.size, false);
  return `the firmware refuses, and the VM is dead: KVM_RUN ${outcome(() => one.vcpu.run())}`;
});

function branch(what: string, tdi: { door?: 'iommufd' }, run: (one: ConfidentialVm) => string): void {
  const one = new ConfidentialVm({ teeIo, tdi, quiet: true });
  console.log(`${what}: ${run(one)}`);
  one.close();
}
