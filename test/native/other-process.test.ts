// Descriptors in another process: VM and vCPU belong to the address space that made the VM, the system descriptor to nobody.
import { expect, test } from 'vitest';
import { child } from './child.ts';
import { missing } from './guest.ts';

test.skipIf(missing() !== undefined)('VM and vCPU descriptors are EIO before anything else is looked at', () => {
  const result = child(`
    const { spawnSync } = await import('node:child_process');
    const g = guest(ports);
    const program = \`const { openNative } = await import(\${JSON.stringify(nativeModule)});
      const kernel = openNative('test');
      const codes = [3, 4, 5].map((fd) => { kernel.adopt(fd);
        return [0xae00, 0x5401, 0xaeff].map((request) => { try { return kernel.ioctl(fd, request); } catch (error) { return error.code; } }); });
      console.log(JSON.stringify(codes));\`;
    const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', program],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe', g.kvm, g.vm, g.vcpu] });
    console.log(stdout.trim() || stderr);
    process.exit(status);`);
  expect([result.status, result.stderr]).toEqual([0, '']);
  expect(JSON.parse(result.stdout)).toEqual([
    [12, 'EINVAL', 'EINVAL'],
    ['EIO', 'EIO', 'EIO'],
    ['EIO', 'EIO', 'EIO'],
  ]);
});
