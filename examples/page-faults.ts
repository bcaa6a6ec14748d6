// A device that asks for pages it has not: page requests (PRI), read from a fault queue and answered from TypeScript, page by page. This machine is simulated.
import { bindDriver, Iommufd, PCI_EXT_CAP_ID_ATS, PCI_EXT_CAP_ID_PRI, pciDevice, VfioDevice } from 'kvio';
import { openSim, PciFunction } from 'kvio/sim';
import { IOMMUFD_PAGE_RESP_INVALID, IOMMUFD_PAGE_RESP_SUCCESS } from 'kvio/uapi';

/** Adds up the bytes at an address; where the IOMMU has no page, it asks for one and tries again. */
class Summer extends PciFunction {
  #sum = 0;
  #busy = false;
  requests = 0;

  constructor() {
    super({
      ...{ vendor: 0x1234, device: 0x5679, class: 0xff0000, express: true, bars: { 0: { size: 0x1000, space: 'mem32' } } },
      extended: [
        { id: PCI_EXT_CAP_ID_ATS, bytes: new Uint8Array(4) },
        { id: PCI_EXT_CAP_ID_PRI, bytes: new Uint8Array(12) },
      ],
    });
  }

  /** 0: the sum; 4: whether it is still at it; 8: it failed. */
  override read(_bar: number, offset: number): number {
    if (offset === 4) return this.#busy ? 1 : 0;
    return this.#sum;
  }

  /** Begins with a page's address. */
  override write(_bar: number, _offset: number, _width: number, address: number | bigint): void {
    this.#busy = true;
    this.#add(BigInt(address));
  }

  #add(iova: bigint): void {
    const bytes = this.dma.read(iova, 4096);
    if (bytes === undefined) {
      this.requests++;
      this.dma.requestPage({ iova }, (granted) => this.after(1000, () => (granted ? this.#add(iova) : this.#end(0xffff_ffff))));
    } else this.#end(bytes.reduce((sum, byte) => sum + byte));
  }

  #end(sum: number): void {
    this.#sum = sum;
    this.#busy = false;
  }
}

const bdf = '0000:00:10.0';
const summer = new Summer();
const kernel = openSim({ machine: 'lab-vtd-7.2', pci: [{ at: bdf, device: summer }] });
bindDriver(kernel, bdf, 'vfio-pci');
const device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
const iommufd = Iommufd.open(kernel);
const dev_id = device.bindIommufd({ iommufd });
const ioas = iommufd.ioasAlloc();
const fault = iommufd.faultQueueAlloc();
const table = iommufd.hwptAlloc({ dev_id, pt: ioas, fault });
device.attachIommufdPt({ pt_id: table.id });
device.config.setCommand(0x6); // memory, bus master
const registers = device.region(0);

/** Pages there are, though none is mapped before the device wants it. */
const ram = kernel.guestRam(0x4000);
for (let at = 0; at < ram.length; at++) ram.bytes[at] = (at >> 12) + 1;
const BASE = 0x400000n;

const done = new AbortController();
const serving = serve(done.signal);
for (const page of [0, 2, 0, 9]) {
  registers.write64(0, BASE + BigInt(page) * 0x1000n);
  while (registers.read32(4) !== 0) await new Promise(setImmediate);
  const sum = registers.read32(0);
  console.log(`page ${page}: ${sum === 0xffff_ffff ? 'the device gave up' : `the sum is ${sum}`}`);
}
console.log(`the device asked ${summer.requests} times`);
done.abort();
await serving;
device.close();
kernel.close();

/** Maps what is asked for, where there is something. */
async function serve(signal: AbortSignal): Promise<void> {
  try {
    for await (const { cookie, faults } of fault.events({ signal })) {
      const { addr } = faults.at(-1)!;
      const offset = Number(addr - BASE);
      const there = offset >= 0 && offset < ram.length;
      if (there) ioas.map(ram, { iova: addr, offset, length: 0x1000 });
      console.log(`the device wants 0x${addr.toString(16)}: ${there ? 'mapped' : 'there is nothing'}`);
      fault.respond(cookie, there ? IOMMUFD_PAGE_RESP_SUCCESS : IOMMUFD_PAGE_RESP_INVALID);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
