// The table of docs/README.md: every request of the ioctl table, and the method that makes it, by the docstring that begins with its name.
import { allDocumented, methodsOf } from './methods.mjs';

/** Kinds of descriptors, as docs/README.md goes through them, and the classes whose methods are requests of each: what a program calls such an object, and its class. */
const families = [
  ['kvm', '/dev/kvm', { kvm: { kvm: 'Kvm' }, vm: { vm: 'Vm' }, vcpu: { vcpu: 'Vcpu' }, 'kvm-device': { device: 'KvmDevice' } }],
  [
    'vfio',
    '/dev/vfio',
    {
      'vfio-container': { container: 'VfioContainer' },
      'vfio-group': { group: 'VfioGroup' },
      'vfio-device': { device: 'VfioDevice', irqs: 'Irqs' },
      'vfio-migration': { data: 'MigrationData' },
      'dma-buf': { dmaBuf: 'DmaBuf' },
    },
  ],
  ['iommufd', '/dev/iommu', { iommufd: { iommufd: 'Iommufd', ioas: 'Ioas', hwpt: 'Hwpt', viommu: 'Viommu' } }],
];

const arches = [undefined, 'x86', 'arm64'];

/** The tables as Markdown. `kvio` has the classes, `ioctls` the rows. */
export function ioctlTables(kvio, ioctls) {
  return families.map(([folder, device, kinds]) => {
    const methods = methodsOf(folder);
    /** A request may be one of several kinds of descriptors: a line for all. */
    const lines = new Map();
    for (const [kind, classes] of Object.entries(kinds)) {
      for (const { name, fds, arch, since } of ioctls) {
        if (!fds.includes(kind) || !arches.includes(arch)) continue;
        const { names = [] } = lines.get(name) ?? {};
        lines.set(name, { names: [...names, ...called(kvio, methods, classes, name)], since, arch });
      }
    }
    const rows = [...lines].flatMap(([name, { names, since, arch }]) => {
      if (names.length === 0) return [];
      const from = [since, arch === 'arm64' ? 'arm64' : undefined].filter(Boolean).join(', ');
      return [`| ${name} | ${names.map((one) => `\`${one}\``).join(', ')} | ${from} |`];
    });
    return [`### \`${device}\``, '', '| request | method | since |', '|---|---|---|', ...rows].join('\n');
  });
}

function called(kvio, methods, classes, request) {
  const names = Object.entries(classes).flatMap(([variable, type]) =>
    allDocumented(methods, kvio[type], request).map(({ name }) => `${variable}.${name}`),
  );
  return [...new Set(names)];
}
