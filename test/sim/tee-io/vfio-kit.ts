// A device of a machine with confidential device assignment, opened by its own node, with its iommufd.
import { openSim, type SimKernel, type TeeIoOption } from '../../../src/sim/index.ts';
import type { Machine } from '../../../src/sim/machine.ts';
import { machineOf } from '../../../src/sim/profiles.ts';
import { O_RDWR } from '../../../src/uapi/sys.ts';
import * as v from '../../../src/uapi/vfio.ts';
import { answer, bind, EDU, Opened, words } from '../vfio/pci/kit.ts';

export { answer, words };

/** The lab's machine, whose IOMMU nests. */
export function machine(): Machine {
  const lab = machineOf('lab-vtd-7.2');
  return { ...lab, iommu: { ...lab.iommu!, nesting: true } };
}

export function rfc(teeIo: TeeIoOption = 'rfc'): SimKernel {
  return openSim({ machine: machine(), teeIo });
}

export class Cdev extends Opened {
  readonly iommufd: number;

  constructor(kernel: SimKernel, bdf: string = EDU) {
    bind(kernel, bdf);
    const [name] = kernel.readdir(`/sys/bus/pci/devices/${bdf}/vfio-dev`);
    super(kernel, kernel.open(`/dev/vfio/devices/${name}`, O_RDWR));
    this.iommufd = kernel.open('/dev/iommu', O_RDWR);
  }

  /** VFIO_DEVICE_BIND_IOMMUFD: the device's id in the iommufd, or the errno. */
  bind(flags = 0, argsz = 16): unknown {
    const bytes = new Uint8Array(Math.max(argsz, 24));
    bytes.set(words(4, argsz, flags, this.iommufd));
    const result = this.call(v.VFIO_DEVICE_BIND_IOMMUFD, bytes);
    return result === 0 ? new DataView(bytes.buffer).getUint32(12, true) : result;
  }
}
