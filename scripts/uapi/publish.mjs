// Writes dist/uapi.json of the built dist/uapi/index.js: every constant, struct layout and ioctl row, for programs in other languages.
//
// Integers that a double cannot hold, and those kvio has as bigint, are strings of decimal digits.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** A struct's layout as plain data; untagged members carry theirs with them. */
function layoutOf(struct) {
  const fields = struct.fields.map(({ name, type, offset, size, dims, flex, pointer, union, bits, pad, struct: inner }) => ({
    name,
    type,
    offset,
    size,
    ...(dims.length > 0 && { dims }),
    ...(flex && { flexible: flex }),
    ...(pointer && { pointer }),
    ...(union !== undefined && { union }),
    ...(bits && { bits }),
    ...(pad && { pad }),
    ...(inner && /^(struct|union)$/.test(type) && { layout: layoutOf(inner) }),
  }));
  return { kind: struct.kind, size: struct.size, align: struct.align, fields };
}

const pointerOf = ({ target, ...rule }) => ({
  ...rule,
  ...(target && { target: { struct: target.struct.name, pointers: target.pointers.map(pointerOf) } }),
});
const rowOf = ({ struct, pointers, ...row }) => ({
  ...row,
  ...(struct && { struct: struct.name }),
  ...(pointers && { pointers: pointers.map(pointerOf) }),
});

/** The vocabulary of a module: { constants, structs }. */
function wordsOf(module, Struct) {
  const constants = {};
  const structs = {};
  for (const [name, value] of Object.entries(module)) {
    if (value instanceof Struct) structs[name] = layoutOf(value);
    else if (typeof value === 'bigint') constants[name] = String(value);
    else if (typeof value === 'number' || typeof value === 'string') constants[name] = value;
  }
  return { constants, structs };
}

/** The whole, of a loaded uapi module. `headers` names the Linux version. */
export function published(uapi, headers) {
  const { ioctls, unnumberedIoctls, arm64, teeIo, Struct } = uapi;
  return {
    headers,
    ...wordsOf(uapi, Struct),
    arm64: wordsOf(arm64, Struct),
    teeIo: Object.fromEntries(
      Object.entries(teeIo.SERIES).map(([name, series]) => [name, { series, ...wordsOf(teeIo[name], Struct) }]),
    ),
    ioctls: ioctls().map(rowOf),
    unnumberedIoctls,
  };
}

async function main() {
  const dist = join(ROOT, 'dist');
  const uapi = await import(pathToFileURL(join(dist, 'uapi/index.js')).href);
  const headers = /linux-libc-dev (\S+)/.exec(readFileSync(join(ROOT, 'src/uapi/kvm.ts'), 'utf8'))[1];
  const json = published(uapi, headers);
  writeFileSync(join(dist, 'uapi.json'), `${JSON.stringify(json)}\n`);
  console.log(
    `dist/uapi.json: ${json.ioctls.length} ioctl rows, ${Object.keys(json.structs).length} structs, ${Object.keys(json.constants).length} constants`,
  );
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
