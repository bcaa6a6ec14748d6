/** Checks of the lab's runner, by its command line: what it brings back, and that it leaves nothing behind. Run by scripts/lab/test.mjs. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const ensured = process.env.KVIO_LAB_KERNEL;

/** Few devices: a check is of the runner, and boots as fast as it can. */
const quick = ['--devices', ''];

/** How many times longer than on a machine of its own something may take: by what ran in the last minute, and by what is running. */
function busy() {
  const [minute, , , running] = readFileSync('/proc/loadavg', 'utf8').split(' ').map(Number.parseFloat);
  return Math.max(1, Math.max(minute, running) / availableParallelism());
}

/** Seconds to wait for what takes so many: more where it is busy, but not for ever. */
const waiting = (seconds) => Math.ceil(seconds * Math.min(5, busy()));

/** Runs the runner; resolves with `{ status, signal, stdout, stderr }`. `onStart(child)` may do something to it meanwhile. */
function lab(
  args,
  {
    input,
    onStart,
    keepStdin = false,
    script = join(root, 'scripts/lab/main.mjs'),
    command = process.execPath,
    env,
    ...options
  } = {},
) {
  return new Promise((resolve) => {
    const child = spawn(command, command === process.execPath ? [script, ...args] : args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, npm_lifecycle_event: undefined, ...(ensured && { KVIO_LAB_KERNEL: ensured }), ...env },
      ...options,
    });
    const said = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr']) child[name].setEncoding('utf8').on('data', (chunk) => (said[name] += chunk));
    child.stdin.on('error', () => {});
    if (!keepStdin) child.stdin.end(input ?? '');
    child.on('close', (status, signal) => resolve({ status, signal, ...said }));
    onStart?.(child, said);
  });
}

/** QEMU processes of this runner: those whose command line names its directory. */
function machinesOf(pid) {
  return readdirSync('/proc').filter((entry) => {
    if (!/^\d+$/.test(entry)) return false;
    try {
      const [, rest] = readFileSync(`/proc/${entry}/stat`, 'utf8').split(') ');
      return rest.split(' ')[1] === String(pid);
    } catch {
      return false;
    }
  });
}

/** Calls `check` with a directory for what runners leave: another one's machines that start meanwhile do not sweep it. */
async function withOwnTmpdir(check) {
  const dir = mkdtempSync(join(tmpdir(), 'kvio-labtest-'));
  try {
    await check({ env: { TMPDIR: dir } }, () => readdirSync(dir));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const until = async (condition, seconds = 60) => {
  for (let i = 0; i < seconds * 20; i++) {
    const found = condition();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return undefined;
};

const alive = (pid) => existsSync(`/proc/${pid}`) && !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));

/** Starts a machine that sleeps, ends its runner by a signal, and checks that QEMU goes. */
async function endBy(signal, options) {
  let machine;
  const run = await lab([...quick, 'sh', '-c', 'echo up; sleep 600'], {
    ...options,
    onStart: async (child, said) => {
      if (!(await until(() => said.stdout.includes('up')))) return child.kill('SIGKILL');
      [machine] = machinesOf(child.pid);
      child.kill(signal);
    },
  });
  assert.ok(machine, `the machine was found running; ${run.stderr}`);
  assert.ok(await until(() => !alive(machine), 5), 'QEMU ended with its runner');
  return run;
}

export const checks = {
  'streams, status and files come back, and no more than ten seconds are lost': async () => {
    const out = mkdtempSync(join(tmpdir(), 'kvio-labtest-'));
    const started = Date.now();
    const mark = `.cache/lab-mark-${process.pid}`;
    const script = `cat; echo to-stderr >/dev/stderr; echo file >$KVIO_LAB_OUT/file; echo mark >${mark}; ls /dev/kvm /dev/iommu; exit 37`;
    const run = await lab([...quick, '--out', out, 'sh', '-c', script], { input: 'from-stdin\n', cwd: tmpdir() });
    const seconds = (Date.now() - started) / 1000;
    assert.deepEqual(
      { ...run, signal: null },
      { status: 37, signal: null, stdout: 'from-stdin\n/dev/iommu\n/dev/kvm\n', stderr: 'to-stderr\n' },
    );
    assert.equal(readFileSync(join(out, 'file'), 'utf8'), 'file\n');
    assert.equal(readFileSync(join(root, mark), 'utf8'), 'mark\n', 'the checkout is written through');
    rmSync(join(root, mark));
    rmSync(out, { recursive: true });
    assert.ok(seconds < 10 * busy(), `${seconds.toFixed(1)} s, on a machine with ${busy().toFixed(1)} times its load`);
  },

  'output comes as it is made, and megabytes of it come whole': async () => {
    let first;
    const started = Date.now();
    const run = await lab([...quick, 'sh', '-c', 'echo early; sleep 3; head -c 4000000 /dev/zero | tr "\\0" x; echo end'], {
      onStart: async (_, said) => {
        await until(() => said.stdout.includes('early'));
        first = Date.now() - started;
      },
    });
    assert.equal(run.stdout.length, 'early\nend\n'.length + 4_000_000);
    assert.ok(Date.now() - started - first > 2500, 'the first line came before the command ended');
  },

  'a kernel that does not boot is ended, and said to be where it is': async () => {
    const timeout = waiting(6);
    const run = await lab([...quick, '--boot-timeout', `${timeout}`, '--append', 'rdinit=/bin/busybox -- sleep 1000', 'true']);
    assert.equal(run.status, 125);
    const said = `did not boot within ${timeout} s; it was at: the kernel had not started /init`;
    assert.ok(run.stderr.includes(said), run.stderr);
    assert.match(run.stderr, /Kernel panic - not syncing: NMI/, 'it was asked by NMI');
  },

  'a command that does not end is ended, and said to be where it is': async () => {
    const timeout = waiting(12);
    const run = await lab([...quick, '--timeout', `${timeout}`, 'sh', '-c', 'echo before; exec sleep 4242']);
    assert.equal(run.status, 125);
    assert.equal(run.stdout, 'before\n');
    const said = `did not end 'sh -c echo before; exec sleep 4242' within ${timeout} s; it was at: running the command`;
    assert.ok(run.stderr.includes(said), run.stderr);
    assert.match(run.stderr, /what runs:\n(.*\n)*.*S in .*sleep.*: sleep 4242/);
  },

  'a machine that panics is reported': async () => {
    const run = await lab([...quick, 'sh', '-c', 'echo c >/proc/sysrq-trigger']);
    assert.equal(run.status, 125);
    assert.match(run.stderr, /stopped before the command ended; it was at: running the command[\s\S]*sysrq triggered crash/);
  },

  'killed by SIGKILL the runner leaves no machine, and its files go at the next start': () =>
    withOwnTmpdir(async (options, left) => {
      await endBy('SIGKILL', options);
      assert.equal(left().length, 1, 'one directory is left');
      const [one, two] = await Promise.all(['one', 'two'].map((word) => lab([...quick, 'echo', word], options)));
      assert.deepEqual([one.stdout, two.stdout], ['one\n', 'two\n'], `two at once; ${one.stderr}${two.stderr}`);
      assert.deepEqual(left(), []);
    }),

  'interrupted by SIGINT it leaves nothing': () =>
    withOwnTmpdir(async (options, left) => {
      const run = await endBy('SIGINT', options);
      assert.equal(run.status, 130);
      assert.deepEqual(left(), []);
    }),

  'a checkout below /tmp, its path with a space and a comma, as another user': async () => {
    const parent = mkdtempSync(join('/tmp', 'kvio labtest, '));
    try {
      const checkout = join(parent, 'check out');
      mkdirSync(checkout);
      for (const name of ['scripts', 'package.json', 'dist', 'prebuilds']) {
        if (existsSync(join(root, name))) cpSync(join(root, name), join(checkout, name), { recursive: true });
      }
      const ready = ensured ?? (await import('../../scripts/lab/kernel.mjs').then(({ getKernel }) => getKernel())).image;
      // A file may lie where only its owner gets, as one cached by root in root's home does.
      const image = existsSync(ready) ? join(parent, 'bzImage') : ready;
      if (image !== ready) cpSync(ready, image);
      const script = join(checkout, 'scripts/lab/main.mjs');
      const args = [...quick, 'sh', '-c', 'pwd; node -p "typeof process.version"; echo x >written'];
      const root_ = process.getuid?.() === 0;
      if (root_) spawnSync('chown', ['-R', 'nobody', parent]);
      const command = ['--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', process.execPath, script, ...args];
      const env = { KVIO_LAB_KERNEL: image, HOME: '/nonexistent' };
      const run = root_ ? await lab(command, { command: 'setpriv', env, cwd: '/' }) : await lab(args, { script, env });
      assert.deepEqual(run, { status: 0, signal: null, stdout: `${checkout}\nstring\n`, stderr: '' });
      assert.equal(readFileSync(join(checkout, 'written'), 'utf8'), 'x\n');
    } finally {
      rmSync(parent, { recursive: true, force: true });
    }
  },

  'a terminal for bash': async () => {
    if (spawnSync('script', ['--version']).status !== 0) return 'there is no script(1) here';
    const main = join(root, 'scripts/lab/main.mjs');
    const words = [process.execPath, main, '--devices', '', 'bash'].map((word) => `'${word}'`).join(' ');
    const run = await lab(['-qec', words, '/dev/null'], {
      command: 'script',
      onStart: async (child, said) => {
        child.stdin.on('error', () => {});
        await until(() => /[#$] $/.test(said.stdout));
        child.stdin.write('tty; stty size; echo $((6*7)); exit 5\n');
      },
      keepStdin: true,
    });
    assert.match(run.stdout, /\/dev\/(hvc0|console)/);
    assert.match(run.stdout, /\n24 80\r?\n42\r?\n/);
    assert.equal(run.status, 5);
    return undefined;
  },

  'refusals name what is wrong': async () => {
    const cases = [
      [['--machine', 'vax', 'true'], 125, /no machine 'vax'; there are: vtd, amd, virtio, none/],
      [['--devices', 'warp', 'true'], 125, /no device set 'warp'/],
      [['--machine', 'virtio', '--devices', 'shared', 'true'], 125, /behind a PCI bridge/],
      [['--kernel', '/nonexistent', 'true'], 125, /no kernel '\/nonexistent'/],
      [['--timeout', 'soon', 'true'], 2, /--timeout needs a number/],
      [['--frobnicate'], 2, /no option --frobnicate/],
      [[], 2, /no command/],
    ];
    for (const [args, status, message] of cases) {
      const run = await lab(args);
      assert.equal(run.status, status, args.join(' '));
      assert.match(run.stderr, message);
    }
    const path = mkdtempSync(join(tmpdir(), 'kvio-labtest-'));
    symlinkSync('/bin/sh', join(path, 'sh'));
    writeFileSync(join(path, 'empty'), '');
    const bare = await lab(['true'], { env: { PATH: path } });
    rmSync(path, { recursive: true });
    assert.match(bare.stderr, /install: apt-get install qemu-system-x86 .*cpio/);
  },
};
