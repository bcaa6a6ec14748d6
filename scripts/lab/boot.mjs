import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findBusybox, makeInitrd } from './initrd.mjs';
import { getKernel, whyNoKernel } from './kernel.mjs';
import { defaults, devices, setsOf, variants } from './machines.mjs';
import { hasModel, startQemu } from './qemu.mjs';
import { ownerLine, sweep } from './steps.mjs';

const checkout = join(dirname(fileURLToPath(import.meta.url)), '../..');
const prefix = 'kvio-lab-';

/** Packages that are not there and without which nothing boots; empty when it can. */
export function missingTools() {
  const have = (tool) => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
  return [
    ...(have('qemu-system-x86_64') ? [] : ['qemu-system-x86']),
    ...(findBusybox() ? [] : ['busybox-static']),
    ...(have('cpio') ? [] : ['cpio']),
    ...(have('setpriv') ? [] : ['util-linux']),
  ];
}

/** Why the lab cannot be booted here, or only after minutes of building a kernel; undefined: it can. */
export function whyNoLab() {
  const missing = missingTools();
  return missing.length > 0 ? `to boot the lab install: apt-get install ${missing.join(' ')}` : whyNoKernel();
}

/**
 * Boots a lab machine, runs a command in it, and resolves with `{ status, seconds, devices, absent }`: the command's exit status, how
 * long all took, the device sets the machine had, and why others were left out. Throws when there was no exit status to bring back:
 * the machine did not boot, hung, or was killed, with where it was.
 *
 * options: command (argv), machine, devices, kernel (its name, or what getKernel made of that), memory, hugepages, append, timeout and bootTimeout (s), env, stdin (a stream),
 * interactive, onOutput(stream, chunk), signal (AbortSignal). Files the command leaves in $KVIO_LAB_OUT are for `collect(dir)`, also
 * those of a command that did not end.
 */
export async function boot(options) {
  const missing = missingTools();
  if (missing.length > 0) throw new Error(`lab: to boot it install: apt-get install ${missing.join(' ')}`);
  const plan = choose(options);
  const kernel = typeof options.kernel === 'object' ? options.kernel : await getKernel(options.kernel);
  sweep(tmpdir(), prefix);
  const dir = mkdtempSync(join(tmpdir(), prefix));
  const remove = () => rmSync(dir, { recursive: true, force: true });
  process.once('exit', remove);
  try {
    writeFileSync(join(dir, 'owner'), ownerLine());
    return await new Run(dir, kernel, plan, options).result();
  } finally {
    process.removeListener('exit', remove);
    remove();
  }
}

/** Which machine and devices, checked. Devices that were asked for by name must be there; of the default set those this QEMU has. */
function choose({ machine = defaults.machine, devices: named }) {
  if (!Object.hasOwn(variants, machine))
    throw new Error(`lab: no machine '${machine}'; there are: ${Object.keys(variants).join(', ')}`);
  for (const name of named ?? [])
    if (!Object.hasOwn(devices, name))
      throw new Error(`lab: no device set '${name}'; there are: ${Object.keys(devices).join(', ')}`);
  const absent = {};
  const sets = named ?? setsOf(machine);
  for (const name of sets) {
    const { requires, only = machine } = devices[name];
    if (requires !== undefined && !hasModel(requires)) absent[name] = `this QEMU has no ${requires}`;
    if (only !== machine) absent[name] = `'${name}' is for the machine '${only}'`;
    const reason = variants[machine].without?.[name];
    if (reason !== undefined) absent[name] = reason;
  }
  const refused = Object.values(named ? absent : {});
  if (refused.length > 0) throw new Error(`lab: ${refused.join('; ')}`);
  return { machine, absent, chosen: sets.filter((name) => !Object.hasOwn(absent, name)) };
}

const shellQuote = (word) => `'${String(word).replaceAll("'", `'\\''`)}'`;

/** Directories the lab puts something else at: programs of the host that live there are shared under a tag of their own. */
const hidden = ['/tmp/', '/run/', '/dev/', '/proc/', '/sys/'];

/** A NIC of the lab has nobody to talk to. */
const harmless = /warning: nic \S+ has no peer/;

/** Of a backtrace only the functions say where the machine is. */
const registers = /^(?:\[ *[\d.]+\] )?(Code|FS|CS|CR2|PKRU|R[A-D]X|R[SD]I|R[SB]P|R\d\d|RIP: 0033|Hardware name|CPU):/;

class Run {
  #dir;
  #exchange;
  #plan;
  #options;
  #kernel;

  constructor(dir, kernel, plan, options) {
    this.#dir = dir;
    this.#exchange = join(dir, 'exchange');
    this.#kernel = kernel;
    this.#plan = plan;
    this.#options = { timeout: 600, bootTimeout: 120, memory: defaults.memory, hugepages: 0, append: '', env: {}, ...options };
  }

  #file(name) {
    return existsSync(name) ? readFileSync(name, 'utf8') : '';
  }

  get #booted() {
    return existsSync(join(this.#exchange, 'booted'));
  }

  /** The console, without carriage returns and what firmware and terminal add. */
  #console(lines) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one
    const text = this.#file(join(this.#dir, 'console')).replace(/\x1b\[[0-9;?]*[A-Za-z]|\x1bc|\r/g, '');
    return text.trimEnd().split('\n').slice(-lines).join('\n');
  }

  /** What the machine reads: settings for /init, and the command as a shell script. */
  #write() {
    const { command, env, interactive } = this.#options;
    mkdirSync(join(this.#exchange, 'out'), { recursive: true });
    const node = dirname(process.execPath);
    const programs = hidden.some((parent) => node.startsWith(parent)) ? node : '';
    const settings = {
      CHECKOUT: checkout,
      PROGRAMS: programs,
      INTERACTIVE: interactive ? 1 : 0,
      TERMINAL: `rows ${process.stdout.rows || 24} cols ${process.stdout.columns || 80}`,
    };
    writeFileSync(
      join(this.#exchange, 'settings'),
      Object.entries(settings)
        .map(([name, value]) => `${name}=${shellQuote(value)}\n`)
        .join(''),
    );
    const exported = {
      PATH: `${node}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      HOME: '/tmp',
      TERM: process.env.TERM ?? 'dumb',
      KVIO_LAB: this.#plan.machine,
      KVIO_LAB_OUT: '/tmp/kvio-lab/out',
      ...env,
    };
    const lines = Object.entries(exported).map(([name, value]) => `export ${name}=${shellQuote(value)}\n`);
    const words = command.map(shellQuote).join(' ');
    writeFileSync(join(this.#exchange, 'command'), `${lines.join('')}cd ${shellQuote(checkout)}\nexec ${words}\n`);
    return programs;
  }

  #start() {
    const { memory, hugepages, interactive } = this.#options;
    const programs = this.#write();
    const append = [
      // On a busy host the timer's interrupts come too late for the check that no_timer_check leaves out, which panics; and the TSC's watchdog finds it
      // unstable, from when on KVM has no master clock.
      'console=ttyS0 quiet panic=-1 loglevel=4 unknown_nmi_panic=1 no_timer_check tsc=reliable',
      variants[this.#plan.machine].append,
      hugepages > 0 ? `hugepages=${hugepages}` : '',
      this.#options.append,
    ];
    const words = append.join(' ').split(/\s+/).filter(Boolean);
    const modules = this.#kernel.modules.map((file) => ({ file, parameters: parametersOf(file, words) }));
    return startQemu({
      dir: this.#dir,
      image: this.#kernel.image,
      initrd: makeInitrd(this.#dir, findBusybox(), modules),
      ...this.#plan,
      cpus: Math.min(variants[this.#plan.machine].cpus, this.#kernel.cpus ?? Number.POSITIVE_INFINITY),
      memory,
      append: words.join(' '),
      shares: [
        { path: '/', tag: 'host', readonly: true },
        { path: checkout, tag: 'checkout' },
        { path: this.#exchange, tag: 'exchange' },
        ...(programs ? [{ path: programs, tag: 'programs', readonly: true }] : []),
      ],
      channels: [
        ...['monitor', 'kvio.control', ...(interactive ? ['tty'] : ['kvio.in', 'kvio.out', 'kvio.err'])],
        ...(variants[this.#plan.machine].slots ? ['kvio.slots'] : []),
      ],
    });
  }

  /** What runs inside asks by lines `plug ADDRESS` for what was pulled out of that slot: a hand of somebody who stands before the machine. */
  #listen({ channels }) {
    let text = '';
    channels['kvio.slots'].on('data', (chunk) => {
      const lines = (text + chunk).split('\n');
      text = lines.pop();
      for (const line of lines) {
        const wanted = this.#plan.chosen.map((name) => devices[name].slot).find((slot) => line === `plug ${slot?.at}`);
        if (wanted !== undefined) channels.monitor.write(`device_add ${wanted.device}\n`);
      }
    });
  }

  async result() {
    const { onOutput, stdin, interactive, timeout, bootTimeout, command, signal } = this.#options;
    const started = Date.now();
    const qemu = this.#start();
    const { channels } = qemu;
    channels.monitor.resume();
    channels['kvio.control'].resume();
    if (channels['kvio.slots']) this.#listen(qemu);
    if (interactive) terminal(channels.tty, qemu.kill);
    else {
      for (const name of ['out', 'err']) channels[`kvio.${name}`].on('data', (chunk) => onOutput?.(`std${name}`, chunk));
      if (stdin) stdin.pipe(channels['kvio.in']);
      else channels['kvio.in'].end();
    }

    let why;
    const giveUp = async (reason) => {
      if (why !== undefined) return;
      why = reason;
      await this.#ask(qemu);
      qemu.kill();
    };
    const interrupted = () => {
      why ??= 'was interrupted';
      qemu.kill();
    };
    const onSignal = (name) => {
      qemu.kill();
      process.exit(128 + constants.signals[name]);
    };
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
    for (const name of signals) process.on(name, onSignal);
    process.once('exit', qemu.kill);
    signal?.addEventListener('abort', interrupted, { once: true });
    const timers = [
      setTimeout(() => this.#booted || giveUp(`did not boot within ${bootTimeout} s`), bootTimeout * 1000),
      ...(interactive
        ? []
        : [setTimeout(() => giveUp(`did not end '${command.join(' ')}' within ${timeout} s`), timeout * 1000)]),
    ];
    const watch = watchParent(interrupted);
    let said;
    try {
      said = await qemu.exited;
      await Promise.race([qemu.closed, new Promise((resolve) => setTimeout(resolve, 2000))]);
    } finally {
      for (const timer of timers) clearTimeout(timer);
      clearInterval(watch);
      for (const name of signals) process.removeListener(name, onSignal);
      process.removeListener('exit', qemu.kill);
      signal?.removeEventListener('abort', interrupted);
      if (stdin) {
        stdin.unpipe();
        stdin.pause();
        stdin.unref?.();
      }
    }
    const status = this.#file(join(this.#exchange, 'status')).trim();
    this.#options.collect?.(join(this.#exchange, 'out'));
    if (status === '' || why !== undefined) throw new Error(this.#complaint(why, said));
    const { chosen, absent } = this.#plan;
    return { status: Number(status), seconds: (Date.now() - started) / 1000, devices: chosen, absent };
  }

  /**
   * Asks a machine that does not end where it is: /init for its processes, and when it does not answer the processor, by an NMI, which
   * panics with a backtrace (unknown_nmi_panic). The answers go to the console.
   */
  async #ask({ channels, exited }) {
    let gone = false;
    const end = () => (gone = true);
    exited.then(end, end);
    const until = async (pattern, seconds) => {
      for (let i = 0; i < seconds * 10 && !gone; i++) {
        if (pattern.test(this.#console(400))) return true;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      return false;
    };
    if (this.#booted) {
      channels['kvio.control'].write('where\n');
      if (await until(/kvio-lab: \(end\)/, 15)) return;
    }
    channels.monitor.write('nmi\n');
    if (await until(/Kernel panic/, 15)) await new Promise((resolve) => setTimeout(resolve, 1000));
  }

  #complaint(why, said) {
    const machine = `lab: the machine '${this.#plan.machine}'`;
    const last = this.#console(200)
      .split('\n')
      .filter((line) => !registers.test(line))
      .slice(-100)
      .join('\n');
    const complaint = said
      .split('\n')
      .filter((line) => line !== '' && !harmless.test(line))
      .slice(0, 4)
      .map((line) => `\n${line}`)
      .join('');
    if (last === '') return `${machine} ${why ?? 'did not start'}; its console is empty.${complaint}`;
    const steps = this.#console(10_000).match(/^.*kvio-lab: (?!what runs|\(end\)).*$/gm);
    const step = steps?.at(-1).replace(/.*kvio-lab: /, '') ?? 'the kernel had not started /init';
    return `${machine} ${why ?? 'stopped before the command ended'}; it was at: ${step}.${complaint}\nIts console said last:\n${last}`;
  }
}

/** Module parameters from the kernel command line (`vfio.enable_unsafe_noiommu_mode=1`): insmod does not look there. */
function parametersOf(file, words) {
  const name = file.split('/').at(-1).replace(/\.ko$/, '').replaceAll('-', '_');
  return words.filter((word) => word.replaceAll('-', '_').startsWith(`${name}.`)).map((word) => word.slice(name.length + 1));
}

/** npm killed by SIGKILL does not take its script along: a runner started by npm ends when its parent does. */
function watchParent(gone) {
  const parent = process.ppid;
  if (process.env.npm_lifecycle_event === undefined) return undefined;
  return setInterval(() => process.ppid !== parent && gone(), 1000);
}

/** This terminal as the machine's: raw, until the machine ends, or Ctrl-] is pressed. */
function terminal(tty, kill) {
  const { stdin, stdout } = process;
  stdin.setRawMode(true);
  stdin.on('data', (chunk) => (chunk.includes(0x1d) ? kill() : tty.write(chunk)));
  // both terminals add a carriage return to a newline
  tty.on('data', (chunk) => stdout.write(Buffer.from(chunk.toString('latin1').replaceAll('\r\n', '\n'), 'latin1')));
  tty.on('close', () => {
    stdin.setRawMode(false);
    stdin.pause();
  });
}
