import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { NOT_POINTERS } from '../../scripts/uapi/pointers.mjs';
import type { Expression, IoctlRow, PointerRule } from '../../src/uapi/index.ts';
import * as u from '../../src/uapi/index.ts';
import { payloadStructs } from '../../src/uapi/payloads.ts';
import type { Field, Struct } from '../../src/uapi/struct.ts';
import { allStructs } from './structs.ts';

const requestsOf = (arch: string): Record<string, number> =>
  (
    JSON.parse(readFileSync(new URL(`../golden/uapi-7.2-${arch}.json`, import.meta.url), 'utf8')) as {
      requests: Record<string, number>;
    }
  ).requests;
const known = u as unknown as Record<string, unknown>;
const label = (row: IoctlRow): string => `${row.name} on ${row.fds.join()}${row.arch ? ` (${row.arch})` : ''}`;

describe('the table is whole', () => {
  test.each(['x86_64', 'arm64'] as const)('every request of the headers has a row with its number: %s', (arch) => {
    const wrong: string[] = [];
    const requests = requestsOf(arch);
    for (const [name, request] of Object.entries(requests)) {
      const rows = u.ioctls().filter((row) => row.name === name);
      const mine = rows.filter((row) => row.request === request);
      if (mine.length === 0) wrong.push(`${name} ${request.toString(16)}: ${rows.map((row) => row.request.toString(16))}`);
    }
    expect(wrong).toEqual([]);
    console.log(
      `${arch}: ${Object.keys(requests).length} requests, ${u.ioctls().length} rows, ${Object.keys(u.unnumberedIoctls).length} without a number`,
    );
  });

  test('requests without a number have neither row nor constant', () => {
    for (const name of Object.keys(u.unnumberedIoctls)) {
      expect(name in known || name in u.arm64).toBe(false);
      expect(u.ioctlByName(name)).toBeUndefined();
    }
  });

  /** DMA_BUF_SET_NAME's macro names a pointer type: 8 bytes, as SET_NAME_B says outright. */
  test('no number means two things on one kind of fd', () => {
    for (const arch of ['x86', 'arm64'] as const) {
      const seen = new Map<string, string>();
      for (const row of u.ioctls().filter((row) => row.arch === undefined || row.arch === arch)) {
        for (const fd of row.fds) {
          const key = `${fd} ${row.request.toString(16)}`;
          const other = seen.get(key);
          expect(
            other === undefined || (other === 'DMA_BUF_SET_NAME_B' && row.name === 'DMA_BUF_SET_NAME'),
            `${key}: ${other}, ${row.name}`,
          ).toBe(true);
          seen.set(key, row.name);
        }
      }
    }
  });
});

/** Where the macro's claim is not what the kernel does. */
const CLAIMS_OTHERWISE = [
  'KVM_MEMORY_ENCRYPT_OP', // unsigned long: a kvm_sev_cmd
  'KVM_S390_VCPU_FAULT',
  'KVM_S390_STORE_STATUS', // unsigned long: by value
  'DMA_BUF_SET_NAME',
  'DMA_BUF_SET_NAME_A',
  'DMA_BUF_SET_NAME_B', // a string
];
const WRONG_DIRECTION = [
  ...[
    'KVM_SET_IRQCHIP',
    'KVM_SET_PIT',
    'KVM_MEMORY_ENCRYPT_REG_REGION',
    'KVM_MEMORY_ENCRYPT_UNREG_REGION',
    'KVM_ARM_MTE_COPY_TAGS',
  ],
  ...['KVM_ARM_GET_REG_WRITABLE_MASKS', 'KVM_CREATE_GUEST_MEMFD', 'KVM_CLEAR_DIRTY_LOG'],
];

describe.each(u.ioctls().map((row) => [label(row), row] as const))('%s', (_label, row) => {
  test('columns agree with the request word and with the headers', () => {
    const claimed = u._IOC_SIZE(row.request);
    if (claimed > 0 && !CLAIMS_OTHERWISE.includes(row.name)) expect(row.struct?.size ?? row.size).toBe(claimed);
    if (claimed > 0 && row.name !== 'KVM_S390_VCPU_FAULT' && row.name !== 'KVM_S390_STORE_STATUS')
      expect(row.arg).toBe('pointer');
    if (row.struct && row.tail === undefined && row.fds[0]!.startsWith('k')) expect(row.size).toBe(row.struct.size);
    if (row.arg === 'pointer') expect(row.dir).toBeDefined();
    else expect([row.size, row.struct, row.tail, row.pointers]).toEqual([0, undefined, undefined, undefined]);
    if (claimed > 0 && row.arg === 'pointer' && ![...CLAIMS_OTHERWISE, ...WRONG_DIRECTION].includes(row.name)) {
      const bits = u._IOC_DIR(row.request);
      if (row.dir === 'out') expect(bits & u._IOC_READ).toBeTruthy();
      if (row.dir === 'in') expect(bits & u._IOC_WRITE).toBeTruthy();
      if (bits === u._IOC_READ) expect(row.dir).toBe('out');
    }
    if (row.capability) expect(known[row.capability], row.capability).toBeTypeOf('number');
    for (const errno of row.errnos ?? []) expect(known[errno], errno).toBeTypeOf('number');
    for (const { field } of row.outFds ?? []) expect(fieldAt(row.struct!, field)).toBeDefined();
  });

  test('rules name fields that exist', () => {
    for (const path of [
      ...paths(row.tail?.length),
      ...paths(row.returnsWhen),
      ...(row.outFds ?? []).flatMap(({ when }) => paths(when)),
    ])
      fieldAt(row.struct!, path);
    checkRules(row.struct, row.pointers ?? []);
  });
});

function checkRules(struct: Struct<unknown> | undefined, rules: readonly PointerRule[]): void {
  for (const rule of rules) {
    const scope = rule.each ? struct!.field(rule.each)!.struct! : struct!;
    for (const path of [rule.field, ...paths(rule.length), ...paths(rule.when)]) fieldAt(scope, path);
    if (rule.target) checkRules(rule.target.struct, rule.target.pointers);
  }
}

/** Field paths in an expression. The first operand of `state` is a name. */
function paths(expression: Expression | undefined): string[] {
  if (typeof expression === 'string') return [expression];
  if (typeof expression !== 'object') return [];
  return expression.slice(expression[0] === 'state' ? 2 : 1).flatMap(paths);
}

function fieldAt(struct: Struct<unknown>, path: string): [Struct<unknown>, Field] {
  const payload = /^(\w+)<(\w+)>\.(.+)$/.exec(path);
  if (payload) return fieldAt(payloadStructs()[payload[2]!]!, payload[3]!);
  const [first, ...rest] = path.split('.');
  const field = struct.field(first!.replace(/\[\d+\]/, ''));
  if (!field) throw new Error(`${struct.name} has no ${path}`);
  return rest.length > 0 ? fieldAt(field.struct!, rest.join('.')) : [struct, field];
}

describe('every 64-bit member of every struct is a pointer or is not', () => {
  /** Members that a rule of the table follows, as `tag.path`. */
  const ruled = new Set<string>();
  const collect = (struct: Struct<unknown>, rules: readonly PointerRule[]): void => {
    for (const rule of rules) {
      const scope = rule.each ? struct.field(rule.each)!.struct! : struct;
      const payload = /^\w+<(\w+)>\.(.+)$/.exec(rule.field);
      const [owner, field] = fieldAt(scope, rule.field);
      ruled.add(payload ? `${owner.name}.${field.name}` : `${scope.name}.${rule.field.replace(/\[\d+\]/, '')}`);
      if (rule.target) collect(rule.target.struct, rule.target.pointers);
    }
  };
  for (const row of u.ioctls()) if (row.struct) collect(row.struct, row.pointers ?? []);

  /** Pointers no ioctl follows at its call: state of other architectures, or compared only. */
  const unfollowed = ['kvm_config_tlb.params', 'kvm_config_tlb.array', 'kvm_tdx_cmd.data'];
  /** A pointer for one capability, a value for all others. */
  const both = ['kvm_enable_cap.args'];

  const members = (struct: Struct<unknown>, prefix: string): [string, Field][] =>
    struct.fields.flatMap((field): [string, Field][] => {
      const path = `${prefix}.${field.name}`;
      if (field.struct && /^(struct|union)$/.test(field.type)) return members(field.struct, path);
      return field.scalar?.wide || field.pointer ? [[path, field]] : [];
    });

  const listed = (path: string): boolean => {
    const [tag, ...rest] = path.split('.');
    const list = (NOT_POINTERS as Record<string, string>)[tag!]?.split(' ') ?? [];
    const member = rest.join('.');
    return list.some(
      (entry) => entry === '*' || entry === member || (entry.endsWith('.*') && member.startsWith(entry.slice(0, -1))),
    );
  };

  test('and says so', () => {
    const unclassed: string[] = [];
    let pointers = 0;
    let others = 0;
    for (const [, struct] of allStructs) {
      for (const [path, field] of members(struct, struct.name)) {
        const isRuled = ruled.has(path);
        if (field.pointer) pointers++;
        else others++;
        if (both.includes(path)) {
          if (!isRuled || !listed(path)) unclassed.push(`${path}: both`);
        } else if (field.pointer ? !isRuled && !unfollowed.includes(path) : isRuled)
          unclassed.push(`${path}: pointer ${field.pointer}, rule ${isRuled}`);
        else if (field.pointer === listed(path))
          unclassed.push(`${path}: pointer ${field.pointer}, listed as none ${listed(path)}`);
      }
    }
    expect(unclassed).toEqual([]);
    console.log(`${pointers} pointers, ${others} other 64-bit members, ${allStructs.length} structs`);
  });

  test('and every rule names a pointer', () => {
    const marked = new Set(
      allStructs.flatMap(([, struct]) =>
        members(struct, struct.name)
          .filter(([, field]) => field.pointer)
          .map(([path]) => path),
      ),
    );
    for (const path of ruled) expect(marked.has(path) || both.includes(path), path).toBe(true);
  });
});

describe('lookup', () => {
  test('the kind of fd decides', () => {
    expect(u.ioctlByRequest(0x3b71, 'vfio-container')?.name).toBe('VFIO_IOMMU_MAP_DMA');
    expect(u.ioctlByRequest(0x3b71, 'iommufd')?.name).toBe('VFIO_IOMMU_MAP_DMA');
    expect(u.ioctlByRequest(0x3b71, 'vfio-device')?.name).toBe('VFIO_DEVICE_PCI_HOT_RESET');
    expect(u.ioctlByRequest(u.KVM_RUN, 'kvm')?.name).toBe('KVM_RUN');
    expect(u.ioctlByRequest(0xdead)).toBeUndefined();
    expect(u.ioctlByRequest(0x40a0ae49 >>> 0)?.name).toBe('KVM_SET_USER_MEMORY_REGION2');
  });

  test('the architecture decides', () => {
    expect(u.ioctlByName('KVM_GET_REGS')?.struct).toBe(u.kvm_regs);
    expect(u.ioctlByName('KVM_GET_REGS', 'vcpu', 'arm64')?.struct).toBe(u.arm64.kvm_regs);
    expect(u.ioctlByRequest(u.KVM_XEN_HVM_EVTCHN_SEND, 'vm')?.name).toBe('KVM_XEN_HVM_EVTCHN_SEND');
  });
});
