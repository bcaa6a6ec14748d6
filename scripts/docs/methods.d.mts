export interface Method {
  readonly name: string;
  readonly of: string;
  /** Of the docstring; '' without one. */
  readonly doc: string;
}

export interface Class {
  readonly name: string;
  readonly prototype: object;
}

export function methodsOf(folder: string): Method[];
export function lineage(type: Class): string[];
export function allDocumented(methods: readonly Method[], type: Class, request: string): Method[];
