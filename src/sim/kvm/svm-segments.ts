import { kvm_segment, kvm_sregs } from '../../uapi/kvm.ts';
import type { Cpu } from '../cpu/cpu.ts';

/*
 * SVM keeps a segment's attributes in 12 bits of the VMCB, among them neither G nor KVM's `unusable`: svm_set_segment truncates, svm_get_segment
 * derives. Asked of Linux 7.2 in the lab.
 */

/** Bits of each attribute the VMCB has. */
const WIDTHS = { type: 0xf, s: 1, dpl: 3, avl: 1, l: 1, db: 1 } as const;
const MAX_BYTE_LIMIT = 0xf_ffff;
const ACCESSED = 1;
/** Of a TSS. */
const BUSY = 2;

/** svm_set_segment: a segment that is unusable is not present. */
export function truncateSegments(cpu: Cpu): void {
  for (const segment of cpu.segments) {
    for (const [field, mask] of Object.entries(WIDTHS) as [keyof typeof WIDTHS, number][]) segment[field] &= mask;
    segment.present = segment.unusable ? 0 : segment.present & 1;
    segment.unusable = 1 - segment.present;
  }
  cpu.refresh();
}

/** VMRUN and VMLOAD sign-extend the bases they load from so many bits as linear addresses have. */
export function canonicaliseBases({ segments, gdt, idt }: Cpu, width: number): void {
  for (const table of [...segments, gdt, idt]) table.base = BigInt.asUintN(64, BigInt.asIntN(width, table.base));
}

type Derive = (get: (field: 'type' | 'present') => number, set: (field: 'type' | 'db', value: number) => void) => void;
const accessed: Derive = (get, set) => {
  if (get('present')) set('type', get('type') | ACCESSED);
};

/** What svm_get_segment does to one segment only. */
const derived: Readonly<Record<string, Derive | undefined>> = {
  cs: undefined,
  ds: accessed,
  es: accessed,
  fs: accessed,
  gs: accessed,
  ss: (get, set) => {
    if (!get('present')) set('db', 0);
  },
  tr: (get, set) => set('type', get('type') | BUSY),
  ldt: undefined,
};

/** svm_get_segment, on a `struct kvm_sregs` that holds the segments as they are. */
export function deriveSegments(view: DataView, from: number): void {
  for (const [name, derive] of Object.entries(derived)) {
    const at = (field: string): number => from + kvm_sregs.offsetOf(name) + kvm_segment.offsetOf(field);
    view.setUint8(at('g'), Number(view.getUint32(at('limit'), true) > MAX_BYTE_LIMIT));
    view.setUint8(at('unusable'), 1 - view.getUint8(at('present')));
    derive?.(
      (field) => view.getUint8(at(field)),
      (field, value) => view.setUint8(at(field), value),
    );
  }
}
