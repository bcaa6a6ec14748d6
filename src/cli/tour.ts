import type { Kernel } from '../kernel/kernel.ts';
import { type KernelFound, openKernel } from '../open.ts';
import { type Guest, guests, type Observed, observe } from './guests.ts';
import { kernelsReport } from './kernels.ts';
import { machineLikeHost } from './machine.ts';
import type { Paint } from './paint.ts';
import { teeIoFlow } from './tee-io.ts';

const LABEL = 12;
const COLUMN = 28;

interface Column {
  readonly kernel: Kernel;
  /** Two lines. */
  readonly title: readonly [string, string];
}

/** What the tour prints, and whether every guest did the same on every kernel. */
export interface TourResult {
  readonly lines: readonly string[];
  readonly same: boolean;
}

/** Runs the hello guests on each of these kernels and compares what they did, line by line. */
export function tour(found: readonly KernelFound[], run: readonly KernelFound[], paint: Paint): TourResult {
  const columns = run.map(({ kind }) => column(kind));
  try {
    const results = guests.map((guest) => ({ guest, observed: columns.map(({ kernel }) => observe(kernel, guest)) }));
    const named = (test: (observed: readonly Observed[]) => boolean): string =>
      results
        .filter(({ observed }) => test(observed))
        .map(({ guest }) => guest.name)
        .join(', ');
    const failed = named((observed) => observed.some(({ error }) => error !== undefined));
    const different = named((observed) => !alike(observed));
    return {
      lines: [
        ...kernelsReport(found, paint),
        '',
        tableRow(columns.map(({ title }) => title[0])).replace(/\S+/g, paint.bold),
        paint.dim(tableRow(columns.map(({ title }) => title[1]))),
        ...results.flatMap(({ guest, observed }) => guestLines(guest, observed, paint)),
        '',
        ...errors(results, columns).map(paint.red),
        verdict(columns.length, different, failed, paint),
        ...(run.some(({ kind }) => kind === 'sim') ? ['', ...teeIoFlow(paint)] : []),
      ],
      same: different === '' && failed === '',
    };
  } finally {
    for (const { kernel } of columns) kernel.close();
  }
}

function column(kind: KernelFound['kind']): Column {
  if (kind !== 'sim') {
    const kernel = openKernel({ kernel: kind });
    return { kernel, title: [kind, `Linux ${kernel.release}`] };
  }
  const machine = machineLikeHost();
  return { kernel: openKernel({ kernel: kind, machine }), title: [kind, `machine ${machine.name}`] };
}

const linesOf = ({ exits, registers, error }: Observed): string => [...exits, ...registers, error].join('\n');
const alike = (observed: readonly Observed[]): boolean => observed.every((one) => linesOf(one) === linesOf(observed[0]!));

const fit = (text: string): string => (text.length < COLUMN ? text : `${text.slice(0, COLUMN - 2)}…`).padEnd(COLUMN);
const tableRow = (cells: readonly string[]): string => `${' '.repeat(LABEL)}${cells.map(fit).join('')}`.trimEnd();

function guestLines(guest: Guest, observed: readonly Observed[], paint: Paint): string[] {
  const rows = (cells: readonly (readonly string[])[], style: (text: string) => string): string[] =>
    Array.from({ length: Math.max(...cells.map((cell) => cell.length)) }, (_, row) => {
      const text = tableRow(cells.map((cell) => cell[row] ?? '—'));
      return cells.every((cell) => cell[row] === cells[0]![row]) ? style(text) : paint.red(`${text}  ≠`);
    });
  const exits = observed.map((one) => (one.error === undefined ? one.exits : [...one.exits, one.error]));
  const registers = observed.map((one) => wrap(one.registers.filter((text) => !text.endsWith(' 0x0'))));
  return [
    '',
    `${paint.bold(guest.name.padEnd(LABEL))}${paint.dim(guest.listing)}`,
    ...rows(exits, String),
    ...rows(registers, paint.dim),
  ];
}

/** As many as fit into a column, line by line. */
function wrap(words: readonly string[]): string[] {
  const lines: string[] = [];
  for (const word of words) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + word.length + 2 < COLUMN) lines[lines.length - 1] = `${last}  ${word}`;
    else lines.push(word);
  }
  return lines;
}

function errors(results: readonly { guest: Guest; observed: readonly Observed[] }[], columns: readonly Column[]): string[] {
  return results.flatMap(({ guest, observed }) =>
    observed.flatMap(({ error }, i) => (error === undefined ? [] : [`${guest.name}, ${columns[i]!.title[0]}: ${error}`])),
  );
}

function verdict(kernels: number, different: string, failed: string, paint: Paint): string {
  if (failed !== '') return paint.red(`Failed: ${failed}.`);
  if (different !== '') return paint.red(`Different: ${different}.`);
  const ran = `${guests.length} guests ran`;
  if (kernels === 1) return `${paint.green(`${ran} on one kernel.`)} Nothing to compare it with here.`;
  return paint.green(`${ran} on ${kernels} kernels: the same exits, the same registers, no difference.`);
}
