/**
 * Where machines are found by name: a folder each, with a record, the console's log and the control socket.
 *
 * Only the process that runs a machine writes into its folder. A folder whose process is gone is a leftover: the next who comes says
 * so in its record, or takes its place.
 */
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { TsvmError } from '../errors.js';
import { describeFileError, isOfTheMoment } from '../host/files.js';
import { removeEntry, sweep } from '../host/folder-store.js';
import { type FolderRules, isOwnFolder, OwnFolder } from '../host/own-folder.js';
import { processStart } from '../host/proc.js';
import {
  MAX_RECORD_BYTES,
  type MachineRecord,
  parseRecord,
  type RecordedEnd,
  type RecordedStart,
} from './machine-record.js';

export type { MachineRecord, RecordedEnd, RecordedStart };

const RECORD = 'machine.json';
const SOCKET = 'api.sock';
const LOG = 'console.log';
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;
/** A folder without a record this long is a leftover of somebody who was killed between the two. */
const CLAIM_MS = 10_000;

const RULES: FolderRules = {
  code: 'TSVM_FILE',
  what: 'the folder of machines',
  hint: 'set TSVM_RUN_DIR to a folder of your own',
};

/**
 * `$TSVM_RUN_DIR`; else `tsvm` in `$XDG_RUNTIME_DIR`; else /run/tsvm for root, and a folder of one's own in /tmp for others. A
 * `$XDG_RUNTIME_DIR` of another user's, as su(1) leaves it, is none (XDG Base Directory Specification: it must be the user's own).
 */
export function runDirectory(): string {
  const { TSVM_RUN_DIR: own, XDG_RUNTIME_DIR: runtime } = process.env;
  if (own) return own;
  if (runtime && isOwnFolder(runtime)) return join(runtime, 'tsvm');
  const uid = process.geteuid?.() ?? 0;
  return uid === 0 ? '/run/tsvm' : join(tmpdir(), `tsvm-${uid}`);
}

/** @throws TsvmError `TSVM_USAGE` */
export function checkName(name: string): void {
  if (NAME.test(name)) return;
  throw new TsvmError('TSVM_USAGE', `name ${JSON.stringify(name)}: not a name for a machine`, {
    hint: 'a letter or digit, then up to 62 of these or . _ -',
  });
}

export function nameTaken(name: string): TsvmError {
  return new TsvmError('TSVM_STATE', `name ${name}: a machine of that name runs already`, {
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
    return join(this.path, SOCKET);
  }

  get logPath(): string {
    return join(this.path, LOG);
  }

  /**
   * Record of the machine; undefined if it is not there yet, damaged, or not ours.
   *
   * @throws TsvmError `TSVM_FILE` if that cannot be known now: a machine that runs must not be taken for a leftover then.
   */
  get record(): MachineRecord | undefined {
    try {
      using folder = OwnFolder.open(this.path, RULES);
      const record = parseRecord(folder?.read(RECORD, MAX_RECORD_BYTES) ?? '');
      return record?.name === this.name ? record : undefined;
    } catch (error) {
      if (isOfTheMoment(error)) throw error;
      return undefined;
    }
  }

  write(record: MachineRecord): void {
    using folder = this.#open();
    writeRecord(folder, record);
  }

  /** Its last word, for which there is room if there ever was for the log. */
  writeEnd(end: RecordedEnd): void {
    const { record } = this;
    if (record === undefined) return;
    try {
      this.write({ ...record, end });
    } catch {
      using folder = this.#open();
      folder.remove(`${LOG}.1`);
      folder.truncate(LOG);
      writeRecord(folder, { ...record, end });
    }
  }

  /** Says that its process went without a word; nothing is changed in a folder that is not ours. */
  writeLost(record: MachineRecord): void {
    using folder = this.#open();
    folder.remove(SOCKET);
    writeRecord(folder, record);
  }

  remove(): void {
    using store = OwnFolder.open(dirname(this.path), RULES);
    if (store !== undefined) removeEntry(store, this.name);
  }

  #open(): OwnFolder {
    const folder = OwnFolder.open(this.path, RULES);
    if (folder === undefined) throw new TsvmError('TSVM_FILE', `${this.path}: it was removed`);
    return folder;
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
    about: Pick<
      MachineRecord,
      'memoryBytes' | 'cpus' | 'command' | 'isolation' | 'labels' | 'start' | 'serves'
    >,
  ): MachineFolder {
    checkName(name);
    const pidStart = processStart(process.pid) ?? '';
    using store = OwnFolder.make(this.directory, RULES);
    sweep(store);
    const folder = this.#folder(name);
    while (!store.makeFolder(name)) {
      if (isTaken(store, folder)) {
        throw nameTaken(name);
      }
      folder.remove();
    }
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

  /**
   * Gives a machine that has ended another name; its log goes with it.
   *
   * @throws TsvmError `TSVM_STATE` if there is none of that name, if it runs, or if the other name is taken; `TSVM_FILE` as
   * {@link MachineStore.list}.
   */
  rename(name: string, to: string): void {
    checkName(to);
    const { folder, record } = this.find(name);
    if (isRunning(record)) {
      throw new TsvmError('TSVM_STATE', `${name} runs, and keeps its name so long`, {
        hint: `tsvm stop ${name}, then tsvm rename ${name} ${to} and tsvm start ${to}`,
      });
    }
    using store = OwnFolder.make(this.directory, RULES);
    if (!store.makeFolder(to)) {
      throw new TsvmError('TSVM_STATE', `name ${to}: there is a machine of that name`, {
        hint: `give another one, or forget that: tsvm rm ${to}`,
      });
    }
    try {
      folder.write({ ...record, name: to });
      store.rename(name, to); // over the empty folder that holds the name
    } catch (cause) {
      store.remove(to);
      throw new TsvmError('TSVM_FILE', `cannot write to ${folder.path}: ${describeFileError(cause)}`, {
        cause,
      });
    }
  }

  /**
   * Lists all machines, sorted by name. A machine whose process is gone is recorded as lost by this.
   *
   * @throws TsvmError `TSVM_FILE` if the folder of machines is not this user's, or others may write there.
   */
  list(): readonly { readonly folder: MachineFolder; readonly record: MachineRecord }[] {
    using store = OwnFolder.open(this.directory, RULES);
    const names = store?.names().filter((name) => NAME.test(name)) ?? []; // else nobody ever made a machine
    return names.sort().flatMap((name) => {
      const folder = this.#folder(name);
      const record = settled(folder);
      return record === undefined ? [] : [{ folder, record }];
    });
  }

  /** @throws TsvmError `TSVM_STATE` if there is none of that name; `TSVM_FILE` as {@link MachineStore.list}. */
  find(name: string): { readonly folder: MachineFolder; readonly record: MachineRecord } {
    using store = OwnFolder.open(this.directory, RULES);
    const folder = this.#folder(name);
    const record = store !== undefined && NAME.test(name) ? settled(folder) : undefined;
    if (record === undefined) {
      throw new TsvmError('TSVM_STATE', `there is no machine '${name}'`, { hint: 'tsvm ps -a lists all' });
    }
    return { folder, record };
  }

  #folder(name: string): MachineFolder {
    return new MachineFolder(join(this.directory, name), name);
  }
}

function writeRecord(folder: OwnFolder, record: MachineRecord): void {
  folder.write(RECORD, `${JSON.stringify(record, undefined, 2)}\n`);
}

/** Whether its process lives. */
export function isRunning({ pid, pidStart, end }: MachineRecord): boolean {
  return end === undefined && processStart(pid) === pidStart;
}

function isTaken(store: OwnFolder, folder: MachineFolder): boolean {
  const { record } = folder;
  if (record !== undefined) return isRunning(record);
  const made = store.stats(folder.name)?.mtimeMs;
  // Also if the clock was put back meanwhile.
  return made !== undefined && Math.abs(Date.now() - made) < CLAIM_MS;
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
    folder.writeLost(lost);
  } catch {
    // Another command was quicker, or it is another user's.
  }
  return lost;
}
