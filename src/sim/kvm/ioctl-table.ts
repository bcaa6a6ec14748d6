import { NotModelled } from '../../kernel/errors.ts';
import type * as uapi from '../../uapi/kvm.ts';
import { RequestTable, type Row } from '../ioctl-table.ts';
import type { Machine } from '../machine.ts';
import { absentCapabilities } from './absent.ts';

export { type Handler, NOT_MODELLED, type Row } from '../ioctl-table.ts';

export type RequestName = { [K in keyof typeof uapi]: (typeof uapi)[K] extends number ? K : never }[keyof typeof uapi];

/** KVM_CHECK_EXTENSION on the system descriptor. */
export function capability(machine: Machine, cap: number): number {
  if (absentCapabilities.has(cap)) return 0;
  const value = machine.kvm.capabilities[cap] ?? 0;
  return typeof value === 'number' ? value : value[0];
}

/** The requests of one kind of KVM descriptor ('kvm' is /dev/kvm): a capability may be asked for, too. */
export class IoctlTable<T> extends RequestTable<T, RequestName> {
  protected override present(row: Row<never>, machine: Machine): boolean {
    return super.present(row, machine) && (row.needs === undefined || capability(machine, row.needs) !== 0);
  }
}

/** Struct fields and flags that are not modelled have no errno an old kernel would give: always an exception. */
export function notModelled(what: string): never {
  throw new NotModelled(what);
}
