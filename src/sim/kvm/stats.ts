import { kvm_stats_header } from '../../uapi/kvm.ts';
import { EMFILE, O_RDONLY } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { AnonFile } from '../file.ts';
import type { Machine } from '../machine.ts';
import type { Process } from '../process.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

/** KVM_STATS_NAME_SIZE. */
const NAME_SIZE = 48;
/** `struct kvm_stats_desc` before its name. */
const DESC_HEAD = 16;
const DESC_SIZE = DESC_HEAD + NAME_SIZE;
const HEADER_SIZE: number = kvm_stats_header.size;

/** KVM_STATS_TYPE_* and, from bit 4 on, KVM_STATS_UNIT_*. */
const CUMULATIVE = 0;
const INSTANT = 1;
const PEAK = 2;
const LOG_HIST = 4;
const SECONDS = 2 << 4;
const BOOLEAN = 4 << 4;
const HIST_BUCKETS = 32;

/** A statistic: name, flags, power of ten, values. What is not named here is a plain counter. */
type Row = readonly [name: string, flags: number, exponent: number, size: number];
const counter = (name: string): Row => [name, CUMULATIVE, 0, 1];
const instant = (name: string): Row => [name, INSTANT, 0, 1];
const peak = (name: string): Row => [name, PEAK, 0, 1];
const boolean = (name: string): Row => [name, INSTANT | BOOLEAN, 0, 1];
const nanoseconds = (name: string): Row => [name, CUMULATIVE | SECONDS, -9, 1];
const histogram = (name: string): Row => [name, LOG_HIST | SECONDS, -9, HIST_BUCKETS];

/** Those of every architecture come first, in the data too. */
const vmRows = (machine: Machine): readonly Row[] => [
  ...['remote_tlb_flush', 'remote_tlb_flush_requests'].map(counter),
  ...['mmu_shadow_zapped', 'mmu_pte_write', 'mmu_pde_zapped', 'mmu_flooded', 'mmu_recycled', 'mmu_cache_miss'].map(counter),
  instant('mmu_unsync'),
  ...(has(machine, 'countsShadowPages') ? [instant('mmu_shadow_pages')] : []),
  ...['pages_4k', 'pages_2m', 'pages_1g', 'nx_lpage_splits'].map(instant),
  ...['max_mmu_rmap_size', 'max_mmu_page_hash_collisions'].map(peak),
];

/** The structure has these two the other way round. */
const SWAPPED = ['max_mmu_page_hash_collisions', 'max_mmu_rmap_size'] as const;

const vcpuRows: readonly Row[] = [
  ...['halt_successful_poll', 'halt_attempted_poll', 'halt_poll_invalid', 'halt_wakeup'].map(counter),
  ...['halt_poll_success_ns', 'halt_poll_fail_ns', 'halt_wait_ns'].map(nanoseconds),
  ...['halt_poll_success_hist', 'halt_poll_fail_hist', 'halt_wait_hist'].map(histogram),
  boolean('blocking'),
  ...['pf_taken', 'pf_fixed', 'pf_emulate', 'pf_spurious', 'pf_fast', 'pf_mmio_spte_created', 'pf_guest'].map(counter),
  ...['tlb_flush', 'invlpg', 'exits', 'io_exits', 'mmio_exits', 'signal_exits', 'irq_window_exits', 'nmi_window_exits'].map(
    counter,
  ),
  ...['l1d_flush', 'halt_exits', 'request_irq_exits', 'irq_exits', 'host_state_reload', 'fpu_reload'].map(counter),
  ...['insn_emulation', 'insn_emulation_fail', 'hypercalls', 'irq_injections', 'nmi_injections', 'req_event'].map(counter),
  ...['nested_run', 'directed_yield_attempted', 'directed_yield_successful', 'preemption_reported', 'preemption_other'].map(
    counter,
  ),
  boolean('guest_mode'),
  counter('notify_window_exits'),
];

/** `struct kvm_vm_stat` or `struct kvm_vcpu_stat`: what was counted, by name. A name without a descriptor is an error of ours. */
export class Stats {
  readonly #values = new Map<string, bigint>();

  add(name: string, by = 1n): void {
    this.#values.set(name, (this.#values.get(name) ?? 0n) + by);
  }

  set(name: string, value: bigint): void {
    this.#values.set(name, value);
  }

  get(name: string): bigint {
    return this.#values.get(name) ?? 0n;
  }
}

/** Where each statistic's values are in the data block, in bytes. */
function offsets(rows: readonly Row[]): Map<string, number> {
  const found = new Map<string, number>();
  let at = 0;
  for (const [name, , , size] of rows) {
    found.set(name, at);
    at += size * 8;
  }
  const [a, b] = SWAPPED;
  const [first, second] = [found.get(a), found.get(b)];
  if (first !== undefined && second !== undefined) found.set(a, second).set(b, first);
  return found;
}

/** Header, id and descriptors, which never change; then the data. */
function image(id: string, rows: readonly Row[]): { bytes: Uint8Array; place: Map<string, number>; data: number } {
  const place = offsets(rows);
  const descriptors = HEADER_SIZE + NAME_SIZE;
  const data = descriptors + rows.length * DESC_SIZE;
  const bytes = new Uint8Array(data + rows.reduce((sum, [, , , size]) => sum + size * 8, 0));
  const view = new DataView(bytes.buffer);
  const put = (text: string, at: number): void => void bytes.set(Buffer.from(text.slice(0, NAME_SIZE - 1), 'latin1'), at);
  kvm_stats_header.encode(
    {
      flags: 0,
      name_size: NAME_SIZE,
      num_desc: rows.length,
      id_offset: HEADER_SIZE,
      desc_offset: descriptors,
      data_offset: data,
    },
    bytes,
    0,
  );
  put(id, HEADER_SIZE);
  rows.forEach(([name, flags, exponent, size], i) => {
    const at = descriptors + i * DESC_SIZE;
    view.setUint32(at, flags, true);
    view.setInt16(at + 4, exponent, true);
    view.setUint16(at + 6, size, true);
    view.setUint32(at + 8, place.get(name)!, true);
    put(name, at + DESC_HEAD);
  });
  return { bytes, place, data };
}

/** A descriptor made by KVM_GET_STATS_FD: header, id, descriptors and data as one file that is only read. It keeps the VM alive. */
export class StatsFile extends AnonFile {
  override readonly seekable = true;
  readonly #vm: Vm;
  readonly #stats: Stats;
  readonly #image: ReturnType<typeof image>;
  #position = 0n;

  constructor(link: string, id: string, vm: Vm, stats: Stats, rows: readonly Row[]) {
    super(link, O_RDONLY);
    this.#vm = vm.get();
    this.#stats = stats;
    this.#image = image(id, rows);
  }

  /** The file has no write operation. */
  override get writableAt(): boolean {
    return false;
  }

  override get position(): bigint {
    return this.#position;
  }

  override release(_p: Process): void {
    this.#vm.put();
  }

  override read(p: Process, into: Uint8Array): number {
    const length = this.pread(p, into, this.#position);
    this.#position += BigInt(length);
    return length;
  }

  override pread(_p: Process, into: Uint8Array, offset: bigint): number {
    const { bytes, place, data } = this.#image;
    if (offset >= BigInt(bytes.length)) return 0;
    const view = new DataView(bytes.buffer);
    for (const [name, at] of place) view.setBigUint64(data + at, this.#stats.get(name), true);
    const part = bytes.subarray(Number(offset), Number(offset) + into.length);
    into.set(part);
    return part.length;
  }
}

/** KVM_GET_STATS_FD on a VM descriptor; the argument is ignored. */
export function getVmStatsFd(vm: Vm, p: Process): number {
  const fd = p.fds.reserve(true);
  if (fd < 0) return -EMFILE;
  p.fds.set(fd, new StatsFile('anon_inode:kvm-vm-stats', `kvm-${vm.pid}`, vm, vm.stats, vmRows(vm.machine)));
  return fd;
}

/** The same on a vCPU descriptor. */
export function getVcpuStatsFd({ vm, id, stats }: Vcpu, p: Process): number {
  const fd = p.fds.reserve(true);
  if (fd < 0) return -EMFILE;
  p.fds.set(fd, new StatsFile(`anon_inode:kvm-vcpu-stats:${id}`, `kvm-${vm.pid}/vcpu-${id}`, vm, stats, vcpuRows));
  return fd;
}
