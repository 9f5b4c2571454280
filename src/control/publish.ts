/** Makes a machine of this process known by a name, with a log and the control API, until it has ended. */
import { TsvmError } from '../errors.js';
import { endOf } from '../guest/life.js';
import { DEFAULT_MEMORY_BYTES } from '../machine/config.js';
import type { Machine } from '../machine/machine.js';
import { bugEnd } from '../machine/report/guest-ends.js';
import type { Abortable } from '../util/abort.js';
import { Cleanup } from '../util/cleanup.js';
import { type Fields, FLAG, isListOf, isText, optional, requireFields } from '../util/fields.js';
import { warnOperator } from '../util/operator-warning.js';
import type { Budget } from './budget.js';
import { EXIT_CODES } from './exit-codes.js';
import { ControlServer } from './http/server.js';
import { Instance, type SteeredContainer } from './instance.js';
import { commandEnd, type InstanceEnd, instanceEnd } from './instance-end.js';
import { logCommand } from './logs/command-log.js';
import { ConsoleLog } from './logs/console-log.js';
import { areLabels, type Labels } from './machine-record.js';
import { checkName, type MachineFolder, type MachineRecord, MachineStore } from './machine-store.js';
import { ProcessMeter } from './stats/process-meter.js';

/** Options by which a machine of a program is made known. */
export interface PublishOptions {
  /** Name of the machine: a letter or digit, then up to 62 of these or `.`, `_` and `-`. */
  readonly name: string;
  /** Command that `tsvm ps` shows. Default: that of the configuration. */
  readonly command?: readonly string[] | undefined;
  /** Labels by which it is found: `tsvm ps --filter label=NAME`. Default: none. */
  readonly labels?: Labels | undefined;
  /** Remove its record and its log when it ends. Default false: `tsvm ps -a` and `tsvm logs` have them until the name is taken again. */
  readonly removeAtEnd?: boolean | undefined;
  /** Folder where machines are found. Default: where the commands find them. */
  readonly directory?: string | undefined;
}

/** Name of a machine, as long as it has it. Disposing of it takes the name away: nothing of it is left, and the machine goes on. */
export interface Publication extends AsyncDisposable {
  readonly name: string;
}

const OPTIONS: Fields<PublishOptions> = {
  name: ['a text', isText],
  command: optional(['a list of texts', isListOf(isText)]),
  labels: optional(['an object of texts', areLabels]),
  removeAtEnd: optional(FLAG),
  directory: optional(['a path', isText]),
};

interface Known extends Pick<MachineRecord, 'labels' | 'start'> {
  /** Command that its guest runs. */
  readonly command: readonly string[];
  readonly removeAtEnd?: boolean | undefined;
  /** Default: one of its own. */
  readonly meter?: ProcessMeter;
  /** Budget that it is a part of, with its copies. Default: none. */
  readonly budget?: Budget;
}

interface KnownContainer extends Pick<Known, 'command' | 'labels' | 'start' | 'removeAtEnd'> {
  /** Limits; 0 without. */
  readonly memoryBytes: number;
  readonly cpus: number;
}

/**
 * Gives a machine of this program a name, under which `tsvm ps`, `top`, `attach`, `logs`, `stop` and the other commands, and `connect` of other
 * programs find it, until it ends. Its console is logged from then on. A command's streams (`machine.channel`) stay this program's; copies
 * that others ask for are made in this process, and live until they end.
 *
 * The machine keeps the process running as long as it has a name, also while it is paused or not started yet.
 *
 * @throws TsvmError `TSVM_STATE` if a machine of that name runs, or this one has ended; `TSVM_USAGE` for what is no name; `TSVM_FILE` if the
 * folder of machines is not this user's or cannot be written.
 *
 * @example
 * ```ts
 * import { createMachine, findGuest, publish } from 'tsvm';
 *
 * await using machine = await createMachine(await findGuest());
 * await publish(machine, { name: 'web' });
 * await machine.start();
 * console.log(await machine.wait()); // meanwhile: tsvm attach web
 * ```
 */
export async function publish(machine: Machine, options: PublishOptions): Promise<Publication> {
  requireFields(options, OPTIONS, 'publish');
  const { name, command = machine.config.command?.argv ?? [], labels, removeAtEnd, directory } = options;
  if (machine.state === 'ended') throw new TsvmError('TSVM_STATE', 'cannot publish a machine that is ended');
  const known = { command, removeAtEnd, ...(labels && { labels }) };
  const published = await PublishedMachine.publish(new MachineStore(directory), name, machine, known);
  const ended = finished(published, endOfMachine(machine));
  return {
    name,
    // An end that has come is recorded, if only in the next turn.
    [Symbol.asyncDispose]: () => (machine.state === 'ended' ? ended : published.withdraw()),
  };
}

export class PublishedMachine implements AsyncDisposable {
  readonly instance: Instance;
  readonly #folder: MachineFolder;
  readonly #server: ControlServer;
  readonly #removeAtEnd: boolean;
  /** Its room in a budget. */
  readonly #room: Disposable | undefined;
  #finishing: Promise<void> | undefined;

  private constructor(
    instance: Instance,
    folder: MachineFolder,
    server: ControlServer,
    { removeAtEnd, room }: { readonly removeAtEnd: boolean; readonly room: Disposable | undefined },
  ) {
    this.instance = instance;
    this.#folder = folder;
    this.#server = server;
    this.#removeAtEnd = removeAtEnd;
    this.#room = room;
  }

  /**
   * @throws TsvmError `TSVM_STATE` if the name is taken.
   */
  static async publish(
    store: MachineStore,
    name: string,
    machine: Machine,
    { command, labels, start, removeAtEnd = false, meter = new ProcessMeter(), budget }: Known,
  ): Promise<PublishedMachine> {
    const { memoryBytes = DEFAULT_MEMORY_BYTES, cpus = 1 } = machine.config;
    const room = budget?.take(memoryBytes);
    let folder: MachineFolder | undefined;
    try {
      folder = store.claim(name, {
        memoryBytes,
        cpus,
        command,
        ...(labels && { labels }),
        ...(start && { start }),
      });
      const instance = new Instance(name, new ConsoleLog(folder.logPath), { meter });
      instance.adopt(machine);
      instance.onFork = async (names, fresh, signal) =>
        await publishForks(
          store,
          machine,
          { names, fresh, signal },
          { command, meter, ...(labels && { labels }), ...(budget && { budget }) },
        );
      const server = await ControlServer.listen(instance, folder.socketPath);
      return new PublishedMachine(instance, folder, server, { removeAtEnd, room });
    } catch (error) {
      folder?.remove();
      room?.[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Starts a container that others find by a name. The name is taken before, and free again if it does not start.
   *
   * @throws TsvmError `TSVM_STATE` if the name is taken.
   */
  static async publishContainer(
    store: MachineStore,
    name: string,
    { removeAtEnd = false, ...limits }: KnownContainer,
    start: (instance: Instance) => Promise<SteeredContainer & AsyncDisposable>,
  ): Promise<PublishedMachine> {
    const folder = store.claim(name, { ...limits, isolation: 'container' });
    const instance = new Instance(name, new ConsoleLog(folder.logPath));
    let container: (SteeredContainer & AsyncDisposable) | undefined;
    try {
      container = await start(instance);
      instance.adoptContainer(container);
      const server = await ControlServer.listen(instance, folder.socketPath);
      return new PublishedMachine(instance, folder, server, { removeAtEnd, room: undefined });
    } catch (error) {
      await container?.[Symbol.asyncDispose]();
      await instance.log.close();
      folder.remove();
      throw error;
    }
  }

  /** Tells whoever waits that it has ended, and records it. All of that is done, also after some of it failed. */
  async finish(end: InstanceEnd): Promise<void> {
    this.instance.finish(end);
    this.#finishing ??= this.#close(this.#removeAtEnd, () => this.#record(end));
    await this.#finishing;
  }

  /** Takes the name from a machine that goes on, unless its end is being recorded. */
  async withdraw(): Promise<void> {
    this.instance.release();
    this.#finishing ??= this.#close(true);
    await this.#finishing;
  }

  async #close(remove: boolean, record: () => void = () => {}): Promise<void> {
    const steps = new Cleanup(); // the last first
    steps.defer(() => this.#room?.[Symbol.dispose]());
    if (remove) steps.defer(() => this.#folder.remove());
    steps.defer(() => this.#server[Symbol.asyncDispose]());
    steps.defer(record);
    steps.defer(() => this.instance.log.close());
    await steps.run();
  }

  /** Ends what was not finished, since whoever ran it met an error: a server that nobody closes would keep this process. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.instance.end !== undefined) return;
    await this.finish(instanceEnd({ kind: 'stopped' }, EXIT_CODES.hostFailure)).catch(() => {}); // that error is told
  }

  #record(end: InstanceEnd): void {
    try {
      this.#folder.writeEnd({ ...end, atMs: Date.now() });
    } catch {
      // The folder was taken away, or is on a disk that is broken: then it is seen as lost.
    }
  }
}

/** Each lives until it ends; this process with it. */
async function publishForks(
  store: MachineStore,
  parent: Machine,
  asked: { readonly names: readonly string[]; readonly fresh: boolean } & Abortable,
  options: Known,
): Promise<void> {
  const { names, fresh, signal } = asked;
  for (const name of names) checkName(name);
  options.budget?.check(names.length, parent.config.memoryBytes ?? DEFAULT_MEMORY_BYTES);
  const forks = await parent.fork(names.length, { facts: (i) => ({ hostname: names[i], fresh }), signal });
  try {
    for (const [i, fork] of forks.entries()) {
      const published = await PublishedMachine.publish(store, names[i] ?? '', fork, options);
      void live(fork, published, undefined);
    }
  } catch (error) {
    await Promise.all(forks.map((fork) => fork.kill()));
    throw error;
  }
}

/**
 * Does what `tsvm run` does for the machine that it made: gives it its command, and stays with it to its end.
 *
 * The promise never rejects, since nobody need wait for it: what fails with one machine is that machine's end, and not its process's.
 *
 * @param command - command for a guest that waits for one; undefined: it is not given any
 */
export async function live(
  machine: Machine,
  published: PublishedMachine,
  command: readonly string[] | undefined,
): Promise<void> {
  const end = lived(machine, published, command).catch(async (error: unknown) => {
    await machine.kill();
    return instanceEnd(bugEnd('the start of its command', error));
  });
  await finished(published, end);
}

/** Finishes a machine that is known when its end comes. Never rejects. */
async function finished(published: PublishedMachine, end: Promise<InstanceEnd>): Promise<void> {
  try {
    await published.finish(await end);
  } catch (error) {
    const { message } = error as Error;
    warnOperator(`${published.instance.id}: its end cannot be kept: ${message}`);
  }
}

/** End of a machine that its program steers: that of its command, where it has told one. */
async function endOfMachine(machine: Machine): Promise<InstanceEnd> {
  const [end, status] = await Promise.all([machine.wait(), machine.channel?.exited]);
  return status === undefined ? instanceEnd(end) : commandEnd(status);
}

async function lived(
  machine: Machine,
  { instance }: PublishedMachine,
  command: readonly string[] | undefined,
): Promise<InstanceEnd> {
  const { channel } = machine;
  // A command with a terminal is on the machine's console, which is in the log anyway.
  const logged = channel === undefined || channel.hasTerminal ? undefined : logCommand(channel, instance);
  if (command !== undefined && channel?.hasCommand === false) channel.send({ argv: command });
  const { end, status } = await endOf(machine, logged);
  return status === undefined ? instanceEnd(end) : commandEnd(status);
}
