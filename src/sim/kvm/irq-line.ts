/** Who drives an interrupt line: a line is high while any of them holds it so. */
export const KVM_USERSPACE_IRQ_SOURCE_ID = 0;
export const KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID = 1;
export const KVM_PIT_IRQ_SOURCE_ID = 2;

/** __kvm_irq_line_state. */
export class IrqLine {
  #sources = 0;

  /** The level of the line afterwards. */
  set(source: number, level: boolean): boolean {
    if (level) this.#sources |= 1 << source;
    else this.#sources &= ~(1 << source);
    return this.#sources !== 0;
  }
}
