// The object layer against the ioctl table: every request of a KVM descriptor has a method, and every method says which request it is.
import { readdirSync, readFileSync } from 'node:fs';
import { GuestMemfd, Kvm, KvmDevice, KvmStats, KvmVfio, Vcpu, Vm } from 'kvio';
import * as uapi from 'kvio/uapi';
import { describe, expect, it } from 'vitest';

const folder = new URL('../../src/kvm/', import.meta.url);

interface Method {
  readonly name: string;
  readonly of: string;
  /** Of the docstring; '' without one. */
  readonly doc: string;
}

/** Public methods with their docstrings, as the sources have them. */
const methods: Method[] = readdirSync(folder).flatMap((file) => {
  const source = readFileSync(new URL(file, folder), 'utf8');
  const classes = [...source.matchAll(/^export (?:abstract )?class (\w+)/gm)].map(({ index, 1: name }) => ({
    index,
    name: name!,
  }));
  const declared = source.matchAll(
    /^(?: {2}\/\*\*((?:(?!\*\/)[\s\S])*?)\*\/\n)? {2}(?:(?:static|override|async|protected) )*(\w+)(?:<[^>]*>)?\((?=[^\n]*(?:[{;,(]|\): \w+[^\n]*)$)/gm,
  );
  return [...declared]
    .filter(
      ({ 0: text, 2: name }) =>
        !/^ {2}(?:if|for|while|return|switch|throw)\b/m.test(text.split('\n').at(-1)!) && name !== 'constructor',
    )
    .map(({ index, 0: text, 1: doc = '', 2: name }) => ({
      name: name!,
      of: classes.findLast((one) => one.index < index)?.name ?? '',
      doc: doc.replaceAll(/\n\s*\* ?/g, ' ').trim(),
      protected: / protected /.test(text.split('\n').at(-1)!),
    }))
    .filter((method) => method.of !== '' && !method.protected);
});

interface Class {
  readonly name: string;
  readonly prototype: object;
}
/** The class of each kind of descriptor. */
const classes: Readonly<Record<string, Class>> = {
  kvm: Kvm,
  vm: Vm,
  vcpu: Vcpu,
  'kvm-device': KvmDevice,
  'kvm-stats': KvmStats,
  'guest-memfd': GuestMemfd,
};

/** Its name and those of all it inherits from. */
function lineage(type: Class): string[] {
  const names: string[] = [];
  for (let one = type; (one as unknown) !== Function.prototype; one = Object.getPrototypeOf(one)) names.push(one.name);
  return names;
}

/** Requests without a method, and why. `handle.ioctl` takes them. */
const reasons: readonly (readonly [pattern: RegExp, reason: string])[] = [
  [/^KVM_(CREATE|GET|SET)_PIT$/, 'KVM_CREATE_PIT2, KVM_GET_PIT2 and KVM_SET_PIT2 do the same and more'],
  [/^KVM_SET_CPUID$/, 'KVM_SET_CPUID2 does the same and more'],
  [/^KVM_MEMORY_ENCRYPT_/, 'SEV and TDX: a protocol of its own with firmware and quotes, not a request'],
  [/^KVM_XEN_/, 'Xen guests'],
  [/^KVM_HYPERV_/, 'Hyper-V guests'],
  [/^KVM_GET_SUPPORTED_HV_CPUID vcpu$/, 'Hyper-V guests; kvm.getSupportedHvCpuid tells what the host has'],
];
const reasonOf = (pair: Pair): string | undefined => reasons.find(([pattern]) => appliesTo(pattern, pair))?.[1];

interface Pair {
  readonly name: string;
  readonly kind: string;
}
const appliesTo = (pattern: RegExp, { name, kind }: Pair): boolean => pattern.test(name) || pattern.test(`${name} ${kind}`);

const rows = uapi
  .ioctls()
  .filter(({ name, arch }) => name.startsWith('KVM_') && (arch === undefined || arch === 'x86' || arch === 'arm64'));
const pairs = rows.flatMap(({ name, fds }) => fds.filter((kind) => kind in classes).map((kind) => ({ name, kind })));
const documented = (name: string, kind: string): Method | undefined => {
  const line = lineage(classes[kind]!);
  return methods.find(({ of, doc }) => line.includes(of) && new RegExp(`^(?:KVM_\\w+(?:,| and) )*${name}\\b`).test(doc));
};

describe('the ioctl table', () => {
  it('has KVM requests of every kind', () => {
    expect(pairs.length).toBeGreaterThan(110);
    expect(new Set(pairs.map(({ kind }) => kind))).toEqual(new Set(['kvm', 'vm', 'vcpu', 'kvm-device']));
  });

  it.each(pairs.filter(({ name, kind }) => reasonOf({ name, kind }) === undefined))('$name is a method of a $kind', ({
    name,
    kind,
  }) => {
    const method = documented(name, kind);
    expect(method, `${name} of a ${kind}`).toBeDefined();
    expect(typeof Object.getOwnPropertyDescriptor(prototypeWith(classes[kind]!, method!.name), method!.name)!.value).toBe(
      'function',
    );
  });

  it('has each request that is said to have no method, and none of them has one', () => {
    for (const [pattern] of reasons)
      expect(
        pairs.some((pair) => appliesTo(pattern, pair)),
        String(pattern),
      ).toBe(true);
    expect(
      pairs.filter(({ name, kind }) => reasonOf({ name, kind }) !== undefined && documented(name, kind) !== undefined),
    ).toEqual([]);
  });
});

describe('docstrings', () => {
  const public_ = [...new Set(Object.values({ ...classes, 'kvm-vfio': KvmVfio }).flatMap(lineage))].filter(
    (name) => name !== 'Handle',
  );

  it('are found for every method there is', () => {
    for (const type of [...Object.values(classes), KvmVfio]) {
      const line = lineage(type);
      const named = new Set(methods.filter(({ of }) => line.includes(of)).map(({ name }) => name));
      for (let proto = type.prototype; proto !== Object.prototype; proto = Object.getPrototypeOf(proto)) {
        for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(proto))) {
          if (typeof value === 'function' && !['constructor', 'attach', 'describe'].includes(name))
            expect(named, name).toContain(name);
        }
      }
    }
  });

  // What is no request: how a handle comes from a descriptor, iteration, turns, and what is inherited with its text.
  const other = new Set(['fromFd', 'exits', 'queue', 'ioctl', 'kick', 'describe']);
  const asked = methods.filter(({ of, name }) => public_.includes(of) && !other.has(name));

  it.each(asked)('$of.$name names its ioctl or system call first', ({ doc, name, of }) => {
    const overload = methods.some((one) => one.of === of && one.name === name && one.doc !== '');
    if (doc === '') expect(overload, 'another signature has the text').toBe(true);
    else expect(doc).toMatch(/^(?:Opens `\/dev\/kvm`|(?:KVM_[A-Z0-9_]+|[a-z]+\(2\))|The)/);
  });
});

function prototypeWith(type: Class, name: string): object {
  let proto: object = type.prototype;
  while (!Object.hasOwn(proto, name)) proto = Object.getPrototypeOf(proto);
  return proto;
}
