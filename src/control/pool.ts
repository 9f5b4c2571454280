/** One process that runs many machines: `tsvm serve`. Each is made on request, and has its own name, folder and socket. */
import { checkSentCommand } from '../guest/command.js';
import type { Machine } from '../machine/machine.js';
import { ApiError } from './api-error.js';
import { Budget, type BudgetLimits } from './budget.js';
import { ControlServer } from './http/server.js';
import { Instance } from './instance.js';
import { ConsoleLog } from './logs/console-log.js';
import { checkName, type MachineFolder, type MachineStore } from './machine-store.js';
import { kvmMakers, type Makers } from './makers.js';
import type { PoolRequest } from './pool-request.js';
import { live, PublishedMachine } from './publish.js';
import { type Grant, restoreFor } from './restore-for.js';

/** Snapshots that stay open, so that the next machine of one is made in a millisecond. */
const MAX_OPEN = 8;

interface OpenSnapshot {
  readonly saved: ReturnType<Makers['open']>;
  /** Machines that are being made of it. */
  users: number;
}

interface PoolOptions extends BudgetLimits {
  readonly makers?: Makers;
}

export class Pool implements AsyncDisposable {
  readonly instance: Instance;
  readonly #store: MachineStore;
  readonly #folder: MachineFolder;
  readonly #server: ControlServer;
  readonly #makers: Makers;
  readonly #budget: Budget;
  readonly #machines = new Map<Machine, Promise<void>>();
  /** Requests under way. */
  readonly #making = new Set<Promise<void>>();
  /** Snapshots that are open, by their folders; the last that was asked for comes last. */
  readonly #saved = new Map<string, OpenSnapshot>();

  private constructor(
    store: MachineStore,
    instance: Instance,
    folder: MachineFolder,
    server: ControlServer,
    { makers = kvmMakers, ...limits }: PoolOptions,
  ) {
    this.#store = store;
    this.instance = instance;
    this.#folder = folder;
    this.#server = server;
    this.#makers = makers;
    this.#budget = new Budget(limits);
    instance.onMake = async (name, request, signal) => {
      const making = this.#make(name, request, signal);
      this.#making.add(making);
      try {
        await making;
      } finally {
        this.#making.delete(making);
      }
    };
  }

  /** @throws TsvmError `TSVM_STATE` if the name is taken. */
  static async open(store: MachineStore, name: string, options: PoolOptions = {}): Promise<Pool> {
    const folder = store.claim(name, {
      memoryBytes: 0,
      cpus: 0,
      command: ['(runs machines: tsvm serve)'],
      serves: true,
    });
    try {
      const instance = new Instance(name, new ConsoleLog());
      const server = await ControlServer.listen(instance, folder.socketPath);
      return new Pool(store, instance, folder, server, options);
    } catch (error) {
      folder.remove();
      throw error;
    }
  }

  /** Ends all its machines, and forgets itself. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
    await Promise.allSettled(this.#making);
    await Promise.all([...this.#machines.keys()].map((machine) => machine.kill()));
    await Promise.all(this.#machines.values());
    await this.#closeSpare(0);
    this.#folder.remove();
  }

  async #make(name: string, request: PoolRequest, signal: AbortSignal | undefined): Promise<void> {
    checkName(name);
    this.#budget.check(1, 0);
    const { command: asked } = request;
    if (asked !== undefined) checkSentCommand({ argv: asked });
    const machine =
      'draft' in request
        ? await this.#makers.make(request.draft, { signal })
        : await this.#restore(request.snapshot, {
            devices: request.devices ?? {},
            field: 'devices',
            facts: { hostname: name, fresh: request.fresh },
            onBind: (slot, text) => this.instance.onBind(name, slot, text),
            signal,
          });
    const command = asked ?? machine.config.command?.argv ?? [];
    try {
      signal?.throwIfAborted();
      if (asked !== undefined && machine.channel?.hasCommand === true)
        throw new ApiError('The saved machine has a command already: ask for it without one.');
      const published = await PublishedMachine.publish(this.#store, name, machine, {
        command,
        meter: this.instance.meter,
        budget: this.#budget,
      });
      const ended = live(machine, published, command).finally(() => this.#machines.delete(machine));
      this.#machines.set(machine, ended);
      await machine.start();
    } catch (error) {
      await machine.kill();
      throw error;
    }
  }

  /** Restores a snapshot that is open, or is opened for all who ask for it meanwhile; none is closed under those who restore it. */
  async #restore(directory: string, grant: Grant): Promise<Machine> {
    const snapshot = this.#saved.get(directory) ?? { saved: this.#makers.open(directory), users: 0 };
    this.#saved.delete(directory);
    this.#saved.set(directory, snapshot);
    snapshot.users++;
    try {
      const saved = await snapshot.saved.catch((error: unknown) => {
        // The next who asks tries again.
        if (this.#saved.get(directory) === snapshot) this.#saved.delete(directory);
        throw error;
      });
      return await restoreFor(saved, grant);
    } finally {
      snapshot.users--;
      await this.#closeSpare(MAX_OPEN);
    }
  }

  /** Closes those that were asked for longest ago and that nobody restores, but `most`. */
  async #closeSpare(most: number): Promise<void> {
    for (const [directory, { saved, users }] of this.#saved) {
      if (this.#saved.size <= most) return;
      if (users > 0) continue;
      this.#saved.delete(directory);
      await (await saved)[Symbol.asyncDispose]();
    }
  }
}
