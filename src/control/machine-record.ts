/** Record of a machine with a name, as its process leaves it, and how it is read back. */

/** End of a machine as its process recorded it; `lost` if the process was gone before it could. */
export interface RecordedEnd {
  readonly kind: (typeof END_KINDS)[number];
  /** Exit status that `tsvm boot` would have had. */
  readonly exitCode: number;
  readonly message?: string;
  /** Milliseconds since 1970. */
  readonly atMs: number;
}

export interface MachineRecord {
  readonly version: 1;
  readonly name: string;
  readonly pid: number;
  /** Start of that process, in the kernel's ticks: a number may come again, both do not. */
  readonly pidStart: string;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
  readonly memoryBytes: number;
  readonly cpus: number;
  /** Command in the guest; empty if its init decides. */
  readonly command: readonly string[];
  /** Mark of a process that runs many machines and is none itself: tsvm serve. */
  readonly serves?: true;
  readonly end?: RecordedEnd;
}

const END_KINDS = [
  'power-off',
  'reset',
  'panic',
  'triple-fault',
  'kvm-error',
  'bug',
  'stopped',
  'lost',
] as const;

/** Longest record: the kernel takes 2 MiB of arguments, each byte of which JSON may write as six. */
export const MAX_RECORD_BYTES = 16 << 20;

/** Check of one field. */
type Check = (value: unknown) => boolean;
type Fields = Readonly<Record<string, Check>>;

const isCount: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const isText: Check = (value) => typeof value === 'string';
const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);

const END: Fields = {
  kind: (value) => END_KINDS.some((kind) => kind === value),
  exitCode: isCount,
  message: optional(isText),
  atMs: isCount,
};

/** Every command loads this, most need none of it, and a schema library costs 60 ms to load. */
const RECORD: Fields = {
  version: (value) => value === 1,
  name: isText,
  pid: (value) => isCount(value) && value !== 0,
  pidStart: (value) => isText(value) && /^\d*$/.test(value as string),
  createdMs: isCount,
  memoryBytes: isCount,
  cpus: isCount,
  command: (value) => Array.isArray(value) && value.every(isText),
  serves: optional((value) => value === true),
  end: optional((value) => isStrict(value, END)),
};

/** Checks that a value has every field, each as it must be, and no other. */
function isStrict(value: unknown, fields: Fields): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const data = value as Readonly<Record<string, unknown>>;
  return (
    Object.keys(data).every((name) => Object.hasOwn(fields, name)) &&
    Object.entries(fields).every(([name, check]) => check(Object.hasOwn(data, name) ? data[name] : undefined))
  );
}

/** Reads a record; undefined for a text that is none. */
export function parseRecord(text: string): MachineRecord | undefined {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    return undefined;
  }
  return isStrict(data, RECORD) ? (data as MachineRecord) : undefined;
}
