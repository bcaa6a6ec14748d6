import { spawn, spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { devices, variants } from './machines.mjs';

const program = 'qemu-system-x86_64';

/** Whether this QEMU has a device model. */
export function hasModel(model) {
  const help = spawnSync(program, ['-device', 'help'], { encoding: 'utf8' }).stdout ?? '';
  return help.includes(`name "${model}"`);
}

/** QEMU's option syntax ends a value at a comma, unless there are two. */
const value = (text) => text.replaceAll(',', ',,');

const shared = (path, tag, extra = '') => [
  '-virtfs',
  `local,path=${value(path)},mount_tag=${tag},security_model=none,multidevs=remap${extra}`,
];

/**
 * The command line. `channels` are names of byte streams to the outside: descriptor 3 and following of the QEMU process, in order.
 * `kvio.*` are virtio-serial ports in the guest, `tty` its console hvc0, `monitor` QEMU's own.
 */
function commandLine({ dir, image, initrd, machine, cpus, chosen, memory, append, shares, channels }) {
  const variant = variants[machine];
  const scratch = (name, content) => {
    const fd = openSync(join(dir, name), 'w');
    if (typeof content === 'number') ftruncateSync(fd, content);
    else writeSync(fd, content);
    closeSync(fd);
    return value(join(dir, name));
  };
  const device = {
    monitor: (id) => ['-mon', `chardev=${id},mode=readline`],
    tty: (id) => ['-device', `virtconsole,chardev=${id}`],
  };
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-name', 'kvio-lab'],
    ...variant.machine,
    ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', String(cpus), '-m', memory],
    ...['-kernel', image, '-initrd', initrd, '-append', append],
    ...variant.args,
    ...chosen.flatMap((name) => devices[name].args(scratch)),
    ...shares.flatMap(({ path, tag, readonly }) => shared(path, tag, readonly ? ',readonly=on' : '')),
    ...['-serial', `file:${join(dir, 'console')}`, '-device', 'virtio-serial-pci'],
    ...channels.flatMap((name, at) => [
      ...['-chardev', `socket,id=channel${at},fd=${3 + at}`],
      ...(device[name] ?? ((id) => ['-device', `virtserialport,chardev=${id},name=${name}`]))(`channel${at}`),
    ]),
  ];
}

/**
 * Starts QEMU. It dies with this process, however that dies. Returns `channels` by name (duplex streams), `exited`
 * (resolves with what QEMU said on stderr) and `kill`.
 */
export function startQemu(options) {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...commandLine(options)], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', ...options.channels.map(() => 'pipe')],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (chunk) => (said += chunk));
  const channels = Object.fromEntries(options.channels.map((name, at) => [name, child.stdio[3 + at]]));
  for (const channel of Object.values(channels)) channel.on('error', () => {});
  const exited = new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', () => setImmediate(() => resolve(said)));
  });
  const closed = new Promise((resolve) => child.on('close', resolve));
  return { pid: child.pid, channels, exited, closed, kill: () => child.kill('SIGKILL') };
}
