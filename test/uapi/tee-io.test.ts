/** The RFC vocabulary against a C program: each series typed a second time, in C (test/uapi/tee-io), and compiled. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import * as u from '../../src/uapi/index.ts';
import { Struct } from '../../src/uapi/struct.ts';

const { teeIo } = u;
const HEADERS = new URL('./tee-io/', import.meta.url);
const names = Object.keys(teeIo.SERIES) as u.teeIo.SeriesName[];
const wordsOf = (name: u.teeIo.SeriesName): [string, unknown][] => Object.entries(teeIo[name]);
const fileOf = (name: string): string => name.replace(/[A-Z]|(?<![0-9A-Z])[0-9]{4}/g, (part) => `-${part.toLowerCase()}`);
const headerOf = (name: u.teeIo.SeriesName): string => readFileSync(new URL(`${fileOf(name)}.h`, HEADERS), 'utf8');

const HEAD = `
#include <stddef.h>
#include <stdio.h>
#include <linux/types.h>
#include <linux/ioctl.h>
#define PACKED __attribute__((packed))
#define KVMIO 0xAE
#define VFIO_TYPE (';')
#define VFIO_BASE 100
#define IOMMUFD_TYPE (';')
`;

/** Members by path, as C writes it: `tio_req.flags`. */
function paths(struct: Struct<unknown>, prefix = ''): string[] {
  return struct.fields.flatMap((field) => [
    prefix + field.name,
    ...(field.struct && /^(struct|union)$/.test(field.type) ? paths(field.struct, `${prefix}${field.name}.`) : []),
  ]);
}

interface Question {
  readonly key: string;
  /** A C expression. */
  readonly c: string;
  readonly ours: number | bigint;
}

function questions(name: u.teeIo.SeriesName): Question[] {
  return wordsOf(name).flatMap(([word, value]): Question[] => {
    if (!(value instanceof Struct)) return [{ key: word, c: word, ours: value as number }];
    const tag = `struct ${word}`;
    return [
      { key: `sizeof ${word}`, c: `sizeof(${tag})`, ours: value.size },
      { key: `alignof ${word}`, c: `_Alignof(${tag})`, ours: value.align },
      ...paths(value).flatMap((path): Question[] => {
        const flexible = value.has(path) && value.field(path)!.flex !== undefined;
        return [
          { key: `${word}.${path}`, c: `offsetof(${tag}, ${path})`, ours: value.offsetOf(path) },
          {
            key: `${word}.${path} size`,
            c: `sizeof(((${tag} *)0)->${path}${flexible ? '[0]' : ''})`,
            ours: value.sizeOf(flexible ? `${path}[0]` : path),
          },
        ];
      }),
    ];
  });
}

/** What the C compiler and machine say to the questions. Undefined: there is no compiler. */
function ask(name: u.teeIo.SeriesName, list: readonly Question[]): string[] | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'kvio-tee-io-'));
  try {
    const prints = list.map(({ c }) => `  printf("%llu\\n", (unsigned long long)(${c}));`).join('\n');
    writeFileSync(join(folder, 'ask.c'), `${HEAD}${headerOf(name)}\nint main(void) {\n${prints}\n  return 0;\n}\n`);
    try {
      execFileSync('gcc', ['-Wall', '-Werror', '-o', join(folder, 'ask'), join(folder, 'ask.c')], { stdio: 'pipe' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new Error(String((error as { stderr: Buffer }).stderr));
    }
    return execFileSync(join(folder, 'ask'), { encoding: 'utf8' }).trim().split('\n');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe.each(names)('%s', (name) => {
  test('says what the compiled C program says', ({ skip }) => {
    const list = questions(name);
    const answers = ask(name, list);
    if (!answers) return skip('not run: no gcc');
    expect(Object.fromEntries(list.map(({ key, ours }) => [key, String(ours)]))).toEqual(
      Object.fromEntries(list.map(({ key }, i) => [key, answers[i]])),
    );
  });

  test('has all the C header has, and a citation', () => {
    const ours = wordsOf(name).map(([word]) => word);
    const text = headerOf(name);
    const macros = [...text.matchAll(/^#define (\w+)/gm)].map(([, word]) => word!);
    const structs = [...text.matchAll(/^struct (\w+) \{\n/gm)].map(([, word]) => word!);
    expect([...macros, ...structs].sort()).toEqual(ours.sort());
    for (const [, tag, body] of text.matchAll(/^struct (\w+) \{\n([\s\S]*?)^\}/gm)) {
      const members = [...body!.matchAll(/(\w+)(?:\[\])?;/g)].map(([, member]) => member!);
      const struct = wordsOf(name).find(([word]) => word === tag)![1] as Struct<unknown>;
      expect(
        paths(struct)
          .map((path) => path.split('.').at(-1)!)
          .sort(),
        tag,
      ).toEqual(members.sort());
    }
    const { title, author, date, status } = teeIo.SERIES[name];
    for (const part of [title, author, status]) expect(part.length).toBeGreaterThan(2);
    expect(date).toMatch(/^20\d\d(-\d\d-\d\d)?$/);
  });

  test('every word is spelled RFC', () => {
    const text = readFileSync(new URL(`../../src/uapi/tee-io/${fileOf(name)}.ts`, import.meta.url), 'utf8');
    expect(text).toMatch(/^\/\*\*\s+(\* )?RFC: /);
    const declared = [...text.matchAll(/(.*)\nexport (?:const|interface) (\w+)/g)];
    for (const [, above, word] of declared) expect(above, word).toMatch(/^\/\*\* RFC, .*\*\/$/);
  });
});

test('no series without a namespace, no namespace without a series, no header without either', () => {
  const namespaces = Object.keys(teeIo).filter((name) => name !== 'SERIES');
  expect(namespaces.sort()).toEqual([...names].sort());
  expect(readdirSync(HEADERS).sort()).toEqual(names.map((name) => `${fileOf(name)}.h`).sort());
});

/** What has been posted over the years, and what of it is mainline. Word -1: a struct only; size `-`: the word only. */
const REQUESTS: readonly [words: Record<string, unknown>, symbol: string, request: number, size: number | '-'][] = [
  [u, 'VFIO_DEVICE_FEATURE', 0x3b75, 8],
  [u, 'VFIO_DEVICE_BIND_IOMMUFD', 0x3b76, 24],
  [teeIo.xuJan25, 'vfio_device_bind_iommufd', -1, 16],
  [u, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', 0x3b77, 16],
  [u, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', 0x3b78, 12],
  [teeIo.xuFeb25, 'VFIO_DEVICE_TSM_BIND', 0x3b7a, 16],
  [teeIo.xuMay25, 'VFIO_DEVICE_TSM_BIND', 0x3b7a, 16],
  [teeIo.xuMay25, 'VFIO_DEVICE_TSM_UNBIND', 0x3b7b, 8],
  [u, 'IOMMU_OPTION', 0x3b87, 24],
  [u, 'IOMMU_VIOMMU_ALLOC', 0x3b90, 40],
  [teeIo.aneeshV1, 'iommu_viommu_alloc', -1, 48],
  [u, 'IOMMU_VDEVICE_ALLOC', 0x3b91, 24],
  [u, 'IOMMU_IOAS_CHANGE_PROCESS', 0x3b92, '-'],
  [u, 'IOMMU_VEVENTQ_ALLOC', 0x3b93, '-'],
  [teeIo.aikV2, 'IOMMU_VDEVICE_TSM_BIND', 0x3b93, 24],
  [u, 'IOMMU_HW_QUEUE_ALLOC', 0x3b94, '-'],
  [teeIo.aikV2, 'IOMMU_VDEVICE_TSM_GUEST_REQUEST', 0x3b94, 44],
  [teeIo.xuMay25, 'IOMMU_VDEVICE_TSM_GUEST_REQUEST', 0x3b94, 48],
  [teeIo.aneeshMay25, 'IOMMU_VDEVICE_TSM_BIND', 0x3b94, '-'],
  [teeIo.aneeshMay25, 'IOMMU_VDEVICE_TSM_UNBIND', 0x3b95, '-'],
  [teeIo.aneeshMay25, 'iommu_vdevice_id', -1, 8],
  [teeIo.aneeshV1, 'IOMMU_VDEVICE_TSM_OP', 0x3b95, 16],
  [teeIo.aneeshV2, 'IOMMU_VDEVICE_TSM_OP', 0x3b95, 16],
  [teeIo.aneeshV4, 'IOMMU_VDEVICE_TSM_OP', 0x3b95, 16],
  [teeIo.aneeshV5, 'IOMMU_VDEVICE_TSM_OP', 0x3b95, 16],
  [teeIo.aneeshV1, 'IOMMU_VDEVICE_TSM_GUEST_REQUEST', 0x3b96, 48],
  [teeIo.aneeshV2, 'IOMMU_VDEVICE_TSM_GUEST_REQUEST', 0x3b96, 40],
  [teeIo.aneeshV5, 'IOMMU_VDEVICE_TSM_REQ', 0x3b96, 40],
  [teeIo.aneeshJun26, 'IOMMU_VDEVICE_TSM_REQ', 0x3b96, 48],
  [teeIo.aneeshV7, 'IOMMU_VDEVICE_TSM_REQ', 0x3b96, 48],
  [teeIo.aneeshV1, 'IOMMU_VDEVICE_TSM_MAP', 0x3b97, 32],
  [teeIo.noiommu, 'IOMMU_IOAS_NOIOMMU_GET_PA', 0x3b95, '-'],
  [u, 'KVM_SET_USER_MEMORY_REGION2', 0x40a0ae49, '-'],
  [u, 'kvm_userspace_memory_region2', -1, 160],
  [u, 'KVM_SET_MEMORY_ATTRIBUTES', 0x4020aed2, '-'],
  [teeIo.guestMemfdV12, 'KVM_SET_MEMORY_ATTRIBUTES', 0x4020aed3, '-'],
  [u, 'KVM_CREATE_GUEST_MEMFD', 0xc040aed4, '-'],
  [u, 'KVM_PRE_FAULT_MEMORY', 0xc040aed5, '-'],
  [teeIo.attributes2, 'KVM_SET_MEMORY_ATTRIBUTES2', 0xc080aed6, '-'],
  [u, 'KVM_CREATE_DEVICE', 0xc00caee0, 12],
  [u, 'KVM_SET_DEVICE_ATTR', 0x4018aee1, '-'],
  [u, 'KVM_GET_DEVICE_ATTR', 0x4018aee2, '-'],
  [u, 'KVM_HAS_DEVICE_ATTR', 0x4018aee3, '-'],
  [u, 'KVM_MEMORY_ENCRYPT_OP', 0xc008aeba, '-'],
];

test.each(
  REQUESTS.map(([words, ...rest]) => [...rest, words] as const),
)('%s: word %i, %s bytes', (symbol, request, size, words) => {
  if (request >= 0) expect(words[symbol]).toBe(request);
  if (size === '-') return;
  const bindings: Record<string, string> = {
    vfio_device_tsm_bind: 'vfio_pci_tsm_bind',
    vfio_device_tsm_unbind: 'vfio_pci_tsm_unbind',
  };
  const tag = symbol.toLowerCase();
  expect((words[bindings[tag] ?? tag] as Struct<unknown> | undefined)?.size).toBe(size);
});

test('what collides stays apart', () => {
  expect(teeIo.xuJan25.KVM_MEM_VFIO_DMABUF).toBe(teeIo.userfault.KVM_MEM_USERFAULT);
  expect(teeIo.xuJan25.VFIO_DEVICE_BIND_IOMMUFD_PRIVATE).toBe(u.VFIO_DEVICE_BIND_FLAG_TOKEN);
  expect(teeIo.aikV2.IOMMU_VIOMMU_TYPE_TSM).toBe(u.IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV);
  expect(teeIo.aikV2.KVM_SEV_SNP_MMIO_RMP_UPDATE).toBe(u.KVM_SEV_SNP_ENABLE_REQ_CERTS);
  expect(teeIo.aikV2.KVM_EXIT_VMGEXIT).toBe(u.KVM_EXIT_TDX);
  expect(teeIo.guestMemfdV13.KVM_CAP_GUEST_MEMFD).toBe(u.KVM_CAP_MEMORY_ATTRIBUTES);
  expect(u.vfio_device_feature_dma_buf.size).not.toBe(teeIo.xuJan25.vfio_device_feature_dma_buf.size);
  // The table of ioctls has mainline's meanings only.
  expect(u.ioctlByRequest(0x3b93, 'iommufd')?.name).toBe('IOMMU_VEVENTQ_ALLOC');
  for (const nr of [0x3b95, 0x3b96, 0x3b97]) expect(u.ioctlByRequest(nr, 'iommufd')).toBeUndefined();
  for (const nr of [0x3b7a, 0x3b7b]) expect(u.ioctlByRequest(nr, 'vfio-device')?.name ?? '').not.toMatch(/TSM/);
});
