/** Sandbox: a machine or container in which commands run, files are read and written, and ports are reached, as long as it lives. */
import type { Duplex } from 'node:stream';
import type { AgentProcess } from '../agent/process.js';
import { TsvmError } from '../errors.js';
import type { MachineControls } from '../machine/machine.js';
import type { Abortable } from '../util/abort.js';
import { allDone } from '../util/cleanup.js';
import { userInSandbox } from './accounts.js';
import type { Backing, Isolation } from './backing.js';
import { type CallOptions, inTime } from './call.js';
import { agentCommand, type CommandUser, type CommandWords, shownCommand } from './command.js';
import { checkOutputBound, collect, type ExecOptions, type ExecResult } from './exec.js';
import { type SandboxFiles, sandboxFiles } from './files.js';
import { IdleWatch } from './idle.js';
import { Job, type SpawnOptions } from './job.js';
import { checkSandboxOptions, type SandboxOptions } from './options.js';
import { checkPort, LOOPBACK, PortForward, type PortForwardOptions } from './port-forward.js';
import { remoteBacking, runningSandboxes, type SandboxFacts, type SandboxFilter } from './remote-backing.js';

type IdlePolicy = Pick<SandboxOptions, 'timeoutMs' | 'onTimeout'>;

/**
 * Machine or container for work: it runs any number of commands, until it is killed or left by `await using`.
 *
 * @example
 * ```ts
 * import { Sandbox } from 'tsvm';
 *
 * await using box = await Sandbox.create({ isolation: 'container' });
 * await box.files.write('/tmp/in.json', '{"a":1}');
 * console.log((await box.exec('cat /tmp/in.json')).stdout);
 * ```
 */
export class Sandbox implements AsyncDisposable {
  readonly #backing: Backing;
  readonly #policy: IdlePolicy;
  readonly #idle: IdleWatch;
  /** Ports that {@link Sandbox.url} knows, by their number in the sandbox. */
  readonly #known = new Map<number, Promise<PortForward>>();
  readonly #forwards = new Set<PortForward>();
  #killed: Promise<void> | undefined;
  #files: SandboxFiles | undefined;

  /** @internal Sandboxes are made by {@link Sandbox.create} and {@link Sandbox.connect}. */
  constructor(backing: Backing, { timeoutMs, onTimeout = 'kill' }: IdlePolicy = {}) {
    this.#backing = backing;
    this.#policy = { timeoutMs, onTimeout };
    this.#idle = new IdleWatch(timeoutMs, onTimeout, {
      pause: () => backing.pause({}),
      resume: () => backing.resume({}),
      kill: () => this.kill(),
    });
  }

  /**
   * Makes a sandbox, over a machine unless a container is asked for. It resolves when its commands can run.
   *
   * @throws TsvmError `TSVM_CONFIG` for options that are wrong, `TSVM_IMAGE` if there is no such image, `TSVM_STATE` if its name is taken, and what
   * `createMachine` and `startContainer` throw. Nothing is left then.
   *
   * @example
   * ```ts
   * import { Sandbox } from 'tsvm';
   *
   * await using box = await Sandbox.create({ memory: '256M' });
   * const { exitCode, stdout } = await box.exec(['uname', '-r'], { timeoutMs: 30_000 });
   * console.log(exitCode, stdout);
   * ```
   */
  static async create(options: SandboxOptions = {}): Promise<Sandbox> {
    checkSandboxOptions(options);
    const { signal } = options;
    return await inTime('make a sandbox', { signal }, async () => {
      const make = await maker(options.isolation);
      const box = new Sandbox(await make(options, { signal }), options);
      try {
        for (const port of options.ports ?? []) await box.#know(port, { signal });
        return box;
      } catch (error) {
        await box.kill();
        throw error;
      }
    });
  }

  /**
   * Starts a sandbox as it was kept by {@link Sandbox.snapshot}, with what it was made of, as often as is wanted. It has no name, and forwards no ports
   * yet.
   *
   * @throws TsvmError `TSVM_SANDBOX` if there is none of that name, `TSVM_SNAPSHOT` if it does not fit this host.
   *
   * @example
   * ```ts
   * import { Sandbox } from 'tsvm';
   *
   * await using box = await Sandbox.create();
   * await box.exec('echo warm >/state');
   * await box.snapshot('warm');
   * await using again = await Sandbox.from('warm');
   * console.log(await again.files.readText('/state'));
   * ```
   */
  static async from(name: string, options: CallOptions = {}): Promise<Sandbox> {
    return await inTime(`start ${name}`, options, async ({ signal }) => {
      const { savedBacking } = await import('./machine-backing.js');
      return new Sandbox(await savedBacking(name, { signal }));
    });
  }

  /**
   * Connects to a machine or container that runs under a name, whichever process made it: commands have no variables of its image beside those
   * of its agent, and run as the superuser unless they say otherwise. {@link Sandbox.close} lets go of it.
   *
   * @throws TsvmError `TSVM_STATE` if there is none of that name, it has ended, or it has no agent.
   *
   * @example
   * ```ts
   * import { Sandbox } from 'tsvm';
   *
   * const box = await Sandbox.connect('web');
   * console.log((await box.exec('uptime')).stdout);
   * box.close();
   * ```
   */
  static async connect(name: string, options: CallOptions = {}): Promise<Sandbox> {
    return await inTime(`connect to ${name}`, options, async ({ signal }) => {
      return new Sandbox(await remoteBacking(name, { signal }));
    });
  }

  /** Lists the machines and containers that run under a name. */
  static list(filter: SandboxFilter = {}): readonly SandboxFacts[] {
    return runningSandboxes(filter);
  }

  get name(): string {
    return this.#backing.name;
  }

  get isolation(): Isolation {
    return this.#backing.isolation;
  }

  /** Files of the sandbox. */
  get files(): SandboxFiles {
    this.#files ??= sandboxFiles(this.#backing.agent.files, (call) => this.#idle.during(call));
    return this.#files;
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

  /** Reads a command that goes on, by the `id` of its {@link JobFacts}; the one who read it before does no longer. */
  attach(id: number, options: Abortable = {}): Job {
    return this.#job(`command ${id}`, () => this.#backing.agent.attach(id, options));
  }

  /**
   * Waits until something listens at a port of the sandbox's loopback interface, and forwards it: {@link Sandbox.url} knows it from then on.
   */
  async waitForPort(port: number, options: CallOptions = {}): Promise<void> {
    checkPort(port);
    await inTime(`wait for port ${port}`, options, async ({ signal }) => {
      await this.#idle.during(() => this.#backing.agent.ports.wait(port, { signal }));
      await this.#know(port, { signal });
    });
  }

  /**
   * Gives the address at which this host reaches a port of the sandbox.
   *
   * @throws TsvmError `TSVM_SANDBOX` unless it was among the `ports` that the sandbox was made with, or was waited for.
   */
  url(port: number): string {
    const hostPort = [...this.#forwards].find(
      (one) => one.port === port && one.host === LOOPBACK && !one.isClosed,
    )?.hostPort;
    if (hostPort !== undefined) return `http://${LOOPBACK}:${hostPort}`;
    throw new TsvmError('TSVM_SANDBOX', `port ${port} of ${this.name} is not forwarded`, {
      hint: `first: await box.waitForPort(${port}), or box.forward({ port: ${port} })`,
    });
  }

  /** Forwards a port of the host to one of the sandbox's loopback interface, until that is disposed of or the sandbox ends. */
  async forward(options: PortForwardOptions): Promise<PortForward> {
    const forward = await PortForward.listen((port) => this.#dial(port), options);
    this.#forwards.add(forward);
    return forward;
  }

  /** Stops all that runs in the sandbox where it is, until it is resumed. */
  async pause(options: CallOptions = {}): Promise<void> {
    await inTime('pause', options, async (abortable) => await this.#backing.pause(abortable));
  }

  async resume(options: CallOptions = {}): Promise<void> {
    await inTime('resume', options, async (abortable) => {
      // One that was paused for being idle goes on with any call.
      if (!(await this.#idle.wake())) await this.#backing.resume(abortable);
    });
  }

  /**
   * Makes running copies of a sandbox. What runs in it goes on in each of them; the original notices nothing.
   *
   * @throws TsvmError `TSVM_SANDBOX` of a container, which cannot be copied while it runs.
   */
  async fork(count = 1, options: CallOptions = {}): Promise<Sandbox[]> {
    const backings = await inTime('fork', options, async (abortable) => {
      return await this.#idle.during(() => this.#backing.fork(count, abortable));
    });
    return backings.map((backing) => new Sandbox(backing, this.#policy));
  }

  /**
   * Keeps the sandbox as it is now, under a name, with all that runs in it: {@link Sandbox.from} starts others from there. It stands still
   * meanwhile and then goes on. What was kept under the name is replaced.
   *
   * @throws TsvmError `TSVM_SANDBOX` of a container, and of one that another process made.
   */
  async snapshot(name: string, options: CallOptions = {}): Promise<void> {
    await inTime('snapshot', options, async (abortable) =>
      this.#idle.during(() => this.#backing.snapshot(name, abortable)),
    );
  }

  /** Lets go of the sandbox, which goes on: its ports are forwarded no longer, and calls that are under way fail. */
  close(): void {
    this.#idle.stop();
    this.#backing.agent.close();
    for (const forward of this.#forwards) void forward[Symbol.asyncDispose]();
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
    return this.#job(shownCommand(words), () => this.#start(words, options));
  }

  /** Makes a job, which is a use of the sandbox as long as it runs. */
  #job(what: string, start: () => Promise<AgentProcess>): Job {
    let job: Job | undefined;
    const begun = new Promise<AgentProcess>((resolve, reject) => {
      const use = async (): Promise<void> => {
        resolve(await start());
        await job?.wait();
      };
      this.#idle.during(use).catch(reject); // after it has begun, who waits for it is told
    });
    job = new Job(what, begun);
    return job;
  }

  /** Connects to a port; the connection is a use of the sandbox as long as it lasts. */
  async #dial(port: number): Promise<Duplex> {
    const connection = await this.#idle.during(() => this.#backing.agent.ports.dial(port));
    const closed = new Promise<void>((resolve) => void connection.once('close', resolve));
    void this.#idle.during(() => closed);
    return connection;
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
    this.#idle.stop();
    await allDone([
      this.#backing.kill(),
      ...[...this.#forwards].map((forward) => forward[Symbol.asyncDispose]()),
    ]);
  }
}

/** Loads what makes one kind of sandbox: the other's addon, or launcher, need not be there. */
async function maker(isolation: Isolation = 'machine') {
  if (isolation === 'container') return (await import('./container-backing.js')).containerBacking;
  return (await import('./machine-backing.js')).machineBacking;
}
