import { ENOMEM } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import { PAGE_SIZE } from './pages.ts';

/** `user_struct.locked_vm` of every user: pages that iommufd has pinned on a user's account, whatever process asked. */
export class UserLocked {
  readonly #pages = new Map<number, number>();

  /** −ENOMEM beyond the process's RLIMIT_MEMLOCK. */
  charge({ user, system }: Process, pages: number): number {
    const sum = (this.#pages.get(user.uid) ?? 0) + pages;
    if (sum * PAGE_SIZE > system.machine.limits.memlock) return -ENOMEM;
    this.#pages.set(user.uid, sum);
    return 0;
  }

  uncharge({ user }: Process, pages: number): void {
    this.#pages.set(user.uid, (this.#pages.get(user.uid) ?? 0) - pages);
  }
}
