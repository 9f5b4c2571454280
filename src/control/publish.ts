/** Makes a machine of this process known by a name, with a log and the control API, until it has ended. */
import { endOf } from '../guest/life.js';
import { DEFAULT_MEMORY_BYTES } from '../machine/config.js';
import type { Machine } from '../machine/machine.js';
import { bugEnd } from '../machine/report/guest-ends.js';
import { Cleanup } from '../util/cleanup.js';
import { warnOperator } from '../util/operator-warning.js';
import { EXIT_CODES } from './exit-codes.js';
import { ControlServer } from './http/server.js';
import { Instance } from './instance.js';
import { commandEnd, type InstanceEnd, instanceEnd } from './instance-end.js';
import { logCommand } from './logs/command-log.js';
import { ConsoleLog } from './logs/console-log.js';
import { checkName, type MachineFolder, type MachineStore } from './machine-store.js';
import { ProcessMeter } from './stats/process-meter.js';

interface PublishOptions {
  /** What its guest runs. */
  readonly command: readonly string[];
  readonly removeAtEnd?: boolean;
  /** Default: one of its own. */
  readonly meter?: ProcessMeter;
}

export class PublishedMachine implements AsyncDisposable {
  readonly instance: Instance;
  readonly #folder: MachineFolder;
  readonly #server: ControlServer;
  readonly #removeAtEnd: boolean;

  private constructor(
    instance: Instance,
    folder: MachineFolder,
    server: ControlServer,
    removeAtEnd: boolean,
  ) {
    this.instance = instance;
    this.#folder = folder;
    this.#server = server;
    this.#removeAtEnd = removeAtEnd;
  }

  /**
   * @throws TsvmError `TSVM_STATE` if the name is taken.
   */
  static async publish(
    store: MachineStore,
    name: string,
    machine: Machine,
    { command, removeAtEnd = false, meter = new ProcessMeter() }: PublishOptions,
  ): Promise<PublishedMachine> {
    const { memoryBytes = DEFAULT_MEMORY_BYTES, cpus = 1 } = machine.config;
    const folder = store.claim(name, { memoryBytes, cpus, command });
    try {
      const instance = new Instance(name, new ConsoleLog(folder.logPath), { meter });
      instance.adopt(machine);
      instance.onFork = async (names, fresh) =>
        await publishForks(store, machine, { names, fresh }, { command, meter });
      const server = await ControlServer.listen(instance, folder.socketPath);
      return new PublishedMachine(instance, folder, server, removeAtEnd);
    } catch (error) {
      folder.remove();
      throw error;
    }
  }

  /** Tells whoever waits that it has ended, and records it. All of that is done, also after some of it failed. */
  async finish(end: InstanceEnd): Promise<void> {
    const { instance } = this;
    instance.finish(end);
    const steps = new Cleanup(); // the last first
    if (this.#removeAtEnd) steps.defer(() => this.#folder.remove());
    steps.defer(() => this.#server[Symbol.asyncDispose]());
    steps.defer(() => this.#record(end));
    steps.defer(() => instance.log.close());
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
  { names, fresh }: { readonly names: readonly string[]; readonly fresh: boolean },
  options: PublishOptions,
): Promise<void> {
  for (const name of names) checkName(name);
  const forks = await parent.fork(names.length, { facts: (i) => ({ hostname: names[i], fresh }) });
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
  let end: InstanceEnd;
  try {
    end = await lived(machine, published, command);
  } catch (error) {
    await machine.kill();
    end = instanceEnd(bugEnd('the start of its command', error));
  }
  try {
    await published.finish(end);
  } catch (error) {
    const { message } = error as Error;
    warnOperator(`${published.instance.id}: its end cannot be kept: ${message}`);
  }
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
