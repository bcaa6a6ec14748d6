import {
  EACCES,
  EFAULT,
  EINVAL,
  ENODEV,
  ENOMEM,
  MADV_COLD,
  MADV_COLLAPSE,
  MADV_DODUMP,
  MADV_DOFORK,
  MADV_DONTDUMP,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_DONTNEED_LOCKED,
  MADV_FREE,
  MADV_HUGEPAGE,
  MADV_KEEPONFORK,
  MADV_MERGEABLE,
  MADV_NOHUGEPAGE,
  MADV_NORMAL,
  MADV_PAGEOUT,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_RANDOM,
  MADV_REMOVE,
  MADV_SEQUENTIAL,
  MADV_UNMERGEABLE,
  MADV_WILLNEED,
  MADV_WIPEONFORK,
  MAP_32BIT,
  MAP_ABOVE4G,
  MAP_ANONYMOUS,
  MAP_DENYWRITE,
  MAP_EXECUTABLE,
  MAP_FIXED,
  MAP_GROWSDOWN,
  MAP_HUGE_1GB,
  MAP_HUGE_2MB,
  MAP_HUGETLB,
  MAP_LOCKED,
  MAP_NONBLOCK,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_STACK,
  MAP_UNINITIALIZED,
  PROT_READ,
  PROT_WRITE,
} from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import type { AddressSpace } from './address-space.ts';
import { PAGE_SIZE } from './pages.ts';
import type { Vma } from './vma.ts';

/** MAP_* flags old kernels knew: MAP_SHARED_VALIDATE refuses all others (EOPNOTSUPP) unless the file announces them. */
export const LEGACY_MAP_MASK: number =
  MAP_SHARED |
  MAP_PRIVATE |
  MAP_FIXED |
  MAP_ANONYMOUS |
  MAP_DENYWRITE |
  MAP_EXECUTABLE |
  MAP_UNINITIALIZED |
  MAP_GROWSDOWN |
  MAP_LOCKED |
  MAP_NORESERVE |
  MAP_POPULATE |
  MAP_NONBLOCK |
  MAP_STACK |
  MAP_HUGETLB |
  MAP_32BIT |
  MAP_ABOVE4G |
  MAP_HUGE_2MB |
  MAP_HUGE_1GB;

type Rule = (mm: AddressSpace, vma: Vma, start: number, end: number) => number;

const nothing: Rule = () => 0;
const unlessLocked =
  (rule: Rule): Rule =>
  (mm, vma, start, end) =>
    vma.locked ? -EINVAL : rule(mm, vma, start, end);

const zap: Rule = (mm, vma, start, end) => {
  mm.zap(vma, start, end);
  return 0;
};

/** Punches a hole into the file, or into shared anonymous memory; needs a mapping whose stores reach it. As fallocate: not of a device. */
const remove: Rule = (mm, vma, start, end) =>
  vma.locked || vma.backing.anonymous === true ? -EINVAL : removeOfFile(mm, vma, start, end);

const removeOfFile: Rule = (_mm, vma, start, end) => {
  if (!vma.shared || (vma.may & PROT_WRITE) === 0) return -EACCES;
  const base = vma.page * PAGE_SIZE - vma.start;
  return vma.backing.remove?.(base + start, base + end) ?? -ENODEV;
};

/** VM_PFNMAP: a device's memory has no pages to be dropped, aged, copied, dumped or faulted in. */
const notOfDevice =
  (rule: Rule): Rule =>
  (mm, vma, start, end) =>
    vma.backing.pfn === undefined ? rule(mm, vma, start, end) : -EINVAL;

const anonymousOnly =
  (rule: Rule): Rule =>
  (mm, vma, start, end) =>
    vma.backing.anonymous === true ? rule(mm, vma, start, end) : -EINVAL;

const populate =
  (write: boolean): Rule =>
  (mm, vma, start, end) => {
    if ((vma.prot & (write ? PROT_WRITE : PROT_READ)) === 0) return -EINVAL;
    if (!mm.fits(end - start)) return -ENOMEM;
    if (vma.backing.anonymous === true && vma.grain === PAGE_SIZE) return 0;
    for (let at = start - (start % vma.grain); at < end; at += vma.grain) if (mm.resolve(at, write) === null) return -EFAULT;
    return 0;
  };

/** Every advice the kernel knows (madvise_behavior_valid); others are EINVAL. */
const rules: ReadonlyMap<number, Rule> = new Map([
  [MADV_NORMAL, nothing],
  [MADV_RANDOM, nothing],
  [MADV_SEQUENTIAL, nothing],
  [MADV_WILLNEED, nothing],
  [MADV_DONTNEED, notOfDevice(unlessLocked(zap))],
  [MADV_DONTNEED_LOCKED, notOfDevice(zap)],
  // Lazily freed pages may keep their bytes or become zeros; here they keep them, as a kernel without memory pressure does.
  [MADV_FREE, unlessLocked(anonymousOnly(nothing))],
  [MADV_REMOVE, remove],
  [MADV_DONTFORK, nothing],
  [MADV_DOFORK, notOfDevice(nothing)],
  [MADV_MERGEABLE, nothing],
  [MADV_UNMERGEABLE, nothing],
  [MADV_HUGEPAGE, nothing],
  [MADV_NOHUGEPAGE, nothing],
  [MADV_DONTDUMP, nothing],
  [MADV_DODUMP, notOfDevice(nothing)],
  [MADV_WIPEONFORK, anonymousOnly(nothing)],
  [MADV_KEEPONFORK, nothing],
  [MADV_COLD, notOfDevice(unlessLocked(nothing))],
  [MADV_PAGEOUT, notOfDevice(unlessLocked(nothing))],
  [MADV_POPULATE_READ, notOfDevice(populate(false))],
  [MADV_POPULATE_WRITE, notOfDevice(populate(true))],
  [MADV_COLLAPSE, () => -EINVAL],
]);

/** For a kernel with CONFIG_KSM. */
const MERGING: ReadonlySet<number> = new Set([MADV_MERGEABLE, MADV_UNMERGEABLE]);

/** Flags of a VMA, of which no more is known than that a change of them cuts it. */
const [RANDOM, SEQUENTIAL, DONTCOPY, DONTDUMP, HUGEPAGE, NOHUGEPAGE] = [1, 2, 4, 8, 16, 32] as const;

/** madvise_update_vma: where something changes the VMA is cut, between huge pages only. */
const flags =
  (set: number, clear: number): Rule =>
  (mm, vma, start, end) => {
    const wanted = (vma.advised & ~clear) | set;
    if (wanted === vma.advised) return 0;
    const parts = mm.cut(start, end);
    if (parts === undefined) return -EINVAL;
    for (const part of parts) part.advised = wanted;
    return 0;
  };

/** From the start of a huge page on; one that is not wholly meant stays. */
const zapHuge: Rule = (mm, vma, start, end) => {
  if (start % vma.grain !== 0) return -EINVAL;
  const whole = end - (end % vma.grain);
  return whole > start ? zap(mm, vma, start, whole) : 0;
};

const refused: Rule = () => -EINVAL;

/** What huge pages take otherwise: they have a file always (VM_DONTEXPAND), are never aged, and are cut between themselves. */
const hugeRules: ReadonlyMap<number, Rule> = new Map([
  [MADV_NORMAL, flags(0, RANDOM | SEQUENTIAL)],
  [MADV_RANDOM, flags(RANDOM, SEQUENTIAL)],
  [MADV_SEQUENTIAL, flags(SEQUENTIAL, RANDOM)],
  [MADV_DONTNEED, zapHuge],
  [MADV_DONTNEED_LOCKED, zapHuge],
  [MADV_FREE, refused],
  [MADV_REMOVE, removeOfFile],
  [MADV_DONTFORK, flags(DONTCOPY, 0)],
  [MADV_DOFORK, (mm, ...range) => (has(mm.machine, 'doforkRefusedOfHuge') ? -EINVAL : flags(0, DONTCOPY)(mm, ...range))],
  [MADV_HUGEPAGE, flags(HUGEPAGE, NOHUGEPAGE)],
  [MADV_NOHUGEPAGE, flags(NOHUGEPAGE, HUGEPAGE)],
  [MADV_DONTDUMP, flags(DONTDUMP, 0)],
  [MADV_DODUMP, flags(0, DONTDUMP)],
  [MADV_WIPEONFORK, refused],
  [MADV_COLD, refused],
  [MADV_PAGEOUT, refused],
]);

/** madvise(2): the checks of do_madvise in order, then each VMA of the range; a gap is ENOMEM after all the rest was done. */
export function madvise(mm: AddressSpace, start: number, length: number, advice: number): number {
  const rule = rules.get(advice);
  if (rule === undefined || start % PAGE_SIZE !== 0 || (MERGING.has(advice) && mm.machine.ksm !== true)) return -EINVAL;
  const end = start + Math.ceil(length / PAGE_SIZE) * PAGE_SIZE;
  if (end >= 2 ** 64) return -EINVAL;
  if (end === start) return 0;
  const stopAtGap = advice === MADV_POPULATE_READ || advice === MADV_POPULATE_WRITE;
  let at = start;
  let gap = false;
  for (const vma of mm.within(start, end)) {
    if (vma.start > at) {
      if (stopAtGap) return -ENOMEM;
      gap = true;
    }
    const mine = vma.grain === PAGE_SIZE ? rule : (hugeRules.get(advice) ?? rule);
    at = vma.end;
    const error = mine(mm, vma, Math.max(start, vma.start), Math.min(end, vma.end));
    if (error < 0) return error;
  }
  return gap || at < end ? -ENOMEM : 0;
}
