import { EINVAL, ERANGE } from '../uapi/sys.ts';
import { Attribute } from './fs/attribute.ts';
import { kstrtobool, kstrtouint } from './fs/text.ts';
import type { FsTree } from './fs/tree.ts';

/** Parameters of kernel modules that something simulated obeys: `system.parameters.vfio.enable_unsafe_noiommu_mode`. */
export interface Parameters {
  vfio: { enable_unsafe_noiommu_mode: boolean };
  vfio_iommu_type1: { allow_unsafe_interrupts: boolean; disable_hugepages: boolean; dma_entry_limit: number };
  vfio_pci: {
    disable_denylist: boolean;
    disable_idle_d3: boolean;
    /** With CONFIG_VFIO_PCI_VGA. */
    disable_vga: boolean;
    enable_sriov: boolean;
    nointxmask: boolean;
    /** Not in /sys: `ids=` of the command line, which become dynamic ids of the driver at boot. */
    ids: string;
  };
  iommufd: { allow_unsafe_interrupts: boolean };
}

/** What a machine's command line sets otherwise. */
export type ParameterValues = { readonly [M in keyof Parameters]?: Partial<Parameters[M]> };

interface Row {
  readonly module: keyof Parameters;
  readonly name: string;
  readonly value: boolean | number | string;
  /** Of the file in /sys/module/MODULE/parameters; 0: there is none. */
  readonly mode: number;
}

const rows: readonly Row[] = [
  { module: 'vfio', name: 'enable_unsafe_noiommu_mode', value: false, mode: 0o644 },
  { module: 'vfio_iommu_type1', name: 'allow_unsafe_interrupts', value: false, mode: 0o644 },
  { module: 'vfio_iommu_type1', name: 'disable_hugepages', value: false, mode: 0o644 },
  { module: 'vfio_iommu_type1', name: 'dma_entry_limit', value: 65535, mode: 0o644 },
  { module: 'vfio_pci', name: 'disable_denylist', value: false, mode: 0o444 },
  { module: 'vfio_pci', name: 'disable_idle_d3', value: false, mode: 0o644 },
  { module: 'vfio_pci', name: 'disable_vga', value: false, mode: 0o444 },
  { module: 'vfio_pci', name: 'enable_sriov', value: false, mode: 0o644 },
  { module: 'vfio_pci', name: 'nointxmask', value: false, mode: 0o644 },
  { module: 'vfio_pci', name: 'ids', value: '', mode: 0 },
  { module: 'iommufd', name: 'allow_unsafe_interrupts', value: false, mode: 0o644 },
];

/** Modules that say a version, in the order of their rows. */
const versions: ReadonlyMap<string, string> = new Map([
  ['vfio', '0.3'],
  ['vfio_iommu_type1', '0.2'],
]);

export function makeParameters(values: ParameterValues = {}): Parameters {
  const made: Record<string, Record<string, unknown>> = {};
  for (const { module, name, value } of rows) (made[module] ??= {})[name] = value;
  for (const [module, given] of Object.entries(values)) Object.assign(made[module]!, given);
  return made as unknown as Parameters;
}

/** /sys/module/NAME/{parameters,version} of these modules. `absent`: parameters that were configured away. */
export function addModules(
  fs: FsTree,
  parameters: Parameters,
  modules: readonly (keyof Parameters)[],
  absent: readonly string[] = [],
): void {
  for (const { module, name, mode } of rows) {
    if (mode === 0 || !modules.includes(module) || absent.includes(name)) continue;
    const owner = parameters[module] as Record<string, boolean | number>;
    fs.mkdirp(`/sys/module/${module}/parameters`).add(name, parameter(owner, name, mode));
  }
  for (const [module, version] of versions) {
    if (!modules.includes(module as keyof Parameters)) continue;
    fs.mkdirp(`/sys/module/${module}`).add('version', new Attribute(0o444, { show: () => `${version}\n` }));
  }
}

/** param_ops_bool, param_ops_uint. */
function parameter(owner: Record<string, boolean | number>, name: string, mode: number): Attribute {
  const show = (): string => {
    const value = owner[name]!;
    return `${typeof value === 'boolean' ? (value ? 'Y' : 'N') : value}\n`;
  };
  const store = (text: string): number => {
    if (typeof owner[name] === 'boolean') {
      const value = kstrtobool(text);
      if (value === undefined) return -EINVAL;
      owner[name] = value;
    } else {
      const value = kstrtouint(text);
      if (value === 'range') return -ERANGE;
      if (value === undefined) return -EINVAL;
      owner[name] = value;
    }
    return text.length;
  };
  return new Attribute(mode, (mode & 0o222) === 0 ? { show } : { show, store: (_p, text) => store(text) });
}
