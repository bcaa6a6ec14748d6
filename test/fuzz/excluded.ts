/**
 * What is never called on a real kernel: bugs that hang or corrupt it, and requests that would take from the fuzzer what it lives on. By
 * name as the ioctl table has it, `0x…` for a request it does not have, or what a guest is not to do.
 */
import * as k from 'kvio/uapi';
import type { Call } from './call.ts';

export const excluded: ReadonlyMap<string, string> = new Map([
  ['KVM_SET_SIGNAL_MASK', 'may mask the signal that ends a run: a guest that does not stop could not be stopped'],
  ['guest debugging', 'a KVM_RUN under KVM_SET_GUEST_DEBUG: what the lab makes of random debug registers has not been looked at'],
  ['KVM_GET_NESTED_STATE', 'nested virtualisation is not simulated: answered as by a host without it'],
  ['KVM_SET_NESTED_STATE', 'as KVM_GET_NESTED_STATE'],
  [
    'KVM_GET_SUPPORTED_HV_CPUID',
    'what a Hyper-V guest needs is not simulated: answered as by a kernel without CONFIG_KVM_HYPERV',
  ],
  ['KVM_HYPERV_EVENTFD', 'as KVM_GET_SUPPORTED_HV_CPUID'],
  [
    'KVM_GET_STATS_FD',
    'what it counts depends on the host, which statistics there are on how the kernel was built: its cases compare what does not',
  ],
  [
    'request_interrupt_window',
    'where KVM emulates in turns: on a busy host a turn ends early, and with it the wait for the window (6.18)',
  ],
  [
    'LOCK',
    'and XCHG with memory, of operands that are not aligned: QEMU, under the lab, executes them apart, and a page fault then loses DF',
  ],
  ['segment bases', 'beyond 32 bits, as a guest runs on hardware: no processor has them in real mode'],
  ['IN from a PIT', 'ports 0x40 to 0x43 and 0x61, where the PIT is in the kernel: its counters run by a clock'],
  ['0x5421', 'FIONBIO: an eventfd made blocking would wait for ever'],
  ['0x5452', 'FIOASYNC: SIGIO would end the process'],
  ['0xc0045877', 'FIFREEZE: stops the file system the file lies on'],
  ['0xc0045878', 'FITHAW: as FIFREEZE'],
  [
    'INT n',
    'of 0x80 and above in emulated real mode: KVM takes the vector as signed, reads below the table, and KVM_RUN never returns (6.18)',
  ],
  [
    'IDT base',
    'at an address without memory: INT n in emulated real mode cannot read its vector, and KVM_RUN never returns (6.18)',
  ],
  ['SGDT, SIDT', 'to an address without memory, in emulated real mode: KVM_RUN never returns (6.18)'],
  [
    'DELIVERY_EV',
    'an event delivered to what is no RAM, on hardware: KVM exits where it had not met the page yet, and spins over the event until a signal where it had',
  ],
  ['INTR', 'a rerun of RIP beyond 32 bits, and of segments no processor has: on PVM KVM_RUN may go on until a signal'],
]);

const ABSENT = /^KVM_CAP_(SYS_HYPERV|HYPERV|XEN|NESTED_STATE)/;
const absent: ReadonlySet<number> = new Set(
  Object.entries(k).flatMap(([name, value]) => (ABSENT.test(name) ? [Number(value)] : [])),
);

/** How far a kernel refines its TSC's rate after boot, in the lab: 0.3 % was seen (2094.2 MHz to 2100.0 MHz), by its log. */
const REFINED = 0.01;

/**
 * Calls that are left out by what is in them: capabilities of what no simulated machine has (Xen, Hyper-V, nested virtualisation) and real kernels
 * may have; times that would get into memory; a TSC's rate so near the host's (in kHz) that it depends on a measurement whether it is slower.
 */
export function leftOut(call: Call, hostKhz: number): boolean {
  if (call.do !== 'ioctl') return false;
  const { name, arg } = call;
  if (name === 'KVM_SET_TSC_KHZ')
    return arg.is === 'integer' && Math.abs(Number(BigInt.asUintN(32, arg.value)) - hostKhz) < hostKhz * REFINED;
  // KVM_VCPU_TSC_OFFSET, the only one: a time, written into memory.
  if (name === 'KVM_GET_DEVICE_ATTR' && call.fd.startsWith('vcpu')) return true;
  if (name === 'KVM_CHECK_EXTENSION') return arg.is === 'integer' && absent.has(Number(BigInt.asUintN(32, arg.value)));
  return name === 'KVM_ENABLE_CAP' && arg.is === 'bytes' && absent.has(new DataView(arg.bytes.buffer).getUint32(0, true));
}

/** The same for areas whose steps are still to be written. */
export const trapsOf: Readonly<Record<string, readonly string[]>> = {
  iommufd: [
    'GET_DIRTY_BITMAP of the mock format whose first byte lies in the last item of a dirty multi-item entry: the kernel loops for ever',
    'IOMMU_IOAS_CHANGE_PROCESS of memory mapped under CAP_IPC_LOCK: corrupts the accounting of pinned pages',
  ],
  vfio: ['mtty: BAR2 to BAR5, and config space from 0xff on: the sample driver reads and writes outside its own memory'],
};
