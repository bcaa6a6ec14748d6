/** An inclusive range of IOVAs. */
export interface IovaRange {
  readonly start: bigint;
  readonly end: bigint;
}

/** What of the reserved regions of a group matters: relaxable ones may be mapped over. */
export interface ReservedRegions {
  readonly reservedRegions: readonly { readonly start: bigint; readonly last: bigint; readonly type: string }[];
}

const MAX = (1n << 64n) - 1n;

/**
 * The IOVA ranges a container may map, ascending: `iommu->iova_list` of drivers/vfio/vfio_iommu_type1.c. Nothing while no group with an IOMMU is attached. Each
 * operation gives a new list.
 */
export type IovaList = readonly IovaRange[];

/** vfio_iommu_aper_resize: cuts the list to an aperture; an empty one becomes it. */
export function resize(list: IovaList, start: bigint, end: bigint): IovaList {
  if (list.length === 0) return [{ start, end }];
  return list
    .filter((range) => range.end >= start && range.start <= end)
    .map((range) => ({ start: range.start < start ? start : range.start, end: range.end > end ? end : range.end }));
}

/** vfio_iommu_resv_exclude. */
export function exclude(list: IovaList, groups: Iterable<ReservedRegions>): IovaList {
  let left = list;
  for (const { start, last } of reserved(groups)) {
    left = left.flatMap((range) => {
      if (start > range.end || last < range.start) return [range];
      const below = start > range.start ? [{ start: range.start, end: start - 1n }] : [];
      const above = last < range.end ? [{ start: last + 1n, end: range.end }] : [];
      return [...below, ...above];
    });
  }
  return left;
}

/** vfio_iommu_aper_expand: the list reaches as far as all of these apertures do. */
export function expand(list: IovaList, apertures: Iterable<readonly [first: bigint, last: bigint]>): IovaList {
  let start = 0n;
  let end = MAX;
  for (const [first, last] of apertures) {
    if (first > start) start = first;
    if (last < end) end = last;
  }
  return list.length === 0 ? list : [{ start, end }];
}

/** vfio_iommu_resv_refresh: between its ends, the list is what these groups leave. */
export function refresh(list: IovaList, groups: Iterable<ReservedRegions>): IovaList {
  const [low, high] = [list[0], list.at(-1)];
  return low === undefined || high === undefined ? list : exclude([{ start: low.start, end: high.end }], groups);
}

/** vfio_iommu_iova_dma_valid: inside one range; without ranges anything goes. */
export function allows(list: IovaList, first: bigint, last: bigint): boolean {
  return list.length === 0 || list.some(({ start, end }) => start <= first && last <= end);
}

/** The regions nothing may be mapped over. */
export function* reserved(groups: Iterable<ReservedRegions>): Generator<{ start: bigint; last: bigint }> {
  for (const { reservedRegions } of groups) {
    for (const region of reservedRegions) if (region.type !== 'direct-relaxable') yield region;
  }
}
