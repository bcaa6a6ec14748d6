export function goldenOf(tree: string, version: string, arch: 'x86_64' | 'arm64'): object;
export function goldenText(golden: object): string;
