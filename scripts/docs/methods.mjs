// Public methods of the object layer with their docstrings, as the sources have them: what the tests of completeness compare with the ioctl table, and docs/README.md is made of.
import { readdirSync, readFileSync } from 'node:fs';

const source = new URL('../../src/', import.meta.url);

/** Of all classes in `src/FOLDER`; those of handles are inherited. */
export function methodsOf(folder) {
  const files = readdirSync(new URL(`${folder}/`, source)).map((file) => `${folder}/${file}`);
  return [...files, 'kernel/handle.ts'].flatMap(methodsIn);
}

function methodsIn(file) {
  const text = readFileSync(new URL(file, source), 'utf8');
  const classes = [...text.matchAll(/^export (?:abstract )?class (\w+)/gm)].map(({ index, 1: name }) => ({ index, name }));
  const declared = text.matchAll(
    /^(?: {2}\/\*\*((?:(?!\*\/)[\s\S])*?)\*\/\n)? {2}(?:(?:static|override|async|protected) )*(?:async )?\*?(\w+)(?:<[^>]*>)?\((?=[^\n]*(?:[{;,(]|\): \w+[^\n]*)$)/gm,
  );
  return [...declared]
    .filter(
      ({ 0: declaration, 2: name }) =>
        !/^ {2}(?:if|for|while|return|switch|throw)\b/m.test(declaration.split('\n').at(-1)) && name !== 'constructor',
    )
    .map(({ index, 0: declaration, 1: doc = '', 2: name }) => ({
      name,
      of: classes.findLast((one) => one.index < index)?.name ?? '',
      doc: doc.replaceAll(/\n\s*\* ?/g, ' ').trim(),
      protected: / protected /.test(declaration.split('\n').at(-1)),
    }))
    .filter((method) => method.of !== '' && !method.protected);
}

/** Its name and those of all it inherits from. */
export function lineage(type) {
  const names = [];
  for (let one = type; one !== Function.prototype; one = Object.getPrototypeOf(one)) names.push(one.name);
  return names;
}

/** The methods of the class whose docstrings begin with the request, or with several of which it is one. */
export function allDocumented(methods, type, request) {
  const line = lineage(type);
  const begins = new RegExp(`^(?:[A-Z]+_\\w+(?:,| and) )*${request}\\b`);
  return methods.filter(({ of, doc }) => line.includes(of) && begins.test(doc));
}
