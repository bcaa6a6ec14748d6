import * as r from '../../uapi/pci-regs.ts';
import { EINVAL } from '../../uapi/sys.ts';
import { Attribute } from '../fs/attribute.ts';
import type { PciDev } from './pci-dev.ts';

const SLOTS = '/sys/bus/pci/slots';

/** pciehp_is_native: the port has a slot with a hot-plug controller, and the firmware has left it to the kernel. */
export function hasHotplug(port: PciDev): boolean {
  const express = port.findCapability(r.PCI_CAP_ID_EXP);
  return port.system.machine.pciehp === true && (port.readConfig(express + r.PCI_EXP_SLTCAP, 4) & r.PCI_EXP_SLTCAP_HPC) !== 0;
}

/** pciehp (drivers/pci/hotplug): the hot-plug controller of one port, and what is in its slot. */
export class Pciehp {
  readonly #port: PciDev;
  readonly #express: number;
  readonly #name: string;
  /** ON_STATE: there is a card, and it is not being removed. */
  #on: boolean;

  constructor(port: PciDev) {
    this.#port = port;
    this.#express = port.findCapability(r.PCI_CAP_ID_EXP);
    this.#name = String((port.readConfig(this.#express + r.PCI_EXP_SLTCAP, 4) & r.PCI_EXP_SLTCAP_PSN) >>> 19);
    this.#on = this.#present;
    port.onSlotEvent = () => this.#event();
    this.#addFiles();
    // Where a button announces a card, presence is not asked for: it comes along with the next event.
    const button = (port.readConfig(this.#express + r.PCI_EXP_SLTCAP, 4) & r.PCI_EXP_SLTCAP_ABP) !== 0;
    const told = button ? r.PCI_EXP_SLTCTL_ABPE : r.PCI_EXP_SLTCTL_PDCE;
    this.#control(0, told | r.PCI_EXP_SLTCTL_CCIE | r.PCI_EXP_SLTCTL_HPIE);
  }

  /** The driver lets go of the port. */
  remove(): void {
    this.#port.onSlotEvent = undefined;
    this.#control(r.PCI_EXP_SLTCTL_HPIE, 0);
    this.#port.system.fs.mkdirp(SLOTS).remove(this.#name);
  }

  get #present(): boolean {
    return (this.#port.readConfig(this.#express + r.PCI_EXP_SLTSTA, 2) & r.PCI_EXP_SLTSTA_PDS) !== 0;
  }

  /** pciehp_ist: the event is taken; a slot that was on has lost its card, even if there is one again; one that is off and has a card is turned on. */
  #event(): void {
    const at = this.#express + r.PCI_EXP_SLTSTA;
    const status = this.#port.readConfig(at, 2);
    this.#port.writeConfig(at, 2, status);
    if ((status & r.PCI_EXP_SLTSTA_PDC) === 0) return;
    const { PCI_EXP_SLTCTL: control, PCI_EXP_SLTCTL_PCC: off } = r;
    const powered = (this.#port.readConfig(this.#express + control, 2) & off) === 0;
    if (this.#on && !powered) {
      // Whoever has turned the power off is taken to have removed the devices.
      this.#on = false;
    } else if (this.#on) {
      this.#on = false;
      this.#port.subsystem.surpriseRemove(this.#below(this.#port)).whenDone(() => this.#settle());
    } else this.#settle();
  }

  /** Off, and if there is a card, on again. */
  #settle(): void {
    this.#on = this.#present;
    const off = r.PCI_EXP_SLTCTL_PCC | r.PCI_EXP_SLTCTL_PWR_IND_OFF;
    this.#control(off, this.#on ? r.PCI_EXP_SLTCTL_PWR_IND_ON : off);
  }

  /** What is behind a port, the last first, each after what is behind it. */
  #below(port: PciDev): PciDev[] {
    const children = this.#port.subsystem.devices.filter(({ parent }) => parent === port).reverse();
    return children.flatMap((dev) => [...this.#below(dev), dev]);
  }

  /** pcie_write_cmd. */
  #control(clear: number, set: number): void {
    const at = this.#express + r.PCI_EXP_SLTCTL;
    this.#port.writeConfig(at, 2, (this.#port.readConfig(at, 2) & ~clear) | set);
  }

  /** What pci_hp_register makes of the slot. Turning it off and on by them is not modelled. */
  #addFiles(): void {
    const directory = this.#port.system.fs.mkdirp(`${SLOTS}/${this.#name}`);
    const bus = (): number => this.#port.readConfig(r.PCI_SECONDARY_BUS, 1);
    const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
    const control = (): number => this.#port.readConfig(this.#express + r.PCI_EXP_SLTCTL, 2);
    const files: Readonly<Record<string, () => string>> = {
      address: () => `${hex(this.#port.segment, 4)}:${hex(bus(), 2)}:00`,
      adapter: () => (this.#present ? '1' : '0'),
      cur_bus_speed: () => busSpeed(this.#port.readConfig(this.#express + r.PCI_EXP_LNKSTA, 2)),
      max_bus_speed: () => busSpeed(this.#port.readConfig(this.#express + r.PCI_EXP_LNKCAP, 2)),
    };
    for (const [name, show] of Object.entries(files)) directory.add(name, new Attribute(0o444, { show: () => `${show()}\n` }));
    const { system } = this.#port;
    const switches: Readonly<Record<string, () => string>> = {
      power: () => ((control() & r.PCI_EXP_SLTCTL_PCC) === 0 ? '1' : '0'),
      attention: () => attention(control()),
    };
    for (const [name, show] of Object.entries(switches)) {
      const store = (): number => system.notModelled(`${name} of a PCI slot`, -EINVAL);
      directory.add(name, new Attribute(0o644, { show: () => `${show()}\n`, store }));
    }
  }
}

const SPEEDS = ['2.5', '5.0', '8.0', '16.0', '32.0', '64.0'];

function busSpeed(register: number): string {
  const speed = SPEEDS[(register & 0xf) - 1];
  return speed === undefined ? 'Unknown' : `${speed} GT/s PCIe`;
}

/** pciehp_get_attention_status: on is 1, blinking 2. */
function attention(control: number): string {
  return ['0', '1', '2', '0'][(control >> 6) & 3]!;
}
