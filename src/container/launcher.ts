/** Runs the launcher (kvm-addon/launcher/): gives it a plan, hears how it goes. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { PassThrough, type Readable, type Writable } from 'node:stream';
import { hostRefuses, keptPlace, refuse } from './config.js';
import { ERRNO, SIGKILL, SIGNAL_BASE } from './linux.js';
import { VOLUME } from './mounts.js';
import { encodePlan, type Plan, type Step } from './plan.js';
import { EXECUTE, MAKE_WORKING_DIRECTORY, WORKING_DIRECTORY } from './process.js';

/** enum report_kind, kvm-addon/launcher/plan.h. */
const REPORT = { CREATED: 1, FAILED: 2, RUNNING: 3, EXITED: 4, LOST: 5 } as const;
const REPORT_BYTES = 16;
const SEAL = 'make a sealed copy of the launcher';
const PASS_STREAMS = 'pass the standard streams on';
/** Steps of the launcher's own, which are in no plan: enum own_step. */
const OWN_STEPS = [
  'read the plan',
  'watch signals',
  'make sockets',
  'make the namespaces',
  SEAL,
  PASS_STREAMS,
] as const;

/** How a command ended. */
export type ExitStatus =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'killed'; readonly signal: number };

/** Where a command's streams go: to this process as pipes, or to what this process has. */
export type Streams = 'pipe' | 'inherit';

/** A launcher with a plan. */
export class Launch {
  readonly #child: ChildProcess;
  readonly #plan: Plan;
  readonly #command: string;
  /** The process id of process 1, as this process sees it; it waits for {@link go}. */
  readonly created: Promise<number>;
  /** The command runs. */
  readonly running: Promise<void>;
  /** All of it has ended. */
  readonly ended: Promise<ExitStatus>;
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
  #onCreated: (pid: number) => void = () => {};
  #onRunning: () => void = () => {};
  #onFailure: (error: Error) => void = () => {};
  #status: ExitStatus | undefined;
  #lostOutput: string | undefined;
  #failure: Error | undefined;
  #pending = Buffer.alloc(0);

  /** @param command - the name of what the plan executes, for messages */
  constructor(program: string, plan: Plan, command: string, streams: Streams) {
    this.#plan = plan;
    this.#command = command;
    // A session of its own: Ctrl-C on the terminal comes to this process, which passes it on once.
    this.#child = spawn(program, [], {
      argv0: 'init', // process 1 shows it to whoever is in the container
      stdio: [streams, streams, streams, 'pipe', 'pipe'],
      detached: true,
      env: {},
    });
    // Node throws away what is in a child's pipe when it ends and nobody has begun to read: a command may be that quick.
    this.stdout = this.#child.stdout?.pipe(new PassThrough()) ?? null;
    this.stderr = this.#child.stderr?.pipe(new PassThrough()) ?? null;
    let fail: (error: Error) => void = () => {};
    this.created = new Promise((resolve, reject) => {
      this.#onCreated = resolve;
      fail = reject;
    });
    this.running = new Promise((resolve, reject) => {
      this.#onRunning = resolve;
      this.#onFailure = (error) => {
        this.#failure ??= error;
        fail(this.#failure);
        reject(this.#failure);
      };
    });
    // Whoever waits for one hears of it; nobody has to wait for both.
    this.created.catch(() => {});
    this.running.catch(() => {});
    this.ended = new Promise((resolve) => {
      this.#child.once('error', (error) => {
        this.#onFailure(refuse(`cannot run ${program}: ${error.message}`, 'npm run build', error));
        resolve({ kind: 'killed', signal: SIGKILL });
      });
      // What was said is read before the last end of the pipe is closed.
      const said = new Promise((resolve) => this.#reports.once('close', resolve));
      this.#child.once('exit', async (code, signal) => {
        await said;
        this.#onFailure(refuse('the container ended before its command ran'));
        resolve(this.#status ?? statusOf(code, signal));
      });
    });
    this.#control.on('error', () => {}); // the launcher is gone: its exit says so
    this.#reports.on('data', (piece: Buffer) => this.#take(piece));
    this.#control.write(encodePlan(plan));
  }

  /** Of the launcher; 0 if it could not be executed. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Error of a file that is a standard stream and took no more of the command's output, if there was one. */
  get lostOutput(): string | undefined {
    return this.#lostOutput;
  }

  get stdin(): Writable | null {
    return this.#child.stdin;
  }

  /** Process 1 may go on: it is in its cgroup, its ids are mapped. */
  go(): void {
    this.#control.write(Buffer.from([1]));
  }

  /** To the command; SIGKILL ends all of it. */
  signal(number: number): void {
    // Without whoever asked for it, the launcher ends all of it, and stays until that is done.
    if (number === SIGKILL) this.#control.destroy();
    else this.#child.kill(number);
  }

  get #control(): Socket {
    return this.#child.stdio[3] as Socket;
  }

  get #reports(): Socket {
    return this.#child.stdio[4] as Socket;
  }

  #take(piece: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, piece]);
    for (; this.#pending.length >= REPORT_BYTES; this.#pending = this.#pending.subarray(REPORT_BYTES)) {
      const word = (i: number): number => this.#pending.readUInt32LE(i * 4);
      this.#handle(word(0), word(1), word(2), word(3));
    }
  }

  #handle(kind: number, list: number, step: number, value: number): void {
    if (kind === REPORT.CREATED) this.#onCreated(value);
    else if (kind === REPORT.RUNNING) this.#onRunning();
    else if (kind === REPORT.FAILED) this.#onFailure(this.#explain(list, step, value));
    else if (kind === REPORT.LOST) this.#lostOutput ??= errnoName(value);
    else if (kind === REPORT.EXITED) {
      const signal = value & 0x7f;
      this.#status =
        signal === 0 ? { kind: 'exited', code: (value >> 8) & 0xff } : { kind: 'killed', signal };
    }
  }

  #explain(list: number, index: number, errno: number): Error {
    const lists: (readonly Step[] | undefined)[] = [
      undefined,
      this.#plan.host,
      this.#plan.init,
      this.#plan.command,
      this.#plan.keeper,
      this.#plan.agent,
      this.#plan.launcher,
    ];
    const purpose = (list === 0 ? OWN_STEPS[index] : lists[list]?.[index]?.purpose) ?? 'set up the terminal';
    return purpose === EXECUTE ? executeError(this.#command, errno) : stepError(purpose, errno);
  }
}

function statusOf(code: number | null, signal: NodeJS.Signals | null): ExitStatus {
  if (signal !== null) return { kind: 'killed', signal: constants.signals[signal] };
  // The launcher's own: process 1 was killed, and said nothing.
  return (code ?? 0) > SIGNAL_BASE
    ? { kind: 'killed', signal: (code ?? 0) - SIGNAL_BASE }
    : { kind: 'exited', code: code ?? 0 };
}

/** A command that could not be executed: `exitCode` is a shell's. */
export class ExecuteError extends Error {
  override readonly name = 'ExecuteError';
  readonly exitCode: 126 | 127;

  constructor(message: string, exitCode: 126 | 127) {
    super(message);
    this.exitCode = exitCode;
  }
}

function executeError(command: string, errno: number): Error {
  if (errno === ERRNO.ENOENT || errno === ERRNO.ENOTDIR) {
    return new ExecuteError(`${command}: not found in the container`, 127);
  }
  const why: Partial<Record<number, string>> = {
    [ERRNO.EACCES]: 'not executable',
    [ERRNO.EISDIR]: 'a directory',
    [ERRNO.ENOEXEC]: 'not a program of this machine',
    [ERRNO.E2BIG]: 'its arguments and environment are too long',
  };
  return new ExecuteError(`${command}: ${why[errno] ?? errnoName(errno)}`, 126);
}

function stepError(purpose: string, errno: number): Error {
  const place = [VOLUME, MAKE_WORKING_DIRECTORY].find((what) => purpose.startsWith(`${what} `));
  if (place !== undefined && errno === ERRNO.EXDEV) {
    return keptPlace(place === VOLUME ? 'volume' : 'working directory', purpose.slice(place.length + 1));
  }
  return hostRefuses(`cannot ${purpose}: ${errnoName(errno)}`, hintFor(purpose, errno));
}

function hintFor(purpose: string, errno: number): string | undefined {
  if (purpose === 'make the namespaces' && errno === ERRNO.ENOSPC) {
    return 'the limit of namespaces is reached: sysctl user.max_user_namespaces';
  }
  if (purpose.startsWith('mount an overlay') && errno === ERRNO.EINVAL) {
    return 'the upper directory must be on ext4, xfs, btrfs or tmpfs, not on an overlay; the kernel’s log says more: dmesg';
  }
  if (purpose === PASS_STREAMS && errno === ERRNO.EISDIR) return 'one of them is a directory: redirect it';
  if (purpose === SEAL && errno === ERRNO.EACCES)
    return 'this host executes nothing in memory: sysctl vm.memfd_noexec=1';
  if (purpose.startsWith(VOLUME)) return VOLUME_HINTS[errno];
  if (purpose.startsWith(WORKING_DIRECTORY)) return 'make it in the image or a volume, or name another one';
  const hidden = errno === ERRNO.EPERM ? SEEN_WHOLE[purpose] : undefined;
  if (hidden !== undefined)
    return `Linux allows it where ${hidden} is mounted and no part of it is hidden: mount it; in a container of Docker’s, start that with --security-opt systempaths=unconfined`;
  if (errno === ERRNO.EPERM || errno === ERRNO.EACCES) {
    return purpose === 'make the namespaces'
      ? 'this host gives user namespaces to the superuser only: run as root, or sysctl kernel.unprivileged_userns_clone=1'
      : 'this host does not let this user do it: run as root';
  }
  return undefined;
}

/** File systems that a user namespace gets an instance of only where the host's is seen whole (fs/namespace.c, mount_too_revealing()). */
const SEEN_WHOLE: Readonly<Record<string, string>> = { 'mount proc': '/proc', 'mount sysfs': '/sys' };

const VOLUME_HINTS: Readonly<Partial<Record<number, string>>> = {
  [ERRNO.ELOOP]:
    'the image or a volume has links there that lead in circles or into /proc: name another path',
  [ERRNO.ENOTDIR]: 'the image or a volume has a file there: name another path',
  [ERRNO.EISDIR]: 'the image or a volume has a directory there, and the source is a file',
  [ERRNO.EROFS]: 'it lies in a read-only volume, where nothing can be made: make it in that volume’s source',
};

function errnoName(errno: number): string {
  return Object.entries(constants.errno).find(([, value]) => value === errno)?.[0] ?? `error ${errno}`;
}
