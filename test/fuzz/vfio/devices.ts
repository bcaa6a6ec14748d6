/** An opened device: what it says of itself, its regions by pread, pwrite and mmap, interrupts, resets, features. */
import * as v from 'kvio/uapi';
import { EFD_NONBLOCK } from 'kvio/uapi';
import { parts } from '../../conformance/parts.ts';
import type { Call } from '../call.ts';
import { type Choices, oddValue } from '../choices.ts';
import { mapFile } from '../files.ts';
import { making, type Step, succeeded, type WeightedStep } from '../step.ts';
import type { Descriptor, FileState, World } from '../world.ts';
import { argsz, eventfdWord, request, struct, type Word } from './calls.ts';
import { one } from './containers.ts';

const about = (make: (c: Choices, device: Descriptor, w: World) => Call | undefined): Step =>
  function* (c, w) {
    const device = one(c, w, 'device');
    const call = device === undefined ? undefined : make(c, device, w);
    if (call !== undefined) yield call;
  };

const info = about((c, { name }) =>
  request(name, 'VFIO_DEVICE_GET_INFO', v.VFIO_DEVICE_GET_INFO, struct('ll', [argsz(c, c.pick([24, 16, 20])), 0xeeee], 40)),
);

const index = (c: Choices, most: number): number =>
  c.weighted([
    [10, c.below(most)],
    [1, c.pick([most, most + 1, 0xffff_ffff])],
  ]);

const regionInfo = about((c, { name }) =>
  request(
    name,
    'VFIO_DEVICE_GET_REGION_INFO',
    v.VFIO_DEVICE_GET_REGION_INFO,
    struct('llllqq', [argsz(c, c.pick([32, 40, 48])), 0xeeee, index(c, 9), 0xcafe], 32),
  ),
);

const irqInfo = about((c, { name }) =>
  request(
    name,
    'VFIO_DEVICE_GET_IRQ_INFO',
    v.VFIO_DEVICE_GET_IRQ_INFO,
    struct('llll', [argsz(c, 16), 0xeeee, index(c, 5), 0xcafe], 8),
  ),
);

/** SET_IRQS: data and action mostly one each, start and count within what there is. */
const setIrqs = about((c, { name }, w) => {
  const data = c.weighted([
    [6, 4],
    [3, 1],
    [2, 2],
    [1, c.pick([0, 3, 5, 6, 7])],
  ]);
  const action = c.weighted([
    [7, 32],
    [2, 8],
    [2, 16],
    [1, c.pick([0, 24, 40, 48, 56])],
  ]);
  const count = c.weighted([
    [6, 1],
    [2, 0],
    [2, 1 + c.below(5)],
    [1, c.pick([16, 17, 4])],
    [1, c.pick([65, 66, 0xffff_ffff])],
  ]);
  const start = c.weighted([
    [7, 0],
    [2, c.below(5)],
    [1, c.pick([15, 16])],
    [1, c.pick([64, 65, 0xffff_ffff])],
  ]);
  const extra = c.chance(0.03) ? 0x40 : 0;
  const elements = Math.min(count, 17);
  const words: Word[] = Array.from({ length: elements }, () => (data === 2 ? c.below(3) : eventfdWord(c, w)));
  const layout = `lllll${(data === 2 ? 'b' : 'l').repeat(elements)}`;
  const size = 20 + elements * (data === 2 ? 1 : data === 4 ? 4 : 0);
  return request(
    name,
    'VFIO_DEVICE_SET_IRQS',
    v.VFIO_DEVICE_SET_IRQS,
    struct(layout, [count > 17 ? 20 : argsz(c, size), data | action | extra, index(c, 5), start, count, ...words], 32),
  );
});

const READ_LENGTHS = [4, 1, 2, 3, 8, 16, 0, 64];

/** Registers of edu that only tell something, or whose writing changes nothing else. */
const place = (c: Choices): bigint => {
  const region = c.weighted([
    [8, 7n],
    [5, 0n],
    [1, BigInt(c.pick([1, 2, 3, 6, 8, 9, 100]))],
  ]);
  const at =
    region === 7n
      ? BigInt(
          c.weighted([
            [6, c.below(0x100)],
            [3, 4],
            [3, c.pick([0x10, 0x14, 0x30, 0x3c, 0x40, 0x42])],
            [1, c.pick([0xff, 0x100, 0xffe, 0x1000])],
          ] as const),
        )
      : BigInt(c.pick([0, 4, 0xffffc, 0x100000, 0xfffff, 0xffffe, 2]));
  return (region << 40n) + at;
};

/** Bytes of xhci’s BAR that say what it is: firmware has used what lies behind them. */
const XHCI_CAPABILITIES = 0x40n;

/** Whether registers behind BARs compare: the model of a network card has none, and firmware has left its queues in those of nvme, which QEMU’s resets keep. */
const modelled = ({ kind, place }: FileState): boolean => kind !== 'device' || place?.address.startsWith('0000:00:') === true;

const pread = about((c, device) => {
  const bytes = new Uint8Array(c.pick(READ_LENGTHS)).fill(0xee);
  const offset = place(c);
  if (offset >> 40n < 6n && !modelled(device.file)) return undefined;
  const beyond = (offset & 0xffff_ffffffn) + BigInt(bytes.length) > XHCI_CAPABILITIES;
  if (offset >> 40n < 6n && device.file.place?.address === parts.xhci.at && beyond) return undefined;
  return { do: 'pread', fd: device.name, bytes, offset };
});

/** Capabilities by the end of a device’s address: what lies between them goes straight to the hardware, which keeps it for the sequences that follow. */
const capabilities: readonly (readonly [device: string, from: number, to: number])[] = [
  ['00:02.0', 0x40, 0x4e],
  ['00:03.0', 0x40, 0x4e],
  ['01:00.0', 0x40, 0x4c],
  ['01:00.0', 0x60, 0x68],
  ['01:00.0', 0x80, 0xbc],
  ['02:00.0', 0xa0, 0xac],
  ['02:00.0', 0xc8, 0xde],
  ['02:00.0', 0xe0, 0xf4],
  ['00:18.0', 0x70, 0x7e],
  ['00:18.0', 0x90, 0x9c],
  ['00:18.0', 0xa0, 0xdc],
];

/** Whether bytes of configuration space may be written: those of the header, of one capability, or none that are there. */
function forgotten({ file: { place: where } }: Descriptor, at: number, length: number): boolean {
  if (length === 0 || at + length <= 0x40 || at + length > 0x1000) return true;
  return capabilities.some(([device, from, to]) => where?.address.endsWith(device) && at >= from && at + length <= to);
}

/** Writes of a BAR are of register 4 only: it holds what is written, inverted. Others compute, transfer and interrupt. */
const pwrite = about((c, device) => {
  const length = c.pick([4, 1, 2, 3, 8, 0]);
  const at = place(c);
  if (at >> 40n !== 7n && (at !== 4n || length > 4)) return undefined;
  if (at >> 40n === 7n && !forgotten(device, Number(at & 0xffffn), length)) return undefined;
  const fd = device.name;
  return { do: 'pwrite', fd, bytes: c.bytes(length), offset: at };
});

/** COMMAND: the bits that mean something. */
const command = about((c, { name: fd }) => {
  const value = c.pick([0x7, 0x0, 0x2, 0x3, 0x400, 0x407, 0x6, 0x547]);
  return { do: 'pwrite', fd, bytes: Uint8Array.of(value & 0xff, value >> 8), offset: (7n << 40n) + 4n };
});

const map: Step = function* (c, w) {
  const device = one(c, w, 'device');
  if (device === undefined) return;
  yield* mapFile(w, device, {
    length: c.pick([0x1000, 0x100000, 0x2000, 1, 0x101000]),
    prot: c.pick([3, 1, 0, 5]),
    flags: c.weighted([
      [8, 1],
      [1, 2],
    ]),
    offset: c.weighted([
      [8, 0n],
      [1, BigInt(c.below(10)) << 40n],
      [1, c.pick([0xff000n, 0x100000n])],
    ]),
    view: false,
  });
};

const touch: Step = function* (c, w) {
  const bars = w.liveMemories().filter(({ of }) => of?.kind === 'device' && modelled(of));
  if (bars.length === 0) return;
  const bar = c.pick(bars);
  yield { do: 'load', memory: bar.name, offset: bar.offset === 0 ? c.pick([0, 4]) : 0, width: 32 };
};

const reset = about((_c, { name }) => request(name, 'VFIO_DEVICE_RESET', v.VFIO_DEVICE_RESET, { is: 'none' }));

const hotResetInfo = about((c, { name }) =>
  request(
    name,
    'VFIO_DEVICE_GET_PCI_HOT_RESET_INFO',
    v.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
    struct('lll', [c.pick([12, 20, 28, 11, 0]), 0xeeee, 0xeeee], 32),
  ),
);

const hotReset = about((c, { name }, w) => {
  const fds = Array.from({ length: 2 }, (): Word => {
    const files = c.chance(0.2) ? w.live() : w.live('group');
    return files.length > 0 ? { fd: c.pick(files).name } : 999;
  });
  return request(
    name,
    'VFIO_DEVICE_PCI_HOT_RESET',
    v.VFIO_DEVICE_PCI_HOT_RESET,
    struct('lllll', [argsz(c, 12), c.chance(0.05) ? 1 : 0, c.pick([1, 0, 2]), ...fds]),
  );
});

/** FEATURE without DMA_BUF and what carries pointers. */
const feature = about((c, { name }, w) => {
  const number = c.pick([3, 5, 4, 0, 1, 2, 6, 7, 8, 9, 10, 11, 12, 13, 0xffff]);
  const how = c.pick([0x40000, 0x20000, 0x10000, 0x60000, 0x50000, 0x30000, 0x70000, 0, 0x80000]);
  // GET of DMA_BUF makes a descriptor: it has a step of its own.
  if (number === 11 && (how & 0x50000) === 0x10000) return undefined;
  const data: Word[] = number === 4 ? [eventfdWord(c, w), 0] : [0, 0];
  return request(
    name,
    'VFIO_DEVICE_FEATURE',
    v.VFIO_DEVICE_FEATURE,
    struct('llll', [argsz(c, number === 4 ? 16 : 8), how | number, ...data], 64),
  );
});

const dmaBuf: Step = function* (c, w) {
  const device = one(c, w, 'device');
  if (device === undefined) return;
  const count = c.weighted([
    [8, 1],
    [1, c.pick([0, 2])],
  ]);
  const range = (): bigint[] => [
    c.pick([0n, 0x1000n, 0xff000n, 0x100000n, 8n, (1n << 64n) - 0x1000n]),
    c.pick([0x1000n, 0x2000n, 0x100000n, 0n, 0x800n, (1n << 63n) - 0x1000n]),
  ];
  const words = [
    c.pick([24, 24, 40, 23, 8]),
    0x10000 | 11,
    index(c, 6),
    c.pick([2, 0, 0x80002, 0x802]),
    c.chance(0.05) ? 1 : 0,
    count,
  ];
  const arg = struct('llllllqqqq', [...words, ...range(), ...range()]);
  yield* making(w, 'dmabuf', { kind: 'dmabuf' }, (as) =>
    request(device.name, 'VFIO_DEVICE_FEATURE', v.VFIO_DEVICE_FEATURE, arg, as),
  );
};

/** IOEVENTFD on register 4. */
const ioeventfd = about((c, { name }, w) => {
  const offset = c.weighted([
    [8, 4n],
    [1, c.pick([5n, 7n, 0x100000n, (7n << 40n) + 4n, 1n << 40n])],
  ]);
  const width = c.weighted([
    [7, 4],
    [1, c.pick([1, 2, 8, 0, 3, 16])],
  ]);
  const words = [c.pick([32, 32, 28, 27]), width, offset, c.pick([0n, 0x11223344n]), eventfdWord(c, w), 0];
  return request(name, 'VFIO_DEVICE_IOEVENTFD', v.VFIO_DEVICE_IOEVENTFD, struct('llqqll', words));
});

/** One that does not block: its count is read at the end. */
const eventfd: Step = function* (c, w) {
  yield* making(w, 'eventfd', { kind: 'eventfd' }, (as) => ({
    do: 'eventfd',
    initval: c.pick([0, 0, 1, 5]),
    flags: EFD_NONBLOCK,
    as,
  }));
};

const drain: Step = function* (c, w) {
  const fd = one(c, w, 'eventfd');
  if (fd !== undefined && modelled(fd.file)) yield { do: 'read', fd: fd.name, bytes: new Uint8Array(8) };
};

const signal: Step = function* (c, w) {
  const fd = one(c, w, 'eventfd');
  if (fd?.file.kind === 'eventfd') yield { do: 'write', fd: fd.name, bytes: Uint8Array.of(1 + c.below(3), 0, 0, 0, 0, 0, 0, 0) };
};

const odd: Step = function* (c, w) {
  const device = one(c, w, 'device');
  if (device === undefined) return;
  const at = BigInt(c.pick([0x10, 0x14, 0x18, 0x30, 0x42, 0x44, 0x48, 0x3c, 0x0c]));
  const value = oddValue(c, 4);
  if (!forgotten(device, Number(at), 4)) return;
  const bytes = Uint8Array.from([0n, 8n, 16n, 24n], (shift) => Number((value >> shift) & 0xffn));
  if (succeeded(yield { do: 'pwrite', fd: device.name, bytes, offset: (7n << 40n) + at })) return;
  yield { do: 'pread', fd: device.name, bytes: new Uint8Array(4), offset: (7n << 40n) + at };
};

export const deviceSteps: readonly WeightedStep[] = [
  { weight: 2, name: 'GET_INFO', step: info },
  { weight: 2, name: 'GET_REGION_INFO', step: regionInfo },
  { weight: 2, name: 'GET_IRQ_INFO', step: irqInfo },
  { weight: 14, name: 'SET_IRQS', step: setIrqs },
  { weight: 7, name: 'pread', step: pread },
  { weight: 6, name: 'pwrite', step: pwrite },
  { weight: 4, name: 'COMMAND', step: command },
  { weight: 3, name: 'configuration', step: odd },
  { weight: 4, name: 'mmap', step: map },
  { weight: 4, name: 'touch', step: touch },
  { weight: 2, name: 'RESET', step: reset },
  { weight: 1, name: 'HOT_RESET_INFO', step: hotResetInfo },
  { weight: 2, name: 'HOT_RESET', step: hotReset },
  { weight: 4, name: 'FEATURE', step: feature },
  { weight: 3, name: 'DMA_BUF', step: dmaBuf },
  { weight: 4, name: 'IOEVENTFD', step: ioeventfd },
  { weight: 4, name: 'eventfd', step: eventfd },
  { weight: 4, name: 'drain', step: drain },
  { weight: 3, name: 'signal', step: signal },
];

/** All that can still be asked: of every device its configuration, of every eventfd its count. */
export const tellAll: Step = function* (_c, w) {
  for (const { name } of w.live('device')) yield { do: 'pread', fd: name, bytes: new Uint8Array(256), offset: 7n << 40n };
  for (const { name } of w.live('eventfd')) yield { do: 'read', fd: name, bytes: new Uint8Array(8) };
  for (const { name } of w.live('container'))
    yield request(name, 'VFIO_IOMMU_UNMAP_DMA', v.VFIO_IOMMU_UNMAP_DMA, struct('llqqqqq', [24, 2]));
  for (const { name } of w.live('group'))
    yield request(name, 'VFIO_GROUP_GET_STATUS', v.VFIO_GROUP_GET_STATUS, struct('ll', [8, 0], 8));
};
