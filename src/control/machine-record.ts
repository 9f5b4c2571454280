/** Record of a machine with a name, as its process leaves it, and how it is read back. */

/** How a machine ended, as its process left word; or that its process is gone without a word. */
export interface RecordedEnd {
  readonly kind: (typeof END_KINDS)[number];
  /** What `tsvm boot` would have exited with. */
  readonly exitCode: number;
  readonly message?: string;
  /** Milliseconds since 1970. */
  readonly atMs: number;
}

export interface MachineRecord {
  readonly version: 1;
  readonly name: string;
  readonly pid: number;
  /** When that process started, in the kernel's ticks: a number may come again, both do not. */
  readonly pidStart: string;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
  readonly memoryBytes: number;
  readonly cpus: number;
  /** What the guest runs; empty: what its init does. */
  readonly command: readonly string[];
  /** It is no machine, but a process that runs many: tsvm serve. */
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

/** Whether a value has every field as it must be, and no other. */
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
