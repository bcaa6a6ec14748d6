// build/Release/*.node by node-gyp. What is missing is named, remembered, and tried again only when something changed: without
// the addon kvio goes on with ffi-rs or the simulator.
import { realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { at, exists, filesUnder, fingerprint, readStamp, run, say, which, writeStamp } from './tree.mjs';

const python = () =>
  [process.env.npm_config_python, process.env.PYTHON, 'python3', 'python'].filter(Boolean).map(which).find(Boolean);
const make = () => which(process.env.MAKE || 'make');
const compiler = () => which((process.env.CXX || 'g++').trim().split(/\s+/)[0]);

/** The headers that came with this Node: `--nodedir` for node-gyp. Undefined: node-gyp has to download them. */
function nodedir() {
  const candidates = [process.env.npm_config_nodedir, dirname(dirname(realpathSync(process.execPath)))];
  return candidates.find((folder) => folder && exists(join(folder, 'include', 'node', 'node_api.h')));
}

const sources = () => [
  ...filesUnder('native', ['.cc', '.h', '.map']),
  'binding.gyp',
  join('node_modules', 'node-addon-api', 'package.json'),
];
const inputs = () => fingerprint(sources(), process.platform, process.arch);
const tools = () => ({ python: python(), make: make(), compiler: compiler(), nodedir: nodedir() });

/** What prebuildify made, or brought along: the loader prefers it. */
const prebuilt = join('prebuilds', `${process.platform}-${process.arch}`, 'kvio.node');

function built() {
  return exists(at(prebuilt)) || exists(at('build', 'Release', 'kvio.node'));
}

function newerThanSources(file) {
  const time = (path) => statSync(at(path), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return sources().every((source) => time(source) <= time(file));
}

/** The names of what is not there, with what to do about each. */
function missing({ python, make, compiler }) {
  return [
    python === undefined && 'python3 (node-gyp is driven by it)',
    make === undefined && 'make',
    compiler === undefined && `${process.env.CXX || 'g++'} (a C++20 compiler)`,
  ].filter(Boolean);
}

/** A sentence about a failed build, from node-gyp's own output. */
function diagnose(output, { nodedir }) {
  const error = /^.*(?:fatal error|error):.*$/m.exec(output)?.[0] ?? /gyp ERR! stack (?:Error: )?(.*)/.exec(output)?.[1];
  const headers =
    nodedir === undefined && /ENOTFOUND|ECONNREFUSED|EAI_AGAIN|network|ETIMEDOUT|node\.h|node_api\.h|40[34]/.test(output);
  if (headers)
    return `Node's headers are missing: ${process.execPath} brings none (include/node/node_api.h), and node-gyp could not download them`;
  return `node-gyp failed${error === undefined ? '' : `: ${error.trim()}`}`;
}

export const addon = {
  name: 'addon',
  /** Why there is no addon, or undefined. Fresh also where an attempt failed and nothing has changed since. */
  reason: () => (built() ? undefined : (readStamp('addon')?.reason ?? 'it was not built')),
  fresh() {
    if (process.platform !== 'linux' || !exists(at('binding.gyp'))) return true;
    const stamp = readStamp('addon');
    if (stamp === undefined && exists(at(prebuilt))) return true;
    if (stamp?.inputs !== inputs()) return false;
    return stamp.reason === undefined ? built() : JSON.stringify(stamp.tools) === JSON.stringify({ ...tools() });
  },
  run() {
    if (exists(at(prebuilt))) {
      if (newerThanSources(prebuilt)) return writeStamp('addon', { inputs: inputs(), tools: tools() });
      say(`removing ${prebuilt}: it is older than native/, and the loader would prefer it`);
      rmSync(at(prebuilt));
    }
    const found = tools();
    const stamp = { inputs: inputs(), tools: found };
    const lacking = missing(found);
    let reason = lacking.length === 0 ? undefined : `missing: ${lacking.join(', ')}`;
    if (reason === undefined) {
      say(`building the addon: node-gyp rebuild${found.nodedir === undefined ? '' : ` --nodedir=${found.nodedir}`}`);
      const log = at('.cache', 'ensure', 'addon.log');
      const args = ['rebuild', '-j', '2', ...(found.nodedir === undefined ? [] : [`--nodedir=${found.nodedir}`])];
      // binding.gyp asks `node` where node-addon-api is.
      const env = { ...process.env, PATH: [dirname(process.execPath), process.env.PATH].join(delimiter) };
      const { ok, output } = run(process.execPath, [at('node_modules', 'node-gyp', 'bin', 'node-gyp.js'), ...args], {
        env,
        quiet: true,
      });
      writeFileSync(log, output);
      if (!ok || !built()) reason = `${diagnose(output, found)} (all of it: ${join('.cache', 'ensure', 'addon.log')})`;
    }
    if (reason !== undefined) {
      say(`no addon, ${reason}`);
      say('going on without it: through ffi-rs where that is installed, else on the simulator');
    }
    writeStamp('addon', reason === undefined ? stamp : { ...stamp, reason });
  },
};
