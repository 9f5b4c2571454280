/** A container that has a name: other commands find it as they find machines, and it may run in the background. */
import type { Readable } from 'node:stream';
import type { ContainerConfig } from '../../container/config.js';
import type { Container, ContainerEnd } from '../../container/container.js';
import type { Instance } from '../../control/instance.js';
import { commandEnd } from '../../control/instance-end.js';
import { MachineStore } from '../../control/machine-store.js';
import { formatBytes } from '../../util/units.js';
import { backgroundName, commandLine, reportReady } from '../background.js';

interface NamedRun {
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Whether its record and log go with it. */
  readonly rm: boolean;
  /** Called when it runs; what that returns resolves with its end. */
  stay(container: Container): Promise<ContainerEnd>;
  /** Says how it ended, and returns the exit status. */
  explain(end: ContainerEnd): number;
}

/** Runs it, with an agent in it, to its end, and returns what to exit with. In the background its output is the log. */
export async function runNamedContainer(config: ContainerConfig, run: NamedRun): Promise<number> {
  const [{ startContainer }, { PublishedMachine }] = await Promise.all([
    import('../../container/container.js'),
    import('../../control/publish.js'),
  ]);
  const inBackground = backgroundName() !== undefined;
  const { limits = {} } = config;
  let logged: Promise<unknown> = Promise.resolve();
  const about = {
    command: config.argv,
    memoryBytes: limits.memoryBytes ?? 0,
    cpus: limits.cpus ?? 0,
    start: commandLine(),
    ...(run.labels && { labels: run.labels }),
    removeAtEnd: run.rm,
  };
  let container: Container | undefined;
  const start = async (instance: Instance): Promise<Container> => {
    container = await startContainer({ ...config, agent: true }, {}, inBackground ? 'pipe' : 'inherit');
    if (inBackground) logged = logContainer(container, instance);
    instance.hasTerminal = config.terminal !== undefined;
    return container;
  };
  await using published = await PublishedMachine.publishContainer(new MachineStore(), run.name, about, start);
  if (container === undefined) throw new Error('a container that is published was started');
  await using started = container;
  if (inBackground) reportReady();
  const end = await run.stay(started);
  await logged;
  const exitCode = run.explain(end);
  const { memoryBytes } = limits;
  const message =
    end.outOfMemory && memoryBytes !== undefined ? `out of memory: ${formatBytes(memoryBytes)}` : undefined;
  await published.finish({ ...commandEnd(exitCode), ...(message === undefined ? {} : { message }) });
  return exitCode;
}

/** What it says is in the log, what is typed goes to it. Resolves when all that it said is there. */
async function logContainer(container: Container, instance: Instance): Promise<void> {
  const { stdin, stdout, stderr } = container;
  stdin?.on('error', () => {}); // it reads no more
  instance.input = {
    write: (bytes) => stdin?.write(bytes) ?? true,
    onDrain: (callback) => void stdin?.once('drain', callback),
  };
  const ended = async (stream: Readable | null): Promise<void> => {
    if (stream === null) return;
    stream.on('data', (bytes: Buffer) => instance.log.push(bytes));
    await new Promise<void>((resolve) => void stream.once('close', resolve));
  };
  await Promise.all([ended(stdout), ended(stderr)]);
}
