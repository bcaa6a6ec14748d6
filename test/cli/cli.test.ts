import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { findKernels } from 'kvio';
import { describe, expect, it } from 'vitest';
import { paintFor } from '../../src/cli/paint.ts';

const root = `${resolve(import.meta.dirname, '../..')}/`;
const available = findKernels()
  .filter((found) => found.available)
  .map(({ kind }) => kind);

function kvio(args: string[], env: NodeJS.ProcessEnv = {}): { stdout: string; stderr: string; status: number | null } {
  const { KVIO_KERNEL: _, ...inherited } = process.env;
  return spawnSync(process.execPath, [`${root}dist/cli/main.js`, ...args], { env: { ...inherited, ...env }, encoding: 'utf8' });
}

describe('kvio', () => {
  it('says its version and its commands', () => {
    expect(kvio(['--version']).stdout.trim()).toBe(JSON.parse(readFileSync(`${root}package.json`, 'utf8')).version);
    const help = kvio(['--help']);
    expect(help).toMatchObject({ status: 0, stderr: '' });
    expect(help.stdout).toMatch(/tour .*\n.*kernels /);
    expect(kvio([])).toMatchObject({ status: 2, stdout: help.stdout });
  });

  it('ends without a word when nobody reads on', () => {
    const command = `"${process.execPath}" "${root}dist/cli/main.js" --help | true`;
    const { stdout, stderr, status } = spawnSync('sh', ['-c', command], { encoding: 'utf8' });
    expect({ stdout, stderr, status }).toEqual({ stdout: '', stderr: '', status: 0 });
  });

  it.each([
    [['turo'], /no command 'turo': one of tour, kernels, conformance \(kvio --help /],
    [['tour', 'twice'], /tour takes no arguments: 'twice'/],
    [['tour', '--colour'], /^kvio: Unknown option '--colour' \(kvio --help lists them\)$/m],
    [['toString'], /no command 'toString'/],
    [['tour', '--out', 'x'], /tour has no option --out/],
    [['conformance'], /conformance wants to be told what to do: one of record, compare/],
    [['conformance', 'recrod'], /conformance does not know 'recrod': one of record, compare/],
    [['conformance', 'record', 'twice'], /takes no arguments: 'twice'/],
    [['conformance', 'record', '--kernel', 'xen'], /--kernel must be one of 'native', 'ffi', 'sim', not 'xen'/],
    [['conformance', 'compare'], /takes one file/],
    [['conformance', 'compare', '/nowhere.json'], /\/nowhere.json cannot be read/],
    [['conformance', 'compare', 'package.json'], /is no recording of conformance cases: kvio conformance record writes one/],
    [['conformance', 'record', '--kernel', 'sim', '--out', '/proc/x/y'], /\/proc\/x\/y cannot be written .*--out /],
  ])('refuses %j', (args, message) => {
    const { status, stdout, stderr } = kvio(args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });

  it('lists kernels with reasons', () => {
    const { stdout, status } = kvio(['kernels']);
    expect(status).toBe(0);
    const lines = stdout.trim().split('\n');
    for (const [i, { kind, available, reason }] of findKernels().entries()) {
      expect(lines[i]).toMatch(new RegExp(`^${kind} +${available ? 'yes' : 'no'} `));
      if (!lines[i]!.endsWith('for the same reason')) expect(lines[i]).toContain(reason);
    }
  });

  it('refuses a KVIO_KERNEL that is no kernel', () => {
    expect(kvio(['tour'], { KVIO_KERNEL: 'xen' })).toMatchObject({
      status: 2,
      stderr: "kvio: KVIO_KERNEL must be one of 'native', 'ffi', 'sim', not 'xen'\n",
    });
  });
});

describe('kvio tour', () => {
  const guests = ['hello', 'ports', 'string I/O', 'MMIO', 'shutdown'];

  it('shows every guest on every kernel, without a difference', () => {
    const { stdout, stderr, status } = kvio(['tour']);
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    for (const name of guests) expect(stdout).toMatch(new RegExp(`^${name} `, 'm'));
    expect(stdout).toMatch(new RegExp(`^ +${available.join(' +')}$`, 'm'));
    const row = stdout.split('\n').find((line) => /io out 0x3f8 48\b/.test(line))!;
    expect(row.match(/io out 0x3f8 48/g)).toHaveLength(available.length);
    expect(stdout.match(/shutdown\b/g)!.length).toBeGreaterThan(available.length);
    expect(stdout).not.toMatch(/≠|—/);
    expect(stdout).not.toContain('\x1b');
  });

  it('runs with the simulator only, and says what was not run', () => {
    const { stdout, stderr, status } = kvio(['tour'], { KVIO_KERNEL: 'sim' });
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    expect(stdout).toMatch(/^native +no .*not run: KVIO_KERNEL=sim$/m);
    expect(stdout).toMatch(/5 guests ran on one kernel\. Nothing to compare it with here\./);
  });

  it('ends with a trusted device in a dozen lines: locked, running, in error, and unlocked again', () => {
    const { stdout } = kvio(['tour'], { KVIO_KERNEL: 'sim' });
    const [title, ...lines] = stdout.trimEnd().slice(stdout.indexOf('A trusted device')).split('\n');
    expect(title).toContain('RFC: no released kernel has it');
    expect(lines.length).toBeLessThanOrEqual(12);
    const states = lines.map((line) => /(UNLOCKED|LOCKED|RUN|ERROR) +MMIO/.exec(line)![1]!);
    expect(states.filter((state, i) => state !== states[i - 1])).toEqual(['UNLOCKED', 'LOCKED', 'RUN', 'ERROR', 'UNLOCKED']);
    expect(stdout).toContain('in private memory: 10 ');
  });
});

describe('colour', () => {
  const terminal = { isTTY: true, hasColors: () => true };
  it('is for terminals that have it', () => {
    expect(paintFor(terminal, {}).red('x')).toBe('\x1b[31mx\x1b[39m');
    expect(paintFor({ isTTY: false, hasColors: () => true }, {}).red('x')).toBe('x');
    expect(paintFor({ isTTY: true, hasColors: () => false }, {}).red('x')).toBe('x');
    expect(paintFor({}, {}).red('x')).toBe('x');
    expect(paintFor(terminal, { NO_COLOR: '1' }).bold('x')).toBe('x');
    expect(paintFor(terminal, { NO_COLOR: '' }).bold('x')).not.toBe('x');
  });
});
