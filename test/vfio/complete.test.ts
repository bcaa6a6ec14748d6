// The object layer against the ioctl table: every request of a VFIO descriptor has a method, and every method says which request it is.
import { ConfigSpace, DmaBuf, Eventfd, Irqs, MigrationData, Region, VfioContainer, VfioDevice, VfioGroup } from 'kvio';
import * as uapi from 'kvio/uapi';
import { describe, expect, it } from 'vitest';
import { type Class, documented, lineage, member, methodsOf, pairsOf, undocumented } from '../kernel/methods.ts';

const methods = methodsOf('vfio');

/** The class of each kind of descriptor. */
const classes: Readonly<Record<string, Class>> = {
  'vfio-container': VfioContainer,
  'vfio-group': VfioGroup,
  'vfio-device': VfioDevice,
  'vfio-migration': MigrationData,
  'dma-buf': DmaBuf,
};
const all: readonly Class[] = [...Object.values(classes), Eventfd, Irqs, Region, ConfigSpace];

const pairs = [...pairsOf('VFIO_', classes), ...pairsOf('DMA_BUF_', classes)];

/** Requests without a method, and why. `handle.ioctl` takes them. */
const reasons: Readonly<Record<string, string>> = {
  DMA_BUF_SET_NAME_A: 'DMA_BUF_SET_NAME with the size an older header claimed',
  DMA_BUF_SET_NAME_B: 'DMA_BUF_SET_NAME',
  DMA_BUF_IOCTL_EXPORT_SYNC_FILE: "fences of GPUs: VFIO's dma-bufs have none",
  DMA_BUF_IOCTL_IMPORT_SYNC_FILE: "fences of GPUs: VFIO's dma-bufs have none",
};

describe('the ioctl table', () => {
  it('has VFIO requests of every kind', () => {
    expect(pairs.length).toBeGreaterThan(30);
    expect(new Set(pairs.map(({ kind }) => kind))).toEqual(new Set(Object.keys(classes)));
  });

  it.each(pairs.filter(({ name }) => reasons[name] === undefined))('$name is a method of a $kind', ({ name, kind }) => {
    const method = documented(methods, classes[kind]!, name);
    expect(method, `${name} of a ${kind}`).toBeDefined();
    expect(typeof member(classes[kind]!, method!.name)).toBe('function');
  });

  it('has each request that is said to have no method, and none of them has one', () => {
    for (const name of Object.keys(reasons)) {
      const { kind } = pairs.find((pair) => pair.name === name)!;
      expect(documented(methods, classes[kind]!, name), name).toBeUndefined();
    }
  });

  it('of spapr is powerpc’s alone', () => {
    const rows = uapi.ioctls().filter(({ name, arch }) => name.startsWith('VFIO_') && arch !== undefined);
    expect(rows.map(({ arch }) => arch)).toEqual(rows.map(() => 'powerpc'));
    expect(rows.length).toBe(8);
  });
});

describe('VFIO_DEVICE_FEATURE', () => {
  const features = Object.keys(uapi)
    .map((name) => /^VFIO_DEVICE_FEATURE_(?!GET$|SET$|PROBE$|MASK$|CLEAR_MASTER$|SET_MASTER$)(\w+)$/.exec(name)?.[1])
    .filter((name) => name !== undefined);

  it('has thirteen features', () => expect(features.length).toBe(13));

  it.each(features)('%s has a method', (feature) => {
    const method = methods.find(
      ({ of, doc }) => of === 'VfioDeviceFeatures' && new RegExp(`^VFIO_DEVICE_FEATURE, [GS]ET of ${feature}\\b`).test(doc),
    );
    expect(method).toBeDefined();
    expect(typeof member(VfioDevice, method!.name)).toBe('function');
  });
});

describe('docstrings', () => {
  it('are found for every method there is', () => {
    expect(all.flatMap((type) => undocumented(methods, type))).toEqual([]);
  });

  const mine = new Set(all.flatMap(lineage).filter((name) => name !== 'Handle'));
  // What is no request: how a handle comes from a descriptor, objects on it, waiting in turns.
  const other = new Set(['fromFd', 'region', 'irqs', 'wait', 'events', 'on', 'ref', 'unref', 'capabilities']);

  // Signatures of one method beside its first have no docstring of their own.
  const documentedOnce = methods.filter(
    (one, at) => one.doc !== '' || !methods.slice(0, at).some(({ of, name }) => of === one.of && name === one.name),
  );
  it.each(
    documentedOnce.filter(({ of, name }) => mine.has(of) && !other.has(name)),
  )('$of.$name names its ioctl or system call first', ({ doc }) => {
    expect(doc).toMatch(/^(?:Opens `\/dev\/vfio\/|(?:(?:VFIO|DMA_BUF)_[A-Z0-9_]+|[a-z0-9]+\(2\)))/);
  });
});
