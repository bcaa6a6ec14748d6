import { fileScripts } from './file-scripts.ts';
import { hugetlbScripts } from './hugetlb-scripts.ts';
import { memfdScripts } from './memfd-scripts.ts';
import { memoryScripts } from './memory-scripts.ts';
import type { Script } from './script.ts';

export const scripts: readonly Script[] = [...fileScripts, ...memfdScripts, ...memoryScripts, ...hugetlbScripts];
