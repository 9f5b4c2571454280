/**
 * Where machines are found by name: a folder each, with a record, the console's log and the control socket.
 *
 * Only the process that runs a machine writes into its folder. A folder whose process is gone is a leftover: the next who comes says
 * so in its record, or takes its place.
 */
import { randomBytes } from 'node:crypto';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { isErrnoError, TsvmError } from '../errors.js';
import { describeFileError } from '../host/files.js';

const RECORD = 'machine.json';
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;
/** A folder without a record this long is a leftover of somebody who was killed between the two. */
const CLAIM_MS = 10_000;

/** How a machine ended, as its process left word; or that its process is gone without a word. */
export interface RecordedEnd {
  readonly kind: 'power-off' | 'reset' | 'panic' | 'triple-fault' | 'kvm-error' | 'bug' | 'stopped' | 'lost';
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

/** `$TSVM_RUN_DIR`; else `tsvm` in `$XDG_RUNTIME_DIR`; else /run/tsvm for root, and a folder of one's own in /tmp for others. */
export function runDirectory(): string {
  const { TSVM_RUN_DIR: own, XDG_RUNTIME_DIR: runtime } = process.env;
  if (own) return own;
  if (runtime) return join(runtime, 'tsvm');
  const uid = process.geteuid?.() ?? 0;
  return uid === 0 ? '/run/tsvm' : join(tmpdir(), `tsvm-${uid}`);
}

/** @throws TsvmError `TSVM_USAGE` */
export function checkName(name: string): void {
  if (NAME.test(name)) return;
  throw new TsvmError('TSVM_USAGE', `--name ${JSON.stringify(name)}: not a name for a machine`, {
    hint: 'a letter or digit, then up to 62 of these or . _ -',
  });
}

export function nameTaken(name: string): TsvmError {
  return new TsvmError('TSVM_STATE', `--name ${name}: a machine of that name runs already`, {
    hint: `give another one, or end it: tsvm stop ${name}`,
  });
}

export function newName(): string {
  return `vm-${randomBytes(3).toString('hex')}`;
}

/** One machine's. */
export class MachineFolder {
  readonly path: string;
  readonly name: string;

  constructor(path: string, name: string) {
    this.path = path;
    this.name = name;
  }

  get socketPath(): string {
    return join(this.path, 'api.sock');
  }

  get logPath(): string {
    return join(this.path, 'console.log');
  }

  get record(): MachineRecord | undefined {
    try {
      const record = JSON.parse(readFileSync(join(this.path, RECORD), 'utf8')) as MachineRecord;
      return record.version === 1 && record.name === this.name ? record : undefined;
    } catch {
      return undefined; // not there yet, or damaged
    }
  }

  write(record: MachineRecord): void {
    const path = join(this.path, RECORD);
    writeFileSync(`${path}.new`, `${JSON.stringify(record, undefined, 2)}\n`, { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  /** Its last word, for which there is room if there ever was for the log. */
  writeEnd(end: RecordedEnd): void {
    const { record } = this;
    if (record === undefined) return;
    try {
      this.write({ ...record, end });
    } catch {
      rmSync(`${this.logPath}.1`, { force: true });
      truncateSync(this.logPath);
      this.write({ ...record, end });
    }
  }

  remove(): void {
    // Whoever looks meanwhile finds all of it or nothing.
    const doomed = join(dirname(this.path), `.${this.name}.${randomBytes(4).toString('hex')}`);
    try {
      renameSync(this.path, doomed);
    } catch (error) {
      if (isErrnoError(error) && error.code === 'ENOENT') return;
      throw error;
    }
    rmSync(doomed, { recursive: true, force: true });
  }
}

export class MachineStore {
  readonly directory: string;

  constructor(directory: string = runDirectory()) {
    this.directory = directory;
  }

  /**
   * Takes a name for a machine of this process.
   *
   * @throws TsvmError `TSVM_STATE` if a machine of that name runs; `TSVM_FILE` if there can be no folder.
   */
  claim(
    name: string,
    about: Pick<MachineRecord, 'memoryBytes' | 'cpus' | 'command' | 'serves'>,
  ): MachineFolder {
    checkName(name);
    this.#makeDirectory();
    const folder = this.#folder(name);
    while (!this.#make(folder)) {
      if (isTaken(folder)) {
        throw nameTaken(name);
      }
      folder.remove();
    }
    const pidStart = startOf(process.pid) ?? '';
    try {
      folder.write({ version: 1, name, pid: process.pid, pidStart, createdMs: Date.now(), ...about });
    } catch (cause) {
      folder.remove();
      throw new TsvmError('TSVM_FILE', `cannot write to ${folder.path}: ${describeFileError(cause)}`, {
        hint: 'make room there, or set TSVM_RUN_DIR to another folder',
        cause,
      });
    }
    return folder;
  }

  /** By name. Leftovers are marked as such by this. */
  list(): readonly { readonly folder: MachineFolder; readonly record: MachineRecord }[] {
    let names: string[];
    try {
      names = readdirSync(this.directory).filter((name) => NAME.test(name));
    } catch {
      return []; // nobody ever made a machine
    }
    return names.sort().flatMap((name) => {
      const folder = this.#folder(name);
      const record = settled(folder);
      return record === undefined ? [] : [{ folder, record }];
    });
  }

  /** @throws TsvmError `TSVM_STATE` if there is none of that name. */
  find(name: string): { readonly folder: MachineFolder; readonly record: MachineRecord } {
    const folder = this.#folder(name);
    const record = NAME.test(name) ? settled(folder) : undefined;
    if (record === undefined) {
      throw new TsvmError('TSVM_STATE', `there is no machine '${name}'`, { hint: 'tsvm ps -a lists all' });
    }
    return { folder, record };
  }

  #folder(name: string): MachineFolder {
    return new MachineFolder(join(this.directory, name), name);
  }

  #makeDirectory(): void {
    try {
      mkdirSync(this.directory, { recursive: true, mode: 0o700 });
      const { uid, mode } = statSync(this.directory);
      if (uid === process.geteuid?.() && (mode & 0o022) === 0) return;
    } catch (cause) {
      throw new TsvmError('TSVM_FILE', `cannot make ${this.directory}: ${describeFileError(cause)}`, {
        hint: 'set TSVM_RUN_DIR to a folder of your own',
        cause,
      });
    }
    throw new TsvmError('TSVM_FILE', `${this.directory} is another user's, or others may write there`, {
      hint: 'set TSVM_RUN_DIR to a folder of your own',
    });
  }

  /** False: it is there. */
  #make({ path }: MachineFolder): boolean {
    try {
      mkdirSync(path, { mode: 0o700 });
      return true;
    } catch (cause) {
      if (isErrnoError(cause) && cause.code === 'EEXIST') return false;
      throw new TsvmError('TSVM_FILE', `cannot make ${path}: ${describeFileError(cause)}`, { cause });
    }
  }
}

/** Whether its process lives. */
export function isRunning({ pid, pidStart, end }: MachineRecord): boolean {
  return end === undefined && startOf(pid) === pidStart;
}

function isTaken(folder: MachineFolder): boolean {
  const { record } = folder;
  if (record !== undefined) return isRunning(record);
  const made = statSync(folder.path, { throwIfNoEntry: false })?.mtimeMs;
  return made !== undefined && Date.now() - made < CLAIM_MS;
}

/** Its record, in which a process that went without a word is marked as lost. */
function settled(folder: MachineFolder): MachineRecord | undefined {
  const { record } = folder;
  if (record === undefined || record.end !== undefined || isRunning(record)) return record;
  const end = {
    kind: 'lost',
    exitCode: 137,
    message: 'its process was killed, or crashed',
    atMs: Date.now(),
  } as const;
  const lost = { ...record, end };
  try {
    rmSync(folder.socketPath, { force: true });
    folder.write(lost);
  } catch {
    // Another command was quicker, or it is another user's.
  }
  return lost;
}

/** proc_pid_stat(5), field 22; the second, a name in parentheses, may hold anything. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' ? undefined : rest[18];
  } catch {
    return undefined;
  }
}
