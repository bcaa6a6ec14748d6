import { afterEach, describe, expect, test } from 'vitest';
import { Deadlock } from '../../../src/kernel/errors.ts';
import { deliverIrq, type LapicIrq } from '../../../src/sim/kvm/apic-map.ts';
import { APIC_DM_FIXED, APIC_DM_LOWEST, APIC_IRR } from '../../../src/sim/kvm/apic-regs.ts';
import type { Vcpu } from '../../../src/sim/kvm/vcpu.ts';
import type { VmFile } from '../../../src/sim/kvm/vm.ts';
import { amdSvm72 } from '../../../src/sim/machines/amd-svm-7.2.ts';
import { Kit, u } from './kit.ts';

const le32 = (value: number): number[] => [value, value >> 8, value >> 16, value >>> 24].map((byte) => byte & 0xff);
/** mov dword [register], value; DS is on the register page. */
const write = (register: number, value: number): number[] => [0x66, 0xc7, 0x06, register & 0xff, register >> 8, ...le32(value)];
const ENABLE = write(0xf0, 0x1ff);
const BY_ONE = write(0x3e0, 0xb);
const STI = 0xfb;
const HLT = 0xf4;

const kits: Kit[] = [];
afterEach(() => {
  for (const kit of kits.splice(0)) kit.kernel.close();
});

interface Machine {
  readonly kit: Kit;
  readonly vm: number;
  readonly vcpus: readonly number[];
  readonly inside: readonly Vcpu[];
}

/** vCPUs 0 … n−1 in a VM with a kernel irqchip; their code at 0x1000, 0x1800 …, every vector a handler that ends the interrupt and returns. */
function machine(codes: readonly (readonly number[])[], kit: Kit = new Kit({ machine: amdSvm72 })): Machine {
  kits.push(kit);
  const vm = kit.vm();
  kit.io(vm, u.KVM_CREATE_IRQCHIP);
  const ram = kit.kernel.guestRam(0x10000);
  kit.region(vm, { gpa: 0n, size: 0x10000n, hva: ram.address });
  for (let vector = 0; vector < 256; vector++) ram.write(vector * 4, Uint8Array.of(0x00, 0x40, 0, 0));
  ram.write(0x4000, Uint8Array.from([...write(0xb0, 0), 0xcf]));
  const vcpus = codes.map((code, id) => {
    ram.write(0x1000 + id * 0x800, Uint8Array.from(code));
    const vcpu = kit.vcpu(vm, id);
    kit.setSregs(vcpu, (sregs) => {
      Object.assign(sregs.cs, { base: 0n, selector: 0 });
      Object.assign(sregs.ds, { base: 0xfee00000n });
    });
    kit.setRegs(vcpu, { rip: BigInt(0x1000 + id * 0x800), rflags: 2n, rsp: BigInt(0x3000 - id * 0x200) });
    kit.io(vcpu, u.KVM_SET_MP_STATE, new Uint8Array(4));
    return vcpu;
  });
  return { kit, vm, vcpus, inside: vcpus.map((fd) => kit.inside(fd)) };
}

describe('the local APIC timer in simulated time', () => {
  test('sleeping costs no steps: a second passes at once, and exactly so much', () => {
    const { kit, vcpus } = machine([
      [...ENABLE, ...BY_ONE, ...write(0x320, 0x41), ...write(0x380, 1_000_000_000), STI, HLT, 0xe6, 0x10],
    ]);
    const before = kit.kernel.now;
    expect(kit.kernel.run(vcpus[0]!)).toBe(0);
    const passed = kit.kernel.now - before;
    expect(passed).toBeGreaterThanOrEqual(1_000_000_000n);
    expect(passed).toBeLessThan(1_000_002_000n);
  });

  test('a spinning guest is interrupted at its time, not at the end of a slice', () => {
    const { kit, vcpus, inside } = machine([
      [...ENABLE, ...BY_ONE, ...write(0x320, 0x41), ...write(0x380, 5000), STI, 0xeb, 0xfe],
    ]);
    const [vcpu] = inside as [Vcpu];
    let taken = -1;
    const accept = vcpu.lapic!.take.bind(vcpu.lapic);
    vcpu.lapic!.take = () => {
      taken = vcpu.ticks;
      return accept();
    };
    kit.kernel.run(vcpus[0]!, { budget: 1 });
    // 5000 ns are 500 instructions.
    expect(taken).toBeGreaterThanOrEqual(500);
    expect(taken).toBeLessThan(520);
  });

  test('where nothing can wake a vCPU, KVM_RUN says so, with a periodic timer too', () => {
    const once = machine([[...ENABLE, HLT]]);
    expect(() => once.kit.kernel.run(once.vcpus[0]!)).toThrow(Deadlock);
    const ticking = machine([[...ENABLE, ...BY_ONE, ...write(0x320, 0x41), ...write(0x380, 300_000), HLT]]);
    ticking.inside[0]!.lapic!.timer.modeMask = 0x20000;
    ticking.inside[0]!.lapic!.writeRegister(0x320, 0x20041);
    expect(() => ticking.kit.kernel.run(ticking.vcpus[0]!)).toThrow(Deadlock);
  });

  test('a timer goes with its VM', () => {
    const { kit, vm, vcpus, inside } = machine([
      [...ENABLE, ...BY_ONE, ...write(0x320, 0x41), ...write(0x380, 300_000), 0xe6, 0x10],
    ]);
    kit.kernel.run(vcpus[0]!);
    const { runner } = inside[0]!.system;
    expect(runner.nextTimer).toBeLessThan(Infinity);
    kit.kernel.close(vm);
    expect(runner.nextTimer).toBeLessThan(Infinity);
    kit.kernel.close(vcpus[0]!);
    expect(runner.nextTimer).toBe(Infinity);
  });
});

describe('several vCPUs', () => {
  const spin = [...ENABLE, ...write(0x310, 1 << 24), ...write(0x300, 0x4041), 0xeb, 0xfe];

  test('a synchronous run takes the asynchronous ones with it, always in the same order', async () => {
    const trace = async (): Promise<bigint[]> => {
      const { kit, vcpus } = machine([
        [...ENABLE, STI, ...write(0x310, 1 << 24), ...write(0x300, 0x4041), HLT, 0xe6, 0x10],
        [...ENABLE, STI, HLT, ...write(0x310, 0), ...write(0x300, 0x4042), 0xe6, 0x11],
      ]);
      const [bsp, ap] = vcpus as [number, number];
      const other = kit.kernel.runAsync(ap);
      // Lets the AP switch its APIC on and halt.
      await new Promise((resolve) => setImmediate(resolve));
      expect(kit.kernel.run(bsp)).toBe(0);
      expect(await other).toBe(0);
      return [kit.kernel.now, kit.regs(bsp).rip, kit.regs(ap).rip];
    };
    expect(await trace()).toEqual(await trace());
  });

  test('a vCPU that is not run keeps its interrupts', () => {
    const { kit, vcpus, inside } = machine([spin, [...ENABLE, STI, 0x90, 0xe6, 0x11]]);
    inside[1]!.lapic!.writeRegister(0xf0, 0x1ff);
    kit.kernel.run(vcpus[0]!, { budget: 1 });
    expect(inside[1]!.lapic!.pendingVector).toBe(0x41);
    expect(kit.kernel.run(vcpus[1]!)).toBe(0);
    expect(inside[1]!.lapic!.pendingVector).toBe(-1);
  });
});

describe('destinations', () => {
  const irq: LapicIrq = {
    vector: 0x41,
    deliveryMode: APIC_DM_FIXED,
    destMode: 'physical',
    level: true,
    levelTriggered: false,
    shorthand: 'none',
    destId: 0,
  };

  test('nobody ever there is −1, nobody there now is 0', () => {
    const { kit, vm } = machine([]);
    const inside = (kit.kernel.process.fds.get(vm) as VmFile).vm;
    expect(deliverIrq(inside, undefined, irq)).toBe(-1);
    const vcpu = kit.inside(kit.vcpu(vm, 0));
    // The map was built before the vCPU was part of the VM.
    expect(deliverIrq(inside, undefined, irq)).toBe(0);
    vcpu.lapic!.writeRegister(0xf0, 0x1ff);
    expect(deliverIrq(inside, undefined, irq)).toBe(1);
    expect(deliverIrq(inside, undefined, { ...irq, destId: 9 })).toBe(0);
  });

  test('with and without the map the same APICs take a message', () => {
    const cluster = 0x0fff_ffff;
    const [mapped, asked] = [0xffff_ffff, cluster].map((dfr) => {
      const { inside } = machine([[], [], []]);
      for (const [id, { lapic }] of inside.entries()) {
        lapic!.writeRegister(0xf0, 0x1ff);
        lapic!.writeRegister(0xd0, (1 << id) << 24);
      }
      // Nothing is sent to the third: in cluster mode it makes KVM ask each APIC.
      inside[2]!.lapic!.writeRegister(0xe0, dfr);
      return inside;
    }) as [readonly Vcpu[], readonly Vcpu[]];
    expect(mapped[0]!.vm.apicMap.built?.logicalMode).toBe('xapic flat');
    expect(asked[0]!.vm.apicMap.built?.logicalMode).toBe('disabled');
    for (const destMode of ['physical', 'logical'] as const) {
      for (let destId = 0; destId < 256; destId++) {
        const who = [mapped, asked].map((inside) => {
          deliverIrq(inside[0]!.vm, undefined, { ...irq, destMode, destId });
          return inside.map(({ lapic }) => {
            const taken = lapic!.test(APIC_IRR, irq.vector);
            lapic!.mark(APIC_IRR, irq.vector, false);
            return taken;
          });
        });
        // A broadcast is for everybody; the third has its bit in flat mode only.
        const seen = destMode === 'physical' || destId === 0xff ? who : who.map((all) => all.slice(0, 2));
        expect(seen[0], `${destMode} ${destId}`).toEqual(seen[1]);
      }
    }
  });

  test('a lowest priority message goes to one of its destinations, by its vector', () => {
    const { inside } = machine([[], [], []]);
    for (const [id, { lapic }] of inside.entries()) {
      lapic!.writeRegister(0xf0, 0x1ff);
      lapic!.writeRegister(0xd0, (1 << id) << 24);
    }
    const message: LapicIrq = { ...irq, destMode: 'logical', deliveryMode: APIC_DM_LOWEST, destId: 5 };
    const taker = (vector: number): number => {
      expect(deliverIrq(inside[0]!.vm, undefined, { ...message, vector })).toBe(1);
      return inside.findIndex(({ lapic }) => lapic!.test(APIC_IRR, vector));
    };
    expect([0x40, 0x41, 0x42, 0x43].map(taker)).toEqual([0, 2, 0, 2]);
  });
});
