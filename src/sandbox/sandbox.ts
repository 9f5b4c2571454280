/** Sandbox: a machine or container in which commands run, files are read and written, and ports are reached, as long as it lives. */
import { TsvmError } from '../errors.js';
import type { MachineControls } from '../machine/machine.js';
import type { Abortable } from '../util/abort.js';
import { allDone } from '../util/cleanup.js';
import { userInSandbox } from './accounts.js';
import type { Backing, Isolation } from './backing.js';
import { type CallOptions, inTime } from './call.js';
import { agentCommand, type CommandUser, type CommandWords, shownCommand } from './command.js';
import { checkOutputBound, collect, type ExecOptions, type ExecResult } from './exec.js';
import { Job, type SpawnOptions } from './job.js';
import { checkPort, LOOPBACK, PortForward, type PortForwardOptions } from './port-forward.js';

export class Sandbox implements AsyncDisposable {
  readonly #backing: Backing;
  /** Ports that {@link Sandbox.url} knows, by their number in the sandbox. */
  readonly #known = new Map<number, Promise<PortForward>>();
  readonly #forwards = new Set<PortForward>();
  #killed: Promise<void> | undefined;

  /** @internal Sandboxes are made by {@link Sandbox.create} and {@link Sandbox.connect}. */
  constructor(backing: Backing) {
    this.#backing = backing;
  }

  get name(): string {
    return this.#backing.name;
  }

  get isolation(): Isolation {
    return this.#backing.isolation;
  }

  /** Machine below; undefined of a container. */
  get machine(): MachineControls | undefined {
    return this.#backing.machine;
  }

  /**
   * Runs a command to its end. An exit status other than 0 is a result like any other, unless `check` asks for an error.
   *
   * @throws TsvmError if it cannot be executed, or its time is up: it is ended then.
   */
  async exec(words: CommandWords, options: ExecOptions = {}): Promise<ExecResult> {
    checkOutputBound(options);
    const what = shownCommand(words);
    return await inTime(what, options, async ({ signal }) => {
      const { stdin, ...rest } = options;
      const job = this.#begin(words, { ...rest, signal, stdin: stdin === undefined ? 'ignore' : 'pipe' });
      return await collect(job, what, { ...options, signal });
    });
  }

  /**
   * Starts a command, whose streams can be used at once. An abort ends it, and so does the end of its time.
   *
   * @example
   * ```ts
   * import { Sandbox } from 'tsvm';
   *
   * await using box = await Sandbox.create({ isolation: 'container' });
   * const job = box.spawn('for i in 1 2 3; do echo $i; done');
   * for await (const line of job.lines()) console.log(line);
   * console.log((await job.wait()).exitCode);
   * ```
   */
  spawn(words: CommandWords, options: SpawnOptions = {}): Job {
    const job = this.#begin(words, options);
    const end = (): void => void job.kill('SIGKILL').catch(() => {}); // it never began
    void inTime(shownCommand(words), options, async ({ signal }) => {
      signal?.addEventListener('abort', end, { once: true });
      await job.wait().finally(() => signal?.removeEventListener('abort', end));
    }).catch(() => {}); // who waits for it is told
    return job;
  }

  /**
   * Waits until something listens at a port of the sandbox's loopback interface, and forwards it: {@link Sandbox.url} knows it from then on.
   */
  async waitForPort(port: number, options: CallOptions = {}): Promise<void> {
    checkPort(port);
    await inTime(`wait for port ${port}`, options, async ({ signal }) => {
      await this.#backing.agent.ports.wait(port, { signal });
      await this.#know(port, { signal });
    });
  }

  /**
   * Gives the address at which this host reaches a port of the sandbox.
   *
   * @throws TsvmError `TSVM_SANDBOX` unless it was among the `ports` that the sandbox was made with, or was waited for.
   */
  url(port: number): string {
    const hostPort = [...this.#forwards].find((one) => one.port === port && one.host === LOOPBACK)?.hostPort;
    if (hostPort !== undefined) return `http://${LOOPBACK}:${hostPort}`;
    throw new TsvmError('TSVM_SANDBOX', `port ${port} of ${this.name} is not forwarded`, {
      hint: `first: await box.waitForPort(${port}), or box.forward({ port: ${port} })`,
    });
  }

  /** Forwards a port of the host to one of the sandbox's loopback interface, until that is disposed of or the sandbox ends. */
  async forward(options: PortForwardOptions): Promise<PortForward> {
    const forward = await PortForward.listen(
      async (port) => await this.#backing.agent.ports.dial(port),
      options,
    );
    this.#forwards.add(forward);
    return forward;
  }

  /** Stops all that runs in the sandbox where it is, until it is resumed. */
  async pause(options: CallOptions = {}): Promise<void> {
    await inTime('pause', options, async (abortable) => await this.#backing.pause(abortable));
  }

  async resume(options: CallOptions = {}): Promise<void> {
    await inTime('resume', options, async (abortable) => await this.#backing.resume(abortable));
  }

  /**
   * Makes running copies of a sandbox. What runs in it goes on in each of them; the original notices nothing.
   *
   * @throws TsvmError `TSVM_SANDBOX` of a container, which cannot be copied while it runs.
   */
  async fork(count = 1, options: CallOptions = {}): Promise<Sandbox[]> {
    const backings = await inTime('fork', options, async (abortable) => {
      return await this.#backing.fork(count, abortable);
    });
    return backings.map((backing) => new Sandbox(backing));
  }

  /** Ends the sandbox: resolves when nothing of it is left. */
  async kill(): Promise<void> {
    this.#killed ??= this.#end();
    await this.#killed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  #begin(words: CommandWords, options: SpawnOptions): Job {
    return new Job(shownCommand(words), this.#start(words, options));
  }

  async #start(words: CommandWords, options: SpawnOptions) {
    const { agent, defaults } = this.#backing;
    const { signal, tty, stdin = 'ignore', detached = false } = options;
    const user = await this.#user(options.user, { signal });
    const command = agentCommand(words, options, defaults, user, tty);
    return await agent.spawn({ ...command, hasInput: stdin !== 'ignore', detached }, { signal });
  }

  async #user(user: string | number | undefined, options: Abortable): Promise<CommandUser> {
    const { agent, defaults, name } = this.#backing;
    if (user === undefined) return defaults.user;
    return await userInSandbox(
      name,
      (path, most, abortable) => agent.files.read(path, { length: most, ...abortable }),
      user,
      options,
    );
  }

  async #know(port: number, options: Abortable): Promise<void> {
    const known = this.#known.get(port) ?? this.forward({ port, ...options });
    this.#known.set(port, known);
    known.catch(() => this.#known.delete(port));
    await known;
  }

  async #end(): Promise<void> {
    await allDone([
      this.#backing.kill(),
      ...[...this.#forwards].map((forward) => forward[Symbol.asyncDispose]()),
    ]);
  }
}
