/**
 * A command for a guest that is up: the host's end of the ports that guests/init serves. The guest's init sets everything up,
 * says `ready` and waits; there a machine can be saved, and each of its copies be given a command of its own.
 */
import { Readable, Writable } from 'node:stream';
import type { PortControl, PortHost } from '../devices/host.js';
import { TsvmError } from '../errors.js';
import { commandOptions } from './boot.js';
import type { GuestCommand, MachineConfig } from './config.js';
import { factOptions, freshFacts, type GuestFacts } from './guest-facts.js';

/** Ports 1 to 4 of the machine's first virtio-console; guests/init/channel.c knows them by these numbers. */
export const CHANNEL_PORTS = ['tsvm.control', 'tsvm.stdin', 'tsvm.stdout', 'tsvm.stderr'] as const;

/** Bound of one message: as much as the guest's init has room for. */
const MAX_MESSAGE_BYTES = 256 * 1024;
/** Output that is kept for a reader on the host before the guest has to wait. */
const OUTPUT_BUFFER_BYTES = 64 * 1024;

const SIGTERM = 15;

/** State of the channel in a saved machine. */
export interface ChannelState {
  readonly hasCommand: boolean;
  /** Bytes of messages that the device had not taken yet, in Base64. */
  readonly unsent: string;
}

/**
 * The guest's init, waiting for a command, and the command's streams.
 *
 * @example
 * ```ts
 * import { createMachine, findGuest } from 'tsvm';
 *
 * await using machine = await createMachine({ ...(await findGuest()), channel: true });
 * await machine.start();
 * const channel = machine.channel!; // there, since it was asked for
 * channel.send({ argv: ['sort'] });
 * channel.stdin.end('b\na\n');
 * channel.stdout.pipe(process.stdout);
 * console.log(await channel.exited);
 * ```
 */
export interface GuestChannel {
  /**
   * Standard input of the command. Ending it before `send`, with nothing written, is the quickest way to say that there is
   * none. It is destroyed when the command no longer reads it.
   */
  readonly stdin: Writable;
  /** Standard output. Destroying it gives the command SIGPIPE when it writes. Nobody reads it: the command waits. */
  readonly stdout: Readable;
  readonly stderr: Readable;
  /**
   * The command's exit status (128 + N after signal N, 127 not found, 126 not executable), once all it wrote is in `stdout`
   * and `stderr`; undefined if the machine ended before. Never rejects.
   */
  readonly exited: Promise<number | undefined>;
  /** Tells whether a command was sent: to this machine, or to the one that it is a copy of. */
  readonly hasCommand: boolean;
  /**
   * Starts the command: at once if the guest is `ready`, else as soon as it is. With `tty: true` it gets the machine's
   * console and not the streams; default false. A copy of a machine gets new entropy and the time with it, unless `facts` says otherwise.
   *
   * @throws TsvmError `TSVM_STATE` if there was one before, `TSVM_CONFIG` if it is too long, has a NUL in it, or wants a terminal that
   * the machine does not have.
   */
  send(command: GuestCommand, facts?: GuestFacts): void;
  /**
   * Tells facts to a guest whose command runs. A copy of a machine is told the time, and given new entropy, when it starts.
   *
   * @throws TsvmError `TSVM_STATE` if it has no command: then they go with `send`.
   */
  refresh(facts: GuestFacts): void;
  /** Sends signal `number` to the command's process group. */
  signal(number: number): void;
  /** Tells the size of the console to a command with `tty: true`. */
  resize(rows: number, columns: number): void;
  /** Ends the guest in order: init kills what runs, writes back and unmounts disks, and powers off. */
  close(): void;
}

/** {@link GuestChannel} as the machine has it. */
export class MachineChannel implements GuestChannel {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly exited: Promise<number | undefined>;
  readonly #hasConsole: boolean;
  readonly #control = new InputPort();
  readonly #stdin = new InputPort();
  readonly #stdout = new OutputPort();
  readonly #stderr = new OutputPort();
  #resolveExited: (status: number | undefined) => void = () => {};
  #inputUsed = false;
  #saidNoInput = false;
  #ended = false;
  #hasCommand = false;
  #isCopy = false;

  constructor(config: MachineConfig) {
    this.#hasConsole = config.console !== 'none';
    this.stdin = new Writable({
      write: (chunk: Uint8Array, _encoding, callback) => {
        this.#inputUsed = true;
        this.#stdin.write(chunk, callback);
      },
      final: (callback) => {
        this.#endInput();
        callback();
      },
      destroy: (error, callback) => {
        this.#endInput();
        callback(error);
      },
    });
    this.#stdin.onGone = () => void this.stdin.destroy();
    this.stdout = this.#stdout.stream;
    this.stderr = this.#stderr.stream;
    this.exited = new Promise((resolve) => {
      this.#resolveExited = resolve;
    });
  }

  /** The host's side of a port, for the device. @throws TsvmError `TSVM_CONFIG` */
  port(name: string): PortHost {
    const port = [this.#control, this.#stdin, this.#stdout, this.#stderr][
      CHANNEL_PORTS.indexOf(name as (typeof CHANNEL_PORTS)[number])
    ];
    if (port === undefined) throw new TsvmError('TSVM_CONFIG', `console.ports: nobody serves port '${name}'`);
    return port;
  }

  get hasCommand(): boolean {
    return this.#hasCommand;
  }

  /** No input at all is said with the command, so that the guest need not look at the port. */
  get #hasNoInput(): boolean {
    return this.stdin.writableEnded && !this.#inputUsed;
  }

  #endInput(): void {
    const willBeSaid = !this.#hasCommand && this.#hasNoInput;
    if (!this.#ended && !this.#saidNoInput && !willBeSaid) this.#stdin.close();
  }

  send(command: GuestCommand, facts: GuestFacts = {}): void {
    if (this.#hasCommand || this.#ended) {
      throw new TsvmError('TSVM_STATE', 'cannot send a command to a machine that had one, or has ended', {
        hint: 'restore or fork the machine for each command',
      });
    }
    if (command.tty === true && !this.#hasConsole) {
      throw new TsvmError('TSVM_CONFIG', 'command: a machine with no console has no terminal to give', {
        hint: 'make it with console serial or virtio, or give the command no tty',
      });
    }
    const options = [
      ...factOptions({ ...(this.#isCopy ? freshFacts() : {}), ...facts }),
      ...(this.#hasNoInput ? ['stdin=0'] : []),
      ...commandOptions({ ...command, tty: command.tty === true }),
    ];
    this.#say([...options, '', ...command.argv]);
    this.#hasCommand = true;
    this.#saidNoInput = this.#hasNoInput;
  }

  refresh(facts: GuestFacts): void {
    const message = framed(factOptions(facts));
    if (!this.#hasCommand) {
      throw new TsvmError('TSVM_STATE', 'cannot refresh a machine that has no command', {
        hint: 'send() takes the same facts',
      });
    }
    this.#control.write(message);
  }

  save(): ChannelState {
    return { hasCommand: this.#hasCommand, unsent: this.#control.unsent.toString('base64') };
  }

  /** Makes this the channel of a copy. `state` is that of the original, which knew of none in older snapshots. */
  restore(state: ChannelState | undefined): void {
    this.#isCopy = true;
    if (state === undefined) return;
    this.#hasCommand = state.hasCommand;
    this.#control.write(Buffer.from(state.unsent, 'base64'));
  }

  /** The machine starts. */
  onStart(): void {
    if (this.#isCopy && this.#hasCommand) this.refresh(freshFacts());
  }

  signal(number: number): void {
    if (!Number.isInteger(number) || number < 1 || number > 64)
      throw new TsvmError('TSVM_CONFIG', `signal: ${number} is not from 1 to 64`);
    this.#say([`signal=${number}`]);
  }

  resize(rows: number, columns: number): void {
    for (const count of [rows, columns]) {
      if (!Number.isInteger(count) || count < 0 || count > 0xffff)
        throw new TsvmError('TSVM_CONFIG', `resize: ${count} is not from 0 to 65535`);
    }
    this.#say([`winsize=${rows}x${columns}`]);
  }

  close(): void {
    this.#control.close();
  }

  /** Asks the command to end; the guest, if there is none or `insist`. */
  requestStop(insist: boolean): boolean {
    if (this.#hasCommand && !this.#ended && !insist) this.signal(SIGTERM);
    else this.close();
    return true;
  }

  #say(strings: readonly string[]): void {
    this.#control.write(framed(strings));
  }

  /** The command has ended, and everything that it wrote is in the device's queues. */
  onExitStatus(status: number): void {
    if (this.#ended) return;
    this.#ended = true;
    const outputs = [this.#stdout, this.#stderr];
    for (const output of outputs) output.flush();
    // A queue may have had its share for this turn, and goes on in the next.
    setImmediate(() => {
      for (const output of outputs) output.end();
      this.stdin.destroy();
      this.#resolveExited(status);
    });
  }

  /** The machine has ended. */
  onEnd(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const output of [this.#stdout, this.#stderr]) output.end();
    this.stdin.destroy();
    this.#resolveExited(undefined);
  }
}

/** A message to guests/init. @throws TsvmError `TSVM_CONFIG` if it is too long, or has a NUL in a string. */
function framed(strings: readonly string[]): Buffer {
  const bad = strings.find((text) => text.includes('\0'));
  if (bad !== undefined)
    throw new TsvmError('TSVM_CONFIG', `command: there is a NUL in ${JSON.stringify(bad)}`);
  const text = Buffer.from(strings.map((string) => `${string}\0`).join(''));
  if (text.length > MAX_MESSAGE_BYTES) {
    throw new TsvmError('TSVM_CONFIG', `command: ${text.length} bytes with its environment`, {
      hint: `no more than ${MAX_MESSAGE_BYTES} fit; put the rest into a file or standard input`,
    });
  }
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  return Buffer.concat([length, text]);
}

/** A port that the host writes to; what the guest says on it is ignored. */
class InputPort implements PortHost {
  /** The guest's program closed the port: nobody will read what is written from now on. */
  onGone: (() => void) | undefined;
  readonly #waiting: { rest: Uint8Array; readonly done?: () => void }[] = [];
  #control: PortControl | undefined;
  #open = false;
  #closed = false;

  connect(control: PortControl): void {
    this.#control = control;
  }

  /** Bytes that the device has not taken yet. */
  get unsent(): Buffer {
    return Buffer.concat(this.#waiting.map(({ rest }) => rest));
  }

  onOutput(): boolean {
    return true;
  }

  onDrain(): void {
    this.#pump();
  }

  onOpen(open: boolean): void {
    if (this.#open && !open) this.onGone?.();
    this.#open = open;
  }

  /** Calls `done` when the device has taken all of it. */
  write(bytes: Uint8Array, done?: () => void): void {
    this.#waiting.push({ rest: bytes, ...(done && { done }) });
    if (this.#waiting.length === 1) this.#pump();
  }

  close(): void {
    this.#closed = true;
    if (this.#waiting.length === 0) this.#control?.close();
  }

  #pump(): void {
    const control = this.#control;
    for (
      let first = this.#waiting[0];
      control !== undefined && first !== undefined;
      first = this.#waiting[0]
    ) {
      const taken = control.input(first.rest);
      if (taken < first.rest.length) {
        first.rest = first.rest.subarray(taken);
        return;
      }
      this.#waiting.shift();
      first.done?.();
    }
    if (this.#closed) control?.close();
  }
}

/** A port that the host reads from, as a stream: the guest waits while nobody reads. */
class OutputPort implements PortHost {
  readonly stream: Readable;
  #control: PortControl | undefined;
  #wanted = false;
  #open = false;
  #unwanted = false;
  #flushing = false;
  #ended = false;

  constructor() {
    this.stream = new Readable({
      highWaterMark: OUTPUT_BUFFER_BYTES,
      read: () => {
        this.#wanted = true;
        this.#control?.resumeOutput();
      },
      destroy: (error, callback) => {
        // The guest looks at the ports as it opens them; until then none may seem closed.
        this.#unwanted = !this.#flushing && !this.#ended;
        if (this.#unwanted && this.#open) this.#control?.close();
        callback(error);
      },
    });
  }

  connect(control: PortControl): void {
    this.#control = control;
  }

  onOutput(bytes: Uint8Array): boolean {
    if (this.#ended || this.stream.destroyed) return true;
    this.#wanted = false;
    // The stream may ask for more from within `push`, and then says no for what came before.
    return this.stream.push(Buffer.from(bytes)) || this.#wanted || this.#flushing;
  }

  onDrain(): void {}

  onOpen(open: boolean): void {
    this.#open = open;
    if (open && this.#unwanted) this.#control?.close();
  }

  /** Takes what is there, wanted or not: the guest's queue bounds it. */
  flush(): void {
    this.#flushing = true;
    this.#control?.resumeOutput();
  }

  /** Whatever the guest still sends goes nowhere. */
  end(): void {
    this.#ended = true;
    if (!this.stream.destroyed) this.stream.push(null);
  }
}
