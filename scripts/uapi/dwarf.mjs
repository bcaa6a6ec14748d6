// Types of a compiled object, read from its DWARF: every struct, union and enum the headers define, as gcc laid them out.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const readelf = (object, what) =>
  execFileSync('readelf', [`--debug-dump=${what}`, object], { encoding: 'utf8', maxBuffer: 1 << 28 });

/** Runs `work` with a scratch folder that is gone afterwards. */
export function withScratch(work) {
  const folder = mkdtempSync(join(tmpdir(), 'kvio-uapi-'));
  try {
    return work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function parseEntries(text) {
  const byOffset = new Map();
  const roots = [];
  const stack = [];
  let entry;
  for (const line of text.split('\n')) {
    const start = /^\s*<(\w+)><(\w+)>: Abbrev Number: \d+ \((\w+)\)/.exec(line);
    if (start) {
      const depth = Number.parseInt(start[1], 16);
      entry = { tag: start[3].replace('DW_TAG_', ''), children: [], attributes: {} };
      byOffset.set(Number.parseInt(start[2], 16), entry);
      stack.length = depth;
      (depth === 0 ? roots : stack[depth - 1].children).push(entry);
      stack[depth] = entry;
      continue;
    }
    const attribute = /^\s*<\w+>\s+DW_AT_(\w+)\s*: (.*)$/.exec(line);
    if (attribute && entry) entry.attributes[attribute[1]] = plain(attribute[2]);
  }
  return { byOffset, roots };
}

/** An attribute without the note of its form, which binutils of different ages word differently. */
const plain = (text) =>
  text
    .replace(/^\([a-z_]+\d*\)[ \t]+/, '')
    .replace(/^\([^()]*offset: (?:0x)?\w+\): /, '')
    .trim();

/** The line program's file table: decl_file number → path. */
function parseFiles(text) {
  const folders = [];
  const files = [];
  let list;
  for (const line of text.split('\n')) {
    if (/The Directory Table/.test(line)) list = folders;
    else if (/The File Name Table/.test(line)) list = files;
    else if (/Line Number Statements/.test(line)) list = undefined;
    const row = /^\s+(\d+)\t(.+)$/.exec(line);
    if (!list || !row) continue;
    const index = Number(row[1]);
    if (list === folders) folders[index] = plain(row[2]);
    else {
      const [, folder, name] = /^(?:\(udata\)\t)?(\d+)\t(.+)$/.exec(row[2]);
      files[index] = `${folders[Number(folder)]}/${plain(name)}`;
    }
  }
  return files;
}

/** { types, enums }: every tagged struct or union with its file, every enumeration, in the order of definition. */
export function typesOf(compiler, source) {
  return withScratch((folder) => {
    const object = join(folder, 'probe.o');
    compiler.run(['-gdwarf-5', '-fno-eliminate-unused-debug-types', '-c', '-o', object, '-'], source);
    const { byOffset, roots } = parseEntries(readelf(object, 'info'));
    const files = parseFiles(readelf(object, 'rawline'));
    const reference = (value) =>
      value === undefined ? undefined : byOffset.get(Number.parseInt(/<0x(\w+)>/.exec(value)[1], 16));
    const fileOf = (entry) => files[Number(entry.attributes.decl_file)];
    const types = [];
    const enums = [];
    for (const entry of roots.flatMap((root) => root.children)) {
      if (/^(structure|union)_type$/.test(entry.tag) && entry.attributes.name && entry.attributes.byte_size) {
        types.push({ name: entry.attributes.name, file: fileOf(entry), shape: aggregate(entry, reference) });
      } else if (entry.tag === 'enumeration_type') {
        enums.push({
          name: entry.attributes.name,
          file: fileOf(entry),
          names: entry.children.map((child) => child.attributes.name),
        });
      }
    }
    return { types, enums };
  });
}

function aggregate(entry, reference) {
  return {
    kind: entry.tag === 'union_type' ? 'union' : 'struct',
    name: entry.attributes.name,
    size: Number(entry.attributes.byte_size),
    members: entry.children.filter((child) => child.tag === 'member').map((child) => member(child, reference)),
  };
}

function member(entry, reference) {
  const { name, data_member_location: at, data_bit_offset: bit, bit_size: bits } = entry.attributes;
  const { type, dims } = resolve(reference(entry.attributes.type), reference);
  const made = { name, offset: Number(at ?? 0), dims, type };
  if (bits !== undefined) {
    const unit = type.size * 8;
    made.offset = Math.floor(Number(bit) / unit) * type.size;
    made.bits = { from: Number(bit) % unit, count: Number(bits) };
  }
  return made;
}

const KNOWN = /^(__[us](8|16|32|64)|__aligned_u64|__uint128_t)$/;
const BASE = {
  'short int': 'short',
  'short unsigned int': 'unsigned short',
  'long int': 'long',
  'long unsigned int': 'unsigned long',
};

/** A member's type without its array dimensions: a scalar by the name the header uses, a tagged or an untagged aggregate. */
function resolve(entry, reference) {
  const size = Number(entry?.attributes.byte_size);
  switch (entry?.tag) {
    case 'typedef':
      if (KNOWN.test(entry.attributes.name)) {
        return {
          dims: [],
          type: { scalar: entry.attributes.name, size: resolve(reference(entry.attributes.type), reference).type.size },
        };
      }
      return resolve(reference(entry.attributes.type), reference);
    case 'const_type':
    case 'volatile_type':
      return resolve(reference(entry.attributes.type), reference);
    case 'base_type':
      return {
        dims: [],
        type: { scalar: BASE[entry.attributes.name] ?? entry.attributes.name.replace('__int128 unsigned', '__uint128_t'), size },
      };
    case 'enumeration_type':
      return { dims: [], type: { scalar: `enum ${entry.attributes.name}`, size } };
    case 'pointer_type': {
      const target = reference(entry.attributes.type);
      return { dims: [], type: { scalar: `${target?.attributes.name ?? 'void'} *`, size: 8 } };
    }
    case 'array_type': {
      const inner = resolve(reference(entry.attributes.type), reference);
      const dims = entry.children
        .filter((child) => child.tag === 'subrange_type')
        .map(({ attributes }) =>
          attributes.upper_bound === undefined
            ? attributes.count === undefined
              ? 0
              : Number(attributes.count)
            : Number(attributes.upper_bound) + 1,
        );
      return { dims: [...dims, ...inner.dims], type: inner.type };
    }
    case 'structure_type':
    case 'union_type': {
      const shape = aggregate(entry, reference);
      return {
        dims: [],
        type: shape.name ? { tag: shape.name, kind: shape.kind, size: shape.size } : { inline: shape, size: shape.size },
      };
    }
    default:
      throw new Error(`DWARF: ${entry?.tag} as a member's type`);
  }
}
