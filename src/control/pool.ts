/** One process that runs many machines: `tsvm serve`. Each is made on request, and has its own name, folder and socket. */
import type { Machine } from '../machine/machine.js';
import { openSavedMachine, type SavedMachine } from '../machine/restore.js';
import { ConsoleLog } from './console-log.js';
import { makeMachine } from './firecracker/make-machine.js';
import { checkSetup } from './firecracker/setup.js';
import { Instance } from './instance.js';
import type { MachineFolder, MachineStore } from './machine-store.js';
import type { PoolRequest } from './pool-request.js';
import { live, PublishedMachine } from './publish.js';
import { restoreFor } from './restore-for.js';
import { ControlServer } from './server.js';

/** Snapshots that stay open, so that the next machine of one is made in a millisecond. */
const MAX_OPEN = 8;

export class Pool implements AsyncDisposable {
  readonly instance: Instance;
  readonly #store: MachineStore;
  readonly #folder: MachineFolder;
  readonly #server: ControlServer;
  readonly #machines = new Map<Machine, Promise<void>>();
  readonly #saved = new Map<string, SavedMachine>();

  private constructor(store: MachineStore, instance: Instance, folder: MachineFolder, server: ControlServer) {
    this.#store = store;
    this.instance = instance;
    this.#folder = folder;
    this.#server = server;
    instance.onMake = (name, request) => this.#make(name, request);
  }

  /** @throws TsvmError `TSVM_STATE` if the name is taken. */
  static async open(store: MachineStore, name: string): Promise<Pool> {
    const folder = store.claim(name, {
      memoryBytes: 0,
      cpus: 0,
      command: ['(runs machines: tsvm serve)'],
      serves: true,
    });
    try {
      const instance = new Instance(name, new ConsoleLog());
      return new Pool(store, instance, folder, await ControlServer.listen(instance, folder.socketPath));
    } catch (error) {
      folder.remove();
      throw error;
    }
  }

  /** Ends all its machines, and forgets itself. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
    await Promise.all([...this.#machines.keys()].map((machine) => machine.stop()));
    await Promise.all(this.#machines.values());
    for (const saved of this.#saved.values()) await saved[Symbol.asyncDispose]();
    this.#folder.remove();
  }

  async #make(name: string, request: PoolRequest): Promise<void> {
    if ('config' in request) await checkSetup(request.config);
    const machine =
      'config' in request
        ? await makeMachine(request.config)
        : await restoreFor(await this.#open(request.snapshot), {
            devices: request.devices ?? {},
            field: 'devices',
            onBind: (slot, text) => this.instance.onBind(name, slot, text),
          });
    const command = 'command' in request ? (request.command ?? []) : [];
    try {
      const published = await PublishedMachine.publish(this.#store, name, machine, {
        command,
        meter: this.instance.meter,
      });
      const ended = live(machine, published, command).finally(() => this.#machines.delete(machine));
      this.#machines.set(machine, ended);
      await machine.start();
    } catch (error) {
      await machine.stop();
      throw error;
    }
  }

  async #open(directory: string): Promise<SavedMachine> {
    const known = this.#saved.get(directory);
    // The last that was asked for is the last to be closed.
    this.#saved.delete(directory);
    const saved = known ?? (await openSavedMachine(directory));
    this.#saved.set(directory, saved);
    const [oldest, other] = [...this.#saved][0] ?? [];
    if (this.#saved.size > MAX_OPEN && oldest !== undefined) {
      this.#saved.delete(oldest);
      await other?.[Symbol.asyncDispose]();
    }
    return saved;
  }
}
