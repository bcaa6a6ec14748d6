// The C compiler's answers: test/golden/uapi-7.2-{x86_64,arm64}.json.
//
// A road of its own beside generate.mjs, so that the two can disagree: names are read from the text of the headers (macros by
// their #define, members by a small parser of C declarations), and a C function asks the compiler for each as an immediate
// operand (`offsetof(struct kvm_run, io.port)`); the answers stand in the assembly it writes. No debug information is involved.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { withScratch } from './dwarf.mjs';
import { compiler, findHeaders, ROOT } from './headers.mjs';
import { headerName, MODULES, SOURCE } from './modules.mjs';

const moduleOf = (path, name) => {
  const header = headerName(path ?? '');
  return MODULES.find((module) => module.headers.includes(header) && (!module.take || module.take.test(name)));
};

/** Tokens of preprocessed C, each with the header it came from. */
function tokens(text) {
  const found = [];
  let file;
  for (const line of text.split('\n')) {
    const marker = /^# \d+ "([^"]+)"/.exec(line);
    if (marker) file = marker[1];
    else
      for (const [token] of line.matchAll(/[A-Za-z_]\w*|\d\w*|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\S/g))
        found.push({ token, file });
  }
  return found;
}

/** Index just past the bracket that closes the one at `i`. */
function past(list, i, open, close) {
  for (let depth = 0; ; i++) {
    if (list[i].token === open) depth++;
    if (list[i].token === close && --depth === 0) return i + 1;
  }
}

/** Removes what does not change names: attributes, `__extension__`, static assertions. */
function plainTokens(list) {
  const out = [];
  for (let i = 0; i < list.length; i++) {
    if (list[i].token === '__extension__') continue;
    if (list[i].token === '__attribute__') i = past(list, i + 1, '(', ')') - 1;
    else out.push(list[i]);
  }
  return out;
}

/** All tagged structs and unions with their members' paths, and all enumerators: what the declarations say. */
function declarations(text) {
  const list = plainTokens(tokens(text));
  const structs = [];
  const enumerators = [];

  function members(from, to) {
    const found = [];
    for (let i = from; i < to; ) {
      let end = i;
      while (list[end].token !== ';') end = list[end].token === '{' ? past(list, end, '{', '}') : end + 1;
      found.push(...declaration(i, end));
      i = end + 1;
    }
    return found;
  }

  function declaration(from, to) {
    let i = from;
    while (/^(const|volatile)$/.test(list[i].token)) i++;
    if (/^(struct|union)$/.test(list[i].token)) {
      const tag = list[i + 1].token === '{' ? undefined : list[i + 1].token;
      const body = tag ? i + 2 : i + 1;
      if (list[body]?.token === '{') {
        const end = past(list, body, '{', '}');
        const inner = members(body + 1, end - 1);
        const names = declarators(end, to);
        if (inner.length === 0) return []; // the empty struct of __DECLARE_FLEX_ARRAY
        if (names.length === 0) return inner;
        return names.flatMap((outer) => [
          outer,
          ...inner.map((path) => ({ ...path, path: `${outer.path}${outer.index}.${path.path}` })),
        ]);
      }
    }
    return declarators(i, to, true);
  }

  /** `a, *b[4], c:3`: with `typed`, the words before the first name are its type. */
  function declarators(from, to, typed = false) {
    const groups = [[]];
    for (let i = from; i < to; i++) {
      if (list[i].token === ',') groups.push([]);
      else groups.at(-1).push(list[i].token);
    }
    return groups
      .filter((group) => group.length > 0)
      .map((group, nth) => {
        const stop = group.findIndex((token) => token === '[' || token === ':');
        const head = stop < 0 ? group : group.slice(0, stop);
        const name = head.at(-1);
        if (typed && nth === 0 && head.length < 2) throw new Error(`golden: declaration ${group.join(' ')}`);
        const rest = stop < 0 ? '' : group.slice(stop).join('');
        const dims = (rest.match(/\[/g) ?? []).length;
        return { path: name, index: '[0]'.repeat(dims), bits: rest.startsWith(':'), flexible: rest.startsWith('[]') };
      });
  }

  for (let i = 0; i < list.length; i++) {
    const { token, file } = list[i];
    if (/^(struct|union)$/.test(token) && list[i + 2]?.token === '{' && moduleOf(file, list[i + 1].token)) {
      const end = past(list, i + 2, '{', '}');
      structs.push({ name: list[i + 1].token, kind: token, members: members(i + 3, end - 1) });
    } else if (token === 'enum') {
      const body = list[i + 1].token === '{' ? i + 1 : i + 2;
      if (list[body].token !== '{') continue;
      const end = past(list, body, '{', '}');
      let start = body + 1;
      for (let j = start; j < end; j++) {
        if (list[j].token !== ',' && j !== end - 1) continue;
        if (j > start && moduleOf(file, list[start].token)) enumerators.push(list[start].token);
        start = j + 1;
      }
    }
  }
  return { structs, enumerators };
}

/** Object-like macros in the text of the named headers that are reached: name → whether it is a request. */
function macroNames(preprocessed) {
  const names = new Map();
  const paths = new Set([...preprocessed.matchAll(/^# \d+ "([^"]+)"/gm)].map((match) => match[1]));
  for (const path of paths) {
    if (!MODULES.some((module) => module.headers.includes(headerName(path)))) continue;
    const text = readFileSync(path, 'utf8')
      .replaceAll('\\\n', ' ')
      .replace(/\/\*[\s\S]*?\*\//g, ' ');
    for (const [, name, body] of text.matchAll(/^[ \t]*#[ \t]*define[ \t]+(\w+)(?:[ \t]+(.*))?$/gm)) {
      if (body?.trim() && moduleOf(path, name)) names.set(name, /\b_IO(R|W|WR)?\s*\(/.test(body));
    }
  }
  return names;
}

/** Compiles one question per line and reads `->key value` out of the assembly; questions the compiler refuses are dropped. */
function ask(cc, questions) {
  return withScratch((folder) => {
    const file = join(folder, 'ask.c');
    const output = join(folder, 'ask.s');
    const head = `${SOURCE}\n#undef offsetof\n#define offsetof __builtin_offsetof\n#define ASK(key, value) __asm__ volatile ("\\n->" key " %0" : : "i" ((unsigned long long)(value)));\nvoid ask(void) {\n`;
    const first = head.split('\n').length;
    let left = questions;
    for (;;) {
      writeFileSync(file, `${head}${left.map(({ line }) => line).join('\n')}\n}\n`);
      try {
        cc.run(['-O1', '-fmax-errors=0', '-S', '-o', output, file]);
        break;
      } catch (error) {
        const bad = new Set(
          [...String(error.stderr).matchAll(/ask\.c:(\d+):\d+: (?:error|note)/g)].map((match) => Number(match[1]) - first),
        );
        if (bad.size === 0) throw error;
        left = left.filter((_, i) => !bad.has(i));
      }
    }
    const answers = new Map();
    for (const [, key, value] of readFileSync(output, 'utf8').matchAll(/^->(\S+) [#$]?(-?\d+)$/gm))
      answers.set(key, BigInt(value));
    return answers;
  });
}

/** Bits of a bit-field cannot be asked for: the compiler sets them all in an object of its own, and the bytes are looked at. */
function bitfields(cc, fields) {
  const bits = new Map();
  if (fields.length === 0) return bits;
  withScratch((folder) => {
    for (const { struct, path } of fields) {
      const source = `${SOURCE}\nconst union { ${struct.kind} ${struct.name} s; unsigned long long q[sizeof(${struct.kind} ${struct.name}) / 8 + 1]; } x = { .s = { .${path} = -1 } };\n`;
      const output = join(folder, 'bits.s');
      cc.run(['-S', '-o', output, '-'], source);
      const bytes = dataBytes(readFileSync(output, 'utf8'));
      const at = bytes.findIndex((byte) => byte !== 0);
      bits.set(`${struct.name}.${path}`, [at, bytes[at]]);
    }
  });
  return bits;
}

/** The first bytes of an assembled object: zeros, and one octal, hexadecimal or string byte among them. */
function dataBytes(text) {
  const bytes = [];
  for (const line of text.slice(text.indexOf('\nx:')).split('\n')) {
    const [, directive, operand] = /^\s*\.(zero|byte|ascii|string)\s+(.*)$/.exec(line) ?? [];
    if (directive === 'zero') bytes.push(...new Array(Number(operand)).fill(0));
    else if (directive === 'byte') bytes.push(Number(operand) & 0xff);
    else if (directive) {
      for (const [one, octal] of operand.slice(1, -1).matchAll(/\\([0-7]{1,3})|\\.|[^\\]/g)) {
        const escapes = { '\\b': 8, '\\t': 9, '\\n': 10, '\\f': 12, '\\r': 13 };
        bytes.push(octal ? Number.parseInt(octal, 8) : (escapes[one] ?? one.codePointAt(one.length - 1)));
      }
      if (directive === 'string') bytes.push(0);
    }
  }
  return bytes;
}

/** Uses of function-like macros, as C and as JavaScript read them alike. */
const EXPRESSIONS = {
  x86_64: [
    ...[
      'KVM_REG_SIZE(0x2030000000000000)',
      'KVM_X86_REG_MSR(0xc0000080)',
      'KVM_X86_REG_KVM(0)',
      'KVM_X86_REG_KVM(1)',
      'KVM_X86_REG_ID(5, 7)',
    ],
    ...[
      'KVM_PMU_ENCODE_MASKED_ENTRY(0xfc0, 0xab, 0xcd, 1)',
      'KVM_PMU_ENCODE_MASKED_ENTRY(0x1c0, 0, 0x1ff, 0)',
      'KVM_MAP_GPA_RANGE_ENC_STAT(1)',
    ],
    ...['KVM_VM_TYPE_ARM_IPA_SIZE(0x128)'],
  ],
  arm64: [
    ...[
      'ARM64_SYS_REG(3, 3, 14, 3, 1)',
      'ARM64_SYS_REG(7, 15, 31, 31, 15)',
      'KVM_REG_ARM_FW_REG(0x10002)',
      'KVM_REG_ARM_FW_FEAT_BMAP_REG(1)',
    ],
    ...['KVM_REG_ARM64_SVE_ZREG(33, 34)', 'KVM_REG_ARM64_SVE_PREG(15, 1)', 'KVM_REG_ARM64_SVE_FFR(3)', 'KVM_PSCI_FN(2)'],
    ...[
      'KVM_ARM_FEATURE_ID_RANGE_IDX(3, 3, 0, 7, 7)',
      'KVM_ARM_FEATURE_ID_RANGE_IDX(3, 1, 0, 2, 1)',
      'KVM_REG_ARM_CORE_REG(regs.pc)',
    ],
  ],
};

/** Everything the headers of a tree define on an architecture, as the compiler answers. */
export function goldenOf(tree, version, arch) {
  const cc = compiler(tree, arch);
  const preprocessed = cc.run(['-E', '-'], SOURCE).toString();
  const { structs, enumerators } = declarations(preprocessed);
  const macros = macroNames(preprocessed);
  const questions = [];
  const add = (key, value) => questions.push({ line: `ASK("${key}", ${value})` });
  for (const name of [...macros.keys(), ...enumerators]) add(`constant:${name}`, name);
  for (const { name, kind, members } of structs) {
    const whole = `${kind} ${name}`;
    add(`size:${name}`, `sizeof(${whole})`);
    add(`align:${name}`, `_Alignof(${whole})`);
    for (const { path, bits, flexible } of members) {
      if (bits) continue;
      add(`offset:${name}.${path}`, `__builtin_offsetof(${whole}, ${path})`);
      add(`size:${name}.${path}`, `sizeof(((${whole} *)0)->${path}${flexible ? '[0]' : ''})`);
    }
  }
  for (const [i, expression] of EXPRESSIONS[arch].entries()) add(`expression:${i}`, expression);
  const answers = ask(cc, questions);
  const bits = bitfields(
    cc,
    structs.flatMap((struct) => struct.members.filter((member) => member.bits).map(({ path }) => ({ struct, path }))),
  );

  const number = (value) => (value >= -0x1fffffffffffffn && value <= 0x1fffffffffffffn ? Number(value) : String(value));
  const golden = { headers: version, arch, requests: {}, constants: {}, expressions: {}, structs: {} };
  for (const name of [...macros.keys(), ...enumerators]) {
    const value = answers.get(`constant:${name}`);
    if (value !== undefined) golden[macros.get(name) ? 'requests' : 'constants'][name] = number(value);
  }
  for (const [i, expression] of EXPRESSIONS[arch].entries())
    golden.expressions[expression] = number(answers.get(`expression:${i}`));
  for (const { name, members } of structs) {
    const get = (key) => Number(answers.get(key));
    const fields = {};
    for (const { path, bits: bit } of members) {
      const key = `${name}.${path}`;
      fields[path] = bit ? ['bits', ...bits.get(key)] : [get(`offset:${key}`), get(`size:${key}`)];
    }
    golden.structs[name] = { size: get(`size:${name}`), align: get(`align:${name}`), fields };
  }
  return golden;
}

/** JSON with one struct, and one constant, a line. */
export function goldenText(golden) {
  const block = (items) =>
    `{\n${Object.entries(items)
      .map(([name, value]) => `    ${JSON.stringify(name)}: ${JSON.stringify(value)}`)
      .join(',\n')}\n  }`;
  const { headers, arch, requests, constants, expressions, structs } = golden;
  return `{\n  "headers": "${headers}",\n  "arch": "${arch}",\n  "requests": ${block(requests)},\n  "constants": ${block(constants)},\n  "expressions": ${block(expressions)},\n  "structs": ${block(structs)}\n}\n`;
}

function main() {
  const { tree, version } = findHeaders();
  for (const arch of ['x86_64', 'arm64']) {
    const golden = goldenOf(tree, version, arch);
    writeFileSync(join(ROOT, `test/golden/uapi-7.2-${arch}.json`), goldenText(golden));
    const count = (items) => Object.keys(items).length;
    const fields = Object.values(golden.structs).reduce((sum, { fields }) => sum + count(fields), 0);
    console.log(
      `${arch}: ${count(golden.requests)} requests, ${count(golden.constants)} constants, ${count(golden.structs)} structs, ${fields} fields`,
    );
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) main();
