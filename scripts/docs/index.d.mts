export function withTables(text: string, kvio: object, ioctls: readonly { readonly name: string }[]): string;
