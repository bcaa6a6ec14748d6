import type { Kernel } from '../kernel/kernel.ts';
import { type KernelFound, openKernel } from '../open.ts';
import { type Guest, guests, type Observed, observe } from './guests.ts';
import { kernelsReport } from './kernels.ts';
import { machineLikeHost } from './machine.ts';
import type { Paint } from './paint.ts';

const LABEL = 10;
const COLUMN = 30;

interface Column {
  readonly title: string;
  readonly kernel: Kernel;
}

/** What the tour prints, and whether every guest did the same on every kernel. */
export interface TourResult {
  readonly lines: readonly string[];
  readonly same: boolean;
}

/** Runs the hello guests on each of these kernels and compares what they did, line by line. */
export function tour(found: readonly KernelFound[], run: readonly KernelFound[], paint: Paint): TourResult {
  const columns = run.map(({ kind }): Column => {
    const machine = kind === 'sim' ? machineLikeHost() : undefined;
    const kernel = openKernel({ kernel: kind, ...(machine === undefined ? {} : { machine }) });
    return { title: `${kind} (Linux ${kernel.release})`, kernel };
  });
  try {
    const results = guests.map((guest) => ({ guest, observed: columns.map(({ kernel }) => observe(kernel, guest)) }));
    const different = results.filter(({ observed }) => !alike(observed)).map(({ guest }) => guest.name);
    const failed = results
      .filter(({ observed }) => observed.some(({ registers }) => registers.length === 0))
      .map(({ guest }) => guest.name);
    return {
      lines: [
        ...kernelsReport(found, paint),
        '',
        `${''.padEnd(LABEL)}${columns.map(({ title }) => paint.bold(title.padEnd(COLUMN))).join('')}`.trimEnd(),
        ...results.flatMap(({ guest, observed }) => guestLines(guest, observed, paint)),
        '',
        verdict(columns.length, different, failed, paint),
      ],
      same: different.length === 0 && failed.length === 0,
    };
  } finally {
    for (const { kernel } of columns) kernel.close();
  }
}

const linesOf = ({ exits, registers }: Observed): string[] => [...exits, ...registers];
const alike = (observed: readonly Observed[]): boolean =>
  observed.every((one) => linesOf(one).join('\n') === linesOf(observed[0]!).join('\n'));

function guestLines(guest: Guest, observed: readonly Observed[], paint: Paint): string[] {
  const rows = (part: keyof Observed, compress: (lines: readonly string[]) => readonly string[]): string[] => {
    const cells = observed.map((one) => compress(one[part]));
    const height = Math.max(...cells.map((cell) => cell.length));
    return Array.from({ length: height }, (_, row) => {
      const same = cells.every((cell) => cell[row] === cells[0]![row]);
      const text = cells.map((cell) => (cell[row] ?? '—').padEnd(COLUMN)).join('');
      return `${''.padEnd(LABEL)}${same ? text.trimEnd() : `${paint.red(text.trimEnd())}  ${paint.red('≠')}`}`;
    });
  };
  return [
    '',
    `${paint.bold(guest.name.padEnd(LABEL))}${paint.dim(guest.listing)}`,
    ...rows('exits', (lines) => lines),
    ...rows('registers', pairs).map((line) => paint.dim(line)),
  ];
}

/** Two registers a line. */
function pairs(registers: readonly string[]): string[] {
  return Array.from({ length: Math.ceil(registers.length / 2) }, (_, i) => registers.slice(2 * i, 2 * i + 2).join('  '));
}

function verdict(kernels: number, different: readonly string[], failed: readonly string[], paint: Paint): string {
  if (failed.length > 0) return paint.red(`Failed: ${failed.join(', ')}.`);
  if (different.length > 0) return paint.red(`Different: ${different.join(', ')}.`);
  const ran = `${guests.length} guests ran`;
  if (kernels === 1) return `${paint.green(`${ran} on one kernel.`)} Nothing to compare it with here.`;
  return paint.green(`${ran} on ${kernels} kernels: the same exits, the same registers, no difference.`);
}
