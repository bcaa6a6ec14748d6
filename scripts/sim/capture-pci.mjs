#!/usr/bin/env node
/**
 * Captures the PCI functions of the machine it runs on, as test/golden/pci has them:
 *
 *   npm run lab -- --machine vtd node scripts/sim/capture-pci.mjs lab-vtd-7.2 > test/golden/pci/lab-vtd-7.2.json
 *   npm run lab -- --machine vtd node scripts/sim/capture-pci.mjs --writes > test/golden/pci/writes-7.2.json
 *
 * With --writes what registers keep of what is written to them, of functions that no driver has: for a machine that is thrown away.
 */
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  realpathSync,
  writeSync,
} from 'node:fs';
import { basename } from 'node:path';

const DEVICES = '/sys/bus/pci/devices';
const GROUPS = '/sys/kernel/iommu_groups';
const read = (path) => readFileSync(path, 'latin1').trim();
const linked = (path) => (existsSync(path) ? basename(readlinkSync(path)) : '');
const functions = readdirSync(DEVICES).sort();

/** Without what is zero at the end. */
function resources(at) {
  const lines = read(`${at}/resource`).split('\n');
  const isZero = (line) => /^(0x0+ ?)+$/.test(line);
  while (lines.length > 0 && isZero(lines.at(-1))) lines.pop();
  return lines;
}

function describe(bdf) {
  const at = `${DEVICES}/${bdf}`;
  const config = readFileSync(`${at}/config`);
  const end = config.findLastIndex((byte) => byte !== 0) + 1;
  return {
    path: realpathSync(at),
    resource: resources(at),
    config: config.subarray(0, end).toString('hex'),
    irq: Number(read(`${at}/irq`)),
    driver: linked(`${at}/driver`),
    ...(existsSync(`${at}/reset_method`) ? { reset_method: read(`${at}/reset_method`) } : {}),
    group: linked(`${at}/iommu_group`),
    configSize: config.length,
  };
}

function groups() {
  const ids = existsSync(GROUPS) ? readdirSync(GROUPS).map(Number) : [];
  return ids
    .sort((a, b) => a - b)
    .map((id) => ({
      id,
      type: read(`${GROUPS}/${id}/type`),
      devices: readdirSync(`${GROUPS}/${id}/devices`).sort(),
      reserved: read(`${GROUPS}/${id}/reserved_regions`).split('\n').filter(Boolean),
    }));
}

const VALUES = [0xffffffff, 0, 0x5a5a25a5];
const EXPRESS = 0x10;
const FLR = 0x8000;

/** Registers of one function by offset: what each held, and after each of the values, and after what it held. Left out: registers that keep everything. */
function writes(bdf) {
  const path = `${DEVICES}/${bdf}/config`;
  const size = readFileSync(path).length;
  const fd = openSync(path, 'r+');
  const bytes = Buffer.alloc(4);
  const get = (at) => {
    readSync(fd, bytes, 0, 4, at);
    return bytes.readUInt32LE();
  };
  const put = (at, value) => {
    bytes.writeUInt32LE(value >>> 0);
    writeSync(fd, bytes, 0, 4, at);
  };
  let control;
  for (let at = get(0x34) & 0xff; at !== 0; at = (get(at) >>> 8) & 0xff) if ((get(at) & 0xff) === EXPRESS) control = at + 8;
  const found = {};
  for (let at = 0x0c; at < size; at += 4) {
    if (isBridge(bdf) && at >= 0x10 && at < 0x3c) continue;
    const seen = [get(at)];
    for (const value of [...VALUES, seen[0]]) {
      // Initiate Function Level Reset: all would be lost.
      put(at, at === control ? value & ~FLR : value);
      seen.push(get(at));
    }
    if (seen[0] === 0 && VALUES.every((value, i) => seen[i + 1] === value) && seen.at(-1) === 0) continue;
    found[at.toString(16)] = seen.map((value) => value.toString(16)).join(' ');
  }
  closeSync(fd);
  return found;
}

const isBridge = (bdf) => read(`${DEVICES}/${bdf}/class`).startsWith('0x0604');

/** Bridges to other buses of the chipset have registers that decide what there is. */
const isFree = (bdf) => linked(`${DEVICES}/${bdf}/driver`) === '' && !/^0x060[01]/.test(read(`${DEVICES}/${bdf}/class`));

const by = (bdfs, make) => Object.fromEntries(bdfs.map((bdf) => [bdf, make(bdf)]));
// Bridges last: their control register resets what is behind them.
const free = functions.filter(isFree).sort((a, b) => Number(isBridge(a)) - Number(isBridge(b)));
const [name] = process.argv.slice(2);
const captured = name === '--writes' ? by(free, writes) : { machine: name, devices: by(functions, describe), groups: groups() };
process.stdout.write(`${JSON.stringify(captured, null, 1)}\n`);
