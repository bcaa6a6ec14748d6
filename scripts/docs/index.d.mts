import type { IoctlRow } from '../../src/uapi/ioctl-row.ts';

export function withTables(text: string, kvio: object, ioctls: readonly IoctlRow[]): string;
