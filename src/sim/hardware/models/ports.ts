import * as r from '../../../uapi/pci-regs.ts';
import { PciBridge } from '../bridge.ts';
import type { FunctionSpec } from '../function-spec.ts';
import { le16 } from '../little-endian.ts';
import type { ResetKind } from '../pci-function.ts';

export interface RootPortOptions {
  /** Physical slot number. */
  readonly slot?: number;
  /** Link speed code: 1 is 2.5 GT/s. From 3 on the link never says that it is up, as QEMU's does not: resets below do not succeed. */
  readonly speed?: number;
  /** Slot Status says whether a card is in the slot, and turning off its power lets it go: as QEMU's where not ACPI has the slots. Default false. */
  readonly presence?: boolean;
  /** Access control services; without them what is below shares a group with the port. Default true. */
  readonly acs?: boolean;
}

/** Power Controller off, and Power Indicator off: what is in the slot can be taken out. */
const POWERED_OFF = r.PCI_EXP_SLTCTL_PCC | r.PCI_EXP_SLTCTL_PWR_IND_OFF;

const ACS = { bytes: Uint8Array.of(0x5f, 0, 0, 0), writable: Uint8Array.of(0, 0, 0x5f, 0) };
const EXPRESS = 0x54;
const SLOT_CONTROL = EXPRESS + r.PCI_EXP_SLTCTL;
const SLOT_STATUS = EXPRESS + r.PCI_EXP_SLTSTA;
/** What a controller can be told to tell, and tells, by the same bits: the button, a card that came or went, a command that is complete. */
const EVENTS = r.PCI_EXP_SLTSTA_ABP | r.PCI_EXP_SLTSTA_PDC | r.PCI_EXP_SLTSTA_CC;
const MSIX_TABLE = { vectors: 1, tableBar: 0, table: 0, pbaBar: 0, pba: 0x800 };

/** QEMU's pcie-root-port, 1b36:000c. */
export class RootPort extends PciBridge {
  readonly #presence: boolean;
  /** An interrupt of the hot-plug controller stands. */
  #notified = false;

  constructor({ slot = 1, speed = 1, acs = true, presence = false }: RootPortOptions = {}) {
    super({
      vendor: 0x1b36,
      device: 0x000c,
      class: 0x060400,
      interruptPin: 1,
      bars: { 0: { size: 0x1000, space: 'mem32' } },
      msix: { ...MSIX_TABLE, at: 0x48 },
      express: {
        at: EXPRESS,
        type: r.PCI_EXP_TYPE_ROOT_PORT,
        slot: true,
        deviceCapabilities: 0x8000,
        deviceControl: 0xf,
        linkCapabilities: 0x20_0600 | speed,
        slotCapabilities: (slot << 19) | 0x2_007b,
        slotControl: 0x17ff,
        rootControl: 0xf,
        deviceCapabilities2: 0x30_0020,
        deviceControl2: 0x20,
      },
      capabilities: [{ id: r.PCI_CAP_ID_SSVID, at: 0x40, bytes: Uint8Array.of(0, 0, 0x36, 0x1b, 0, 0) }],
      chain: [EXPRESS, 0x48, 0x40],
      aer: { root: true },
      extended: acs ? [{ id: r.PCI_EXT_CAP_ID_ACS, at: 0x148, ...ACS }] : [],
      gaps: 'writable',
    });
    this.config.define(SLOT_CONTROL, {
      bytes: Uint8Array.from([...le16(0x1c0), 0, 0]),
      writable: Uint8Array.of(0xff, 0x17, 0, 0),
      clearable: Uint8Array.of(0, 0, presence ? 0x1f : 0, 0),
    });
    this.#presence = presence;
    if (presence) this.config.onWrite(SLOT_CONTROL, (before, after) => this.#slotControl(before, after));
  }

  override reset(kind: ResetKind): void {
    super.reset(kind);
    this.#showPresence();
  }

  /** A card that was there when the machine was turned on is no event. Whoever puts one in later presses the button, too. */
  override populationChanged(): void {
    if (!this.#showPresence() || this.place?.running !== true) return;
    const pressed = this.secondary.functions.size > 0 ? r.PCI_EXP_SLTSTA_ABP : 0;
    this.#event(r.PCI_EXP_SLTSTA_PDC | pressed);
  }

  /** Presence Detect State; whether it has changed. */
  #showPresence(): boolean {
    if (!this.#presence) return false;
    const present = this.secondary.functions.size > 0;
    const before = (this.config.peek(SLOT_STATUS, 2) & r.PCI_EXP_SLTSTA_PDS) !== 0;
    this.config.flag(SLOT_STATUS, 2, r.PCI_EXP_SLTSTA_PDS, present);
    return present !== before;
  }

  #slotControl(before: number, after: number): void {
    const off = (control: number): boolean => (control & POWERED_OFF) === POWERED_OFF;
    // Turning the power off makes QEMU let go of the card.
    if (off(after) && !off(before)) for (const fn of this.secondary.sorted()) this.place?.eject(fn);
    this.#event(((before ^ after) & 0xffff) === 0 ? 0 : r.PCI_EXP_SLTSTA_CC);
  }

  /** The controller's interrupt is sent when there is an event to be told, and was none before. */
  #event(bits: number): void {
    this.config.flag(SLOT_STATUS, 2, bits, true);
    const control = this.config.peek(SLOT_CONTROL, 2);
    const tells = control & this.config.peek(SLOT_STATUS, 2) & EVENTS;
    const before = this.#notified;
    this.#notified = (control & r.PCI_EXP_SLTCTL_HPIE) !== 0 && tells !== 0;
    if (this.#notified && !before) this.place?.slotEvent(this);
  }
}

/** QEMU's pcie-pci-bridge, 1b36:000e: PCI Express above, a conventional bus below. */
export class PciePciBridge extends PciBridge {
  constructor() {
    super({
      vendor: 0x1b36,
      device: 0x000e,
      class: 0x060400,
      interruptPin: 1,
      status: 0xa0,
      bars: { 0: { size: 0x100, space: 'mem64' } },
      pm: { at: 0x84, control: 0 },
      msi: { at: 0x8c, vectors: 1, maskable: true },
      express: {
        at: 0x48,
        type: r.PCI_EXP_TYPE_PCI_BRIDGE,
        deviceCapabilities: 0x8000,
        deviceControl: 0xf,
        linkControl: 0,
        deviceCapabilities2: 0x30_0020,
        deviceControl2: 0x8020,
      },
      capabilities: [{ id: 0x0c, at: 0x40, bytes: new Uint8Array(6), writable: Uint8Array.of(0xff) }],
      chain: [0x8c, 0x84, 0x48, 0x40],
      aer: { maskable: false },
      // Of AER, whose last registers are a root port's.
      registers: [{ at: 0x138, bytes: new Uint8Array(16) }],
      gaps: 'writable',
      hotplug: true,
    });
    this.config.define(r.PCI_SEC_STATUS, { bytes: Uint8Array.from(le16(0xa0)) });
  }
}

/** An upstream or downstream port of a switch. */
export class SwitchPort extends PciBridge {
  constructor({ kind, acs = true }: { kind: 'upstream' | 'downstream'; acs?: boolean }) {
    const type = kind === 'upstream' ? r.PCI_EXP_TYPE_UPSTREAM : r.PCI_EXP_TYPE_DOWNSTREAM;
    const isolated = acs && kind === 'downstream';
    const spec: FunctionSpec = {
      vendor: 0x104c,
      device: kind === 'upstream' ? 0x8232 : 0x8233,
      class: 0x060400,
      revision: kind === 'upstream' ? 2 : 1,
      pm: {},
      express: { type, slot: kind === 'downstream' },
      aer: true,
      extended: isolated ? [{ id: r.PCI_EXT_CAP_ID_ACS, ...ACS }] : [],
    };
    super(spec);
  }
}

/** A conventional PCI-to-PCI bridge. */
export class PciPciBridge extends PciBridge {
  constructor() {
    super({ vendor: 0x1b36, device: 0x0001, class: 0x060400, interruptPin: 1 });
  }
}
