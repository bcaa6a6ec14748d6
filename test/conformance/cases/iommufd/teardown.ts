/** What a context of /dev/iommu consists of, let go in some orders. All orders: docs/fuzzing.md. */
import type { Case } from '../../case.ts';
import { iommufdIds } from '../../teardown/iommufd.ts';
import { inOrder, turns } from '../../teardown/scene.ts';

export const teardownCases: readonly Case[] = [inOrder('iommufd/teardown/ids', iommufdIds, ...turns(iommufdIds))];
