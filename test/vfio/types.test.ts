// What the compiler refuses: fields that a setter needs, names that are not the kernel's, members that a union has not both of.
import { type DmaMap, type DmaUnmap, type Eventfd, type VfioContainer, type VfioDevice, VfioGroup } from 'kvio';
import { expectTypeOf, it } from 'vitest';

const never = (): boolean => false;

it('the types of the objects', () => {
  const container = undefined as unknown as VfioContainer;
  const device = undefined as unknown as VfioDevice;
  if (never()) {
    // @ts-expect-error the IOVA is not optional
    container.mapDma({ vaddr: 0n, size: 0x1000n });
    // @ts-expect-error addresses are bigint
    container.mapDma({ vaddr: 0, size: 0x1000n, iova: 0n });
    // @ts-expect-error a range needs its size, unless it is all
    container.unmapDma({ iova: 0n });
    container.unmapDma({ flags: 2 });
    // @ts-expect-error VFIO makes no write of 8 bytes
    device.ioeventfd({ region: device.region(0), at: 0, width: 8, data: 0n, fd: null });
    // @ts-expect-error argsz is counted here
    device.setIrqs({ argsz: 20, flags: 0x21, index: 0, start: 0, count: 0 });
    const [only] = device.irqs(0).enable();
    expectTypeOf(only).toEqualTypeOf<Eventfd>();
    expectTypeOf(device.irqs(0).enable(2)).toEqualTypeOf<Eventfd[]>();
    // @ts-expect-error a group is a number or a path
    VfioGroup.open(container.kernel, {});
  }
  expectTypeOf<VfioContainer['unmapDma']>().returns.toEqualTypeOf<bigint>();
  expectTypeOf<DmaMap>().toHaveProperty('iova').toEqualTypeOf<bigint>();
  expectTypeOf<Extract<DmaUnmap, { iova: bigint }>>().toHaveProperty('size').toEqualTypeOf<number | bigint>();
  expectTypeOf<VfioDevice['attachIommufdPt']>().returns.toEqualTypeOf<number>();
});
