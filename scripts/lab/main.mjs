#!/usr/bin/env node
import { cpSync } from 'node:fs';
import { boot } from './boot.mjs';
import { kernels } from './kernel.mjs';
import { defaults, devices, variants } from './machines.mjs';

/** The options before the command: name, what follows it, what it is for. */
const options = {
  machine: ['NAME', 'the machine', variants],
  devices: ['A,B', 'its devices (default: all this QEMU has)', devices],
  kernel: ['NAME|FILE', `a kernel image, or one of (default: $KVIO_LAB_KERNEL, else 7.2)`, kernels],
  memory: ['SIZE', `default ${defaults.memory}`],
  hugepages: ['N', '2 MiB pages'],
  append: ['WORDS', 'more for the kernel command line'],
  timeout: ['SECONDS', 'for everything; default 600'],
  'boot-timeout': ['SECONDS', 'until the command starts; default 120'],
  out: ['DIR', 'where the files go that the command leaves in $KVIO_LAB_OUT'],
  tty: ['', 'a terminal for the command (default for bash and sh, when this is one)'],
};

function usage() {
  const rows = Object.entries(options).flatMap(([name, [value, about, among = {}]]) => [
    `  ${`--${name} ${value}`.padEnd(26)} ${about}`,
    ...Object.entries(among).map(([key, entry]) => `      ${key.padEnd(22)} ${entry.about}`),
  ]);
  return `npm run lab -- [options] COMMAND [ARGUMENTS]

Boots a real Linux under QEMU (software emulation, no KVM needed) with /dev/kvm, /dev/vfio and /dev/iommu, and runs COMMAND there, in this
checkout, with this machine's programs. The host's files are read-only there, but for the checkout. Exit status: the command's; 125 when
the lab failed. In a terminal session Ctrl-] ends the machine.

${rows.join('\n')}
`;
}

class UsageError extends Error {}

/** Options up to the first word that is none: the rest is the command, with options of its own. */
function parse(words) {
  const values = {};
  const rest = [...words];
  while (rest[0]?.startsWith('-')) {
    const word = rest.shift();
    if (word === '--') break;
    const [, name, given] = /^--([^=]+)(?:=(.*))?$/s.exec(word) ?? [];
    if (word === '--help' || word === '-h') return { help: true };
    if (name === undefined || !Object.hasOwn(options, name)) throw new UsageError(`there is no option ${word}`);
    values[name] = options[name][0] === '' ? 'yes' : (given ?? rest.shift());
    if (values[name] === undefined) throw new UsageError(`--${name} needs ${options[name][0]}`);
  }
  if (rest.length === 0) throw new UsageError('no command');
  return { values, command: rest };
}

function numberOf(values, name, otherwise) {
  const value = Number(values[name] ?? otherwise);
  if (!(value >= 0)) throw new UsageError(`--${name} needs a number, not '${values[name]}'`);
  return value;
}

async function main() {
  const { help, values, command } = parse(process.argv.slice(2));
  if (help) {
    console.log(usage());
    return 0;
  }
  const interactive =
    process.stdin.isTTY === true && (values.tty !== undefined || (['bash', 'sh'].includes(command[0]) && command.length === 1));
  if (interactive) console.error('lab: Ctrl-] ends the machine');
  const { status } = await boot({
    command,
    ...(values.machine && { machine: values.machine }),
    ...(values.memory && { memory: values.memory }),
    ...(values.append && { append: values.append }),
    ...(values.kernel && { kernel: values.kernel }),
    ...(values.devices !== undefined && { devices: values.devices.split(',').filter(Boolean) }),
    hugepages: numberOf(values, 'hugepages', 0),
    timeout: numberOf(values, 'timeout', 600),
    bootTimeout: numberOf(values, 'boot-timeout', 120),
    interactive,
    ...(process.stdin.isTTY ? {} : { stdin: process.stdin }),
    onOutput: (stream, chunk) => process[stream].write(chunk),
    collect: (dir) => values.out && cpSync(dir, values.out, { recursive: true }),
  });
  return status;
}

for (const stream of [process.stdout, process.stderr]) stream.on('error', () => process.exit(125));
try {
  process.exitCode = await main();
} catch (error) {
  console.error(error instanceof UsageError ? `lab: ${error.message}\n\n${usage()}` : error.message);
  process.exitCode = error instanceof UsageError ? 2 : 125;
}
