/** The command lines of scripts. */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

/** The comment at the head of a script. */
export function usageOf(script) {
  const [, comment] = /^\/\*\*(.*?)\*\//ms.exec(readFileSync(script, 'utf8'));
  return comment
    .split('\n')
    .map((line) => line.replace(/^ ?\* ?/, '').trimEnd())
    .join('\n')
    .trim();
}

export function refuse(usage, what) {
  process.stderr.write(`${what}\n\n${usage}\n`);
  process.exit(2);
}

/** As `parseArgs`. `--help` prints the usage; what is wrong is named, with the usage, and exit status 2. `numbers`: options that must be one. */
export function optionsOf(usage, { numbers = [], ...config }) {
  let parsed;
  try {
    parsed = parseArgs({ ...config, options: { ...config.options, help: { type: 'boolean', short: 'h' } } });
  } catch (error) {
    refuse(usage, error.message);
  }
  if (parsed.values.help) {
    process.stdout.write(`${usage}\n`);
    process.exit(0);
  }
  for (const name of numbers) {
    const value = parsed.values[name];
    if (value !== undefined && !/^\d+$/.test(value)) refuse(usage, `--${name} needs a whole number, not '${value}'`);
  }
  return parsed;
}
