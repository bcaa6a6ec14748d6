export function headerVersion(tree: string): [number, number, number];
export function localHeaders(): string | undefined;
