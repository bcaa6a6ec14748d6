/** KVM_MEMORY_ENCRYPT_OP: what `data` points to, by command. Rules: Documentation/virt/kvm/x86/amd-memory-encryption.rst, intel-tdx.rst. */
import type { Direction, Expression, PointerRule } from './ioctl-row.ts';
import * as k from './kvm.ts';
import type { Struct } from './struct.ts';

const user = (field: string, dir: Direction, length: Expression): PointerRule => ({ field, dir, length, when: length });

/** A command whose data is a struct, with the pointers in it. */
function command(id: number, struct: Struct<unknown>, dir: Direction, ...pointers: PointerRule[]): PointerRule {
  return {
    field: 'data',
    dir,
    length: struct.size,
    when: ['and', ['==', VM_IS_TDX, 0], ['==', 'id', id]],
    target: { struct, pointers },
  };
}

/** Both families number their commands from 0; the VM's type decides. Unless the caller knows better, it is SEV. */
const VM_IS_TDX: Expression = ['state', 'vm-is-tdx', 0];

function tdx(id: number, struct: Struct<unknown>, dir: Direction, length: Expression, ...pointers: PointerRule[]): PointerRule {
  return { field: 'data', dir, length, when: ['and', VM_IS_TDX, ['==', 'id', id]], target: { struct, pointers } };
}

/** A packet: a header, the guest's memory, and a transport buffer. */
const packet = (guest: Direction, others: Direction): readonly PointerRule[] => [
  user('hdr_uaddr', others, 'hdr_len'),
  user('guest_uaddr', guest, 'guest_len'),
  user('trans_uaddr', others, 'trans_len'),
];

export const memoryEncryptPointers = (): readonly PointerRule[] => [
  command(k.KVM_SEV_INIT2, k.kvm_sev_init, 'in'),
  command(
    k.KVM_SEV_LAUNCH_START,
    k.kvm_sev_launch_start,
    'inout',
    user('dh_uaddr', 'in', 'dh_len'),
    user('session_uaddr', 'in', 'session_len'),
  ),
  command(k.KVM_SEV_LAUNCH_UPDATE_DATA, k.kvm_sev_launch_update_data, 'in', user('uaddr', 'inout', 'len')),
  command(k.KVM_SEV_LAUNCH_SECRET, k.kvm_sev_launch_secret, 'in', ...packet('inout', 'in')),
  command(k.KVM_SEV_LAUNCH_MEASURE, k.kvm_sev_launch_measure, 'inout', user('uaddr', 'out', 'len')),
  command(k.KVM_SEV_GUEST_STATUS, k.kvm_sev_guest_status, 'out'),
  command(k.KVM_SEV_DBG_DECRYPT, k.kvm_sev_dbg, 'in', user('src_uaddr', 'in', 'len'), user('dst_uaddr', 'out', 'len')),
  command(k.KVM_SEV_DBG_ENCRYPT, k.kvm_sev_dbg, 'in', user('src_uaddr', 'in', 'len'), user('dst_uaddr', 'inout', 'len')),
  command(k.KVM_SEV_GET_ATTESTATION_REPORT, k.kvm_sev_attestation_report, 'inout', user('uaddr', 'out', 'len')),
  command(
    k.KVM_SEV_SEND_START,
    k.kvm_sev_send_start,
    'inout',
    user('pdh_cert_uaddr', 'in', 'pdh_cert_len'),
    user('plat_certs_uaddr', 'in', 'plat_certs_len'),
    user('amd_certs_uaddr', 'in', 'amd_certs_len'),
    user('session_uaddr', 'out', 'session_len'),
  ),
  command(k.KVM_SEV_SEND_UPDATE_DATA, k.kvm_sev_send_update_data, 'inout', ...packet('in', 'out')),
  command(
    k.KVM_SEV_RECEIVE_START,
    k.kvm_sev_receive_start,
    'inout',
    user('pdh_uaddr', 'in', 'pdh_len'),
    user('session_uaddr', 'in', 'session_len'),
  ),
  command(k.KVM_SEV_RECEIVE_UPDATE_DATA, k.kvm_sev_receive_update_data, 'in', ...packet('inout', 'in')),
  command(k.KVM_SEV_SNP_LAUNCH_START, k.kvm_sev_snp_launch_start, 'in'),
  command(k.KVM_SEV_SNP_LAUNCH_UPDATE, k.kvm_sev_snp_launch_update, 'inout', user('uaddr', 'inout', 'len')),
  command(
    k.KVM_SEV_SNP_LAUNCH_FINISH,
    k.kvm_sev_snp_launch_finish,
    'in',
    { field: 'id_block_uaddr', dir: 'in', length: k.KVM_SEV_SNP_ID_BLOCK_SIZE, when: 'id_block_en' },
    { field: 'id_auth_uaddr', dir: 'in', length: k.KVM_SEV_SNP_ID_AUTH_SIZE, when: 'id_block_en' },
  ),
  tdx(k.KVM_TDX_CAPABILITIES, k.kvm_tdx_capabilities, 'inout', k.kvm_tdx_capabilities.size),
  tdx(k.KVM_TDX_INIT_VM, k.kvm_tdx_init_vm, 'in', k.kvm_tdx_init_vm.size),
  tdx(
    k.KVM_TDX_INIT_MEM_REGION,
    k.kvm_tdx_init_mem_region,
    'inout',
    k.kvm_tdx_init_mem_region.size,
    user('source_addr', 'in', ['*', 'nr_pages', 4096]),
  ),
  tdx(k.KVM_TDX_GET_CPUID, k.kvm_cpuid2, 'inout', k.kvm_cpuid2.size),
];
