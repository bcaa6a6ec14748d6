export type IrqKind = 'none' | 'intx' | 'msi' | 'msix';

/** The kernel's side of a function's interrupts. */
export interface PciIrq {
  /** INTA is 1; 0: none. */
  readonly pin: number;
  /** Linux interrupt number of the line; 0: none. */
  readonly line: number;
  /** DisINTx works (PCI 2.3): masks at the device, else at the line. */
  readonly intxSupported: boolean;
  /** request_irq of the line: 0 or −errno. */
  requestIntx(handler: () => void): number;
  freeIntx(): void;
  maskIntx(masked: boolean): void;
  /** The function asserts INTx now, masked or not. */
  intxAsserted(): boolean;
  /** 2^MMC; 0 without the capability. */
  readonly msiCount: number;
  readonly msixCount: number;
  /** pci_alloc_irq_vectors: how many, or −errno. */
  allocVectors(kind: 'msi' | 'msix', min: number, max: number): number;
  /** pci_msix_alloc_irq_at: 0 or −errno. */
  growMsix(vector: number): number;
  freeVectors(): void;
  readonly kind: IrqKind;
  readonly allocated: number;
  /** Linux interrupt number of a vector; 0 where it is not allocated. */
  irqOf(vector: number): number;
  /** request_irq and free_irq of a vector. */
  setHandler(vector: number, handler: (() => void) | undefined): void;
}
