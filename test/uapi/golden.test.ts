import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import * as arm64 from '../../src/uapi/arm64.ts';
import * as dmaBuf from '../../src/uapi/dma-buf.ts';
import * as iommufd from '../../src/uapi/iommufd.ts';
import * as kvm from '../../src/uapi/kvm.ts';
import * as macros from '../../src/uapi/macros.ts';
import type { Field } from '../../src/uapi/struct.ts';
import { Struct } from '../../src/uapi/struct.ts';
import * as sys from '../../src/uapi/sys.ts';
import * as vfio from '../../src/uapi/vfio.ts';

interface Golden {
  headers: string;
  requests: Record<string, number | string>;
  constants: Record<string, number | string>;
  expressions: Record<string, number | string>;
  structs: Record<string, { size: number; align: number; fields: Record<string, [number, number] | ['bits', number, number]> }>;
}

const common: Record<string, unknown> = { ...kvm, ...vfio, ...iommufd, ...dmaBuf, ...sys };
const vocabulary: Record<'x86_64' | 'arm64', Record<string, unknown>> = { x86_64: common, arm64: { ...common, ...arm64 } };
/** Structs of asm/ptrace.h, which arm64's asm/kvm.h embeds; the golden file covers the named headers. */
const borrowed = ['user_pt_regs', 'user_fpsimd_state'];

const golden = (arch: string): Golden =>
  JSON.parse(readFileSync(new URL(`../golden/uapi-7.2-${arch}.json`, import.meta.url), 'utf8')) as Golden;

/** Every named member as the C compiler was asked for it: `io.port`, `redirtbl[0].fields.mask`. */
function leaves(struct: Struct<unknown>, prefix = ''): [string, Field][] {
  return struct.fields.flatMap((field): [string, Field][] => {
    const path = prefix + field.name;
    const own: [string, Field][] = [[path, field]];
    const untagged = field.struct && /^(struct|union)$/.test(field.type);
    return untagged ? [...own, ...leaves(field.struct!, `${path}${field.dims.map(() => '[0]').join('')}.`)] : own;
  });
}

describe.each(['x86_64', 'arm64'] as const)('against the C compiler, %s', (arch) => {
  const answers = golden(arch);
  const words = vocabulary[arch];

  test('requests and constants', () => {
    const wrong: string[] = [];
    for (const [name, value] of [...Object.entries(answers.requests), ...Object.entries(answers.constants)]) {
      const ours = words[name];
      if (typeof ours !== 'number' && typeof ours !== 'bigint') wrong.push(`${name} is missing`);
      else if (BigInt.asUintN(64, BigInt(ours)) !== BigInt.asUintN(64, BigInt(value)))
        wrong.push(`${name}: ${ours}, compiler ${value}`);
    }
    expect(wrong).toEqual([]);
    console.log(
      `${arch}: ${Object.keys(answers.requests).length} requests, ${Object.keys(answers.constants).length} constants proven`,
    );
  });

  test('struct sizes, alignments, member offsets and sizes', () => {
    const wrong: string[] = [];
    let members = 0;
    for (const [name, { size, align, fields }] of Object.entries(answers.structs)) {
      const struct = words[name];
      if (!(struct instanceof Struct)) {
        wrong.push(`${name} is missing`);
        continue;
      }
      if (struct.size !== size || struct.align !== align)
        wrong.push(`${name}: ${struct.size}/${struct.align}, compiler ${size}/${align}`);
      const ours = new Map(leaves(struct));
      for (const path of ours.keys()) if (!(path in fields)) wrong.push(`${name}.${path} is not in the header`);
      for (const [path, expected] of Object.entries(fields)) {
        members++;
        const field = ours.get(path);
        if (!field) wrong.push(`${name}.${path} is missing`);
        else if (expected[0] === 'bits') {
          const [, at, mask] = expected;
          const { from, count } = field.bits!;
          if (struct.offsetOf(path) !== at || (2 ** count - 1) << from !== mask)
            wrong.push(`${name}.${path}: bits ${from}+${count}`);
        } else {
          const [offset, bytes] = expected;
          const at = struct.offsetOf(path);
          const length = field.flex ? struct.sizeOf(`${path}[0]`) : struct.sizeOf(path);
          if (at !== offset || length !== bytes) wrong.push(`${name}.${path}: ${at}+${length}, compiler ${offset}+${bytes}`);
        }
      }
    }
    expect(wrong).toEqual([]);
    console.log(`${arch}: ${Object.keys(answers.structs).length} structs, ${members} members proven`);
  });

  test('function-like macros', () => {
    for (const [expression, expected] of Object.entries(answers.expressions)) {
      const [, name, args] = /^(\w+)\((.*)\)$/.exec(expression)!;
      const values = args!.split(', ').map((arg) => (/^[a-z]/.test(arg) ? arg : arg.length > 14 ? BigInt(arg) : Number(arg)));
      const value = (macros as unknown as Record<string, (...args: unknown[]) => number | bigint>)[name!]!(...values);
      expect(BigInt.asUintN(64, BigInt(value)), expression).toBe(BigInt.asUintN(64, BigInt(expected)));
    }
    expect(Object.keys(answers.expressions).length).toBeGreaterThan(8);
  });

  test('nothing generated escapes the comparison', () => {
    const source = arch === 'arm64' ? arm64 : common;
    const unproven = Object.entries(source).filter(([name, value]) => {
      if (value instanceof Struct) return !(name in answers.structs) && !borrowed.includes(name);
      return typeof value !== 'string' && !(name in answers.requests) && !(name in answers.constants);
    });
    expect(unproven.map(([name]) => name)).toEqual([]);
  });
});

test('strings of the headers', () => {
  expect(kvm.KVM_SIGNATURE).toBe('KVMKVMKVM\0\0\0');
  expect(vfio.VFIO_DEVICE_API_PCI_STRING).toBe('vfio-pci');
});

test('numbers and bigints: long long and what 32 bits cannot hold is bigint, requests are unsigned numbers', () => {
  expect(kvm.KVM_MEMORY_ATTRIBUTE_PRIVATE).toBe(8n);
  expect(kvm.KVM_MEM_LOG_DIRTY_PAGES).toBe(1);
  expect(kvm.KVM_REG_X86).toBe(0x2000000000000000n);
  expect(kvm.KVM_GET_REGS).toBe(0x8090ae81);
  expect(sys.EINVAL).toBe(22);
});
