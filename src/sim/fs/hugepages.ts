import { EINVAL, ERANGE } from '../../uapi/sys.ts';
import type { HugePool } from '../mm/huge-pool.ts';
import type { System } from '../system.ts';
import { Attribute, type AttributeOps } from './attribute.ts';
import { cString, kstrtoull } from './text.ts';

const KIB = 1024;
/** Past every count of pages that a number holds exactly: as many as there are. */
const MANY: bigint = BigInt(Number.MAX_SAFE_INTEGER);

type Store = (text: string) => number;

/** kstrtoul with base 10, handed on. */
const decimal =
  (set: (value: number) => number): Store =>
  (text) => {
    const value = /^\+?\d+\n?$/.test(cString(text)) ? kstrtoull(text.replace(/^(\+?)0+(?=\d)/, '$1')) : undefined;
    if (value === undefined) return -EINVAL;
    if (value === 'range') return -ERANGE;
    return set(Number(value > MANY ? MANY : value)) || text.length;
  };

/** proc_doulongvec_minmax: white space, a number in any base, white space or the end. What comes after that is not taken. */
const sysctl =
  (set: (value: number) => number): Store =>
  (text) => {
    const [taken = '', digits = ''] = /^[ \t\n\v\f\r]*([0-9a-zA-Z]+)(?:[ \t\n\v\f\r]+|$)/.exec(cString(text)) ?? [];
    const value = kstrtoull(digits);
    if (typeof value !== 'bigint') return -EINVAL;
    return set(Number(value > MANY ? MANY : value)) || taken.length;
  };

const readOnly = (show: () => number): Attribute =>
  new Attribute(0o444, { show: () => `${BigInt.asUintN(64, BigInt(show()))}\n` });
const readWrite = (show: () => number, store: Store): Attribute =>
  new Attribute(0o644, { show: () => `${show()}\n`, store: (_p, text) => store(text) });

/** /sys/kernel/mm/hugepages and the sysctls of the default size. */
export function addHugePages(system: System): void {
  const { machine, hugePools, fs } = system;
  const resizing =
    (pool: HugePool) =>
    (count: number): number => {
      pool.resize(count);
      return 0;
    };
  const overcommit =
    (pool: HugePool) =>
    (count: number): number => {
      pool.overcommit = count;
      return 0;
    };
  for (const pool of hugePools.values()) {
    const directory = fs.mkdirp(`/sys/kernel/mm/hugepages/hugepages-${pool.pageSize / KIB}kB`);
    directory.add(
      'nr_hugepages',
      readWrite(() => pool.total, decimal(resizing(pool))),
    );
    directory.add(
      'nr_overcommit_hugepages',
      readWrite(() => pool.overcommit, decimal(overcommit(pool))),
    );
    directory.add(
      'free_hugepages',
      readOnly(() => pool.free),
    );
    directory.add(
      'resv_hugepages',
      readOnly(() => pool.reserved),
    );
    directory.add(
      'surplus_hugepages',
      readOnly(() => pool.surplus),
    );
    if (machine.numa === true)
      directory.add(
        'nr_hugepages_mempolicy',
        readWrite(() => pool.total, decimal(resizing(pool))),
      );
    const smaller = [...hugePools.values()].find(({ pageSize }) => pageSize < pool.pageSize);
    if (smaller === undefined) continue;
    directory.add('demote_size', new Attribute(0o644, demoteSize(smaller, hugePools)));
    directory.add('demote', new Attribute(0o200, { store: (_p, text) => demote(pool, smaller)(text) }));
  }
  const pool = system.hugePool(0);
  if (pool === undefined) return;
  const vm = fs.mkdirp('/proc/sys/vm');
  vm.add(
    'nr_hugepages',
    readWrite(() => pool.wanted, sysctl(resizing(pool))),
  );
  if (machine.numa === true)
    vm.add(
      'nr_hugepages_mempolicy',
      readWrite(() => pool.wanted, sysctl(resizing(pool))),
    );
  vm.add(
    'nr_overcommit_hugepages',
    readWrite(() => pool.overcommit, sysctl(overcommit(pool))),
  );
}

/** demote: as many pages as are free and nobody's, at most. */
const demote = (from: HugePool, into: HugePool): Store =>
  decimal((count) => {
    for (let left = count; left > 0 && from.demote(into); left--);
    return 0;
  });

/** There are two sizes: a page of the larger can become pages of the smaller, of nothing else. */
function demoteSize(smaller: HugePool, pools: ReadonlyMap<number, HugePool>): AttributeOps {
  return {
    show: () => `${smaller.pageSize / KIB}kB\n`,
    store: (_p, text) => (memparse(text) === smaller.pageSize && pools.has(smaller.pageSize) ? text.length : -EINVAL),
  };
}

/** memparse: a number and a power of 1024 by its letter. */
function memparse(text: string): number {
  const [, digits = '0', letter = ''] = /^(0[xX][0-9a-fA-F]+|\d+)([kKmMgGtTpPeE]?)/.exec(cString(text)) ?? [];
  return Number(digits) * KIB ** ' kmgtpe'.indexOf(letter.toLowerCase() || ' ');
}
