/** What holds a VM, let go in some orders. All orders: docs/fuzzing.md. */
import type { Case } from '../case.ts';
import { kvmVm } from '../teardown/kvm.ts';
import { inOrder, turns } from '../teardown/scene.ts';

export const teardownCases: readonly Case[] = [inOrder('kvm/teardown/vm', kvmVm, ...turns(kvmVm))];
