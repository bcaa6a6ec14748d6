// Public methods of the object layer with their docstrings, as the sources have them: what the tests of completeness compare with the ioctl table.
import * as uapi from 'kvio/uapi';
import { allDocumented, type Class, lineage, type Method, methodsOf } from '../../scripts/docs/methods.mjs';

export { type Class, lineage, type Method, methodsOf };

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
  return allDocumented(methods, type, request)[0];
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
