// docs/README.md: its last part, which method is which ioctl, from the ioctl table and the docstrings.
//
//   npm run docs
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { ensureOrExit } from '../ensure.mjs';
import { ioctlTables } from './ioctls.mjs';

const page = new URL('../../docs/README.md', import.meta.url);
const MARK = '<!-- written by npm run docs; a test holds it to the ioctl table and the docstrings -->\n';

/** The page with its tables made anew. */
export function withTables(text, kvio, ioctls) {
  const at = text.indexOf(MARK);
  if (at < 0) throw new Error(`docs/README.md has no line ${MARK}`);
  return `${text.slice(0, at)}${MARK}\n${ioctlTables(kvio, ioctls).join('\n\n')}\n`;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  await ensureOrExit();
  const [kvio, { ioctls }] = await Promise.all([import('../../dist/index.js'), import('../../dist/uapi/index.js')]);
  writeFileSync(page, withTables(readFileSync(page, 'utf8'), kvio, ioctls()));
}
