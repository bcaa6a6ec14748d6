import { type Descriptor, KernelError, type KvmVfio, Tdi, type Vdevice, type VfioDevice } from 'kvio';
import { teeIo } from 'kvio/uapi';
import type { Observer } from './case.ts';

/** Notes what the objects say of a call that a kernel without a posted series refuses: the errno, the request, the series, and whether the message has its title. */
export function explained(see: Observer): (label: string, call: () => unknown) => void {
  return (label, call) => {
    try {
      call();
      see.note(label, 'done');
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      const { code, request, series, message } = error;
      const titled = series !== undefined && message.includes(teeIo.SERIES[series as keyof typeof teeIo.SERIES].title);
      see.note(label, { code, request: request ?? null, series: series ?? null, titled });
    }
  };
}

/** A TDI by each older series. */
export function byOlderSeries(
  ask: (label: string, call: () => unknown) => void,
  made: { device: VfioDevice; vdevice: Vdevice; vm: Descriptor; kvmVfio: KvmVfio },
): void {
  for (const series of ['aikV1', 'aikV2', 'xuMay25', 'aneeshMay25'] as const) {
    const tdi = new Tdi({ ...made, series });
    ask(`${series}: bind`, () => tdi.bind());
    ask(`${series}: a request`, () => tdi.setTdiState(2));
    if (series !== 'aikV2') ask(`${series}: unbind`, () => tdi.unbind());
  }
}
