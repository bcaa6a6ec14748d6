import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { boot } from './machine.ts';
import { memoryScripts } from './mm/memory-scripts.ts';
import { play } from './play.ts';
import { scripts } from './syscall-scripts.ts';

// For record-syscalls.py, which plays the same scripts on a real kernel.
if (process.env['KVIO_SCRIPTS'] !== undefined) writeFileSync(process.env['KVIO_SCRIPTS'], JSON.stringify(scripts));

/** What Linux 6.18 answered. */
const golden = JSON.parse(readFileSync(new URL('../golden/syscalls-6.18.json', import.meta.url), 'utf8')) as {
  scripts: Record<string, unknown[]>;
};

describe('system calls answer as Linux 6.18 does', () => {
  it.each(scripts.map((script) => [script.name, script] as const))('%s', (name, script) => {
    const hugePages = { [2 ** 21]: script.pool ?? 0, [2 ** 30]: 0 };
    const { backend, process } = boot({ machine: { hugePages, numa: true, ksm: true } });
    const observed = play(script, backend, process.mm);
    const answers = golden.scripts[name];
    expect(answers, 'recorded').toHaveLength(script.steps.length);
    const line = (what: readonly unknown[] | undefined) =>
      script.steps.map((step, i) => `${JSON.stringify(step)} → ${JSON.stringify(what?.[i])}`);
    expect(line(observed)).toEqual(line(answers));
  });

  it('has a thousand observations', () => {
    expect(scripts.reduce((sum, script) => sum + script.steps.length, 0)).toBeGreaterThan(1000);
  });

  it('gives the same twice: descriptors, addresses, inodes', () => {
    const transcript = (): unknown[] => {
      const { backend, process } = boot();
      const notes: unknown[] = [];
      for (const script of memoryScripts.slice(-4)) notes.push(play(script, backend, process.mm));
      for (const vma of process.mm.vmas) notes.push([vma.start, vma.end, vma.prot]);
      for (const [fd, file] of process.fds.open()) notes.push([fd, file.link, String(file.stat(process).ino)]);
      return notes;
    };
    expect(transcript()).toEqual(transcript());
  });
});
