#!/usr/bin/env node
// The import rules of the house, checked on every specifier in src/, test/ and examples/ (types included: a type couples too).
//
//   node scripts/check-imports.mjs [tree]      prints each violation as file:line, exit status 1 if there is one
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { importsOf } from './imports/scan.mjs';

const kernels = ['native', 'ffi', 'sim'];
const objects = ['kvm', 'vfio', 'iommufd', 'host', 'tee-io'];

/** What a part of src/ may import besides itself. A part is a folder, or a file of src/ itself without its suffix. */
const mayImport = {
  uapi: [],
  kernel: ['uapi'],
  native: ['kernel', 'uapi'],
  ffi: ['kernel', 'uapi'],
  sim: ['kernel', 'uapi'],
  ...Object.fromEntries(objects.map((part) => [part, ['kernel', 'uapi', ...objects]])),
  open: ['kernel', 'uapi', ...kernels],
  cli: 'anything',
};
/** The tables of contents (index.ts, testing.ts …) and anything new: all but the three kernels, which only open.ts and the CLI know. */
const byDefault = { not: kernels };

/** Packages from outside, per part. */
const packages = { ffi: ['ffi-rs'], cli: ['kvio/package.json'] };
const testPackages = ['vitest', 'fast-check'];

const partOf = (file) => file.split('/')[1].replace(/\.ts$/, '');

function sourceFiles(tree, folder) {
  const walk = (path) =>
    readdirSync(join(tree, path), { withFileTypes: true }).flatMap((entry) => {
      const child = `${path}/${entry.name}`;
      if (entry.isDirectory()) return walk(child);
      return /\.(ts|mts|mjs|js)$/.test(entry.name) ? [child] : [];
    });
  return existsSync(join(tree, folder)) ? walk(folder).sort() : [];
}

/** All violations in a tree: `{ file, line, message }`. */
export function checkTree(tree) {
  const found = [];
  const edges = [];
  for (const top of ['src', 'test', 'examples']) {
    for (const file of sourceFiles(tree, top)) {
      for (const { specifier, line } of importsOf(readFileSync(join(tree, file), 'utf8'))) {
        const target = specifier.startsWith('.') ? resolveFrom(tree, file, specifier) : undefined;
        const messages = top === 'src' ? checkSource(file, specifier, target) : checkOutside(top, specifier, target);
        if (target !== undefined) messages.push(...checkFile(tree, specifier, target));
        for (const message of messages) found.push({ file, line, message });
        if (top === 'src' && target?.startsWith('src/')) edges.push({ from: file, to: target, line });
      }
    }
  }
  return [...found, ...cycles(edges)];
}

/** Relative to the tree. What is loaded at run time is named as it is built, `.js`; it stands for its source. */
function resolveFrom(tree, file, specifier) {
  const target = relative(tree, resolve(tree, dirname(file), specifier)).replaceAll('\\', '/');
  const source = target.replace(/\.js$/, '.ts');
  return existsSync(join(tree, source)) ? source : target;
}

function checkFile(tree, specifier, target) {
  if (!existsSync(join(tree, target))) return [`'${specifier}' is no file`];
  return /\.(ts|mjs|json|js|node)$/.test(target) ? [] : [`'${specifier}': relative imports end in .ts`];
}

function checkSource(file, specifier, target) {
  const part = partOf(file);
  if (target === undefined) {
    if (specifier.startsWith('node:') || packages[part]?.includes(specifier)) return [];
    return [`'${specifier}': src/${part} may import no such package (Node's own are spelled node:…)`];
  }
  if (!target.startsWith('src/')) return [`'${specifier}' leaves src/`];
  const to = partOf(target);
  if (to === part) return [];
  const allowed = mayImport[part] ?? byDefault;
  if (allowed === 'anything' || (Array.isArray(allowed) ? allowed.includes(to) : !allowed.not.includes(to))) return [];
  return [`src/${part} may not import src/${to}`];
}

/** What a user could write: `kvio` by name. Tests may also look inside src/, never at what is built from it. */
function checkOutside(top, specifier, target) {
  if (target === undefined) {
    if (specifier.startsWith('node:') || specifier === 'kvio' || specifier.startsWith('kvio/')) return [];
    return top === 'test' && testPackages.includes(specifier) ? [] : [`'${specifier}': ${top}/ may import no such package`];
  }
  const inside = target.split('/')[0];
  if (inside === top || (top === 'test' && ['src', 'examples', 'scripts'].includes(inside))) return [];
  return [`'${specifier}': ${top}/ may not import ${inside}/; import 'kvio' by name`];
}

/**
 * No cycle between the parts of src/, nor between sibling folders inside one (sim/cpu, sim/kvm …; the files beside such folders
 * hold them together and may know them all).
 */
function cycles(edges) {
  const found = [];
  const parents = new Set(['src', ...edges.flatMap(({ from, to }) => [from, to].flatMap(foldersOf))]);
  for (const parent of [...parents].sort()) {
    const child = (file) => {
      if (!file.startsWith(`${parent}/`)) return undefined;
      const rest = file.slice(parent.length + 1).split('/');
      return rest.length > 1 || parent === 'src' ? rest[0] : undefined;
    };
    const graph = new Map();
    for (const edge of edges) {
      const [a, b] = [child(edge.from), child(edge.to)];
      if (a === undefined || b === undefined || a === b) continue;
      if (!graph.has(a)) graph.set(a, new Map());
      if (!graph.get(a).has(b)) graph.get(a).set(b, edge);
    }
    const cycle = findCycle(graph);
    if (cycle !== undefined) {
      const path = [...cycle, cycle[0]].map((name) => `${parent}/${name}`).join(' → ');
      const edge = graph.get(cycle[0]).get(cycle[1]);
      found.push({ file: edge.from, line: edge.line, message: `cycle between folders: ${path}` });
    }
  }
  return found;
}

function foldersOf(file) {
  const parts = file.split('/').slice(0, -1);
  return parts.map((_, index) => parts.slice(0, index + 1).join('/'));
}

function findCycle(graph) {
  const done = new Set();
  const path = [];
  const visit = (node) => {
    if (path.includes(node)) return path.slice(path.indexOf(node));
    if (done.has(node)) return undefined;
    path.push(node);
    for (const next of graph.get(node)?.keys() ?? []) {
      const cycle = visit(next);
      if (cycle !== undefined) return cycle;
    }
    path.pop();
    done.add(node);
    return undefined;
  };
  for (const node of graph.keys()) {
    const cycle = visit(node);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

if (process.argv[1] !== undefined && import.meta.filename === realpathSync(process.argv[1])) {
  const violations = checkTree(resolve(process.argv[2] ?? join(import.meta.dirname, '..')));
  for (const { file, line, message } of violations) process.stdout.write(`${file}:${line}: ${message}\n`);
  if (violations.length > 0) process.exitCode = 1;
}
