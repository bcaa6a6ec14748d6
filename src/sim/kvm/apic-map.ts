import { has } from '../changes.ts';
import * as apic from './apic-regs.ts';
import type { Lapic } from './lapic.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

/** `struct kvm_lapic_irq`: an interrupt message on its way to local APICs. */
export interface LapicIrq {
  readonly vector: number;
  /** One of APIC_DM_*. */
  readonly deliveryMode: number;
  readonly destMode: 'physical' | 'logical';
  /** Asserted. */
  readonly level: boolean;
  /** The trigger mode is level, not edge. */
  readonly levelTriggered: boolean;
  readonly shorthand: 'none' | 'self' | 'all' | 'others';
  /** 8 bits of an xAPIC, 32 of an x2APIC. */
  readonly destId: number;
  /** MSI: with the hint set the interrupt goes to one of the destinations. */
  readonly redirHint?: boolean;
}

const APIC_BROADCAST = 0xff;
const X2APIC_BROADCAST = 0xffff_ffff;

type LogicalMode = 'software disabled' | 'xapic flat' | 'xapic cluster' | 'x2apic' | 'disabled';

interface Built {
  readonly maxId: number;
  /** APICs that share an id or a bit are all told apart: where the map cannot, each APIC is asked. */
  readonly exact: boolean;
  readonly physical: Map<number, Lapic>;
  readonly flat: Lapic[];
  readonly clusters: Lapic[][];
  logicalMode: LogicalMode;
}

/** A bit mask of up to 16 entries, and what they stand for. */
interface Candidates {
  readonly at: (bit: number) => Lapic | undefined;
  readonly mask: number;
}

/**
 * `struct kvm_apic_map`: who has which destination id. It is made anew where a register write, APIC base, a reset or KVM_SET_LAPIC finds it
 * dirty. A vCPU under construction is not in the VM yet, so that its own reset leaves it out until the next time.
 */
export class ApicMap {
  dirty = true;
  /** A vCPU's reset has built it once: what nobody takes is 0 from then on, −1 before. */
  #built: Built | undefined;

  get built(): Built | undefined {
    return this.#built;
  }

  /** kvm_recalculate_apic_map. */
  rebuild(vm: Vm): void {
    if (!this.dirty) return;
    this.dirty = false;
    const present = [...vm.vcpus.values()].flatMap(({ lapic }) => (lapic?.hwEnabled ? [lapic] : []));
    const map: Built = {
      maxId: Math.max(255, ...present.map(({ x2apicId }) => x2apicId)),
      exact: has(vm.machine, 'aliasedApicIds'),
      physical: new Map(),
      flat: [],
      clusters: Array.from({ length: 16 }, () => []),
      logicalMode: 'software disabled',
    };
    this.#built = present.every((lapic) => addPhysical(map, lapic, vm.irqchip.x2apicFormat)) ? map : undefined;
    if (this.#built !== undefined) for (const lapic of present) addLogical(map, lapic);
  }
}

/**
 * False: two APICs have one id, and there is no map. With 32-bit ids, on older kernels always, an x2APIC id is reachable in xAPIC mode too (KVM's aid
 * for hotplug), and aliased xAPIC ids are the first one's.
 */
function addPhysical({ physical, exact }: Built, lapic: Lapic, x2apicFormat: boolean): boolean {
  const { x2apic, x2apicId, xapicId } = lapic;
  if (x2apicFormat || !exact) {
    if (x2apic || x2apicId > 0xff) physical.set(x2apicId, lapic);
    if (!x2apic && !physical.has(xapicId)) physical.set(xapicId, lapic);
    return true;
  }
  const id = x2apic ? x2apicId : xapicId;
  if (physical.has(id)) return false;
  physical.set(id, lapic);
  return true;
}

/**
 * All software-enabled APICs have to be in one mode, with one bit each that no other has; otherwise each is asked. On older kernels an APIC is found
 * by its lowest bit, which is the last one's.
 */
function addLogical(map: Built, lapic: Lapic): void {
  if (map.logicalMode === 'disabled' || !lapic.swEnabled) return;
  const ldr = lapic.get(apic.APIC_LDR);
  if (ldr === 0) return;
  const flat = lapic.get(apic.APIC_DFR) === apic.APIC_DFR_FLAT;
  const mode = lapic.x2apic ? 'x2apic' : flat ? 'xapic flat' : 'xapic cluster';
  if (map.logicalMode === 'software disabled') map.logicalMode = mode;
  else if (map.logicalMode !== mode) map.logicalMode = 'disabled';
  if (map.logicalMode === 'disabled' || mode === 'x2apic') return;
  const id = ldr >>> 24;
  const row = flat ? map.flat : map.clusters[id >>> 4]!;
  const mask = flat ? id : id & 0xf;
  if (mask === 0) return;
  const bit = 31 - Math.clz32(mask & -mask);
  if (map.exact && (mask & (mask - 1) || row[bit] !== undefined)) map.logicalMode = 'disabled';
  else row[bit] = lapic;
}

/** kvm_apic_map_get_logical_dest; undefined: the map does not know. */
function logicalCandidates(map: Built, destId: number): Candidates | undefined {
  switch (map.logicalMode) {
    case 'software disabled':
      return map.exact ? { at: () => undefined, mask: 0 } : undefined;
    case 'x2apic': {
      const first = (destId >>> 16) * 16;
      if (first > map.maxId) return { at: () => undefined, mask: 0 };
      const size = Math.min(map.maxId - first + 1, 16);
      return { at: (bit) => map.physical.get(first + bit), mask: destId & (0xffff >>> (16 - size)) };
    }
    case 'xapic flat':
      return { at: (bit) => map.flat[bit], mask: destId & 0xff };
    case 'xapic cluster':
      return { at: (bit) => map.clusters[(destId >>> 4) & 0xf]![bit], mask: destId & 0xf };
    case 'disabled':
      return undefined;
  }
}

const lowestPriority = ({ deliveryMode, redirHint }: LapicIrq): boolean =>
  deliveryMode === apic.APIC_DM_LOWEST || redirHint === true;

/** kvm_vector_to_index: vector hashing picks among the destinations of a lowest priority interrupt. */
function hashed<T>(vector: number, all: readonly T[]): T {
  return all[vector % all.length]!;
}

function isBroadcast(vm: Vm, source: Lapic | undefined, { destId }: LapicIrq, map: Built): boolean {
  if (vm.irqchip.broadcastQuirkDisabled) {
    return (destId === APIC_BROADCAST && map.logicalMode !== 'x2apic') || destId === X2APIC_BROADCAST;
  }
  return destId === (source?.x2apic ? X2APIC_BROADCAST : APIC_BROADCAST);
}

/** kvm_irq_delivery_to_apic_fast: the destinations as the map knows them; undefined: each APIC has to be asked. */
function fromMap(vm: Vm, source: Lapic | undefined, irq: LapicIrq): readonly Lapic[] | undefined {
  if (irq.shorthand === 'self') return source === undefined ? [] : [source];
  const map = vm.apicMap.built;
  if (irq.shorthand !== 'none' || map === undefined || isBroadcast(vm, source, irq, map)) return undefined;
  if (irq.destMode === 'physical') {
    const lapic = map.physical.get(irq.destId);
    return lapic === undefined ? [] : [lapic];
  }
  const candidates = logicalCandidates(map, irq.destId);
  if (candidates === undefined) return undefined;
  const bits = Array.from({ length: 16 }, (_, bit) => bit).filter((bit) => (candidates.mask >>> bit) & 1);
  const chosen = lowestPriority(irq) && bits.length > 0 ? [hashed(irq.vector, bits)] : bits;
  return chosen.flatMap((bit) => candidates.at(bit) ?? []);
}

/** kvm_apic_match_dest: whether an APIC takes itself for the destination. */
export function matchesDest(target: Lapic, source: Lapic | undefined, irq: LapicIrq): boolean {
  if (irq.shorthand !== 'none') return irq.shorthand === 'all' || target !== source;
  const { irqchip } = target.vcpu.vm;
  const toX2apic = !irqchip.broadcastQuirkDisabled && source === undefined && irq.destId === APIC_BROADCAST && target.x2apic;
  const mda = toX2apic ? X2APIC_BROADCAST : irq.destId;
  if (mda === (target.x2apic ? X2APIC_BROADCAST : APIC_BROADCAST)) return true;
  // What no xAPIC id can be reaches an x2APIC's in any mode.
  if (irq.destMode === 'physical') return mda === (target.x2apic || mda > 0xff ? target.x2apicId : target.xapicId);
  const ldr = target.get(apic.APIC_LDR);
  if (target.x2apic) return ldr >>> 16 === mda >>> 16 && (ldr & mda & 0xffff) !== 0;
  const id = ldr >>> 24;
  switch (target.get(apic.APIC_DFR)) {
    case apic.APIC_DFR_FLAT:
      return (id & mda) !== 0;
    case apic.APIC_DFR_CLUSTER:
      return id >>> 4 === mda >>> 4 && (id & mda & 0xf) !== 0;
    default:
      return false;
  }
}

/**
 * kvm_irq_delivery_to_apic: how many local APICs took the message, −1 where it had no destination. `source` is the vCPU whose IPI it is;
 * none for what comes from a device or userspace.
 */
export function deliverIrq(vm: Vm, source: Vcpu | undefined, irq: LapicIrq): number {
  const from = source?.lapic;
  const known = fromMap(vm, from, irq);
  if (known !== undefined) return known.reduce((sum, lapic) => sum + lapic.accept(irq), 0);
  // A lowest priority interrupt to everybody's physical id goes to everybody.
  const toAll = irq.destMode === 'physical' && irq.destId === APIC_BROADCAST && lowestPriority(irq);
  const message = toAll ? { ...irq, deliveryMode: apic.APIC_DM_FIXED } : irq;
  const present = [...vm.vcpus.values()].flatMap(({ lapic }) => (lapic?.hwEnabled ? [lapic] : []));
  const targets = present.filter((lapic) => matchesDest(lapic, from, message));
  if (!lowestPriority(message)) return targets.length === 0 ? -1 : targets.reduce((sum, lapic) => sum + lapic.accept(message), 0);
  const able = targets.filter(({ swEnabled }) => swEnabled);
  return able.length === 0 ? -1 : hashed(message.vector, able).accept(message);
}
