// Public methods of the object layer with their docstrings, as the sources have them: what the tests of completeness compare with the ioctl table.
import { readdirSync, readFileSync } from 'node:fs';
import * as uapi from 'kvio/uapi';

const source = new URL('../../src/', import.meta.url);

export interface Method {
  readonly name: string;
  readonly of: string;
  /** Of the docstring; '' without one. */
  readonly doc: string;
}

/** Of all classes in `src/FOLDER`; those of handles are inherited. */
export function methodsOf(folder: string): Method[] {
  const files = readdirSync(new URL(`${folder}/`, source)).map((file) => `${folder}/${file}`);
  return [...files, 'kernel/handle.ts'].flatMap(methodsIn);
}

function methodsIn(file: string): Method[] {
  const text = readFileSync(new URL(file, source), 'utf8');
  const classes = [...text.matchAll(/^export (?:abstract )?class (\w+)/gm)].map(({ index, 1: name }) => ({
    index,
    name: name!,
  }));
  const declared = text.matchAll(
    /^(?: {2}\/\*\*((?:(?!\*\/)[\s\S])*?)\*\/\n)? {2}(?:(?:static|override|async|protected) )*(?:async )?\*?(\w+)(?:<[^>]*>)?\((?=[^\n]*(?:[{;,(]|\): \w+[^\n]*)$)/gm,
  );
  return [...declared]
    .filter(
      ({ 0: declaration, 2: name }) =>
        !/^ {2}(?:if|for|while|return|switch|throw)\b/m.test(declaration.split('\n').at(-1)!) && name !== 'constructor',
    )
    .map(({ index, 0: declaration, 1: doc = '', 2: name }) => ({
      name: name!,
      of: classes.findLast((one) => one.index < index)?.name ?? '',
      doc: doc.replaceAll(/\n\s*\* ?/g, ' ').trim(),
      protected: / protected /.test(declaration.split('\n').at(-1)!),
    }))
    .filter((method) => method.of !== '' && !method.protected);
}

export interface Class {
  readonly name: string;
  readonly prototype: object;
}

/** Its name and those of all it inherits from. */
export function lineage(type: Class): string[] {
  const names: string[] = [];
  for (let one = type; (one as unknown) !== Function.prototype; one = Object.getPrototypeOf(one)) names.push(one.name);
  return names;
}

/** A request on a kind of descriptor. */
export interface Pair {
  readonly name: string;
  readonly kind: string;
}

/** Requests whose name begins so, on each kind of descriptor that has a class. */
export function pairsOf(prefix: string, classes: Readonly<Record<string, Class>>): Pair[] {
  return uapi
    .ioctls()
    .filter(({ name, arch }) => name.startsWith(prefix) && (arch === undefined || arch === 'x86' || arch === 'arm64'))
    .flatMap(({ name, fds }) => fds.filter((kind) => kind in classes).map((kind) => ({ name, kind })));
}

/** The method of the class whose docstring begins with the request. */
export function documented(methods: readonly Method[], type: Class, request: string): Method | undefined {
  const line = lineage(type);
  return methods.find(({ of, doc }) => line.includes(of) && new RegExp(`^(?:[A-Z]+_\\w+(?:,| and) )*${request}\\b`).test(doc));
}

/** What the class has under this name, itself or inherited. */
export function member(type: Class, name: string): unknown {
  let proto: object = type.prototype;
  while (!Object.hasOwn(proto, name)) proto = Object.getPrototypeOf(proto);
  return Object.getOwnPropertyDescriptor(proto, name)!.value;
}

/** Names of the functions of a class that no docstring was found for. */
export function undocumented(methods: readonly Method[], type: Class): string[] {
  const line = lineage(type);
  const named = new Set(methods.filter(({ of }) => line.includes(of)).map(({ name }) => name));
  const missing: string[] = [];
  for (let proto = type.prototype; proto !== Object.prototype; proto = Object.getPrototypeOf(proto)) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(proto))) {
      if (
        typeof value === 'function' &&
        !['constructor', 'attach', 'describe', 'descriptorToMap'].includes(name) &&
        !named.has(name)
      )
        missing.push(`${type.name}.${name}`);
    }
  }
  return missing;
}
