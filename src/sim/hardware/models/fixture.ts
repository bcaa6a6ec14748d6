import { PciFunction } from '../pci-function.ts';

/** A function that has nothing but its configuration space: its BARs read as all ones. */
export class Fixture extends PciFunction {}
