// Generated TypeScript: constants, interfaces and the layout text of src/uapi/layout.ts.
import { FLEXIBLE } from './modules.mjs';
import { POINTERS } from './pointers.mjs';

const WIDE = /^(__[us]64|__aligned_u64|__uint128_t|(unsigned )?long( long)?|.* \*)$/;
const OCTET = /^(__u8|char|unsigned char)$/;

/** Members that mean something: not the empty struct of __DECLARE_FLEX_ARRAY. */
const meaningful = (shape) => shape.members.filter((member) => !(member.type.inline && member.type.inline.members.length === 0));

/** Tags a shape needs, in order of first use. */
export function tagsOf(shape, found = []) {
  for (const { type } of shape.members) {
    if (type.tag && !found.includes(type.tag)) found.push(type.tag);
    if (type.inline) tagsOf(type.inline, found);
  }
  return found;
}

/** Paths of untagged named members, whose alignment only the compiler knows. */
export function inlinePaths(shape, prefix = '') {
  return meaningful(shape).flatMap(({ name, dims, type }) => {
    if (!type.inline) return [];
    const path = name ? `${prefix}${name}${dims.map(() => '[0]').join('')}` : '';
    return [...(name ? [path] : []), ...inlinePaths(type.inline, name ? `${path}.` : prefix)];
  });
}

/** The layout text of a shape. `alignOf(path)` is the alignment of an untagged member at a C path. */
export function layoutText(shape, alignOf) {
  const body = (inner, path, cPath, indent) =>
    meaningful(inner)
      .map((member) => `${indent}${member.offset} ${memberText(member, path, cPath, indent)};\n`)
      .join('');
  function memberText({ name, dims, type, bits }, path, cPath, indent) {
    const full = `${path}.${name}`;
    const suffix = dims.map((dim, i) => (dim === 0 && i === 0 ? `[${flexCount(full)}]` : `[${dim}]`)).join('');
    const at = POINTERS.has(full) ? '@' : '';
    const declarator = name && `${at}${name}${suffix}${bits ? `:${bits.from}+${bits.count}` : ''}`;
    if (!type.inline) return `${type.tag ? `${type.kind} ${type.tag}` : type.scalar} ${declarator}`;
    const { kind, size } = type.inline;
    const cFull = `${cPath}${name}${dims.map(() => '[0]').join('')}`;
    const inner = name ? body(type.inline, full, `${cFull}.`, `${indent}  `) : body(type.inline, path, cPath, `${indent}  `);
    return `${kind} ${size},${name ? alignOf(cFull) : 1} {\n${inner}${indent}}${name ? ` ${declarator}` : ''}`;
  }
  return body(shape, shape.name, '', '  ');
}

function flexCount(path) {
  const count = FLEXIBLE[path];
  if (count === undefined) throw new Error(`${path} is a flexible array: say in FLEXIBLE how many elements it has`);
  return count;
}

/** Members by name as TypeScript properties; those of anonymous aggregates beside the others. */
export function interfaceText(shape, indent = '  ') {
  const { lines, unions } = properties(shape, indent, shape.kind === 'union');
  const mark = unions.length > 0 ? [`${indent}readonly [unionMembers]?: ${unions.map((name) => `'${name}'`).join(' | ')};`] : [];
  return [...lines, ...mark].join('\n');
}

function properties(shape, indent, inUnion) {
  const lines = [];
  const unions = [];
  for (const { name, dims, type } of meaningful(shape)) {
    if (!name) {
      const inner = properties(type.inline, indent, inUnion || type.inline.kind === 'union');
      lines.push(...inner.lines);
      unions.push(...inner.unions);
      continue;
    }
    if (inUnion) unions.push(name);
    let element = type.tag ?? (WIDE.test(type.scalar) ? 'bigint' : 'number');
    if (type.inline) element = `{\n${interfaceText(type.inline, `${indent}  `)}\n${indent}}`;
    let depth = dims.length;
    if (depth > 0 && OCTET.test(type.scalar ?? '')) {
      element = 'Uint8Array';
      depth--;
    }
    lines.push(`${indent}${name}: ${element}${'[]'.repeat(depth)};`);
  }
  return { lines, unions };
}

/**
 * A constant's literal. bigint for the type `long long` (masks and values of 64-bit fields are written ULL) and for what
 * 32 bits cannot hold; number otherwise. Hexadecimal where the header says hexadecimal, shifts or an ioctl.
 */
export function literal({ value, wide }, text) {
  const big = wide || value > 0xffffffffn || value < -0x80000000n;
  const magnitude = value < 0n ? -value : value;
  const hex = /0x|<<|_IO|_BITU|BIT\(/.test(text ?? '') || magnitude > 0xffffn;
  return `${value < 0n ? '-' : ''}${hex ? `0x${magnitude.toString(16)}` : magnitude}${big ? 'n' : ''}`;
}
