/**
 * A command for a guest that is up: the host's end of the ports that guests/init serves. The guest's init sets everything up,
 * says `ready` and waits; there a machine can be saved, and each of its copies be given a command of its own.
 */
import { type Readable, Writable } from 'node:stream';
import type { PortHost } from '../devices/backends/console.js';
import { TsvmError } from '../errors.js';
import type { Abortable } from '../util/abort.js';
import { checkState, checkStateVersion } from '../util/state.js';
import { AgentDoor, type AgentWay } from './agent-door.js';
import { InputPort, OutputPort } from './channel-ports.js';
import { checkSentCommand, commandStrings, framed, type GuestCommand } from './command.js';
import { factOptions, type GuestFacts, mergeFacts } from './facts.js';
import { AGENT_OPTION, CHANNEL_PORTS, PROTOCOL_VERSION } from './protocol.js';

const SIGKILL = 9;
const SIGTERM = 15;

/** State of the channel in a saved machine. */
export interface ChannelState {
  /** Version of the protocol that its init speaks. */
  readonly protocol: number;
  readonly hasCommand: boolean;
  readonly hasTerminal: boolean;
  /** True if its guest was told its facts: with a command, or before its agent was asked for anything. Default: as `hasCommand`. */
  readonly isInUse?: boolean | undefined;
  /** Tells whether its guest has the agent; absent if its init has not said, or the machine is to have none. */
  readonly agent?: boolean | undefined;
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
 * const { channel } = machine;
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
  /** Tells whether that command has the machine's console in place of these streams. */
  readonly hasTerminal: boolean;
  /**
   * Starts the command: at once if the guest is `ready`, else as soon as it is. With `tty: true` it gets the machine's
   * console and not the streams; default false. The guest gets new entropy and the time with it, unless `facts` says otherwise. An abort
   * ends the command (SIGKILL, status 137), as that of `spawn` in Node.js does.
   *
   * @throws TsvmError `TSVM_STATE` if there was one before, `TSVM_CONFIG` if init cannot take it, or it wants a terminal that the machine does
   * not have.
   */
  send(command: GuestCommand, facts?: GuestFacts, options?: Abortable): void;
  /**
   * Gives a guest whose command runs, or whose agent is in use, new entropy and the time, unless `facts` says otherwise. A copy of a machine
   * gets both when it starts.
   *
   * @throws TsvmError `TSVM_STATE` if it has no command and its agent was not dialled: then they go with `send`.
   */
  refresh(facts?: GuestFacts): void;
  /** Sends signal `number` to the command's process group. @throws TsvmError `TSVM_STATE` if there is no command. */
  signal(number: number): void;
  /** Tells the size of the console to a command with `tty: true`; has no effect before there is one. */
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
  /** Present if the machine is to have the agent. */
  readonly agent: AgentDoor | undefined;
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
  /** Tells whether the guest was told its facts; from then on a copy is told its own when it starts. */
  #isInUse = false;
  /** Facts for the guest of a copy; undefined in a machine that is none. */
  #copyFacts: GuestFacts | undefined;
  #hasTerminal = false;

  /** @param connect - connects to the guest's vsock, if the machine is to have the agent */
  constructor({ console }: { readonly console?: string | undefined }, connect?: AgentWay['connect']) {
    this.#hasConsole = console !== 'none';
    this.agent = connect && new AgentDoor({ ask: () => this.#askForAgent(), connect });
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

  get hasTerminal(): boolean {
    return this.#hasTerminal;
  }

  /** No input at all is said with the command, so that the guest need not look at the port. */
  get #hasNoInput(): boolean {
    return this.stdin.writableEnded && !this.#inputUsed;
  }

  #endInput(): void {
    const willBeSaid = !this.#hasCommand && this.#hasNoInput;
    if (!this.#ended && !this.#saidNoInput && !willBeSaid) this.#stdin.close();
  }

  send(command: GuestCommand, facts: GuestFacts = {}, { signal }: Abortable = {}): void {
    signal?.throwIfAborted();
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
    checkSentCommand(command);
    const told = mergeFacts(this.#copyFacts ?? {}, facts);
    const more = [...factOptions(told), ...(this.#hasNoInput ? ['stdin=0'] : [])];
    this.#say(commandStrings({ ...command, tty: command.tty === true }, more));
    this.#hasCommand = true;
    this.#isInUse = true;
    this.#hasTerminal = command.tty === true;
    this.#saidNoInput = this.#hasNoInput;
    if (signal !== undefined) this.#killWhenAborted(signal);
  }

  #killWhenAborted(signal: AbortSignal): void {
    const kill = (): void => this.signal(SIGKILL);
    signal.addEventListener('abort', kill, { once: true });
    void this.exited.then(() => signal.removeEventListener('abort', kill));
  }

  refresh(facts: GuestFacts = {}): void {
    const options = factOptions(facts);
    if (!this.#isInUse) throw noCommand('refresh', 'send() takes the same facts');
    this.#sayFacts(options);
  }

  save(): ChannelState {
    return {
      protocol: PROTOCOL_VERSION,
      hasCommand: this.#hasCommand,
      hasTerminal: this.#hasTerminal,
      isInUse: this.#isInUse,
      ...(this.agent?.isThere !== undefined && { agent: this.agent.isThere }),
      unsent: this.#control.unsent.toString('base64'),
    };
  }

  /**
   * Makes this the channel of a copy, whose guest learns `facts` when it starts, or with its command.
   *
   * @param state - of the original's; undefined if a snapshot has none, which is refused
   * @throws TsvmError `TSVM_STATE` if the copy's init speaks another version of the protocol; `TSVM_CONFIG` for facts that are none.
   */
  restore(state: ChannelState | undefined, facts: GuestFacts = {}): void {
    framed(factOptions(facts));
    checkState(state !== undefined, 'it has no channel');
    checkStateVersion('the channel’s protocol', { version: state.protocol }, PROTOCOL_VERSION);
    this.#copyFacts = facts;
    this.#hasCommand = state.hasCommand;
    this.#hasTerminal = state.hasTerminal;
    this.#isInUse = state.isInUse ?? state.hasCommand;
    this.agent?.restore(state.agent);
    this.#control.write(Buffer.from(state.unsent, 'base64'));
  }

  /** The machine starts. */
  onStart(): void {
    if (this.#copyFacts === undefined || !this.#isInUse) return;
    const options = factOptions(this.#copyFacts);
    if (options.length > 0) this.#sayFacts(options);
  }

  /** Tells facts to a guest that is in use. One without a command would take them for its command. */
  #sayFacts(options: readonly string[]): void {
    this.#say(this.#hasCommand ? options : [...options, AGENT_OPTION]);
  }

  /** Init answers when it has taken the facts in, so that the agent does nothing before. */
  #askForAgent(): void {
    const facts = this.#isInUse ? [] : factOptions(this.#copyFacts ?? {});
    this.#isInUse = true;
    this.#say([...facts, AGENT_OPTION]);
  }

  signal(number: number): void {
    if (!Number.isInteger(number) || number < 1 || number > 64)
      throw new TsvmError('TSVM_CONFIG', `signal: ${number} is not from 1 to 64`);
    if (!this.#hasCommand) throw noCommand('signal', 'send() gives it one');
    this.#say([`signal=${number}`]);
  }

  resize(rows: number, columns: number): void {
    for (const count of [rows, columns]) {
      if (!Number.isInteger(count) || count < 0 || count > 0xffff)
        throw new TsvmError('TSVM_CONFIG', `resize: ${count} is not from 0 to 65535`);
    }
    if (this.#hasCommand) this.#say([`winsize=${rows}x${columns}`]);
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
    this.agent?.onEnd();
    if (this.#ended) return;
    this.#ended = true;
    for (const output of [this.#stdout, this.#stderr]) output.end();
    this.stdin.destroy();
    this.#resolveExited(undefined);
  }
}

/** The error of a message that a guest without a command would take for its command. */
function noCommand(what: string, hint: string): TsvmError {
  return new TsvmError('TSVM_STATE', `cannot ${what} a machine that has no command`, { hint });
}
