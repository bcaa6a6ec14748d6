import { loadWidth, storeWidth } from '../../kernel/by-width.ts';
import { EBADF, EINVAL, ENODEV, EOPNOTSUPP, O_CLOEXEC } from '../../uapi/sys.ts';
import { type DmaBufExporter, DmaBufFile, type DmaBufImporter, type DmaBufPiece } from '../dma-buf.ts';
import type { DeviceMemory } from '../mm/device-memory.ts';
import { PAGE_SIZE } from '../mm/pages.ts';
import type { Process } from '../process.ts';
import type { IommufdContext } from './context.ts';
import type { TestArguments } from './selftest.ts';

const MAX_LENGTH = 2 << 20;

/** Memory as a device would have it: of a test, in RAM. */
class Memory implements DeviceMemory {
  readonly #view: DataView;

  constructor(length: number) {
    this.#view = new DataView(new ArrayBuffer(length));
  }

  load(offset: number, width: 1 | 2 | 4 | 8): number | bigint {
    return loadWidth(this.#view, offset, width);
  }

  store(offset: number, width: 1 | 2 | 4 | 8, value: number | bigint): number {
    storeWidth(this.#view, offset, width, value);
    return 0;
  }
}

class TestExporter implements DmaBufExporter {
  readonly name = 'iommufd_test';
  readonly #pieces: readonly DmaBufPiece[];
  revoked = false;

  constructor(length: number) {
    this.#pieces = [{ memory: new Memory(length), offset: 0, length }];
  }

  attach(_importer: DmaBufImporter): number {
    return 0;
  }

  map(): readonly DmaBufPiece[] | number {
    return this.revoked ? -ENODEV : this.#pieces;
  }

  release(): void {}
}

/** IOMMU_TEST_OP_DMABUF_GET: the new descriptor is the result. */
export function dmabufGet(args: TestArguments, _ctx: IommufdContext, p: Process): number {
  const length = Math.ceil(args.u32(16) / PAGE_SIZE) * PAGE_SIZE;
  const flags = args.u32(20);
  if (length === 0 || length > MAX_LENGTH) return -EINVAL;
  return p.fds.install(new DmaBufFile(p, new TestExporter(length), BigInt(length), flags), (flags & O_CLOEXEC) !== 0);
}

/** IOMMU_TEST_OP_DMABUF_REVOKE: importers are told whichever way it goes. */
export function dmabufRevoke(args: TestArguments, _ctx: IommufdContext, p: Process): number {
  const file = p.fds.get(args.u32(16) | 0);
  if (file === undefined) return -EBADF;
  if (!(file instanceof DmaBufFile)) return -EINVAL;
  if (!(file.exporter instanceof TestExporter)) return -EOPNOTSUPP;
  file.exporter.revoked = args.u32(20) !== 0;
  file.moveNotify();
  return 0;
}
