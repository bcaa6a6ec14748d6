#!/usr/bin/env node
import { cpSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { devices, variants } from './machines.mjs';
import { boot } from './qemu.mjs';

const usage = `npm run lab -- [options] [--] COMMAND [ARGUMENTS]

Boots Linux 7.2 under QEMU (software emulation, no KVM needed) with /dev/kvm, /dev/vfio and /dev/iommu, and runs COMMAND there,
in this checkout, with this machine's programs. The host's files are read-only, but for the checkout.

  --machine NAME     ${Object.entries(variants)
    .map(([name, { about }]) => `${name}: ${about}`)
    .join('\n                     ')}
  --devices A,B      ${Object.entries(devices)
    .map(([name, { about }]) => `${name}: ${about}`)
    .join('\n                     ')}
                     (default: all this QEMU has)
  --memory SIZE      default 4G            --hugepages N   2 MiB pages
  --timeout SECONDS  default 600           --out DIR       where files the command leaves in $KVIO_LAB_OUT go
  COMMAND bash, sh   interactive, when this is a terminal
`;

const separator = process.argv.indexOf('--');
const ours = process.argv.slice(2, separator < 0 ? undefined : separator);
let parsed;
try {
  parsed = parseArgs({
    args: ours,
    allowPositionals: true,
    options: {
      machine: { type: 'string' },
      devices: { type: 'string' },
      memory: { type: 'string' },
      hugepages: { type: 'string' },
      timeout: { type: 'string' },
      out: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
} catch (error) {
  console.error(`${error.message}\n\n${usage}`);
  process.exit(2);
}
const command = [...parsed.positionals, ...(separator < 0 ? [] : process.argv.slice(separator + 1))];
if (parsed.values.help || command.length === 0) {
  console.log(usage);
  process.exit(parsed.values.help ? 0 : 2);
}
const { machine, memory, out } = parsed.values;
try {
  const result = await boot({
    command,
    ...(machine && { machine }),
    ...(memory && { memory }),
    ...(parsed.values.devices !== undefined && { devices: parsed.values.devices.split(',').filter(Boolean) }),
    hugepages: Number(parsed.values.hugepages ?? 0),
    timeout: Number(parsed.values.timeout ?? 600),
    interactive: process.stdin.isTTY === true && ['bash', 'sh'].includes(command[0]) && command.length === 1,
    onOutput: (stream, chunk) => process[stream].write(chunk),
    collect: (dir) => out && cpSync(dir, out, { recursive: true }),
  });
  process.exitCode = result.status;
} catch (error) {
  console.error(error.message);
  process.exitCode = 125;
}
