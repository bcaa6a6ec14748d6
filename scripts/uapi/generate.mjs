// npm run uapi: writes src/uapi/{kvm,vfio,iommufd,dma-buf,sys,arm64}.ts from Linux 7.2's headers.
//
// Layouts come from the DWARF of gcc's own object, constants from gcc's evaluation of every macro and enumerator; names
// are found by the header they are defined in. `--check` only says whether the files are as they would be written.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { typesOf } from './dwarf.mjs';
import { inlinePaths, interfaceText, layoutText, literal, tagsOf } from './emit.mjs';
import { compiler, findHeaders, ROOT } from './headers.mjs';
import { evaluate, macrosOf } from './macros.mjs';
import { headerName, MODULES, SOURCE } from './modules.mjs';

/** Everything the named headers define on one architecture: { structs, constants }, name → item, in header order. */
export function probe(tree, arch) {
  const cc = compiler(tree, arch);
  const { types, enums } = typesOf(cc, SOURCE);
  const macros = macrosOf(cc, SOURCE);
  const moduleOf = (file, name) => {
    const header = headerName(file ?? '');
    return MODULES.find((module) => module.headers.includes(header) && (!module.take || module.take.test(name)))?.file;
  };

  const texts = new Map();
  for (const { file, names } of enums) for (const name of names) texts.set(name, { file, text: '' });
  for (const [name, { file, text }] of macros) texts.set(name, { file, text });
  const wanted = [...texts].filter(([name, { file }]) => moduleOf(file, name) !== undefined);
  const values = evaluate(
    cc,
    SOURCE,
    wanted.map(([name]) => name),
  );
  const constants = new Map();
  for (const [name, { file, text }] of wanted) {
    const value = values.get(name);
    const string = /^"((?:[^"\\]|\\0)*)"$/.exec(text);
    const written = string ? `'${string[1].replaceAll('\\0', '\\x00')}'` : value && literal(value, text);
    if (written) constants.set(name, { name, module: moduleOf(file, name), literal: written });
  }

  const byTag = new Map(types.map((type) => [type.name, type]));
  const chosen = new Set();
  const choose = (name) => {
    for (const tag of tagsOf(byTag.get(name).shape)) choose(tag);
    chosen.add(name);
  };
  for (const { name, file } of types) if (moduleOf(file, name)) choose(name);
  const structs = new Map();
  const shapes = [...chosen].map((name) => byTag.get(name));
  const aligns = evaluate(
    cc,
    SOURCE,
    shapes.flatMap(({ shape }) => [alignTag(shape), ...inlinePaths(shape).map((path) => alignPath(shape, path))]),
  );
  const alignOf = (expression) => Number(aligns.get(expression).value);
  for (const { name, file, shape } of shapes) {
    const layout = layoutText(shape, (path) => alignOf(alignPath(shape, path)));
    structs.set(name, {
      name,
      module: moduleOf(file, name) ?? 'kvm',
      shape,
      align: alignOf(alignTag(shape)),
      layout,
      tags: tagsOf(shape),
    });
  }
  return { structs, constants };
}

const alignTag = (shape) => `_Alignof(${shape.kind} ${shape.name})`;
const alignPath = (shape, path) => `_Alignof(__typeof__(((${shape.kind} ${shape.name} *)0)->${path}))`;

function structText({ name, shape, align, layout, tags }) {
  const tagged = tags.length > 0 ? `, [${tags.join(', ')}]` : '';
  return (
    `export interface ${name} {\n${interfaceText(shape)}\n}\n` +
    `export const ${name}: Struct<${name}> = struct('${name}', '${shape.kind}', ${shape.size}, ${align}, \`\n${layout}\`${tagged});\n`
  );
}

function fileText(title, version, constants, structs, origin) {
  const foreign = new Map();
  for (const { tags } of structs) {
    for (const tag of tags)
      if (!structs.some(({ name }) => name === tag)) foreign.set(origin(tag), [...(foreign.get(origin(tag)) ?? []), tag]);
  }
  const unions = structs.some(({ shape }) => interfaceText(shape).includes('[unionMembers]'));
  const types = ['Struct', ...(unions ? ['unionMembers'] : [])].join(', ');
  const imports =
    structs.length > 0 ? `import type { ${types} } from './struct.ts';\nimport { struct } from './struct.ts';\n` : '';
  const others = [...foreign]
    .sort()
    .map(([file, tags]) => `import { ${[...new Set(tags)].sort().join(', ')} } from './${file}.ts';\n`);
  return (
    `// ${title}. Generated from linux-libc-dev ${version} by scripts/uapi/generate.mjs: do not edit.\n${others.join('')}${imports}\n` +
    `${constants.map(({ name, literal }) => `export const ${name} = ${literal};\n`).join('')}` +
    `${structs.map((item) => `\n${structText(item)}`).join('')}`
  );
}

/** What arm64 has of its own: new names, other values, other layouts (of a struct or of one it contains). */
function differences(base, other) {
  const constants = [...other.constants.values()].filter(({ name, literal }) => base.constants.get(name)?.literal !== literal);
  const differing = new Set();
  for (const item of other.structs.values()) {
    const twin = base.structs.get(item.name);
    const same = twin && twin.layout === item.layout && twin.shape.size === item.shape.size && twin.align === item.align;
    if (!same || item.tags.some((tag) => differing.has(tag))) differing.add(item.name);
  }
  return { constants, structs: [...differing].map((name) => other.structs.get(name)) };
}

function main() {
  const { tree, version } = findHeaders();
  const x86 = probe(tree, 'x86_64');
  const arm64 = probe(tree, 'arm64');
  const origin = (tag) => x86.structs.get(tag).module;
  const files = MODULES.map(({ file, title }) => {
    const of = (items) => [...items.values()].filter(({ module }) => module === file);
    return [file, fileText(title, version, of(x86.constants), of(x86.structs), origin)];
  });
  const own = differences(x86, arm64);
  files.push(['arm64', fileText('What arm64 defines otherwise than x86-64', version, own.constants, own.structs, origin)]);
  let stale = 0;
  for (const [file, text] of files) {
    const path = join(ROOT, 'src/uapi', `${file}.ts`);
    if (process.argv.includes('--check')) {
      if (readFileSync(path, 'utf8') === text) continue;
      stale++;
      console.error(`src/uapi/${file}.ts is not what the headers say: npm run uapi`);
    } else writeFileSync(path, text);
  }
  const count = (items) =>
    `${items.constants.size ?? items.constants.length} constants, ${items.structs.size ?? items.structs.length} structs`;
  console.log(`linux-libc-dev ${version}: x86-64 ${count(x86)}; arm64 ${count(arm64)}, of which its own ${count(own)}`);
  process.exitCode = stale > 0 ? 1 : 0;
}

if (import.meta.filename === process.argv[1]) main();
