// The TypeScript blocks of README.md and docs/ as programs: which blocks of a page, in what order, and what a reader would have around them.

/** A block of the page, by its number; or text that stands around blocks. */
export type Part = number | string;

export interface Program {
  /** Without `.md`; `README` is that at the top. */
  readonly page: string;
  readonly parts: readonly Part[];
  /** What it prints. */
  readonly prints?: readonly string[];
}

/** A device on the simulated machine, up to where blocks of vfio.md and iommufd.md begin. */
const EDU = '0000:00:02.0';

export const programs: readonly Program[] = [
  { page: 'README', parts: [0], prints: ['H'] },
  {
    page: 'getting-started',
    parts: [
      0,
      `
import { KVM_EXIT_IO_IN } from 'kvio/uapi';
const code = Uint8Array.of(0xe4, 0x10, 0xa2, 0x00, 0x05, 0xf4); // in al, 0x10; mov [0x500], al; hlt
const device = { write: (at: bigint, data: Uint8Array) => console.log(at, [...data]) };
`,
      ...[1, 2, 3],
    ],
    prints: ['sim 6.18.44 asked for by KVIO_KERNEL=sim', '1280n [ 42 ]'],
  },
  {
    page: 'getting-started',
    parts: [
      `
const describe = { skipIf: (skip: boolean) => (title: string, f: () => void) => skip || (console.log(title), f()) };
const it = (name: string, f: () => void) => (f(), console.log(name));
`,
      4,
    ],
  },
  {
    page: 'kvm',
    parts: [0, 1, 2, 3, 4, 5, `\nline.signal();\nkernel.close();\n`],
    prints: ['port 0x11: 42', '0x500: 42', 'dirty 5', 'stopped by intr', 'stopped by intr'],
  },
];

/** Blocks that are no programs, and why. */
export const others: readonly { readonly page: string; readonly block: number; readonly reason: string }[] = [
  { page: 'conformance', block: 0, reason: 'a case, as those of test/conformance/cases are' },
  { page: 'conformance', block: 1, reason: 'a case, as those of test/conformance/cases are' },
];

export { EDU };
