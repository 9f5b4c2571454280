/** One process that runs test files: here, or in a rig. */
import { type ChildProcess, spawn } from 'node:child_process';
import { type FileResult, type LaneRecord, RecordReader } from './record.js';

export interface LaneOptions {
  readonly command: readonly [program: string, ...args: string[]];
  readonly env?: Readonly<Record<string, string>>;
  /** Called when it takes files. */
  readonly onReady?: (lane: LaneProcess) => void;
  readonly onResult: (result: FileResult) => void;
  /** Called with each line of other output. */
  readonly onLine: (line: string) => void;
  /** The process is ended when a file takes longer. */
  readonly fileTimeoutSeconds: number;
}

export class LaneProcess {
  readonly #options: LaneOptions;
  readonly #child: ChildProcess;
  readonly #given: string[] = [];
  #begun: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timedOut = false;
  /** Resolves with its exit status, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;

  constructor(options: LaneOptions) {
    this.#options = options;
    const [program, ...args] = options.command;
    this.#child = spawn(program, args, {
      env: { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const { stdin, stdout, stderr } = this.#child;
    stdin?.on('error', () => {}); // it has ended, and its status tells
    const records = new RecordReader((record) => this.#take(record), options.onLine);
    stdout?.setEncoding('utf8').on('data', (text: string) => records.push(text));
    const errors = new RecordReader(() => {}, options.onLine);
    stderr?.setEncoding('utf8').on('data', (text: string) => errors.push(text));
    const kill = (): void => void this.#child.kill();
    process.once('exit', kill);
    this.ended = new Promise((resolve, reject) => {
      this.#child.once('error', reject);
      this.#child.once('close', (status, signal) => {
        process.off('exit', kill);
        clearTimeout(this.#timer);
        records.end();
        errors.end();
        resolve(status ?? signal ?? 'SIGKILL');
      });
    });
  }

  /** Files that it was given and has not finished, in the order in which they were given. */
  get unfinished(): readonly string[] {
    return this.#given;
  }

  /** File that it is at, or was at when it ended; undefined between two files. */
  get begun(): string | undefined {
    return this.#begun;
  }

  get timedOut(): boolean {
    return this.#timedOut;
  }

  give(files: readonly string[]): void {
    this.#given.push(...files);
    this.#child.stdin?.write(`${files.join(' ')}\n`);
  }

  /** No more files come. */
  finish(): void {
    this.#child.stdin?.end();
  }

  #take(record: LaneRecord): void {
    clearTimeout(this.#timer);
    switch (record.kind) {
      case 'ready':
        this.#options.onReady?.(this);
        break;
      case 'begin':
        this.#begun = record.file;
        this.#timer = setTimeout(() => {
          this.#timedOut = true;
          this.#child.kill();
        }, this.#options.fileTimeoutSeconds * 1000);
        break;
      case 'end': {
        const place = this.#given.indexOf(record.result.file);
        if (place >= 0) this.#given.splice(place, 1);
        this.#begun = undefined;
        this.#options.onResult(record.result);
        break;
      }
    }
  }
}
