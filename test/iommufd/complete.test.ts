// The object layer against the ioctl table: every request of an iommufd has a method, and every method says which request it is.
import { FaultQueue, Hwpt, HwQueue, Ioas, Iommufd, Vdevice, VeventQueue, Viommu } from 'kvio';
import * as uapi from 'kvio/uapi';
import { describe, expect, it } from 'vitest';
import { documented, lineage, methodsOf, undocumented } from '../kernel/methods.ts';

const methods = methodsOf('iommufd');
/** What the requests of the one descriptor are methods of. */
const objects = [Iommufd, Ioas, Hwpt, Viommu] as const;
const all = [...objects, Vdevice, HwQueue, FaultQueue, VeventQueue] as const;

const requests = uapi.ioctls().flatMap(({ name, fds }) => (fds.includes('iommufd') ? [name] : []));

/** Requests without a method, and why. `iommufd.ioctl` takes them. */
const reasons: Readonly<Record<string, string>> = Object.fromEntries(
  ['GET_API_VERSION', 'CHECK_EXTENSION', 'SET_IOMMU', 'IOMMU_GET_INFO', 'IOMMU_MAP_DMA', 'IOMMU_UNMAP_DMA'].map((name) => [
    `VFIO_${name}`,
    'VFIO’s own, for programs that know containers only: a VfioContainer has the methods',
  ]),
);

describe('the ioctl table', () => {
  it('has 21 requests of iommufd’s, and six of VFIO’s', () => {
    expect(requests.filter((name) => name.startsWith('IOMMU_')).length).toBe(21);
    expect(requests.filter((name) => !name.startsWith('IOMMU_')).sort()).toEqual(Object.keys(reasons).sort());
  });

  it.each(requests.filter((name) => reasons[name] === undefined))('%s is a method', (name) => {
    const found = objects.map((type) => documented(methods, type, name)).find((method) => method !== undefined);
    expect(found, name).toBeDefined();
  });

  it.each(['RLIMIT_MODE', 'HUGE_PAGES'])('IOMMU_OPTION_%s is a property', (name) => {
    expect(Object.keys(uapi)).toContain(`IOMMU_OPTION_${name}`);
    const [type, property] = name === 'HUGE_PAGES' ? ([Ioas, 'hugePages'] as const) : ([Iommufd, 'rlimitMode'] as const);
    const descriptor = Object.getOwnPropertyDescriptor(type.prototype, property);
    expect([typeof descriptor?.get, typeof descriptor?.set]).toEqual(['function', 'function']);
  });
});

describe('docstrings', () => {
  it('are found for every method there is', () => {
    expect(all.flatMap((type) => undocumented(methods, type)).filter((name) => !name.endsWith('.decode'))).toEqual([]);
  });

  // Signatures of one method beside its first have no docstring of their own.
  const documentedOnce = methods.filter(
    (one, at) => one.doc !== '' || !methods.slice(0, at).some(({ of, name }) => of === one.of && name === one.name),
  );
  const mine = new Set(all.flatMap(lineage).filter((name) => name !== 'Handle'));
  // What is no request: how a handle comes from a descriptor, waiting, a queue's two ends.
  const other = new Set(['fromFd', 'events']);

  it.each(
    documentedOnce.filter(({ of, name }) => mine.has(of) && !other.has(name)),
  )('$of $name names its ioctl or system call first', ({ of, name, doc }) => {
    if (of === 'EventQueue' && name === 'destroy') expect(doc).toMatch(/^Closes the descriptor, then IOMMU_DESTROY/);
    else expect(doc).toMatch(/^(?:Opens `\/dev\/iommu`|IOMMU_[A-Z0-9_]+|[a-z0-9]+\(2\))/);
  });
});
