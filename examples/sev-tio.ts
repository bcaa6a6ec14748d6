// SEV-TIO (RFC): a guest takes a device, from TIO's request to private DMA, and gives it back; then what goes wrong in another order. On a simulated machine: no released kernel has it.
import { PCI_COMMAND_MASTER } from 'kvio';
import { decodeInterfaceReport, type Guest, type GuestAgent, type GuestScript } from 'kvio/sim';
import { teeIo as series } from 'kvio/uapi';
import { BAR0, BAR2, ConfidentialVm, type ConfidentialVmOptions, GUEST_RID } from './parts/confidential-vm.ts';
import { attest, BUFFERS, DATA, ranges, sum } from './parts/guest-driver.ts';
import { ask, mailbox, PORT, Request, serve } from './parts/guest-requests.ts';
import { context, outcome } from './parts/timeline.ts';

const { KVM_USER_VMGEXIT_TIO_REQ_FLAG_STATUS: STATUS, KVM_USER_VMGEXIT_TIO_REQ_FLAG_MMIO_VALIDATE: VALIDATE } = series.aikV2;
const SEV = series.aneeshJun26.IOMMU_VDEVICE_TSM_TVM_ARCH_SEV;

/** The exit of SEV-TIO v2, the requests of iommufd's v7, which has SEV's operations. */
const options: ConfidentialVmOptions = {
  teeIo: { vendor: 'sev', tsmReqLayout: 'op48', dialects: ['aik-v2'] },
  tdi: { door: 'iommufd', layout: 'op48', tvm_arch: SEV },
};

/** Runs a guest of SEV. It asks for its device by VMGEXIT; the rest, for which the firmware has messages of its own, by the mailbox. */
function play(one: ConfidentialVm, script: GuestAgent): void {
  one.kernel.agent(one.vcpu.fd, script);
  one.run((exit) => {
    if (exit.reason === 'io' && exit.port === PORT) mailbox(one, new DataView(exit.data.slice().buffer).getUint32(0, true));
    else if (exit.reason === 'vmgexit') {
      const { flags, mmio_gpa, data_gpa, data_npages } = exit.tio_req;
      const answer =
        (flags & VALIDATE) !== 0
          ? serve(one, Request.ACCEPT_MMIO, [mmio_gpa, mmio_gpa + (data_npages << 12n), data_gpa])
          : serve(one, Request.BIND, []);
      exit.tio_req.ret = Number(-answer);
      exit.tio_req.tdi_status = answer === 0n ? 0 : 2;
    } else throw new Error(`unexpected exit ${exit.reason}`);
  });
}

/** TIO_BIND, evidence, the RMP entries of the MMIO, validation, the device table entry, RUN. */
function* takeDevice(guest: Guest, one: ConfidentialVm, { dma = true } = {}): GuestScript {
  const request = (op: number, ...args: readonly bigint[]): GuestScript<bigint> => ask(guest, op, ...args);
  one.timeline.guest('VMGEXIT, TIO_REQ: its device, by the requester id it knows');
  yield* guest.vmgexit({ guest_rid: GUEST_RID, flags: STATUS });
  const report = yield* attest(guest, request, one.timeline);
  yield* guest.convert(BAR0.gpa, Number(BAR0.size >> 12n), true);
  yield* guest.convert(BAR2.gpa, Number(BAR2.size >> 12n), true);
  for (const { gpa, pages, paBase } of ranges(report))
    yield* guest.vmgexit({ guest_rid: GUEST_RID, flags: VALIDATE, mmio_gpa: gpa, data_npages: BigInt(pages), data_gpa: paBase });
  if (dma) yield* request(Request.ACCEPT_DMA);
  yield* request(Request.START);
}

console.log('— the flow');
const snp = new ConfidentialVm(options);
snp.timeline.vmm('C', 'KVM_PRE_FAULT_MEMORY: the pages for the device', () => snp.vcpu.preFaultMemory(BUFFERS));
play(snp, function* (guest) {
  yield* takeDevice(guest, snp);
  yield* guest.write(DATA, Uint8Array.of(1, 2, 3, 4), { private: true });
  snp.timeline.guest(`the device adds up private memory: ${yield* sum(guest, 4)}`);
  yield* ask(guest, Request.UNBIND);
  yield* guest.convert(BAR0.gpa, Number(BAR0.size >> 12n), false);
  snp.timeline.guest(`its registers, shared again: 0x${(yield* guest.readMmio(BAR0.gpa, 4)).toString(16)}`);
});
snp.close();

console.log('— other orders');
branch('locked with peer-to-peer streams', (one) => {
  context(one).lockFlags |= 0x8;
  return outcome(() => one.tdi.bind());
});
branch('MMIO validated before it is private', (one) => {
  one.tdi.bind();
  const [{ gpa, paBase } = { gpa: 0n, paBase: 0n }] = ranges(decodeInterfaceReport(one.tdi.readObject('report')));
  return outcome(() => one.tdi.validateMmio({ gpa_base: gpa, gpa_top: gpa + 0x1000n, pa_base: paBase }));
});
branch('private DMA to pages that are not there', (one) => {
  let id = 0;
  play(one, function* (guest) {
    yield* takeDevice(guest, one);
    yield* sum(guest, 4);
    id = yield* guest.readMmio(BAR0.gpa, 4, { private: true });
  });
  return `fence ${context(one).fenced}, the guest reads 0x${id.toString(16)} of its device`;
});
branch('no secure device table entry', (one) => {
  one.vcpu.preFaultMemory(BUFFERS);
  play(one, function* (guest) {
    yield* takeDevice(guest, one, { dma: false });
    yield* sum(guest, 4);
  });
  return `DMA dropped ${context(one).counters.droppedDma} time`;
});
branch('the host clears Bus Master Enable', (one) => {
  play(one, (guest) => takeDevice(guest, one));
  one.device.config.setCommand(0, PCI_COMMAND_MASTER);
  const broken = one.timeline.access;
  one.tdi.unbind();
  return `${broken}; unbound: ${one.timeline.access}`;
});

function branch(what: string, run: (one: ConfidentialVm) => string): void {
  const one = new ConfidentialVm({ ...options, quiet: true });
  console.log(`${what}: ${run(one)}`);
  one.close();
}
