// Macros and enumerators: where each is defined (the preprocessor's word) and what it is worth (the compiler's).
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { withScratch } from './dwarf.mjs';

/** Object-like macros still defined at the end: name → { file, text }. */
export function macrosOf(compiler, source) {
  const macros = new Map();
  let file;
  for (const line of compiler.run(['-E', '-dD', '-'], source).toString().split('\n')) {
    const marker = /^# \d+ "([^"]+)"/.exec(line);
    const define = /^#define (\w+)( .*)?$/.exec(line);
    const undef = /^#undef (\w+)/.exec(line);
    if (marker) file = marker[1];
    else if (define) macros.set(define[1], { file, text: (define[2] ?? '').trim() });
    else if (undef) macros.delete(undef[1]);
  }
  return macros;
}

/**
 * Values of integer constant expressions: expression → { value: bigint, wide } (`wide`: of type long long). Expressions
 * that are none are left out.
 */
export function evaluate(compiler, source, expressions) {
  const head = `${source}
struct row { unsigned long long value; unsigned char negative, wide, end[6]; };
#define ROW(e) { (unsigned long long)(e), (e) < 0, _Generic((e), long long: 1, unsigned long long: 1, default: 0), "......" },
__attribute__((section(".rodata.rows"))) const struct row rows[] = {
`;
  const first = head.split('\n').length;
  return withScratch((folder) => {
    let left = [...expressions];
    for (;;) {
      const file = join(folder, 'values.c');
      const object = join(folder, 'values.o');
      writeFileSync(file, `${head}${left.map((expression) => `ROW(${expression})`).join('\n')}\n};\n`);
      const bad = failingLines(compiler, file, object);
      if (bad.size === 0) return readRows(compiler, object, join(folder, 'rows'), left);
      left = left.filter((_, i) => !bad.has(first + i));
    }
  });
}

function failingLines(compiler, file, object) {
  try {
    execFileSync(compiler.command, [...compiler.args, '-fmax-errors=0', '-c', '-o', object, file], {
      stdio: ['ignore', 'ignore', 'pipe'],
      maxBuffer: 1 << 28,
    });
    return new Set();
  } catch (error) {
    const lines = new Set();
    for (const [, line] of String(error.stderr).matchAll(/^[^\n]*values\.c:(\d+):\d+: (?:error|note)/gm)) lines.add(Number(line));
    if (lines.size === 0) throw error;
    return lines;
  }
}

function readRows(compiler, object, output, names) {
  execFileSync(compiler.command.replace(/gcc$/, 'objcopy'), ['-O', 'binary', '-j', '.rodata.rows', object, output]);
  const bytes = readFileSync(output);
  const values = new Map();
  names.forEach((name, i) => {
    const value = bytes.readBigUInt64LE(i * 16);
    values.set(name, { value: bytes[i * 16 + 8] ? BigInt.asIntN(64, value) : value, wide: bytes[i * 16 + 9] === 1 });
  });
  return values;
}
