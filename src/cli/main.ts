#!/usr/bin/env node
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';
import { isKvioError } from '../kernel/errors.ts';
import { kernelsHere, kernelsReport } from './kernels.ts';
import { type Paint, paintFor } from './paint.ts';
import { tour } from './tour.ts';

interface Command {
  readonly help: string;
  /** The exit status. */
  run(paint: Paint): number;
}

const print = (lines: readonly string[]): void => void process.stdout.write(`${lines.join('\n')}\n`);

const commands: Readonly<Record<string, Command>> = {
  tour: {
    help: 'run five small guests on every kernel there is, and compare them',
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
};

function usage(): string[] {
  return [
    'Usage: kvio <command>',
    '',
    ...Object.entries(commands).map(([name, { help }]) => `  ${name.padEnd(12)}${help}`),
    '',
    '  --help      this text',
    '  --version   the version of kvio',
    '',
    'KVIO_KERNEL=native, ffi or sim narrows the choice. NO_COLOR switches colour off.',
  ];
}

const version = (): string => createRequire(import.meta.url)('kvio/package.json').version;

function main(args: string[]): number {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { help: { type: 'boolean', short: 'h' }, version: { type: 'boolean', short: 'v' } },
  });
  if (values.version) {
    print([version()]);
    return 0;
  }
  const [name, ...rest] = positionals;
  if (values.help || name === undefined) {
    print(usage());
    return values.help ? 0 : 2;
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined) throw new RangeError(`no command '${name}': one of ${Object.keys(commands).join(', ')}`);
  if (rest.length > 0) throw new RangeError(`${name} takes no arguments: '${rest.join(' ')}'`);
  return command.run(paintFor(process.stdout, process.env));
}

try {
  process.exitCode = main(process.argv.slice(2));
} catch (error) {
  const expected =
    isKvioError(error) || error instanceof RangeError || (error as NodeJS.ErrnoException)?.code?.startsWith('ERR_PARSE_ARGS');
  if (!expected) throw error;
  process.stderr.write(`kvio: ${(error as Error).message}\n`);
  process.exitCode = 2;
}
