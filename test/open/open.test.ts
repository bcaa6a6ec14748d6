import { execFileSync, spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findKernels, KvioError, openKernel } from 'kvio';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const root = `${resolve(import.meta.dirname, '../..')}/`;

/** Runs a module in a process of its own: what it printed, with warnings. */
function run(
  source: string,
  env: NodeJS.ProcessEnv = {},
  options: { uid?: number } = {},
): { stdout: string; stderr: string; status: number | null } {
  const { KVIO_KERNEL: _, ...inherited } = process.env;
  return spawnSync(process.execPath, ['--expose-gc', '--input-type=module', '-e', source], {
    cwd: root,
    env: { ...inherited, ...env },
    encoding: 'utf8',
    ...options,
  });
}

const NOBODY = 65534;
const native = findKernels()[0]!;

describe('openKernel', () => {
  const before = process.env['KVIO_KERNEL'];
  beforeEach(() => void delete process.env['KVIO_KERNEL']);
  afterEach(() => {
    if (before === undefined) delete process.env['KVIO_KERNEL'];
    else process.env['KVIO_KERNEL'] = before;
  });

  const kindOf = (options: Parameters<typeof openKernel>[0] = {}): string => {
    using kernel = openKernel(options);
    return kernel.kind;
  };

  it('finds three kernels, each with a reason, the simulator always', () => {
    const found = findKernels();
    expect(found.map(({ kind }) => kind)).toEqual(['native', 'ffi', 'sim']);
    for (const { reason } of found) expect(reason.length).toBeGreaterThan(5);
    expect(found[2]!.available).toBe(true);
  });

  it('takes the best there is', () => {
    const best = findKernels().find(({ available }) => available)!;
    using kernel = openKernel();
    expect(kernel.kind).toBe(best.kind);
    expect(kernel.reason).toContain(best.kind === 'sim' ? 'no real kernel' : best.reason);
    expect(kernel.features.simulated).toBe(kernel.kind === 'sim');
  });

  it('does what KVIO_KERNEL says, and the option beats it', () => {
    process.env['KVIO_KERNEL'] = 'sim';
    expect(kindOf()).toBe('sim');
    process.env['KVIO_KERNEL'] = '';
    expect(kindOf()).toBe(findKernels().find(({ available }) => available)!.kind);
    process.env['KVIO_KERNEL'] = 'native';
    expect(kindOf({ kernel: 'sim' })).toBe('sim');
    using kernel = openKernel({ kernel: 'sim' });
    expect(kernel.reason).toBe("asked for by the option kernel: 'sim'");
  });

  it('names the kernels there are, when asked for another', () => {
    expect(() => openKernel({ kernel: 'vmware' as never })).toThrow(
      "the option kernel must be one of 'native', 'ffi', 'sim', not 'vmware'",
    );
    expect(() => openKernel({ kernel: 7 as never })).toThrow(TypeError);
    process.env['KVIO_KERNEL'] = 'real';
    expect(() => openKernel()).toThrow("KVIO_KERNEL must be one of 'native', 'ffi', 'sim', not 'real'");
    process.env['KVIO_KERNEL'] = '';
    expect(() => openKernel({ devices: '/dev/kvm' as never })).toThrow(TypeError);
  });

  it('says what is missing, and what to do', () => {
    const open = () => openKernel({ kernel: 'native', devices: ['/dev/vfio/4711'] });
    expect(open).toThrow(KvioError);
    expect(open).toThrow(
      /^the native kernel \(the option kernel: 'native'\) is not available: there is no \/dev\/vfio\/4711: bind/,
    );
    expect(findKernels(['/dev/null/x'])[0]!.reason).toMatch(/^there is no \/dev\/null\/x/);
    expect(findKernels([fileURLToPath(import.meta.url)])[0]!.reason).toMatch(/open\.test\.ts is a file, and no device/);
    expect(findKernels([])[0]!.available).toBe(native.available || /\/dev\/kvm/.test(native.reason));
  });

  it('takes all devices from one kernel', () => {
    expect(kindOf({ devices: ['/dev/kvm', '/dev/no-such-device'] })).toBe('sim');
    expect(kindOf({ devices: ['/dev/null'] })).toBe(native.available ? 'native' : kindOf({ devices: ['/dev/null'] }));
  });
});

describe('falling back to the simulator', () => {
  const twice =
    "import { openKernel } from 'kvio'; const o = { devices: ['/dev/no-such-device'] }; openKernel(o).close(); openKernel(o).close();";

  it('warns once, with the reason', () => {
    const { stderr, status } = run(twice);
    expect(status).toBe(0);
    expect(stderr.match(/KVIO_SIMULATED/g)).toHaveLength(1);
    expect(stderr).toMatch(/there is no \/dev\/no-such-device: load the driver/);
  });

  it('is silent where it was asked for', () => {
    expect(run(twice, { KVIO_KERNEL: 'sim' })).toMatchObject({ stderr: '', status: 0 });
  });

  const which = "import { openKernel } from 'kvio'; const k = openKernel(); console.log(k.kind, k.reason); k.close();";
  const ffi = findKernels()[1]!;

  it.skipIf(!ffi.available)(
    `is not needed where only the addon is missing: ffi${ffi.available ? '' : ` (not run: ${ffi.reason})`}`,
    () => {
      const { stdout, stderr } = run(which, { KVIO_ADDON: 'none' });
      expect(stderr).toBe('');
      expect(stdout).toMatch(/^ffi \/dev\/kvm can be opened, ffi-rs is loaded; not the addon: .*KVIO_ADDON/);
    },
  );

  it('happens where no native code may be loaded', ({ skip }) => {
    skip(!native.available, native.reason);
    const { stdout, stderr } = run(which, { NODE_OPTIONS: '--no-addons' });
    expect(stdout).toMatch(/^sim no real kernel: this process may not load addons \(ERR_DLOPEN_DISABLED/);
    expect(stderr.match(/KVIO_SIMULATED/g)).toHaveLength(1);
  });

  it('is what a user gets who may not open /dev/kvm', ({ skip }) => {
    skip(process.getuid?.() !== 0, 'only root can become another user');
    let openable = true;
    try {
      execFileSync(process.execPath, ['-e', "require('node:fs').openSync('/dev/kvm', 'r+')"], { uid: NOBODY, stdio: 'ignore' });
    } catch {
      openable = false;
    }
    skip(openable, 'every user may open /dev/kvm here');
    skip(!native.available, native.reason);
    const readable = spawnSync(
      process.execPath,
      ['-e', `require('node:fs').readFileSync(${JSON.stringify(`${root}package.json`)})`],
      { uid: NOBODY },
    );
    skip(readable.status !== 0, 'the checkout is not readable for others');
    const { stdout, stderr } = run(
      "import { openKernel } from 'kvio'; const k = openKernel(); console.log(k.kind, k.reason);",
      {},
      { uid: NOBODY },
    );
    expect(stdout).toMatch(/^sim no real kernel: no permission to open \/dev\/kvm \(mode \d+, group \w+\): .*usermod -aG/);
    expect(stderr).toMatch(/KVIO_SIMULATED/);
    const asked = run("import { openKernel } from 'kvio'; openKernel({ kernel: 'native' });", {}, { uid: NOBODY });
    expect(asked.status).not.toBe(0);
    expect(asked.stderr).toMatch(/ERR_KVIO_NO_KERNEL/);
  });
});

describe('a handle that is forgotten', () => {
  const forget = `
    import { openKernel, Kvm } from 'kvio';
    const kernel = openKernel();
    (() => { for (let i = 0; i < 20; i++) Kvm.open(kernel); })();
    for (let i = 0; i < 10; i++) { gc(); await new Promise((resolve) => setTimeout(resolve, 5)); }
    const { fd } = Kvm.open(kernel);
    console.log(fd < 40 ? 'closed' : fd);
  `;
  it.each(
    findKernels()
      .filter(({ available }) => available)
      .map(({ kind }) => kind),
  )('is closed, with one warning, on %s', (kind) => {
    const { stdout, stderr } = run(forget, { KVIO_KERNEL: kind });
    expect(stderr.match(/KVIO_UNCLOSED/g)).toHaveLength(1);
    expect(stderr).toMatch(/a Kvm \(descriptor \d+\) was collected without close\(\)/);
    expect(stdout.trim()).toBe('closed');
  });

  it('leaves the descriptor of another alone, without a word', () => {
    const lent = `
      import { openKernel, Eventfd } from 'kvio';
      import { openSync, fstatSync } from 'node:fs';
      const kernel = openKernel();
      const fd = kernel.kind === 'sim' ? kernel.disown(kernel.eventfd()) : openSync('/dev/null', 'r');
      (() => { for (let i = 0; i < 3; i++) Eventfd.fromFd(kernel, i === 0 ? fd : kernel.disown(kernel.eventfd())); })();
      for (let i = 0; i < 10; i++) { gc(); await new Promise((resolve) => setTimeout(resolve, 5)); }
      console.log(kernel.owns(fd), Eventfd.fromFd(kernel, fd).detach() === fd, kernel.kind === 'sim' || fstatSync(fd).isCharacterDevice());
    `;
    for (const { kind } of findKernels().filter(({ available }) => available))
      expect(run(lent, { KVIO_KERNEL: kind })).toMatchObject({ stderr: '', stdout: 'false true true\n' });
  });

  it('is none where the kernel was closed, nor where it was closed by hand', () => {
    const tidy = `
      import { openKernel, Kvm } from 'kvio';
      (() => { const kernel = openKernel(); Kvm.open(kernel).createVm().createVcpu(0); kernel.close(); })();
      (() => { const kernel = openKernel(); Kvm.open(kernel).close(); globalThis.kernel = kernel; })();
      for (let i = 0; i < 10; i++) { gc(); await new Promise((resolve) => setTimeout(resolve, 5)); }
    `;
    expect(run(tidy, { KVIO_KERNEL: 'sim' })).toMatchObject({ stderr: '', status: 0 });
  });

  it('is kept as long as what came from it', () => {
    const kept = `
      import { openKernel, Kvm } from 'kvio';
      const vcpu = Kvm.open(openKernel()).createVm().createVcpu(0);
      for (let i = 0; i < 10; i++) { gc(); await new Promise((resolve) => setTimeout(resolve, 5)); }
      console.log(vcpu.vm.kvm.getApiVersion(), vcpu.id);
    `;
    expect(run(kept, { KVIO_KERNEL: 'sim' })).toMatchObject({ stderr: '', stdout: '12 0\n' });
  });
});

it('the import leaves nothing behind that keeps a process alive, and says nothing', () => {
  const { stdout, stderr, status } = run("await import('kvio'); await import('kvio/testing'); console.log(process.exitCode);");
  expect({ stdout, stderr, status }).toEqual({ stdout: 'undefined\n', stderr: '', status: 0 });
});
