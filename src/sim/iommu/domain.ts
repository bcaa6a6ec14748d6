export type { DeviceMemory, DmaTarget, IommuDomain } from '../hardware/dma-target.ts';
