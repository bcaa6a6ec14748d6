type Plain = Record<string, unknown>;
interface Layout extends Plain {
  size: number;
  fields: { name: string }[];
}
interface Words {
  constants: Plain;
  structs: Record<string, Layout>;
}
export function published(
  uapi: object,
  headers: string,
): Words & {
  headers: string;
  arm64: Words;
  teeIo: Record<string, Words & { series: Plain }>;
  ioctls: ({ name: string } & Plain)[];
  unnumberedIoctls: Record<string, string>;
};
