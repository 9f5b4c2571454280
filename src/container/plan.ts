/**
 * What the launcher is told to do: system calls, as bytes. kvm-addon/launcher/plan.h has the structures that this mirrors.
 *
 * The launcher knows how to clone and to wait; which mounts, limits and filters there are is composed here, where it is tested.
 */
import assert from 'node:assert';

/**
 * Argument of a step. A number is one of 32 bits; a wider one is a bigint. A string is tsvm's or the operator's: what an image, a volume
 * or a command's configuration calls a place in the container is an {@link InnerPath}, which no system call takes.
 */
export type Argument = number | bigint | string | Data | Slot | InnerPath | undefined;

/** Bytes that a system call gets the address of; pointers in them are put right by the launcher. */
export class Data {
  readonly bytes: Uint8Array;
  /** At which offsets the address of what belongs. */
  readonly pointers: readonly (readonly [offset: number, to: Data])[];

  constructor(bytes: Uint8Array, pointers: readonly (readonly [number, Data])[] = []) {
    this.bytes = bytes;
    this.pointers = pointers;
  }
}

/** Path in the container. Only {@link STEP_PATH} takes one, which resolves it below a directory that is open. */
export class InnerPath {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }
}

/** What an earlier call of the same process returned. */
export class Slot {
  readonly index: number;

  constructor(index: number) {
    this.index = index;
  }
}

/** One system call, or {@link STEP_PATH}. */
export interface Step {
  readonly number: number;
  readonly arguments: readonly Argument[];
  /** Where its result is kept. */
  readonly into?: Slot;
  /** Errors that are no failure, two at most. The slot stays empty then, and steps that have it for an argument are left out. */
  readonly ignore?: readonly number[];
  /** Slot that the step is left out without, besides those of its arguments. */
  readonly when?: Slot;
  /** What it does, for the message if it fails: "mount /proc". */
  readonly purpose: string;
}

export interface Plan {
  /** CLONE_NEW*. */
  readonly cloneFlags: number;
  /** Pseudoterminal of the command, where it gets one; `pts` is the file system that it is made in. */
  readonly terminal?: { readonly rows: number; readonly columns: number; readonly pts: Slot };
  /** The launcher, before it clones: with this process's privileges, in its namespaces. */
  readonly host: readonly Step[];
  /** Process 1, before it starts the command. */
  readonly init: readonly Step[];
  /** The command's process; the last is its execve. */
  readonly command: readonly Step[];
  /** Process 1, once the command's process is there: it gives up what it does not need. */
  readonly keeper: readonly Step[];
  /** The launcher at the end, if this process is gone by then. */
  readonly cleanup: readonly Step[];
  /** A process beside the command's, whose end is nothing to it; the last is an execveat. Without: there is none. */
  readonly agent?: readonly Step[];
  /** The launcher, once process 1 is there. */
  readonly launcher?: readonly Step[];
}

/** As many results as there may be. */
export const SLOTS = 256;
/**
 * Number of the step that resolves a path in the container: a slot with the directory that is its root, an {@link InnerPath}, flags, and
 * optionally a slot with /proc and a list of paths that are kept.
 */
export const STEP_PATH = 0xffff_0001;
const NO_SLOT = 0xffff;
const MAGIC = 0x31504354;
const HEAD_BYTES = 88;
const STEP_BYTES = 64;
const MAX_ARGUMENTS = 6;
const MAX_IGNORED = 2;
/** Range of an int and of an unsigned int together. */
const MIN_NUMBER = -0x8000_0000;
const MAX_NUMBER = 0xffff_ffff;
/** Where an address must be aligned to. */
const ALIGNMENT = 8;

/** A string as C has it. */
export function cString(text: string): Data {
  return new Data(Buffer.from(`${text}\0`, 'utf8'));
}

/** An array of pointers to strings, with the null pointer at its end: argv, envp. */
export function cStrings(texts: readonly string[]): Data {
  return new Data(
    new Uint8Array((texts.length + 1) * 8),
    texts.map((text, i) => [i * 8, cString(text)] as const),
  );
}

/** The plan as the launcher reads it. */
export function encodePlan(plan: Plan): Uint8Array {
  const lists = [
    plan.host,
    plan.init,
    plan.command,
    plan.keeper,
    plan.cleanup,
    plan.agent ?? [],
    plan.launcher ?? [],
  ];
  const steps = lists.flat();
  const dataAt = new Map<Data, number>();
  const byText = new Map<string, Data>();
  const relocations: [offset: number, to: number][] = [];
  let size = HEAD_BYTES + steps.length * STEP_BYTES;
  const place = (data: Data): number => {
    const known = dataAt.get(data);
    if (known !== undefined) return known;
    const at = size;
    dataAt.set(data, at);
    size += Math.ceil(data.bytes.length / ALIGNMENT) * ALIGNMENT;
    for (const [offset, to] of data.pointers) relocations.push([at + offset, place(to)]);
    return at;
  };
  const dataOf = (text: string): Data => {
    const data = byText.get(text) ?? cString(text);
    byText.set(text, data);
    return data;
  };
  for (const { arguments: values } of steps) {
    for (const value of values) {
      if (value instanceof Data) place(value);
      else if (typeof value === 'string') place(dataOf(value));
      else if (value instanceof InnerPath) place(dataOf(value.path));
    }
  }

  const relocationsAt = size;
  size += relocations.length * 8;
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  const u32 = (at: number, value: number): void => view.setUint32(at, value, true);
  u32(0, MAGIC);
  u32(4, size);
  view.setBigUint64(8, BigInt(plan.cloneFlags), true);
  view.setUint16(16, plan.terminal === undefined ? 0 : 1, true);
  view.setUint16(18, plan.terminal?.pts.index ?? NO_SLOT, true);
  view.setUint16(20, plan.terminal?.rows ?? 0, true);
  view.setUint16(22, plan.terminal?.columns ?? 0, true);
  let stepsAt = HEAD_BYTES;
  for (const [i, list] of lists.entries()) {
    u32(24 + i * 8, stepsAt);
    u32(28 + i * 8, list.length);
    stepsAt += list.length * STEP_BYTES;
  }
  u32(80, relocationsAt);
  u32(84, relocations.length);
  for (const [i, step] of steps.entries()) encodeStep(view, HEAD_BYTES + i * STEP_BYTES, step, dataOf, place);
  for (const [data, at] of dataAt) bytes.set(data.bytes, at);
  for (const [i, [offset, to]] of relocations.entries()) {
    u32(relocationsAt + i * 8, offset);
    u32(relocationsAt + i * 8 + 4, to);
  }
  return bytes;
}

function encodeStep(
  view: DataView,
  at: number,
  step: Step,
  dataOf: (text: string) => Data,
  place: (data: Data) => number,
): void {
  const { ignore = [], into } = step;
  assert(step.arguments.length <= MAX_ARGUMENTS && ignore.length <= MAX_IGNORED);
  assert(into === undefined || into.index < SLOTS);
  for (const [i, value] of step.arguments.entries()) {
    assert(
      value instanceof InnerPath === (step.number === STEP_PATH && i === 1),
      `a path in ${step.purpose}`,
    );
  }
  view.setUint32(at, step.number, true);
  view.setUint16(at + 4, into?.index ?? NO_SLOT, true);
  for (const [i, errno] of ignore.entries()) view.setUint16(at + 6 + i * 2, errno, true);
  const values = step.when === undefined ? step.arguments : withCondition(step.arguments, step.when);
  for (const [i, value] of values.entries()) {
    const [kind, word] = encodeArgument(value, dataOf, place);
    view.setUint8(at + 10 + i, kind);
    view.setBigUint64(at + 16 + i * 8, BigInt.asUintN(64, word), true);
  }
}

/** Puts the condition into the sixth argument, which no such call has. */
function withCondition(values: readonly Argument[], when: Slot): readonly Argument[] {
  assert(values.length < MAX_ARGUMENTS);
  return [...values, ...Array<undefined>(MAX_ARGUMENTS - 1 - values.length), when];
}

function encodeArgument(
  value: Argument,
  dataOf: (text: string) => Data,
  place: (data: Data) => number,
): [kind: 0 | 1 | 2, word: bigint] {
  if (value === undefined) return [0, 0n];
  if (value instanceof Slot) return [2, BigInt(value.index)];
  if (value instanceof Data) return [1, BigInt(place(value))];
  if (typeof value === 'string') return [1, BigInt(place(dataOf(value)))];
  if (value instanceof InnerPath) return [1, BigInt(place(dataOf(value.path)))];
  // The kernel would take the lower half of a number that does not fit: user 2^32 is 0.
  if (typeof value === 'number')
    assert(Number.isInteger(value) && value >= MIN_NUMBER && value <= MAX_NUMBER, `argument ${value}`);
  return [0, BigInt(value)];
}
