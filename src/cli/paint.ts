/** Colour, where the output is a terminal that shows it; NO_COLOR, FORCE_COLOR and TERM=dumb are honoured as Node does. */
export interface Paint {
  bold(text: string): string;
  dim(text: string): string;
  green(text: string): string;
  red(text: string): string;
}

const codes: Readonly<Record<keyof Paint, readonly [on: number, off: number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  green: [32, 39],
  red: [31, 39],
};

export function paintFor(stream: { isTTY?: boolean; hasColors?: (count?: number) => boolean }, env: NodeJS.ProcessEnv): Paint {
  const noColor = env['NO_COLOR'] !== undefined && env['NO_COLOR'] !== '';
  const coloured = stream.isTTY === true && !noColor && stream.hasColors?.() === true;
  const paint =
    (name: keyof Paint) =>
    (text: string): string =>
      coloured ? `\x1b[${codes[name][0]}m${text}\x1b[${codes[name][1]}m` : text;
  return { bold: paint('bold'), dim: paint('dim'), green: paint('green'), red: paint('red') };
}
