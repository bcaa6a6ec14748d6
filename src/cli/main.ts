#!/usr/bin/env node
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';
import { isKvioError } from '../kernel/errors.ts';
import { conformance } from './conformance.ts';
import { kernelsHere, kernelsReport } from './kernels.ts';
import { type Paint, paintFor } from './paint.ts';
import { tour } from './tour.ts';

interface Command {
  readonly help: string;
  /** What it takes besides its name, for the usage; absent: nothing. */
  readonly takes?: string;
  /** The exit status. */
  run(paint: Paint, args: readonly string[], options: Options): number | Promise<number>;
}

/** Options of commands, each for the commands whose `takes` names it. */
const options = { kernel: { type: 'string' }, out: { type: 'string' } } as const;
type Options = { readonly [name in keyof typeof options]?: string | undefined };

const print = (lines: readonly string[]): void => void process.stdout.write(`${lines.join('\n')}\n`);

const commands: Readonly<Record<string, Command>> = {
  tour: {
    help: 'run five small guests on every kernel there is, compare them, and show a trusted device',
    run(paint) {
      const found = kernelsHere();
      const usable = found.filter(({ available }) => available);
      if (usable.length === 0) {
        print(kernelsReport(found, paint));
        return 1;
      }
      const { lines, same } = tour(found, usable, paint);
      print(lines);
      return same ? 0 : 1;
    },
  },
  kernels: {
    help: 'list the kernels that can be opened here, and what is in the way of the others',
    run(paint) {
      const found = kernelsHere();
      print(kernelsReport(found, paint));
      return found.some(({ available }) => available) ? 0 : 1;
    },
  },
  conformance: {
    help: 'record what this kernel answers to every conformance case, or compare it with a recording',
    takes: 'record [--kernel native|ffi|sim] [--out FILE] | compare FILE [--kernel …]',
    run: (paint, args, given) => conformance(args, given, paint, print),
  },
};

function usage(): string[] {
  return [
    'Usage: kvio <command>',
    '',
    ...Object.entries(commands).flatMap(([name, { help, takes }]) => [
      `  ${name.padEnd(13)}${help}`,
      ...(takes === undefined ? [] : [`${' '.repeat(15)}${name} ${takes}`]),
    ]),
    '',
    '  --help       this text',
    '  --version    the version of kvio',
    '',
    'KVIO_KERNEL=native, ffi or sim narrows the choice. NO_COLOR switches colour off.',
  ];
}

const version = (): string => createRequire(import.meta.url)('kvio/package.json').version;

async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { help: { type: 'boolean', short: 'h' }, version: { type: 'boolean', short: 'v' }, ...options },
  });
  const { help, version: asksVersion, ...given } = values;
  if (asksVersion) {
    print([version()]);
    return 0;
  }
  const [name, ...rest] = positionals;
  if (help || name === undefined) {
    print(usage());
    return help ? 0 : 2;
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined)
    throw new RangeError(`no command '${name}': one of ${Object.keys(commands).join(', ')} (kvio --help tells of each)`);
  if (command.takes === undefined && rest.length > 0) throw new RangeError(`${name} takes no arguments: '${rest.join(' ')}'`);
  const foreign = Object.keys(given).find((option) => !command.takes?.includes(`--${option} `));
  if (foreign !== undefined) throw new RangeError(`${name} has no option --${foreign}`);
  return command.run(paintFor(process.stdout, process.env), rest, given);
}

function fail(error: unknown): void {
  const misread = (error as NodeJS.ErrnoException)?.code?.startsWith('ERR_PARSE_ARGS') === true;
  if (!misread && !isKvioError(error) && !(error instanceof RangeError)) throw error;
  const { message } = error as Error;
  // Node goes on to explain how a positional argument may begin with a dash: no command takes such a one.
  process.stderr.write(`kvio: ${misread ? `${message.split('. ')[0]} (kvio --help lists them)` : message}\n`);
  process.exitCode = 2;
}

// Who reads our output has enough of it (`kvio … | head`).
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});

main(process.argv.slice(2)).then((status) => {
  process.exitCode = status;
}, fail);
