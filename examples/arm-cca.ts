// Arm CCA (RFC): a realm takes a device, from the vdev the host makes for it to private DMA, and gives it back; then what goes wrong in another order. On a simulated machine: no released
// kernel has it, and no Arm CPU is simulated.
import { decodeInterfaceReport, type Guest, type GuestAgent, type GuestScript } from 'kvio/sim';
import { teeIo as series } from 'kvio/uapi';
import { BAR0, BAR2, ConfidentialVm, type ConfidentialVmOptions, SHARED } from './parts/confidential-vm.ts';
import { attest, DATA, ranges, sum } from './parts/guest-driver.ts';
import { ask, mailbox, PORT, Request, serve } from './parts/guest-requests.ts';
import { context, outcome } from './parts/timeline.ts';

const VALIDATE = BigInt(series.ccaV4.ARM64_TIO_VALIDATE);

/** Bound by iommufd, requests as in the series of May 2026, of whose scopes CCA's commands are the payload. */
const options: ConfidentialVmOptions = {
  teeIo: { vendor: 'cca', tsmReqLayout: 'scope40' },
  tdi: { door: 'iommufd', layout: 'scope40' },
  viommuType: series.ccaV4.IOMMU_VIOMMU_TYPE_ARM_REALM_SMMUV3,
};

/** Runs a realm. Device memory is validated by an exit of its own; `tsm/lock` and `tsm/accept` of the guest come by the mailbox. */
function play(one: ConfidentialVm, script: GuestAgent, { converts = true } = {}): void {
  one.kernel.agent(one.vcpu.fd, script);
  one.run((exit) => {
    if (exit.reason === 'io' && exit.port === PORT) mailbox(one, new DataView(exit.data.slice().buffer).getUint32(0, true));
    else if (exit.reason === 'arm64_tio') {
      const { gpa_base, gpa_top, pa_base } = exit;
      const pages = (gpa_top - gpa_base) >> 12n;
      if (converts)
        one.timeline.vmm('K', `KVM_SET_MEMORY_ATTRIBUTES: ${pages} pages of MMIO private`, () =>
          one.convert(gpa_base, gpa_top - gpa_base, true),
        );
      exit.response = converts ? -serve(one, Request.ACCEPT_MMIO, [gpa_base, gpa_top, pa_base]) : 0n;
    } else throw new Error(`unexpected exit ${exit.reason}`);
  });
}

/** The guest's `tsm/lock`, its look at the evidence, device memory, `tsm/accept`. */
function* takeDevice(guest: Guest, one: ConfidentialVm): GuestScript<bigint> {
  const request = (op: number, ...args: readonly bigint[]): GuestScript<bigint> => ask(guest, op, ...args);
  one.timeline.guest('echo tsm0 > tsm/lock');
  yield* request(Request.LOCK);
  const report = yield* attest(guest, request, one.timeline);
  let refused = 0n;
  for (const { gpa, pages, paBase } of ranges(report)) {
    const call = { nr: VALIDATE, vdev_id: 1n, gpa_base: gpa, gpa_top: gpa + BigInt(pages << 12), pa_base: paBase };
    refused ||= yield* guest.tio(call);
  }
  one.timeline.guest('echo 1 > tsm/accept');
  yield* request(Request.START);
  return refused;
}

console.log('— the flow');
const realm = new ConfidentialVm(options);
const { vdevice } = realm.tdi;
realm.timeline.vmm('I', 'IOMMU_VDEVICE_TSM_MAP: all private memory is the device’s too', () =>
  vdevice.tsmMap({ start_gpa: 0n, end_gpa: SHARED }),
);
realm.timeline.vmm('I', 'IOMMU_VDEVICE_TSM_OP, BIND: a vdev, not yet locked', () => realm.tdi.bind());
play(realm, function* (guest) {
  yield* takeDevice(guest, realm);
  yield* guest.write(DATA, Uint8Array.of(1, 2, 3, 4), { private: true });
  realm.timeline.guest(`the device adds up private memory: ${yield* sum(guest, 4)}`);
});
realm.timeline.vmm('I', 'IOMMU_DESTROY of the vdevice, which unbinds', () => vdevice.destroy());
play(realm, function* (guest) {
  yield* guest.convert(BAR0.gpa, Number(BAR0.size >> 12n), false);
  realm.timeline.guest(`its registers, shared again: 0x${(yield* guest.readMmio(BAR0.gpa, 4)).toString(16)}`);
});
realm.close();

console.log('— other orders');
branch('bound for nobody', (one) => outcome(() => one.tdi.bind()), { owned: false });
branch('started before it is locked', (one) => {
  one.tdi.bind();
  return outcome(() => one.tdi.setTdiState(2));
});
branch('device memory validated before it is private', (one) => {
  one.tdi.bind();
  one.tdi.setTdiState(1);
  const [{ gpa, paBase } = { gpa: 0n, paBase: 0n }] = ranges(decodeInterfaceReport(one.tdi.readObject('report')));
  return outcome(() => one.tdi.validateMmio({ gpa_base: gpa, gpa_top: gpa + 0x1000n, pa_base: paBase }));
});
branch('accepted by the VMM, though it is not private', (one) => {
  one.tdi.bind();
  let refused = 0n;
  const script: GuestAgent = function* (guest) {
    refused = yield* takeDevice(guest, one);
  };
  play(one, script, { converts: false });
  return `the guest is told ${refused}, EINVAL`;
});
branch('private DMA to pages nobody has mapped', (one) => {
  one.tdi.bind();
  play(one, function* (guest) {
    yield* takeDevice(guest, one);
    yield* sum(guest, 4);
  });
  return `dropped ${context(one).counters.droppedDma} time`;
});
branch('the host takes device memory away', (one) => {
  one.tdi.bind();
  play(one, (guest) => takeDevice(guest, one) as GuestScript<never>);
  one.convert(BAR2.gpa, BAR2.size, false);
  one.kernel.agent(one.vcpu.fd, function* (guest) {
    yield* guest.readMmio(BAR2.gpa, 4, { private: true });
  });
  const exit = one.vcpu.run();
  return `${exit.reason} at ${exit.reason === 'memory_fault' ? `0x${exit.gpa.toString(16)}` : '?'}, and no progress`;
});

function branch(what: string, run: (one: ConfidentialVm) => string, more: ConfidentialVmOptions = {}): void {
  const one = new ConfidentialVm({ ...options, ...more, quiet: true });
  console.log(`${what}: ${run(one)}`);
  one.close();
}
