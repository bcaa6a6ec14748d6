import { KernelError } from '../kernel/errors.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { O_CLOEXEC, O_RDONLY, O_WRONLY } from '../uapi/sys.ts';

/** Attributes of sysfs are a page at most. */
const PAGE = 4096;

const isGone = (error: unknown): boolean =>
  KernelError.isKernelError(error) && ['ENOENT', 'ENOTDIR', 'ENODEV', 'EINVAL'].includes(error.code);

/** open(2) and read(2) of an attribute, without the newline at its end. */
export function readAttribute(kernel: Kernel, path: string): string {
  const fd = kernel.open(path, O_RDONLY | O_CLOEXEC);
  try {
    const bytes = new Uint8Array(PAGE);
    const length = kernel.read(fd, bytes);
    return Buffer.from(bytes.subarray(0, length)).toString('latin1').replace(/\n$/, '');
  } finally {
    kernel.close(fd);
  }
}

/** The same; undefined where there is no such file. */
export function findAttribute(kernel: Kernel, path: string): string | undefined {
  return unlessGone(() => readAttribute(kernel, path));
}

/** The last name of what a symbolic link points to; undefined where there is no such link. */
export function linkName(kernel: Kernel, path: string): string | undefined {
  const target = unlessGone(() => kernel.readlink(path));
  return target?.slice(target.lastIndexOf('/') + 1);
}

/** What is in a directory; nothing where there is none. */
export function namesIn(kernel: Kernel, path: string): string[] {
  return unlessGone(() => kernel.readdir(path)) ?? [];
}

function unlessGone<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** What the kernel means by an errno of a write, by file (drivers/base/bus.c, drivers/base/dd.c, drivers/pci/pci-driver.c, drivers/vfio, drivers/iommu/iommu.c). */
const rules: readonly (readonly [file: RegExp, code: string, rule: string])[] = [
  [/\/drivers\/[^/]+\/bind$/, 'ENOENT', 'there is no such driver: load its module'],
  [
    /\/drivers\/[^/]+\/bind$/,
    'ENODEV',
    'there is no such device, or the driver is not for it (driver_override and new_id say otherwise)',
  ],
  [/\/drivers\/[^/]+\/bind$/, 'EBUSY', 'the device has a driver, or VFIO owns its IOMMU group and this driver would use it too'],
  [
    /\/drivers\/vfio-pci\/bind$/,
    'EINVAL',
    'vfio-pci refuses a bridge, and a device without an IOMMU group unless vfio.enable_unsafe_noiommu_mode is on',
  ],
  [
    /\/tsm\/(connect|disconnect)$/,
    'ENOENT',
    'there is no such device, no TSM trusts it, or this kernel has none (Linux has since 6.19, where there is a driver of one)',
  ],
  [/\/unbind$/, 'ENODEV', 'the device is not bound to this driver'],
  [/\/driver_override$/, 'ENOENT', 'there is no such device'],
  [/\/driver_override$/, 'EINVAL', 'the name is too long'],
  [/\/parameters\//, 'ENOENT', 'the module is not loaded, or has no such parameter'],
  [/\/parameters\//, 'EINVAL', 'the parameter does not take this value'],
  [/./, 'EACCES', 'this is for root'],
  [/./, 'EPERM', 'this is for root'],
];

/** open(2) and one write(2) of an attribute. A KernelError names the file, the value and, where it is known, the rule. */
export function writeAttribute(kernel: Kernel, path: string, value: string): void {
  let fd: number | undefined;
  try {
    fd = kernel.open(path, O_WRONLY | O_CLOEXEC);
    kernel.write(fd, Buffer.from(value, 'latin1'));
  } catch (error) {
    if (!KernelError.isKernelError(error)) throw error;
    const rule = rules.find(([file, code]) => code === error.code && file.test(path))?.[2];
    throw new KernelError(error.errno, 'write', {
      path,
      note: `${JSON.stringify(value)}${rule === undefined ? '' : `: ${rule}`}`,
    });
  } finally {
    if (fd !== undefined) kernel.close(fd);
  }
}
