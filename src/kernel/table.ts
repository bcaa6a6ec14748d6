// Interim: replaced by the uapi table as soon as it exists.
export interface IoctlRow {
  name: string;
  request: number;
  arg: 'none' | 'int' | 'pointer';
  size: number;
  capability?: string;
  returns?: string;
}
export interface UserPointer {
  field: string;
  address: bigint;
  length: bigint;
}
const rows: IoctlRow[] = [
  { name: 'KVM_GET_API_VERSION', request: 0xae00, arg: 'none', size: 0 },
  { name: 'KVM_CREATE_VM', request: 0xae01, arg: 'int', size: 0, returns: 'vm' },
  { name: 'KVM_CHECK_EXTENSION', request: 0xae03, arg: 'int', size: 0 },
  { name: 'KVM_GET_VCPU_MMAP_SIZE', request: 0xae04, arg: 'none', size: 0 },
  { name: 'KVM_CREATE_VCPU', request: 0xae41, arg: 'int', size: 0, returns: 'vcpu' },
  { name: 'KVM_RUN', request: 0xae80, arg: 'int', size: 0 },
  { name: 'KVM_SET_USER_MEMORY_REGION', request: 0x4020ae46, arg: 'pointer', size: 32 },
];
const byRequest: Map<number, IoctlRow> = new Map(rows.map((r) => [r.request, r]));
export function ioctlByRequest(request: number, _kind?: string): IoctlRow | undefined {
  return byRequest.get(request);
}
export function touchedLength(row: IoctlRow, _bytes: Uint8Array): number {
  return row.size;
}
export function userPointers(_row: IoctlRow, _bytes: Uint8Array, _state?: unknown): UserPointer[] {
  return [];
}
