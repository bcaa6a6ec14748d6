export type { DeviceMemory, DmaTarget, IommuDomain, Requester } from '../hardware/dma-target.ts';
