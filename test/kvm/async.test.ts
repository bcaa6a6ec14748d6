import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import type { KvmExit } from 'kvio';
import { kick, VcpuBusy } from 'kvio';
import { KVM_GET_TSC_KHZ } from 'kvio/uapi';
import { expect, it } from 'vitest';
import { boot, onEachKernel, thrown } from './each-kernel.ts';

const SPIN = [0xeb, 0xfe]; // l: jmp l
const BUDGET_MS = 5;

onEachKernel(
  'a vCPU off the event loop',
  (open) => {
    it('gives fresh exits that keep what was said', async () => {
      const { vcpu } = boot(open(), [0xe6, 0x10, 0xe6, 0x11, 0xf4]);
      const first = await vcpu.runAsync();
      const second = await vcpu.runAsync();
      expect(second).not.toBe(first);
      expect([first, second].map((exit) => inspect(exit))).toEqual(['KvmExit io out 0x10 00', 'KvmExit io out 0x11 00']);
      expect((await vcpu.runAsync()).reason).toBe('hlt');
    });

    it('takes answers', async () => {
      const { vcpu } = boot(open(), [0xe4, 0x10, 0xe6, 0x11, 0xf4]); // in al, 0x10; out 0x11, al; hlt
      const seen: KvmExit[] = [];
      for await (const exit of vcpu.exits()) {
        seen.push(exit);
        if (exit.reason === 'hlt') break;
        if (exit.reason === 'io' && exit.direction === 0) exit.data[0] = 0x77;
      }
      expect(seen.map((exit) => inspect(exit))).toEqual(['KvmExit io in 0x10 1×1', 'KvmExit io out 0x11 77', 'KvmExit hlt']);
    });

    it('is busy meanwhile, and free afterwards', async () => {
      const { vcpu } = boot(open(), SPIN);
      const running = vcpu.runAsync();
      const calls = [
        () => vcpu.getRegs(),
        () => vcpu.run(),
        () => vcpu.setMpState({ mp_state: 0 }),
        () => vcpu.tryIoctl(KVM_GET_TSC_KHZ),
      ];
      for (const call of calls) {
        const error = thrown(call);
        expect(error).toBeInstanceOf(VcpuBusy);
        expect(error).toMatchObject({ code: 'ERR_KVIO_VCPU_BUSY', fd: vcpu.fd });
      }
      expect(thrown(() => vcpu.getRegs()).message).toMatch(/^KVM_GET_REGS/);
      expect(inspect(vcpu)).toMatch(/running/);
      vcpu.kick();
      expect(inspect(await running)).toBe('KvmExit intr');
      expect(vcpu.getRegs().rip).toBe(0x1000n);
      expect(inspect(vcpu)).not.toMatch(/running/);
    });

    it('queues what is asynchronous, in order', async () => {
      const { vcpu } = boot(open(), [0xe6, 0x10, 0xe6, 0x11, 0xf4]);
      const order: string[] = [];
      const note = (name: string) => (value: unknown) => void order.push(`${name} ${inspect(value)}`);
      await Promise.all([
        vcpu.runAsync().then(note('run')),
        vcpu.queue(() => vcpu.getRegs().rip).then(note('rip')),
        vcpu.runAsync().then(note('run')),
        vcpu.queue(() => vcpu.kvm_run.exit_reason).then(note('reason')),
        vcpu.runAsync().then(note('run')),
      ]);
      expect(order).toEqual([
        'run KvmExit io out 0x10 00',
        'rip 4098n',
        'run KvmExit io out 0x11 00',
        'reason 2',
        'run KvmExit hlt',
      ]);
      await expect(
        vcpu.queue(() => {
          throw new RangeError('mine');
        }),
      ).rejects.toThrow('mine');
      expect(vcpu.getRegs().rip).toBe(0x1005n);
    });

    it('stops for a signal, and the loop ends', async () => {
      const { vcpu } = boot(open(), SPIN);
      const stop = new AbortController();
      setTimeout(() => stop.abort(), 20);
      const seen: string[] = [];
      for await (const exit of vcpu.exits({ signal: stop.signal })) seen.push(exit.reason);
      expect(seen).toEqual(['intr']);
      expect([...vcpu.exits({ signal: stop.signal })]).toEqual([]);
    });

    it('lets the event loop live', async () => {
      const { vcpu } = boot(open(), SPIN);
      const running = vcpu.runAsync();
      for (let tick = 0; tick < 5; tick++) await sleep(1);
      expect(inspect(vcpu)).toMatch(/running/);
      vcpu.kick();
      expect((await running).reason).toBe('intr');
    });

    it('is left by closing the vCPU or the kernel', async () => {
      const { kernel, vcpu } = boot(open(), SPIN);
      const outcome = vcpu.runAsync().then(
        (exit) => exit.reason,
        (error) => error.code,
      );
      await sleep(5);
      vcpu.close();
      expect(['intr', 'EBADF']).toContain(await outcome);
      kernel.close();
    });
  },
  'async',
);

onEachKernel(
  'a kick',
  (open) => {
    it('before a run ends that run, once', () => {
      const { vcpu } = boot(open(), [0xf4]);
      vcpu.kick();
      vcpu.kick();
      expect(vcpu.run().reason).toBe('intr');
      expect(vcpu.run().reason).toBe('hlt');
    });

    it('is kept by a run that is refused', () => {
      const { vcpu } = boot(open(), [0xf4]);
      // A register set there is none of.
      vcpu.kvm_run.kvm_valid_regs = 1n << 63n;
      vcpu.kick();
      expect(thrown(() => vcpu.run())).toMatchObject({ code: 'EINVAL' });
      vcpu.kvm_run.kvm_valid_regs = 0n;
      expect(vcpu.run().reason).toBe('intr');
      expect(vcpu.run().reason).toBe('hlt');
    });

    it('has a budget for a cousin', () => {
      const { vcpu } = boot(open(), SPIN);
      expect(vcpu.run({ budget: BUDGET_MS }).reason).toBe('intr');
      expect(vcpu.getRegs().rip).toBe(0x1000n);
      expect(thrown(() => vcpu.run({ budget: -1 }))).toMatchObject({ name: 'RangeError' });
      expect(thrown(() => vcpu.run({ budget: '1' } as never))).toMatchObject({ name: 'TypeError' });
    });

    it('comes by its token too, from anywhere', () => {
      const { vcpu } = boot(open(), [0xf4]);
      const token = vcpu.kicker;
      kick(token);
      expect(vcpu.run().reason).toBe('intr');
      expect(vcpu.run().reason).toBe('hlt');
      vcpu.close();
      kick(token);
      for (const wrong of [undefined, {}, 7] as never[])
        expect(() => kick(wrong)).toThrow('kicker must be what vcpu.kicker gave');
    });

    it('can be posted to another thread', () => {
      const { vcpu } = boot(open(), SPIN);
      expect(structuredClone(vcpu.kicker)).toMatchObject({ kvio: 'kicker' });
    });
  },
  'kick',
);
