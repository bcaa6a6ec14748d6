import * as r from '../../uapi/pci-regs.ts';
import { EINVAL, ENODEV } from '../../uapi/sys.ts';
import { Pending } from '../completion.ts';
import { Attribute } from '../fs/attribute.ts';
import { simpleStrtoul } from '../fs/text.ts';
import type { Process } from '../process.ts';
import type { PciDev } from './pci-dev.ts';

const SLOTS = '/sys/bus/pci/slots';

/** pciehp_is_native: the port has a slot with a hot-plug controller, and the firmware has left it to the kernel. */
export function hasHotplug(port: PciDev): boolean {
  const express = port.findCapability(r.PCI_CAP_ID_EXP);
  return port.system.machine.pciehp === true && (port.readConfig(express + r.PCI_EXP_SLTCAP, 4) & r.PCI_EXP_SLTCAP_HPC) !== 0;
}

/** ON_STATE: there is a card. POWEROFF_STATE: it is being removed, which may wait for its users. OFF_STATE. */
type State = 'on' | 'leaving' | 'off';

/** pciehp (drivers/pci/hotplug): the hot-plug controller of one port, and what is in its slot. */
export class Pciehp {
  readonly #port: PciDev;
  readonly #express: number;
  readonly #capabilities: number;
  readonly #name: string;
  #state: State;

  constructor(port: PciDev) {
    this.#port = port;
    this.#express = port.findCapability(r.PCI_CAP_ID_EXP);
    this.#capabilities = port.readConfig(this.#express + r.PCI_EXP_SLTCAP, 4);
    this.#name = String((this.#capabilities & r.PCI_EXP_SLTCAP_PSN) >>> 19);
    this.#state = this.#present ? 'on' : 'off';
    port.onSlotEvent = () => this.#event();
    this.#addFiles();
    // Where a button announces a card, presence is not asked for: it comes along with the next event.
    const told = this.#has(r.PCI_EXP_SLTCAP_ABP) ? r.PCI_EXP_SLTCTL_ABPE : r.PCI_EXP_SLTCTL_PDCE;
    this.#command(0, told | r.PCI_EXP_SLTCTL_CCIE | r.PCI_EXP_SLTCTL_HPIE);
  }

  /** The driver lets go of the port. */
  remove(): void {
    this.#port.onSlotEvent = undefined;
    this.#command(r.PCI_EXP_SLTCTL_HPIE, 0);
    this.#port.system.fs.mkdirp(SLOTS).remove(this.#name);
  }

  #has(capability: number): boolean {
    return (this.#capabilities & capability) !== 0;
  }

  get #status(): number {
    return this.#port.readConfig(this.#express + r.PCI_EXP_SLTSTA, 2);
  }

  get #control(): number {
    return this.#port.readConfig(this.#express + r.PCI_EXP_SLTCTL, 2);
  }

  get #present(): boolean {
    return (this.#status & r.PCI_EXP_SLTSTA_PDS) !== 0;
  }

  get #powered(): boolean {
    return (this.#control & r.PCI_EXP_SLTCTL_PCC) === 0;
  }

  /** pciehp_ist: the event is taken; a slot that was on has lost its card, even if there is one again; one that is off and has a card is turned on. */
  #event(): void {
    const status = this.#status;
    this.#port.writeConfig(this.#express + r.PCI_EXP_SLTSTA, 2, status);
    // What comes while a card is removed is looked at when it is.
    if ((status & r.PCI_EXP_SLTSTA_PDC) === 0 || this.#state === 'leaving') return;
    if (this.#state === 'off') this.#settle();
    // Whoever has turned the power off is taken to have removed the devices.
    else if (!this.#powered) this.#state = 'off';
    else {
      this.#state = 'leaving';
      this.#port.subsystem.surpriseRemove(this.#below(this.#port)).whenDone(() => this.#settle());
    }
  }

  /** Off, and if there is a card, on again. */
  #settle(): void {
    const off = r.PCI_EXP_SLTCTL_PCC | r.PCI_EXP_SLTCTL_PWR_IND_OFF;
    this.#state = this.#present ? 'on' : 'off';
    this.#command(off, this.#state === 'on' ? r.PCI_EXP_SLTCTL_PWR_IND_ON : off);
  }

  /** pciehp_sysfs_disable_slot: the devices go as their users let them, then the power. */
  #disable(answer: number): number | Pending {
    if (this.#state !== 'on') return -ENODEV;
    if (!this.#powered) {
      this.#state = 'off';
      return -EINVAL;
    }
    this.#state = 'leaving';
    return new Pending(this.#port.subsystem.safeRemove(this.#below(this.#port)), () => {
      this.#command(0, r.PCI_EXP_SLTCTL_PCC);
      this.#command(0, r.PCI_EXP_SLTCTL_PWR_IND_OFF);
      this.#state = 'off';
      return answer;
    });
  }

  /** power_write_file: text that is no number is 0. Nothing is turned on by it: a card that is there has turned the slot on (pciehp_sysfs_enable_slot). */
  #storePower(text: string): number | Pending {
    const power = simpleStrtoul(text) & 0xffn;
    if (power > 1n) return -EINVAL;
    return power === 0n ? this.#disable(text.length) : -ENODEV;
  }

  /** pciehp_get_attention_status: the reserved value is 255. */
  get #attention(): string {
    return ['255', '1', '2', '0'][(this.#control >> 6) & 3]!;
  }

  /** set_attention_status: 0 is off, of others two bits are written, and nothing where those are 0. */
  #storeAttention(text: string): number {
    const status = Number(simpleStrtoul(text) & 0xffn);
    const lamp = status === 0 ? r.PCI_EXP_SLTCTL_ATTN_IND_OFF : (status << 6) & r.PCI_EXP_SLTCTL_AIC;
    if (lamp !== 0) this.#command(r.PCI_EXP_SLTCTL_AIC, lamp);
    return text.length;
  }

  /** What is behind a port, the last first, each after what is behind it. */
  #below(port: PciDev): PciDev[] {
    const children = this.#port.subsystem.devices.filter(({ parent }) => parent === port).reverse();
    return children.flatMap((dev) => [...this.#below(dev), dev]);
  }

  /** pcie_write_cmd. */
  #command(clear: number, set: number): void {
    this.#port.writeConfig(this.#express + r.PCI_EXP_SLTCTL, 2, (this.#control & ~clear) | set);
  }

  /** What pci_create_slot and fs_add_slot make of it. */
  #addFiles(): void {
    const { system, segment } = this.#port;
    const directory = system.fs.mkdirp(`${SLOTS}/${this.#name}`);
    const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
    const bus = (): number => this.#port.readConfig(r.PCI_SECONDARY_BUS, 1);
    const link = (register: number): string => busSpeed(this.#port.readConfig(this.#express + register, 2));
    const add = (name: string, show: () => string, store?: (text: string) => number | Pending): void => {
      const stores = store === undefined ? {} : { store: (_p: Process, text: string) => store(text) };
      directory.add(name, new Attribute(store === undefined ? 0o444 : 0o644, { show: () => `${show()}\n`, ...stores }));
    };
    add('address', () => `${hex(segment, 4)}:${hex(bus(), 2)}:00`);
    add('max_bus_speed', () => link(r.PCI_EXP_LNKCAP));
    add('cur_bus_speed', () => link(r.PCI_EXP_LNKSTA));
    add(
      'power',
      () => (this.#powered ? '1' : '0'),
      (text) => this.#storePower(text),
    );
    if (this.#has(r.PCI_EXP_SLTCAP_AIP))
      add(
        'attention',
        () => this.#attention,
        (text) => this.#storeAttention(text),
      );
    if (this.#has(r.PCI_EXP_SLTCAP_MRLSP)) add('latch', () => ((this.#status & r.PCI_EXP_SLTSTA_MRLSS) === 0 ? '0' : '1'));
    add('adapter', () => (this.#present ? '1' : '0'));
  }
}

const SPEEDS = ['2.5', '5.0', '8.0', '16.0', '32.0', '64.0'];

function busSpeed(register: number): string {
  const speed = SPEEDS[(register & 0xf) - 1];
  return speed === undefined ? 'Unknown' : `${speed} GT/s PCIe`;
}
