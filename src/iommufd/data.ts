import { typeError } from '../kernel/errors.ts';
import {
  IOMMU_HW_INFO_TYPE_AMD,
  IOMMU_HW_INFO_TYPE_ARM_SMMUV3,
  IOMMU_HW_INFO_TYPE_INTEL_VTD,
  IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV,
  IOMMU_HWPT_DATA_AMD_GUEST,
  IOMMU_HWPT_DATA_ARM_SMMUV3,
  IOMMU_HWPT_DATA_VTD_S1,
  IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
  IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
  IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV,
  IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
  iommu_hw_info_amd,
  iommu_hw_info_arm_smmuv3,
  iommu_hw_info_tegra241_cmdqv,
  iommu_hw_info_vtd,
  iommu_hwpt_amd_guest,
  iommu_hwpt_arm_smmuv3,
  iommu_hwpt_vtd_s1,
  iommu_hwpt_vtd_s1_invalidate,
  iommu_vevent_arm_smmuv3,
  iommu_vevent_tegra241_cmdqv,
  iommu_viommu_arm_smmuv3_invalidate,
} from '../uapi/iommufd.ts';
import type { Struct } from '../uapi/struct.ts';

/** A struct of an IOMMU's driver under the number that names its type. Fields are called as the struct, without what all of a kind have in front. */
interface Kind<T> {
  readonly type: number;
  readonly struct: Struct<T>;
}

type Kinds<T> = { readonly [Name in keyof T]: Kind<T[Name]> };

/** Exactly one of them. */
type OneOf<T> = { [Name in keyof T]: { readonly [Only in Name]: T[Only] } }[keyof T];

/** What a guest's own page table is made of: `iommu_hwpt_vtd_s1` … */
export interface NestedStructs {
  vtd_s1: iommu_hwpt_vtd_s1;
  arm_smmuv3: iommu_hwpt_arm_smmuv3;
  amd_guest: iommu_hwpt_amd_guest;
}

/** The struct of its IOMMU by name, or bytes with the number of their type (IOMMU_HWPT_DATA_*). */
export type NestedData = { readonly type: number; readonly bytes: Uint8Array } | OneOf<NestedStructs>;

const nested: Kinds<NestedStructs> = {
  vtd_s1: { type: IOMMU_HWPT_DATA_VTD_S1, struct: iommu_hwpt_vtd_s1 },
  arm_smmuv3: { type: IOMMU_HWPT_DATA_ARM_SMMUV3, struct: iommu_hwpt_arm_smmuv3 },
  amd_guest: { type: IOMMU_HWPT_DATA_AMD_GUEST, struct: iommu_hwpt_amd_guest },
};

/** What is to be forgotten of what a guest has changed: `iommu_hwpt_vtd_s1_invalidate` of a page table, `iommu_viommu_arm_smmuv3_invalidate` of a vIOMMU. */
export interface InvalidateStructs {
  vtd_s1: iommu_hwpt_vtd_s1_invalidate;
  arm_smmuv3: iommu_viommu_arm_smmuv3_invalidate;
}

/** Requests one behind the other, as bytes. */
export interface InvalidateEntries {
  /** IOMMU_HWPT_INVALIDATE_DATA_*, IOMMU_VIOMMU_INVALIDATE_DATA_*. */
  data_type: number;
  entries: Uint8Array;
  entry_len: number;
}

/** Requests to forget what a guest has changed of its own page tables: structs of its IOMMU by name, or bytes. */
export type InvalidateRequest =
  | InvalidateEntries
  | OneOf<{ [Name in keyof InvalidateStructs]: readonly InvalidateStructs[Name][] }>;

const invalidations: Kinds<InvalidateStructs> = {
  vtd_s1: { type: IOMMU_HWPT_INVALIDATE_DATA_VTD_S1, struct: iommu_hwpt_vtd_s1_invalidate },
  arm_smmuv3: { type: IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3, struct: iommu_viommu_arm_smmuv3_invalidate },
};

/** What IOMMU_GET_HW_INFO told, as the struct of its type: `iommu_hw_info_vtd` … */
export interface HwInfoStructs {
  readonly vtd?: iommu_hw_info_vtd;
  readonly arm_smmuv3?: iommu_hw_info_arm_smmuv3;
  readonly tegra241_cmdqv?: iommu_hw_info_tegra241_cmdqv;
  readonly amd?: iommu_hw_info_amd;
}

const hwInfos: Kinds<Required<HwInfoStructs>> = {
  vtd: { type: IOMMU_HW_INFO_TYPE_INTEL_VTD, struct: iommu_hw_info_vtd },
  arm_smmuv3: { type: IOMMU_HW_INFO_TYPE_ARM_SMMUV3, struct: iommu_hw_info_arm_smmuv3 },
  tegra241_cmdqv: { type: IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, struct: iommu_hw_info_tegra241_cmdqv },
  amd: { type: IOMMU_HW_INFO_TYPE_AMD, struct: iommu_hw_info_amd },
};

/** An event's data, as the struct of its queue's type: `iommu_vevent_arm_smmuv3` … */
export interface VeventStructs {
  readonly arm_smmuv3?: iommu_vevent_arm_smmuv3;
  readonly tegra241_cmdqv?: iommu_vevent_tegra241_cmdqv;
}

const vevents: Kinds<Required<VeventStructs>> = {
  arm_smmuv3: { type: IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, struct: iommu_vevent_arm_smmuv3 },
  tegra241_cmdqv: { type: IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV, struct: iommu_vevent_tegra241_cmdqv },
};

type AnyKinds = Readonly<Record<string, Kind<unknown>>>;

/** The one kind that is named. */
function named(kinds: object, given: object): { readonly kind: Kind<unknown>; readonly value: unknown } {
  const known = Object.entries(given).filter(([name]) => Object.hasOwn(kinds, name));
  const [only] = known;
  if (only === undefined || known.length > 1)
    throw typeError(`exactly one of ${Object.keys(kinds).join(', ')} must be given (or bytes, with their type)`);
  return { kind: (kinds as AnyKinds)[only[0]]!, value: only[1] };
}

export function encodeNested(data: NestedData): { readonly type: number; readonly bytes: Uint8Array } {
  if ('bytes' in data) return data;
  const { kind, value } = named(nested, data);
  return { type: kind.type, bytes: kind.struct.encode(value as never) };
}

export function encodeInvalidations(request: InvalidateRequest): InvalidateEntries {
  if ('entries' in request) return request;
  const { kind, value } = named(invalidations, request);
  const { struct, type } = kind;
  const list = value as readonly unknown[];
  const entries = new Uint8Array(list.length * struct.size);
  for (const [i, entry] of list.entries()) struct.encode(entry as never, entries, i * struct.size);
  return { data_type: type, entries, entry_len: struct.size };
}

/** `data` by the name of its type; nothing where that is unknown, or there is less of it than the struct has. */
function decode(kinds: object, type: number, data: Uint8Array): object {
  for (const [name, { type: own, struct }] of Object.entries(kinds as AnyKinds))
    if (own === type && data.length >= struct.size) return { [name]: struct.decode(data) };
  return {};
}

export function decodeHwInfo(type: number, data: Uint8Array): HwInfoStructs {
  return decode(hwInfos, type, data);
}

export function decodeVevent(type: number, data: Uint8Array): VeventStructs {
  return decode(vevents, type, data);
}

/** Bytes of an event of this type; undefined: a type of somebody else's. */
export function veventLength(type: number): number | undefined {
  return Object.values(vevents).find((kind) => kind.type === type)?.struct.size;
}
