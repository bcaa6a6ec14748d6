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
    const rows = Object.entries(kinds).flatMap(([kind, classes]) =>
      ioctls
        .filter(({ fds, arch }) => fds.includes(kind) && arches.includes(arch))
        .map((row) => [row, called(kvio, methods, classes, row.name)])
        .filter(([, names]) => names.length > 0)
        .map(([{ name, capability, since, arch }, names]) => {
          const needs = [capability, since, arch === 'arm64' ? 'arm64' : undefined].filter(Boolean).join(', ');
          return `| ${name} | ${names.map((one) => `\`${one}\``).join(', ')} | ${needs} |`;
        }),
    );
    return [`### \`${device}\``, '', '| request | method | announced by, since |', '|---|---|---|', ...rows].join('\n');
  });
}

function called(kvio, methods, classes, request) {
  const names = Object.entries(classes).flatMap(([variable, type]) =>
    allDocumented(methods, kvio[type], request).map(({ name }) => `${variable}.${name}`),
  );
  return [...new Set(names)];
}
