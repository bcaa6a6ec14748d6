import { IOMMU_HWPT_DATA_ARM_SMMUV3, iommu_hwpt_arm_smmuv3 } from '../../uapi/iommufd.ts';
import { EIO, EOPNOTSUPP } from '../../uapi/sys.ts';
import type { DmaTarget, Requester } from '../hardware/dma-target.ts';
import { eventRecord } from '../hardware/smmuv3/event.ts';
import { nothing, type Smmu } from '../hardware/smmuv3/smmu.ts';
import { CONFIG_ABORT, CONFIG_BYPASS, CONFIG_S1, Stream } from '../hardware/smmuv3/stream.ts';
import type { Process } from '../process.ts';
import { copyUserData, type NestedDomain, type UserData, type ViommuState } from './driver.ts';

const VALID = 1n;
const config = (word: bigint): number => Number((word >> 1n) & 7n);

/** What a guest's stream table entry may hold: V, Config, S1Fmt, S1ContextPtr, S1CDMax; S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS. */
const ALLOWED = [0xf80f_ffff_ffff_ffffn, 0x3800_00ffn] as const;

const EATS = 0x3000_0000n;
/** ATS off, and translation requests answered through both stages. */
const EATS_KNOWN: readonly bigint[] = [0n, 0x1000_0000n];

/** arm_smmu_validate_vste: the entry as it is installed, or −EIO. One that is not valid is an abort. */
function validate([first, second]: readonly [bigint, bigint]): readonly [bigint, bigint] | number {
  if ((first & VALID) === 0n) return [0n, 0n];
  if (first & ~ALLOWED[0] || second & ~ALLOWED[1]) return -EIO;
  if (![CONFIG_ABORT, CONFIG_BYPASS, CONFIG_S1].includes(config(first))) return -EIO;
  if (!EATS_KNOWN.includes(second & EATS)) return -EIO;
  return [first, second & ~EATS];
}

/**
 * `struct arm_smmu_nested_domain` (drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-iommufd.c): what a guest's stream table entry says of its first stage, whose tables of contexts and pages are in the
 * VM's memory, over the page table of that. Read, not observed: no lab has such an SMMU.
 */
export class SmmuNested implements NestedDomain {
  readonly guest = { pasids: true };
  readonly viommu: ViommuState;
  readonly #config: number;
  readonly #stream: Stream;

  private constructor(smmu: Smmu, viommu: ViommuState, words: readonly [bigint, bigint]) {
    this.viommu = viommu;
    this.#config = config(words[0]);
    this.#stream = new Stream(smmu.registers, words, viommu.parent);
  }

  /** arm_vsmmu_alloc_domain_nested. */
  static alloc(p: Process, smmu: Smmu, viommu: ViommuState, flags: number, data: UserData): SmmuNested | number {
    if (flags !== 0) return -EOPNOTSUPP;
    const { size } = iommu_hwpt_arm_smmuv3;
    const bytes = copyUserData(p, data, IOMMU_HWPT_DATA_ARM_SMMUV3, size, size);
    if (typeof bytes === 'number') return bytes;
    const [first, second] = iommu_hwpt_arm_smmuv3.decode(bytes).ste;
    const words = validate([first!, second!]);
    return typeof words === 'number' ? words : new SmmuNested(smmu, viommu, words);
  }

  /** Its guest is told of faults, and invalidates, by StreamID: a device needs one (a vDEVICE) to be attached. Not where nothing is translated. */
  get needsStream(): boolean {
    return this.#config === CONFIG_S1;
  }

  translate(iova: bigint, length: number, write: boolean, requester?: Requester): DmaTarget | undefined {
    const outcome = this.#stream.translate(iova, length, write, requester?.pasid);
    if (!('fault' in outcome)) return outcome;
    const { fault, answered } = outcome;
    if (fault !== undefined && requester !== undefined) {
      const { stream, pasid: substream } = requester;
      requester.record(eventRecord(fault, { stream, substream, address: iova, write }));
    }
    return answered === true ? nothing(length) : undefined;
  }
}
