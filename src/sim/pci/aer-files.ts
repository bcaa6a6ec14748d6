import type { Severity } from '../hardware/pci-function.ts';
import type { PciDev } from './pci-dev.ts';

/** Names of status bits, as drivers/pci/pcie/aer.c prints them; a bit without a name is shown by number once it has been counted. */
const correctable: Readonly<Record<number, string>> = {
  0: 'RxErr',
  6: 'BadTLP',
  7: 'BadDLLP',
  8: 'Rollover',
  12: 'Timeout',
  13: 'NonFatalErr',
  14: 'CorrIntErr',
  15: 'HeaderOF',
};

const uncorrectable: Readonly<Record<number, string>> = {
  0: 'Undefined',
  4: 'DLP',
  5: 'SDES',
  12: 'TLP',
  13: 'FCP',
  14: 'CmpltTO',
  15: 'CmpltAbrt',
  16: 'UnxCmplt',
  17: 'RxOF',
  18: 'MalfTLP',
  19: 'ECRC',
  20: 'UnsupReq',
  21: 'ACSViol',
  22: 'UncorrIntErr',
  23: 'BlockedTLP',
  24: 'AtomicOpBlocked',
  25: 'TLPBlockedErr',
  26: 'PoisonTLPBlocked',
  27: 'DMWrReqBlocked',
  28: 'IDECheck',
  29: 'MisIDETLP',
  30: 'PCRC_CHECK',
  31: 'TLPXlatBlocked',
};

const totals: Readonly<Record<Severity, string>> = {
  correctable: 'TOTAL_ERR_COR',
  nonfatal: 'TOTAL_ERR_NONFATAL',
  fatal: 'TOTAL_ERR_FATAL',
};

/** aer_dev_correctable, aer_dev_nonfatal, aer_dev_fatal, without the last newline. */
export function aerCounts(dev: PciDev, severity: Severity): string {
  const names = severity === 'correctable' ? correctable : uncorrectable;
  const counted = dev.aerBits[severity];
  const numbers = severity === 'correctable' ? 16 : 32;
  const lines = Array.from({ length: numbers }, (_, bit) => {
    const count = counted.get(bit) ?? 0;
    const name = names[bit];
    if (name !== undefined) return `${name} ${count}`;
    return count === 0 ? '' : `aer_dev_${severity}_bit[${bit}] ${count}`;
  });
  return [...lines.filter((line) => line !== ''), `${totals[severity]} ${dev.aer[severity]}`].join('\n');
}
