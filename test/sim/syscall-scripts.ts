import { fileScripts } from './file-scripts.ts';
import { hugetlbScripts } from './mm/hugetlb-scripts.ts';
import { memfdScripts } from './mm/memfd-scripts.ts';
import { memoryScripts } from './mm/memory-scripts.ts';
import type { Script } from './script.ts';

export const scripts: readonly Script[] = [...fileScripts, ...memfdScripts, ...memoryScripts, ...hugetlbScripts];
