import { spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isStatic, makeInitrd } from './initrd.mjs';
import { buildKernel, findKernel } from './kernel.mjs';
import { defaults, devices, variants } from './machines.mjs';

const checkout = join(dirname(fileURLToPath(import.meta.url)), '../..');
const prefix = 'kvio-lab-';

/** What is not there to boot the lab with, in words; empty when it can boot. */
export function missingTools() {
  const have = (tool) => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
  const missing = [];
  if (!have('qemu-system-x86_64')) missing.push('qemu-system-x86');
  if (!have('cpio')) missing.push('cpio');
  if (!busybox()) missing.push('busybox-static');
  return missing;
}

function busybox() {
  return ['/bin/busybox', '/usr/bin/busybox'].find((file) => existsSync(file) && isStatic(file));
}

/** Directories of runners that died: SIGKILL leaves them. (QEMU itself dies with its runner: setpriv --pdeathsig.) */
function sweep() {
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith(prefix))) {
    const dir = join(tmpdir(), name);
    try {
      const owner = Number(readFileSync(join(dir, 'owner'), 'utf8'));
      process.kill(owner, 0);
    } catch (error) {
      if (error.code === 'ESRCH' || error.code === 'ENOENT') rmSync(dir, { recursive: true, force: true });
    }
  }
}

const shellQuote = (word) => `'${String(word).replaceAll("'", `'\\''`)}'`;

function supports(model) {
  const help = spawnSync('qemu-system-x86_64', ['-device', 'help'], { encoding: 'utf8' }).stdout ?? '';
  return help.includes(`name "${model}"`);
}

/**
 * Boots the lab, runs a command in it, and gives back its exit status.
 * options: command (argv), machine, devices, memory, hugepages, timeout (s), bootTimeout (s), env, interactive, onOutput(stream, chunk), quiet.
 * Files the command leaves in $KVIO_LAB_OUT are copied by `collect(dir)` before the exchange directory goes.
 */
export async function boot(options) {
  const missing = missingTools();
  if (missing.length > 0) throw new Error(`lab: not there: install them with: apt-get install ${missing.join(' ')}`);
  const kernel = findKernel() ?? buildKernel();
  sweep();
  const dir = mkdtempSync(join(tmpdir(), prefix));
  try {
    writeFileSync(join(dir, 'owner'), String(process.pid));
    return await bootIn(dir, kernel, options);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function qemuArguments(dir, kernel, { machine, chosen, memory, hugepages, interactive }) {
  const variant = variants[machine];
  const scratch = (name, size) => {
    const fd = openSync(join(dir, name), 'w');
    ftruncateSync(fd, size);
    closeSync(fd);
    return join(dir, name);
  };
  const share = (path, tag, extra = '') => [
    '-virtfs',
    `local,path=${path},mount_tag=${tag},security_model=none,multidevs=remap${extra}`,
  ];
  const append = `console=ttyS0 quiet panic=-1 loglevel=4 ${variant.append}${hugepages ? ` hugepages=${hugepages}` : ''}`;
  return [
    ...variant.machine,
    ...[
      '-accel',
      'tcg,thread=multi',
      '-cpu',
      'max',
      '-smp',
      String(variant.cpus),
      '-m',
      memory,
      '-display',
      'none',
      '-no-reboot',
      '-nic',
      'none',
    ],
    ...['-kernel', kernel, '-initrd', join(dir, 'initrd.gz'), '-append', append],
    ...variant.args,
    ...chosen.flatMap((name) => devices[name].args(scratch)),
    ...share('/', 'host', ',readonly=on'),
    ...share(checkout, 'checkout'),
    ...share(join(dir, 'exchange'), 'exchange'),
    ...['-serial', `file:${join(dir, 'console')}`, '-device', 'virtio-serial-pci'],
    ...(interactive
      ? ['-chardev', 'stdio,id=tty,signal=off', '-device', 'virtconsole,chardev=tty']
      : [
          ...['-chardev', `socket,id=out,path=${join(dir, 'stdout')}`, '-device', 'virtserialport,chardev=out,name=kvio.out'],
          ...['-chardev', `socket,id=err,path=${join(dir, 'stderr')}`, '-device', 'virtserialport,chardev=err,name=kvio.err'],
        ]),
  ];
}

/** A socket QEMU connects a virtio-serial port to: the command's output, as it comes. */
function receive(path, onData) {
  let ended = Promise.resolve();
  const server = createServer((socket) => {
    ended = new Promise((resolve) => socket.on('close', resolve));
    socket.on('data', onData);
    socket.on('error', () => {});
  });
  const drained = async () => {
    server.close();
    await ended;
  };
  return new Promise((resolve, reject) => server.on('error', reject).listen(path, () => resolve({ drained })));
}

async function bootIn(dir, kernel, options) {
  const {
    command,
    machine = defaults.machine,
    memory = defaults.memory,
    hugepages = 0,
    timeout = 600,
    bootTimeout = 120,
    env = {},
    interactive = false,
  } = options;
  if (!Object.hasOwn(variants, machine))
    throw new Error(`lab: no machine '${machine}'; there are: ${Object.keys(variants).join(', ')}`);
  const chosen = (options.devices ?? defaults.devices).filter((name) => {
    if (!Object.hasOwn(devices, name))
      throw new Error(`lab: no device set '${name}'; there are: ${Object.keys(devices).join(', ')}`);
    const { requires } = devices[name];
    return requires === undefined || supports(requires);
  });
  const exchange = join(dir, 'exchange');
  mkdirSync(join(exchange, 'out'), { recursive: true });
  writeFileSync(join(dir, 'initrd.gz'), makeInitrd(busybox()));
  writeFileSync(join(exchange, 'settings'), `CHECKOUT=${shellQuote(checkout)}\nINTERACTIVE=${interactive ? 1 : 0}\n`);
  const exported = {
    PATH: `${dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin`,
    HOME: '/tmp',
    TERM: process.env.TERM ?? 'dumb',
    KVIO_LAB: machine,
    KVIO_LAB_OUT: '/tmp/kvio-lab/out',
    ...env,
  };
  const lines = Object.entries(exported).map(([name, value]) => `export ${name}=${shellQuote(value)}`);
  writeFileSync(
    join(exchange, 'command'),
    `${lines.join('\n')}\ncd ${shellQuote(checkout)}\nexec ${command.map(shellQuote).join(' ')}\n`,
  );

  const streams = interactive
    ? []
    : await Promise.all(
        ['stdout', 'stderr'].map((stream) => receive(join(dir, stream), (chunk) => options.onOutput?.(stream, chunk))),
      );
  const args = qemuArguments(dir, kernel, { machine, chosen, memory, hugepages, interactive });
  const started = Date.now();
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...args], {
    stdio: interactive ? 'inherit' : ['ignore', 'inherit', 'inherit'],
  });
  const exited = new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal }));
  });
  const stop = () => child.kill('SIGKILL');
  process.once('exit', stop);
  let killed;
  const kill = (why) => {
    killed ??= why;
    stop();
  };
  const bootTimer = setTimeout(
    () => existsSync(join(exchange, 'booted')) || kill(`did not boot within ${bootTimeout} s`),
    bootTimeout * 1000,
  );
  const runTimer = interactive ? undefined : setTimeout(() => kill(`did not end within ${timeout} s`), timeout * 1000);
  try {
    await exited;
    await Promise.all(streams.map((stream) => stream.drained()));
  } finally {
    clearTimeout(bootTimer);
    clearTimeout(runTimer);
    process.removeListener('exit', stop);
  }
  const file = (name) => (existsSync(name) ? readFileSync(name, 'utf8') : '');
  const consoleTail = file(join(dir, 'console')).split('\n').slice(-25).join('\n');
  const status = file(join(exchange, 'status')).trim();
  if (killed !== undefined || status === '') {
    throw new Error(
      `lab: the machine '${machine}' ${killed ?? 'stopped before the command ended'}; its console said last:\n${consoleTail}`,
    );
  }
  options.collect?.(join(exchange, 'out'));
  return { status: Number(status), seconds: (Date.now() - started) / 1000, devices: chosen, console: consoleTail };
}
