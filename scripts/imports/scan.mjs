// Import specifiers of a TypeScript or JavaScript text, found on its tokens: what stands in a comment, a string or a template is
// not an import.

/** Before one of these a `/` divides; before anything else it begins a regular expression. */
const endsValue = /^(?:[\w$)\]]|'|`)/;
const wordsBeforeRegExp = new Set([
  'return',
  'typeof',
  'case',
  'in',
  'of',
  'delete',
  'void',
  'throw',
  'new',
  'do',
  'else',
  'await',
  'yield',
]);

/** Tokens `{ kind: 'word' | 'string' | 'other', text, line }`; comments and the fixed text of templates are left out. */
function* tokens(source) {
  let at = 0;
  let line = 1;
  let last = '';
  /** Depth of braces inside each open `${`. */
  const templates = [];
  const advance = (length) => {
    for (let end = at + length; at < end; at++) if (source[at] === '\n') line++;
  };
  const skipTemplate = () => {
    while (at < source.length && source[at] !== '`' && !source.startsWith('${', at)) advance(source[at] === '\\' ? 2 : 1);
    if (source[at] === '`') advance(1);
    else if (at < source.length) {
      advance(2);
      templates.push(0);
    }
  };
  while (at < source.length) {
    const rest = source.slice(at, at + 2);
    const char = source[at];
    const space = /\s+/y;
    space.lastIndex = at;
    const blank = space.exec(source);
    if (blank !== null) {
      advance(blank[0].length);
      continue;
    }
    if (rest === '//' || (rest === '#!' && at === 0)) {
      const end = source.indexOf('\n', at);
      advance((end < 0 ? source.length : end) - at);
      continue;
    }
    if (rest === '/*') {
      const end = source.indexOf('*/', at + 2);
      advance((end < 0 ? source.length : end + 2) - at);
      continue;
    }
    const start = line;
    if (char === "'" || char === '"') {
      let end = at + 1;
      while (end < source.length && source[end] !== char && source[end] !== '\n') end += source[end] === '\\' ? 2 : 1;
      const text = source.slice(at + 1, end);
      advance(end + 1 - at);
      last = "'";
      yield { kind: 'string', text, line: start };
      continue;
    }
    if (char === '`') {
      advance(1);
      skipTemplate();
      last = '`';
      continue;
    }
    if (char === '/' && !(endsValue.test(last) && !wordsBeforeRegExp.has(last))) {
      let inClass = false;
      let end = at + 1;
      while (end < source.length && source[end] !== '\n' && (inClass || source[end] !== '/')) {
        if (source[end] === '[') inClass = true;
        else if (source[end] === ']') inClass = false;
        end += source[end] === '\\' ? 2 : 1;
      }
      advance(end + 1 - at);
      last = ')';
      continue;
    }
    const word = /[\p{ID_Start}$_#][\p{ID_Continue}$]*|\d[\w.]*/uy;
    word.lastIndex = at;
    const match = word.exec(source);
    if (match !== null) {
      advance(match[0].length);
      last = match[0];
      yield { kind: 'word', text: last, line: start };
      continue;
    }
    if (templates.length > 0 && char === '{') templates[templates.length - 1]++;
    if (templates.length > 0 && char === '}') {
      if (templates[templates.length - 1] === 0) {
        templates.pop();
        advance(1);
        skipTemplate();
        last = '`';
        continue;
      }
      templates[templates.length - 1]--;
    }
    advance(1);
    last = char;
    yield { kind: 'other', text: char, line: start };
  }
}

/**
 * `import … from`, `import '…'`, `export … from`, `import('…')` (also as a type), `require('…')`,
 * `createRequire(…)('…')` and `new URL('./…', import.meta.url)`, each with its line.
 */
export function importsOf(source) {
  const list = [...tokens(source)];
  const found = [];
  const is = (index, text) => list[index]?.kind !== 'string' && list[index]?.text === text;
  list.forEach((token, index) => {
    if (token.kind !== 'string') return;
    const before = list[index - 1]?.kind === 'word' ? list[index - 1].text : undefined;
    const called = is(index - 1, '(') ? list[index - 2] : undefined;
    const member = is(index - 3, '.');
    const statement = (before === 'from' && fromClause(list, index - 2)) || before === 'import';
    const dynamic = called?.kind === 'word' && ['import', 'require'].includes(called.text) && !member;
    const url = called?.text === 'URL' && is(index + 1, ',') && is(index + 2, 'import') && /^\..*\.[cm]?[jt]s$/.test(token.text);
    // createRequire(import.meta.url)('…')
    const created =
      called?.text === ')' && list.slice(Math.max(0, index - 9), index - 2).some((each) => each.text === 'createRequire');
    if (statement || dynamic || created || url) found.push({ specifier: token.text, line: token.line });
  });
  return found;
}

/** Whether the tokens that end at `index` (just before `from`) are an import's or a re-export's clause. */
function fromClause(list, index) {
  for (let at = index; at >= 0; at--) {
    const { kind, text } = list[at];
    if (kind === 'word' && (text === 'import' || text === 'export')) return true;
    if (kind === 'string' || (kind === 'other' && !['{', '}', ',', '*'].includes(text))) return false;
  }
  return false;
}
