/** The second half of shrinking: fast-check has made the tapes short and simple; here the calls they became are cut down one by one. */
import type { Argument, Call } from './call.ts';
import { type Difference, type Pair, Tally } from './lockstep.ts';
import { replay } from './sequence.ts';

export interface Shrunk {
  readonly program: readonly Call[];
  readonly difference: Difference;
}

/** Fewer calls, and zeros in their bytes, as long as the same difference remains. Within `limit`. */
export function shrinkProgram(pair: Pair, found: Shrunk, limit = { runs: 600, time: 15_000 }): Shrunk {
  let best = found;
  let left = limit.runs;
  const end = Date.now() + limit.time;
  const attempt = (program: readonly Call[]): boolean => {
    if (left-- <= 0 || Date.now() > end) return false;
    const { difference, program: made } = replay(pair, program, new Tally());
    if (difference?.signature !== best.difference.signature) return false;
    best = { program: made, difference };
    return true;
  };
  let before: number;
  do {
    before = best.program.length;
    for (let size = Math.max(1, best.program.length >> 1); size >= 1; size >>= 1) {
      for (let at = best.program.length - 1 - size; at >= 0; at -= size)
        attempt([...best.program.slice(0, at), ...best.program.slice(at + size)]);
    }
  } while (best.program.length < before && left > 0);
  for (let at = 0; at < best.program.length; at++) {
    for (const simpler of simplerCalls(best.program[at]!)) {
      if (attempt(best.program.map((call, n) => (n === at ? simpler : call)))) break;
    }
  }
  return best;
}

function* simplerCalls(call: Call): Generator<Call> {
  if (call.do === 'edit' && call.edits.length > 1) for (const edit of call.edits) yield { ...call, edits: [edit] };
  if (call.do !== 'ioctl' || call.arg.is !== 'bytes') return;
  const { bytes } = call.arg;
  const arg = (changed: Uint8Array): Argument => ({ ...call.arg, bytes: changed }) as Argument;
  const words = Array.from({ length: Math.ceil(bytes.length / 8) }, (_, n) => n).filter((n) =>
    bytes.subarray(n * 8, n * 8 + 8).some(Boolean),
  );
  if (words.length > 0) yield { ...call, arg: arg(new Uint8Array(bytes.length)) };
  for (const kept of words.slice(0, 12)) {
    const changed = new Uint8Array(bytes.length);
    changed.set(bytes.subarray(kept * 8, kept * 8 + 8), kept * 8);
    if (words.length > 1) yield { ...call, arg: arg(changed) };
  }
  for (const gone of words.slice(0, 12)) yield { ...call, arg: arg(Uint8Array.from(bytes).fill(0, gone * 8, gone * 8 + 8)) };
}
