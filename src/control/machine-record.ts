/** Record of a machine with a name, as its process leaves it, and how it is read back. */
import {
  type Fields,
  fieldProblem,
  isListOf,
  isRecord,
  isText,
  isWhole,
  oneOf,
  orNone,
} from '../util/fields.js';

/** End of a machine as its process recorded it; `lost` if the process was gone before it could. */
export interface RecordedEnd {
  readonly kind: (typeof END_KINDS)[number];
  /** Exit status that `tsvm boot` would have had. */
  readonly exitCode: number;
  readonly message?: string;
  /** Milliseconds since 1970. */
  readonly atMs: number;
}

/** Command line of tsvm, and where it was given. */
export interface RecordedStart {
  /** Words after `tsvm`. */
  readonly words: readonly string[];
  readonly directory: string;
}

/** Texts by the names that whoever makes a machine gives them. */
export type Labels = Readonly<Record<string, string>>;

export interface MachineRecord {
  readonly version: 1;
  readonly name: string;
  readonly pid: number;
  /** Start of that process, in the kernel's ticks: a number may come again, both do not. */
  readonly pidStart: string;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
  /** Of a container: its limit, 0 without. */
  readonly memoryBytes: number;
  /** Of a container: its limit, which need not be whole; 0 without. */
  readonly cpus: number;
  /** Command in the guest; empty if its init decides. */
  readonly command: readonly string[];
  /** Command line that made it, by which it is started again; absent if a program or another machine did. */
  readonly start?: RecordedStart;
  /** Labels of whoever made it, by which it is found. */
  readonly labels?: Labels;
  /** What keeps it apart. Default: a machine of its own. */
  readonly isolation?: 'container';
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

const isCount = isWhole(0);

const END: Fields<RecordedEnd> = {
  kind: oneOf(...END_KINDS),
  exitCode: ['a count', isCount],
  message: ['a text', orNone(isText)],
  atMs: ['a count', isCount],
};

const START: Fields<RecordedStart> = {
  words: ['a list of texts', isListOf(isText)],
  directory: ['a path', isText],
};

/** Tells whether a value is an object of texts. */
export const areLabels = (value: unknown): boolean => isRecord(value) && Object.values(value).every(isText);

const RECORD: Fields<MachineRecord> = {
  version: ['1', (value) => value === 1],
  name: ['a text', isText],
  pid: ['a number of a process', isWhole(1)],
  pidStart: ['a count, in decimal', (value) => isText(value) && /^\d*$/.test(value as string)],
  createdMs: ['a count', isCount],
  memoryBytes: ['a count', isCount],
  cpus: ['a number', (value) => Number.isFinite(value) && (value as number) >= 0],
  command: ['a list of texts', isListOf(isText)],
  start: ['a command line', orNone((value) => fieldProblem(value, START) === undefined)],
  labels: ['an object of texts', orNone(areLabels)],
  isolation: ['container', orNone((value) => value === 'container')],
  serves: ['true', orNone((value) => value === true)],
  end: ['an end', orNone((value) => fieldProblem(value, END) === undefined)],
};

/** Reads a record; undefined for a text that is none. */
export function parseRecord(text: string): MachineRecord | undefined {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    return undefined;
  }
  return fieldProblem(data, RECORD) === undefined ? (data as MachineRecord) : undefined;
}
