import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats, statSync } from 'node:fs';

/** What it takes to have a device node, for those the host lacks. */
const advice: readonly (readonly [pattern: RegExp, missing: string])[] = [
  [
    /^\/dev\/kvm$/,
    'load KVM (modprobe kvm_intel or kvm_amd), enable virtualization in the firmware, or, where this host is itself a VM or a container, ask for nested virtualization or for the device',
  ],
  [/^\/dev\/vfio\/vfio$/, 'load VFIO (modprobe vfio-pci)'],
  [/^\/dev\/vfio\//, 'bind the PCI device to vfio-pci, with an IOMMU enabled (intel_iommu=on, or AMD-Vi in the firmware)'],
  [/^\/dev\/iommu$/, 'load iommufd (modprobe iommufd; Linux 6.2 or newer, CONFIG_IOMMUFD)'],
];

const ask = (path: string): string => advice.find(([pattern]) => pattern.test(path))?.[1] ?? 'load the driver that provides it';

/** The name of a group from /etc/group, or its number. */
function groupName(gid: number): string {
  try {
    const line = readFileSync('/etc/group', 'utf8')
      .split('\n')
      .find((entry) => entry.split(':')[2] === String(gid));
    return line?.split(':')[0] || String(gid);
  } catch {
    return String(gid);
  }
}

function permission(path: string): string {
  let node: Stats;
  try {
    node = statSync(path);
  } catch {
    return `no permission to look at ${path}`;
  }
  const mode = (node.mode & 0o777).toString(8).padStart(4, '0');
  const group = groupName(node.gid);
  const byGroup = (node.mode & 0o060) === 0o060 && node.gid !== 0;
  const remedy = byGroup
    ? `join group ${group} (sudo usermod -aG ${group} "$USER", then log in again)`
    : `it is for ${node.uid === 0 ? 'root' : `user ${node.uid}`} only; give it to a group and join that (sudo chgrp kvm ${path} && sudo chmod 660 ${path}; sudo usermod -aG kvm "$USER"; log in again)`;
  return `no permission to open ${path} (mode ${mode}, group ${group}): ${remedy}`;
}

/** Why this device of the host cannot be opened, and what to do about it; undefined where it can. */
export function deviceTrouble(path: string): string | undefined {
  if (process.platform !== 'linux') return `${path} is Linux's, and this is ${process.platform}`;
  try {
    const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    const isDevice = fstatSync(fd).isCharacterDevice();
    closeSync(fd);
    return isDevice ? undefined : `${path} is a file, and no device: ${ask(path)}`;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    // A VFIO group opens once: somebody, perhaps this process, has it. It is there.
    if (code === 'EBUSY') return undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return `there is no ${path}: ${ask(path)}`;
    if (code === 'ENXIO' || code === 'ENODEV') return `no driver answers behind ${path} (${code}): ${ask(path)}`;
    if (code === 'EACCES' || code === 'EPERM') return permission(path);
    return `${path} cannot be opened (${code})`;
  }
}
