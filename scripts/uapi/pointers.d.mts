export const POINTERS: ReadonlySet<string>;
export const NOT_POINTERS: Readonly<Record<string, string>>;
