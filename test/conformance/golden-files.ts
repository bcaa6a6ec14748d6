/**
 * Where goldens lie: `kvm/<identity>/<area>.json`, a file for each area of cases, so that work on one touches no other; `vfio/<release>@<machine>/<area>.json`
 * for cases of devices, whose answers depend on the machine; `differences/<area>.json` beside them.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { countObservations, formatGolden, type Golden, type KnownDifference } from './golden.ts';

/** The folder of one kernel: what KVM answers, or with an `@` what a machine's devices do. */
function folderOf(goldens: string, identity: string): string {
  return join(goldens, identity.includes('@') ? 'vfio' : 'kvm', identity);
}

/** `kvm/sregs/…` belongs to sregs, `vfio/irqs/…` to irqs, `pci/sysfs/…` to pci-sysfs, `refusals/…` to refusals. */
export function areaOf(name: string): string {
  const [first = '', second] = name.split('/');
  if (first === 'pci') return `${first}-${second}`;
  return (first === 'kvm' || first === 'vfio') && second !== undefined ? second : first;
}

function read<T>(path: string): T {
  return JSON.parse(readFileSync(path, 'utf8')) as T;
}

function files(folder: string): string[] {
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder).filter((name) => name.endsWith('.json'));
  return names.sort().map((name) => join(folder, name));
}

/** The golden of one kernel, all areas together; undefined where there is none. */
export function readGolden(goldens: string, identity: string | undefined): Golden | undefined {
  if (identity === undefined) return undefined;
  const parts = files(folderOf(goldens, identity)).map((path) => read<Golden>(path));
  const [first] = parts;
  if (first === undefined) return undefined;
  return {
    ...first,
    cases: Object.assign({}, ...parts.map(({ cases }) => cases)),
    notRun: Object.assign({}, ...parts.map(({ notRun }) => notRun)),
  };
}

/** Of every kernel that was recorded, by identity. */
export function readGoldens(goldens: string): Golden[] {
  return ['kvm', 'vfio'].flatMap((kind) => {
    const folder = join(goldens, kind);
    const identities = existsSync(folder) ? readdirSync(folder).sort() : [];
    return identities.flatMap((identity) => readGolden(goldens, identity) ?? []);
  });
}

/** The differences that are known. */
export function readDifferences(goldens: string): KnownDifference[] {
  return files(join(goldens, 'differences')).flatMap((path) => read<KnownDifference[]>(path));
}

/** Reads a recording somebody sent in, as `kvio conformance record` writes it. The identity becomes the name of a folder. */
export function readRecording(path: string): Golden {
  const found = read<Partial<Golden> | null>(path);
  const isTable = (value: unknown): boolean => typeof value === 'object' && value !== null && !Array.isArray(value);
  const { identity, release, cases, notRun } = found ?? {};
  const named = typeof identity === 'string' && /^(\d+\.\d+|unknown)-[a-z0-9]+(\+[a-z0-9-]+)*$/.test(identity);
  if (!named || typeof release !== 'string' || !isTable(cases) || !isTable(notRun) || !Object.values(cases!).every(isTable))
    throw new Error(`${path} is no recording of conformance cases`);
  return found as Golden;
}

/**
 * Writes what was recorded, and says of each file that changed what became of it. With `partial`, cases that were not recorded keep what
 * is there; otherwise files without a case go. `names`: all cases there are, in order; others are dropped.
 */
export function writeGolden(goldens: string, golden: Golden, names: readonly string[], partial = false): string[] {
  const folder = folderOf(goldens, golden.identity);
  const before = partial ? readGolden(goldens, golden.identity) : undefined;
  const pick = <T>(
    name: string,
    own: Readonly<Record<string, T>>,
    old: Readonly<Record<string, T>> | undefined,
  ): [string, T][] => {
    const value = own[name] ?? (name in golden.cases || name in golden.notRun ? undefined : old?.[name]);
    return value === undefined ? [] : [[name, value]];
  };
  mkdirSync(folder, { recursive: true });
  const said: string[] = [];
  const kept = new Set<string>();
  for (const area of new Set(names.map(areaOf))) {
    const own = names.filter((name) => areaOf(name) === area);
    const part: Golden = {
      identity: golden.identity,
      release: golden.release,
      cases: Object.fromEntries(own.flatMap((name) => pick(name, golden.cases, before?.cases))),
      notRun: Object.fromEntries(own.flatMap((name) => pick(name, golden.notRun, before?.notRun))),
    };
    if (Object.keys(part.cases).length + Object.keys(part.notRun).length === 0) continue;
    const path = join(folder, `${area}.json`);
    kept.add(path);
    const old = existsSync(path) ? readFileSync(path, 'utf8') : undefined;
    const text = formatGolden(part);
    if (old === text) continue;
    writeFileSync(path, text);
    const cases = Object.keys(part.cases).length;
    said.push(`${path}: ${countObservations(part)} observations in ${cases} cases, ${old === undefined ? 'new' : 'CHANGED'}`);
  }
  for (const path of files(folder)) {
    if (kept.has(path)) continue;
    rmSync(path);
    said.push(`${path}: removed, there are no such cases`);
  }
  const whole = readGolden(goldens, golden.identity)!;
  said.push(
    `${golden.identity}: ${countObservations(whole)} observations in ${Object.keys(whole.cases).length} cases` +
      (said.length === 0 ? ', unchanged' : ''),
  );
  return said;
}
