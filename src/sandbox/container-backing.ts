/** Containers below sandboxes. */
import { agentOf } from '../agent/agent.js';
import type { ContainerConfig } from '../container/config.js';
import { type Container, startContainer } from '../container/container.js';
import { commandEnd } from '../control/instance-end.js';
import { MachineStore, newName } from '../control/machine-store.js';
import { PublishedMachine } from '../control/publish.js';
import { TsvmError } from '../errors.js';
import type { Abortable } from '../util/abort.js';
import { Cleanup } from '../util/cleanup.js';
import type { Backing } from './backing.js';
import { memoryBytesOf, placedVolumes, type SandboxOptions } from './options.js';
import { prepareDefaults } from './prepare.js';
import { HOSTNAME, openGuestRoot, openSandboxImage, surroundingsOf } from './root.js';

/** Exit status of a container that was killed, as in a shell: 128 + SIGKILL. */
const KILLED = 137;

/** Starts a container for a sandbox. */
export async function containerBacking(options: SandboxOptions, { signal }: Abortable): Promise<Backing> {
  const cleanup = new Cleanup();
  try {
    const { image: text } = options;
    const opened = await (text === undefined
      ? openGuestRoot({ signal })
      : openSandboxImage(text, { signal }));
    const layer = await opened.store.directoryOf(opened.image, { signal });
    const inUse = opened.store.use(opened.image);
    cleanup.defer(() => inUse[Symbol.dispose]());
    const surroundings = surroundingsOf(options, opened);
    const config = configOf(options, layer, surroundings.env);
    const name = options.name ?? newName();
    const container = await started(options, config, cleanup, { signal });
    const agent = agentOf((dialOptions) => container.dialAgent(dialOptions));
    cleanup.defer(() => agent[Symbol.asyncDispose]());
    const defaults = await prepareDefaults(name, agent, surroundings, { signal });
    return {
      name,
      isolation: 'container',
      agent,
      defaults,
      machine: undefined,
      pause: () => refused('paused'),
      resume: () => refused('resumed'),
      fork: () => refused('copied'),
      snapshot: () => refused('saved'),
      kill: () => cleanup.run(),
    };
  } catch (error) {
    await cleanup.run();
    throw error;
  }
}

function configOf(
  options: SandboxOptions,
  layer: string,
  env: Readonly<Record<string, string>>,
): ContainerConfig {
  const { cpus, network = 'none', name = HOSTNAME } = options;
  const memoryBytes = memoryBytesOf(options);
  return {
    layers: [layer],
    argv: [],
    agent: true,
    hostname: name,
    env,
    network,
    volumes: placedVolumes(options),
    limits: {
      ...(memoryBytes === undefined ? {} : { memoryBytes }),
      ...(cpus === undefined ? {} : { cpus }),
    },
  };
}

/** Starts it, and makes it known if it has a name. */
async function started(
  { name, labels }: SandboxOptions,
  config: ContainerConfig,
  cleanup: Cleanup,
  options: Abortable,
): Promise<Container> {
  const start = async (): Promise<Container> => {
    const container = await startContainer(config, options);
    cleanup.defer(() => container[Symbol.asyncDispose]());
    return container;
  };
  if (name === undefined) return await start();
  const { memoryBytes = 0, cpus = 0 } = config.limits ?? {};
  let container: Container | undefined;
  const published = await PublishedMachine.publishContainer(
    new MachineStore(),
    name,
    { command: [], memoryBytes, cpus, removeAtEnd: true, ...(labels && { labels }) },
    async () => {
      container = await start();
      return container;
    },
  );
  if (container === undefined) throw new Error('a container that is published was started');
  // Whoever else ends it, its name goes with it.
  const finished = container.wait().then(() => published.finish(commandEnd(KILLED)));
  finished.catch(() => {}); // told to who kills it
  cleanup.defer(async () => {
    await container?.[Symbol.asyncDispose]();
    await finished;
  });
  return container;
}

async function refused(what: string): Promise<never> {
  throw new TsvmError('TSVM_SANDBOX', `a container cannot be ${what}`, {
    hint: "a machine can: leave out `isolation: 'container'`",
  });
}
