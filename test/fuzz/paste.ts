/** Prints a program as a conformance case, ready to be put into test/conformance/cases. */
import * as uapi from 'kvio/uapi';
import type { Argument, Call, Patch, Ref } from './call.ts';

type Doing = Call['do'];
type CallOf<K extends Doing> = Extract<Call, { do: K }>;
type Printers = { readonly [K in Doing]: (call: CallOf<K>, label: string, at: number) => string[] };

const call = (label: string, expression: string): string => `see.call(${JSON.stringify(label)}, () => ${expression});`;
const named = (as: Ref, label: string, expression: string): string =>
  `const ${as} = see.descriptor(${JSON.stringify(label)}, () => ${expression});`;
const memory = (as: Ref, expression: string): string => `const ${as} = ${expression};`;
const note = (label: string, expression: string): string => `see.note(${JSON.stringify(label)}, ${expression});`;

const printers: Printers = {
  open: ({ path, as }, label) => [named(as, label, `kernel.open('${path}')`)],
  ioctl({ fd, request, name, arg, unsafe, as, gives }, label, at) {
    const bytes = `bytes${at}`;
    const options = unsafe ? ', { unsafe: true }' : '';
    const given = arg.is === 'bytes' ? `, ${bytes}` : arg.is === 'integer' ? `, ${number(arg.value)}` : options && ', 0';
    const expression = `kernel.ioctl(${fd}, ${name ?? number(BigInt(request))}${given}${options})`;
    return [
      ...(arg.is === 'bytes' ? makeBytes(bytes, arg) : []),
      as === undefined ? call(label, expression) : named(as, label, expression),
      ...(gives === undefined ? [] : [`const ${gives.as} = new DataView(${bytes}.buffer).getInt32(${gives.at}, true);`]),
      ...(arg.is === 'bytes' && reads(request) ? [note(`${label}: bytes`, bytes)] : []),
    ];
  },
  edit({ fd, get, set, size, edits }, label, at) {
    const bytes = `bytes${at}`;
    return [
      `const ${bytes} = new Uint8Array(${size});`,
      call(`${label}: ${get.name}`, `kernel.ioctl(${fd}, ${get.name}, ${bytes})`),
      note(`${label}: before`, bytes),
      ...edits.map((edit) => `${bytes}.set(${list(edit.bytes)}, ${edit.at});${memberOf(set.name, edit.at)}`),
      call(`${label}: ${set.name}`, `kernel.ioctl(${fd}, ${set.name}, ${bytes})`),
    ];
  },
  run: ({ vcpu, page, look }, label) => [
    call(label, `result(kernel.run(${vcpu}))`),
    ...(page === undefined ? [] : [note(`${label}: kvm_run`, `${page}.read(0, 2352)`)]),
    ...look.map((name) => note(`${label}: ${name}`, `${name}.bytes`)),
  ],
  kick: ({ vcpu }, label) => [call(label, `kernel.kick(${vcpu})`)],
  close: ({ fd }, label) => [call(label, `kernel.close(${fd})`)],
  dup: ({ fd, as, command }, label) => [
    named(as, label, command === undefined ? `kernel.dup(${fd})` : `kernel.fcntl(${fd}, ${command}, 0)`),
  ],
  fcntl: ({ fd, command, value }, label) => [call(label, `kernel.fcntl(${fd}, ${command}, ${value})`)],
  fstat: ({ fd }, label) => [
    call(label, `(({ mode, nlink, size, blksize, blocks }) => ({ mode, nlink, size, blksize, blocks }))(kernel.fstat(${fd}))`),
  ],
  read: ({ fd, bytes }, label, at) => reading('read', fd, bytes, label, at, ''),
  write: ({ fd, bytes }, label) => [call(label, `kernel.write(${fd}, Uint8Array.of(${bytes.join(', ')}))`)],
  pread: ({ fd, bytes, offset }, label, at) => reading('pread', fd, bytes, label, at, `, ${number(offset)}`),
  pwrite: ({ fd, bytes, offset }, label) => [
    call(label, `kernel.pwrite(${fd}, Uint8Array.of(${bytes.join(', ')}), ${number(offset)})`),
  ],
  poll: ({ fd, events }, label) => [call(label, `kernel.poll([{ fd: ${fd}, events: ${events} }])[0]`)],
  eventfd: ({ initval, flags, as }, label) => [named(as, label, `kernel.eventfd(${initval}, ${flags})`)],
  memfd: ({ flags, as }, label) => [named(as, label, `kernel.memfd('fuzz', ${flags})`)],
  ftruncate: ({ fd, length }, label) => [call(label, `kernel.ftruncate(${fd}, ${number(length)})`)],
  fallocate: ({ fd, mode, offset, length }, label) => [
    call(label, `kernel.fallocate(${fd}, ${mode}, ${number(offset)}, ${number(length)})`),
  ],
  ram: ({ length, as }) => [memory(as, `kernel.guestRam(${length})`)],
  mmap: ({ fd, length, prot, flags, offset, view, as }, label) => [
    call(
      label,
      `kernel.mmap({ fd: ${fd}, length: ${length}, prot: ${prot}, flags: ${flags}, offset: ${number(offset)}, view: ${view} }) && 'mapped'`,
    ),
    `const ${as} = kernel.mmap({ fd: ${fd}, length: ${length}, prot: ${prot}, flags: ${flags}, offset: ${number(offset)}, view: ${view} });`,
  ],
  munmap: ({ memory }, label) => [call(label, `kernel.munmap(${memory})`)],
  mprotect: ({ memory, prot, offset, length }, label) => [
    call(label, `kernel.mprotect(${memory}, ${prot}, { offset: ${offset}, length: ${length} })`),
  ],
  madvise: ({ memory, advice, offset, length }, label) => [
    call(label, `kernel.madvise(${memory}, ${advice}, { offset: ${offset}, length: ${length} })`),
  ],
  store: ({ memory, offset, bytes }) => [
    bytes.length > 64
      ? `${memory}.write(${offset}, Buffer.from('${Buffer.from(bytes).toString('hex')}', 'hex'));`
      : `${memory}.write(${offset}, Uint8Array.of(${bytes.join(', ')}));`,
  ],
  load: ({ memory, offset, width }, label) => [call(label, `${memory}.read${width}(${offset})`)],
  look: ({ memory }, label) => [note(label, `${memory}.bytes`)],
};

function reading(what: string, fd: Ref, bytes: Uint8Array, label: string, at: number, offset: string): string[] {
  const name = `bytes${at}`;
  return [
    `const ${name} = new Uint8Array(${bytes.length});`,
    call(label, `kernel.${what}(${fd}, ${name}${offset})`),
    note(`${label}: bytes`, name),
  ];
}

/** One line each: what the call is called in reports and labels. */
export function title(call: Call): string {
  if (call.do === 'ioctl') return `${call.name ?? `ioctl 0x${call.request.toString(16)}`} on ${call.fd}`;
  if (call.do === 'edit') return `${call.set.name} on ${call.fd}`;
  const subject =
    'fd' in call ? call.fd : 'memory' in call ? call.memory : 'vcpu' in call ? call.vcpu : 'as' in call ? call.as : '';
  return `${call.do === 'run' ? 'KVM_RUN' : call.do} ${subject}`.trim();
}

/** The whole case. `volatile`: the label of the fact that differs comes last, so that a reader finds it. */
export function printCase(name: string, program: readonly Call[]): string {
  const body = program.flatMap((call, at) =>
    (printers[call.do] as (call: Call, label: string, at: number) => string[])(call, `${at + 1} ${title(call)}`, at + 1),
  );
  const text = body.join('\n');
  const imports = [...new Set(text.match(/\b(KVM|VFIO|IOMMU)_[A-Z0-9_]+\b/g) ?? [])]
    .filter((constant) => constant in uapi)
    .sort();
  return [
    `import { ${imports.join(', ')} } from 'kvio/uapi';`,
    `import { define${text.includes('result(') ? ', result' : ''} } from '../case.ts';`,
    '',
    `define('${name}', 'Found by fuzzing', (kernel, see) => {`,
    ...body.map((line) => `  ${line}`),
    '}),',
  ].join('\n');
}

function makeBytes(name: string, arg: Argument & { is: 'bytes' }): string[] {
  const lines = [`const ${name} = new Uint8Array(${arg.bytes.length});`];
  for (const [at, bytes] of runs(arg.bytes)) lines.push(`${name}.set(${list(bytes)}, ${at});`);
  for (const patch of arg.patches) lines.push(patched(name, patch));
  return lines;
}

function patched(name: string, { at, ref, what, plus, aligned }: Patch): string {
  const view = `new DataView(${name}.buffer)`;
  if (what === 'fd') return `${view}.setInt32(${at}, ${ref}${plus ? ` + ${plus}` : ''}, true);`;
  const address = aligned === undefined ? `${ref}.address` : `((${ref}.address + ${aligned - 1}n) & -${aligned}n)`;
  return `${view}.setBigUint64(${at}, ${address}${plus ? ` + ${plus}n` : ''}, true);`;
}

/** The stretches that are not zero. */
function runs(bytes: Uint8Array): [number, Uint8Array][] {
  const found: [number, Uint8Array][] = [];
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] === 0) continue;
    let end = at + 1;
    for (let n = end; n < bytes.length && n < end + 8; n++) if (bytes[n] !== 0) end = n + 1;
    found.push([at, bytes.subarray(at, end)]);
    at = end;
  }
  return found;
}

const list = (bytes: Uint8Array): string =>
  `[${Array.from(bytes, (byte) => (byte < 10 ? byte : `0x${byte.toString(16)}`)).join(', ')}]`;

function number(value: bigint): string {
  const text = value > 9n ? `0x${value.toString(16)}` : String(value);
  return value > 0xffff_ffffn || value < -0x8000_0000n ? `${text}n` : text;
}

/** `_IOC_READ`: the kernel writes into the argument. */
const reads = (request: number): boolean => (request & 0x8000_0000) !== 0;

/** `// cr4` for the member at this offset of the struct that the request takes. */
function memberOf(name: string, at: number): string {
  const struct = uapi.ioctlByName(name)?.struct;
  const field = struct?.fields.findLast(({ offset }) => offset <= at);
  if (field === undefined) return '';
  const inner = field.struct?.fields.findLast(({ offset }) => offset <= at - field.offset);
  return ` // ${field.name}${inner === undefined || field.dims.length > 0 ? '' : `.${inner.name}`}`;
}
