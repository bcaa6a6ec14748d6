import * as r from '../../../uapi/pci-regs.ts';
import type { PciFunction } from '../pci-function.ts';
import type { TdiMmio } from '../tdisp/tdi.ts';
import { TDISP_MMIO } from '../tdisp/vocabulary.ts';
import { memoryBars, type Physical } from '../windows.ts';

const PAGE = 4096;
const { MSIX_TABLE, MSIX_PBA, IS_NON_TEE_MEM } = TDISP_MMIO;

/** The memory of a function's interface: its memory BARs, which belong to the guest but for the pages with the MSI-X table and its pending bits, which the host programs. */
export function interfaceMemory(fn: PciFunction, physical: Physical | undefined): TdiMmio[] {
  const { msix } = fn.spec;
  const hosts =
    msix === undefined
      ? []
      : [
          pagesOf(msix.tableBar, msix.table, msix.vectors * r.PCI_MSIX_ENTRY_SIZE, MSIX_TABLE),
          pagesOf(msix.pbaBar, msix.pba, Math.ceil(msix.vectors / 64) * 8, MSIX_PBA),
        ];
  return memoryBars(fn, physical).flatMap(({ bar, base, size }) => {
    const pages = Math.floor(size / PAGE);
    const inside = hosts.filter((one) => one.bar === bar);
    const cuts = [...new Set([0, pages, ...inside.flatMap(({ first, end }) => [first, end])])].sort((a, b) => a - b);
    return cuts.slice(0, -1).map((first, i) => {
      const kinds = inside.filter((one) => first >= one.first && first < one.end);
      const attributes = kinds.reduce((all, { kind }) => all | kind | IS_NON_TEE_MEM, 0);
      return { bar, address: base + BigInt(first * PAGE), pages: cuts[i + 1]! - first, attributes };
    });
  });
}

function pagesOf(
  bar: number,
  at: number,
  length: number,
  kind: number,
): { bar: number; first: number; end: number; kind: number } {
  return { bar, first: Math.floor(at / PAGE), end: Math.ceil((at + length) / PAGE), kind };
}
