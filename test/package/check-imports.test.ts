import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
// @ts-expect-error a script without types
import { checkTree } from '../../scripts/check-imports.mjs';
// @ts-expect-error a script without types
import { importsOf } from '../../scripts/imports/scan.mjs';

interface Violation {
  file: string;
  line: number;
  message: string;
}

/** A tree that keeps all rules; each case plants one more file. */
const clean: Record<string, string> = {
  'src/uapi/index.ts': 'export const a = 1;',
  'src/kernel/core.ts': "import { a } from '../uapi/index.ts';\nimport type { Stats } from 'node:fs';\nexport { a };",
  'src/native/index.ts': "import '../kernel/core.ts';",
  'src/ffi/index.ts': "import type * as ffi from 'ffi-rs';\nimport '../kernel/core.ts';",
  'src/sim/index.ts': "import './kvm/vm.ts';\nimport '../kernel/core.ts';",
  'src/sim/kvm/vm.ts': "import '../file.ts';\nimport '../cpu/cpu.ts';",
  'src/sim/cpu/cpu.ts': 'export {};',
  'src/sim/file.ts': 'export {};',
  'src/kvm/vm.ts': "import '../kernel/core.ts';",
  'src/open.ts': "import './native/index.ts';\nimport './ffi/index.ts';\nimport './sim/index.ts';",
  'src/index.ts': "export * from './open.ts';\nexport * from './kvm/vm.ts';",
  'src/cli/main.ts': "import '../index.ts';\nimport '../sim/index.ts';",
  'test/a.test.ts': "import { expect } from 'vitest';\nimport 'kvio';\nimport '../src/sim/file.ts';",
  'examples/hello.ts': "import { openKernel } from 'kvio';\nimport 'kvio/sim';",
};

const planted: readonly (readonly [string, string, string, RegExp])[] = [
  ['uapi imports something of ours', 'src/uapi/x.ts', "import '../kernel/core.ts';", /src\/uapi may not import src\/kernel/],
  ['the object layer imports the simulator', 'src/kvm/x.ts', "import '../sim/file.ts';", /src\/kvm may not import src\/sim/],
  ['the simulator imports the object layer', 'src/sim/x.ts', "import '../kvm/vm.ts';", /src\/sim may not import src\/kvm/],
  ['… from a folder of the same name', 'src/sim/kvm/x.ts', "import '../../kvm/vm.ts';", /src\/sim may not import src\/kvm/],
  ['native imports ffi', 'src/native/x.ts', "import '../ffi/index.ts';", /src\/native may not import src\/ffi/],
  ['ffi imports native', 'src/ffi/x.ts', "import '../native/index.ts';", /src\/ffi may not import src\/native/],
  [
    'a table of contents imports the simulator',
    'src/testing.ts',
    "export * from './sim/index.ts';",
    /src\/testing may not import src\/sim/,
  ],
  ['a type counts', 'src/kvm/x.ts', "import type { A } from '../sim/file.ts';", /may not import/],
  ['a dynamic import counts', 'src/kvm/x.ts', "const a = await import('../sim/file.ts');", /may not import/],
  ['a type query counts', 'src/kvm/x.ts', "type A = typeof import('../sim/file.ts');", /may not import/],
  ['a require counts', 'src/kvm/x.ts', "createRequire(import.meta.url)('../sim/index.js');", /may not import/],
  ['a worker counts', 'src/kvm/x.ts', "new URL('../sim/file.ts', import.meta.url);", /may not import/],
  [
    'a cycle between folders',
    'src/kernel/x.ts',
    "import '../kvm/vm.ts';",
    /cycle between folders: src\/\w+ → src\/\w+ → src\/\w+/,
  ],
  [
    'a cycle between sibling folders',
    'src/sim/cpu/x.ts',
    "import '../kvm/vm.ts';",
    /cycle between folders: src\/sim\/\w+ → src\/sim\/\w+ → /,
  ],
  ['a package', 'src/kvm/x.ts', "import 'left-pad';", /'left-pad'/],
  ['ffi-rs elsewhere', 'src/kvm/x.ts', "import 'ffi-rs';", /'ffi-rs'/],
  ['a builtin without node:', 'src/kvm/x.ts', "import 'fs';", /'fs'/],
  ['no suffix', 'src/kvm/x.ts', "import '../kernel/core';", /is no file/],
  ['a file that is not there', 'src/kvm/x.ts', "import './nothing.ts';", /'.\/nothing.ts' is no file/],
  ['an example looks inside', 'examples/x.ts', "import '../src/index.ts';", /examples\/ may not import src/],
  ['a test imports what is built', 'test/x.test.ts', "import '../dist/index.js';", /test\/ may not import dist/],
];

describe('import rules', () => {
  let tree = '';
  const plant = (file: string, text: string): void => {
    mkdirSync(dirname(join(tree, file)), { recursive: true });
    writeFileSync(join(tree, file), text);
  };

  beforeEach(() => {
    tree = mkdtempSync(join(tmpdir(), 'kvio imports '));
    for (const [file, text] of Object.entries(clean)) plant(file, text);
  });
  afterEach(() => rmSync(tree, { recursive: true }));

  it('a tree that keeps them has no violations', () => {
    expect(checkTree(tree)).toEqual([]);
  });

  it.each(planted)('%s', (_, file, text, message) => {
    plant(file, `// first line\n${text}\n`);
    const found = (checkTree(tree) as Violation[]).filter((each) => message.test(each.message));
    expect(found).toHaveLength(1);
    if (!found[0]!.message.startsWith('cycle')) expect(found[0]).toMatchObject({ file, line: 2 });
  });
});

describe('import specifiers', () => {
  const specifiers = (text: string): string[] => importsOf(text).map((each: { specifier: string }) => each.specifier);

  it('finds every form', () => {
    const text = `import 'a';
import b, { type B as C } from "b";
import type {
  D,
} from 'd';
export * as e from 'e'; export { f } from 'f';
const g = await import('g'), h = require('h');
`;
    expect(specifiers(text)).toEqual(['a', 'b', 'd', 'e', 'f', 'g', 'h']);
    expect(importsOf(text).map((each: { line: number }) => each.line)).toEqual([1, 2, 5, 6, 6, 7, 7]);
  });

  it('is not taken in by comments, strings, templates and regular expressions', () => {
    expect(
      specifiers(`// import 'a';
/* import 'b'; */ const c = "import 'c'"; const d = \`import 'd' \${f({ a: \`\${1}\` })} import 'e'\`;
const r = /['"\`]/g.exec(x); const q = a / b; array.from('f'); Array.from('g'); x.import('h');
const i = 'from'; export const j = 'j';
import 'k';`),
    ).toEqual(['k']);
  });
});
