/** Machines below sandboxes. */

import type { Agent } from '../agent/agent.js';
import { agentOf } from '../agent/agent.js';
import { newName } from '../control/machine-store.js';
import { publish } from '../control/publish.js';
import { share } from '../devices/fs/fs.js';
import { net } from '../devices/net/net.js';
import type { DeviceRequest } from '../devices/registry.js';
import { TsvmError } from '../errors.js';
import { cmdlineForRoot, findGuest } from '../guest/store.js';
import { machineRoot } from '../image/machine-root.js';
import { type MachineConfig, wholeConfig } from '../machine/config.js';
import type { Machine } from '../machine/machine.js';
import { restoreSame } from '../machine/restore.js';
import { machineFromTemplate } from '../template/template.js';
import type { Abortable } from '../util/abort.js';
import { Cleanup } from '../util/cleanup.js';
import type { Backing } from './backing.js';
import type { CommandDefaults } from './command.js';
import { memoryBytesOf, placedVolumes, type SandboxOptions } from './options.js';
import { prepareDefaults } from './prepare.js';
import { HOSTNAME, openSandboxImage, type SandboxImage, surroundingsOf } from './root.js';
import { readSaved, saveSandbox } from './saved.js';

/** Starts a machine for a sandbox, from the template of its configuration. */
export async function machineBacking(options: SandboxOptions, { signal }: Abortable): Promise<Backing> {
  const facts = { hostname: options.name ?? HOSTNAME };
  return await startedBacking(options, { signal }, async (config) => {
    const machine = await machineFromTemplate(config, { signal, facts });
    return { machine, atStart: (agent) => mountVolumes(agent, options, { signal }) };
  });
}

/** Starts a machine for a sandbox as it was saved under a name. */
export async function savedBacking(name: string, { signal }: Abortable): Promise<Backing> {
  const { options, directory } = readSaved(name);
  return await startedBacking(options, { signal }, async (config) => {
    const { devices = [] } = wholeConfig(config);
    return { machine: await restoreSame(directory, devices, { signal }), atStart: async () => {} };
  });
}

interface Made {
  readonly machine: Machine;
  /** What is to be done in it when it runs. */
  atStart(agent: Agent): Promise<void>;
}

async function startedBacking(
  options: SandboxOptions,
  { signal }: Abortable,
  make: (config: MachineConfig) => Promise<Made>,
): Promise<Backing> {
  const cleanup = new Cleanup();
  try {
    const { image: text, name: asked } = options;
    const opened = text === undefined ? undefined : await openSandboxImage(text, { signal });
    const config = await configOf(options, opened, { signal });
    if (opened !== undefined) {
      const inUse = opened.store.use(opened.image);
      cleanup.defer(() => inUse[Symbol.dispose]());
    }
    const name = asked ?? newName();
    const { machine, atStart } = await make(config);
    cleanup.defer(() => machine.kill());
    if (asked !== undefined) {
      const publication = await publish(machine, { name: asked, labels: options.labels, removeAtEnd: true });
      cleanup.defer(async () => {
        await machine.kill();
        await publication[Symbol.asyncDispose]();
      });
    }
    await machine.start();
    const agent = agentOf((dialOptions) => machine.dialAgent(dialOptions));
    await atStart(agent);
    const defaults = await prepareDefaults(name, agent, surroundingsOf(options, opened), { signal });
    return backingOf({ name, machine, agent, defaults, cleanup, options });
  } catch (error) {
    await cleanup.run();
    throw error;
  }
}

async function configOf(
  options: SandboxOptions,
  opened: SandboxImage | undefined,
  abortable: Abortable,
): Promise<MachineConfig> {
  const guest = await findGuest();
  const memoryBytes = memoryBytesOf(options);
  const { cpus, network = 'none' } = options;
  const root = opened === undefined ? undefined : await machineRoot(opened.image, opened.store, abortable);
  const devices: DeviceRequest[] = [
    ...(root === undefined ? [] : [root.device]),
    ...(network === 'user' ? [net({ backend: 'user' })] : []),
    ...placedVolumes(options).map(({ source, readOnly }, i) =>
      share({ path: source, tag: tagOf(i), readOnly }),
    ),
  ];
  return {
    ...guest,
    ...(root === undefined ? {} : { cmdline: `${cmdlineForRoot(guest)} ${root.parameters}` }),
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
    ...(cpus === undefined ? {} : { cpus }),
    devices,
    agent: true,
  };
}

const tagOf = (index: number): string => `volume${index}`;

/** Mounts the shared folders. The program that does it is the root's own. */
async function mountVolumes(agent: Agent, options: SandboxOptions, abortable: Abortable): Promise<void> {
  for (const [i, { target, readOnly }] of placedVolumes(options).entries()) {
    await agent.files.mkdir(target, { parents: true, ...abortable });
    const argv = ['mount', '-t', 'virtiofs', ...(readOnly ? ['-o', 'ro'] : []), tagOf(i), target];
    const { exited, stderr } = await agent.spawn({ argv, hasInput: false }, abortable);
    let said = '';
    for await (const bytes of stderr) said += bytes;
    const { exitCode } = await exited;
    if (exitCode === 0) continue;
    throw new TsvmError('TSVM_SANDBOX', `cannot mount a volume at ${target}: ${said.trim()}`, {
      hint: 'the image needs a program `mount`',
    });
  }
}

interface Parts {
  readonly name: string;
  readonly machine: Machine;
  readonly agent: Agent;
  readonly defaults: CommandDefaults;
  readonly cleanup: Cleanup;
  /** What the sandbox was made of. */
  readonly options: SandboxOptions;
}

function backingOf({ name, machine, agent, defaults, cleanup, options: madeOf }: Parts): Backing {
  return {
    name,
    isolation: 'machine',
    agent,
    defaults,
    machine,
    pause: (options) => machine.pause(options),
    resume: (options) => machine.resume(options),
    async fork(count, options) {
      const copies = await machine.fork(count, options);
      return copies.map((copy, i) => {
        const own = new Cleanup();
        own.defer(() => copy.kill());
        const dialed = agentOf((dialOptions) => copy.dialAgent(dialOptions));
        const copyName = `${name}-${i + 1}`;
        return backingOf({
          name: copyName,
          machine: copy,
          agent: dialed,
          defaults,
          cleanup: own,
          options: madeOf,
        });
      });
    },
    snapshot: (as, options) => saveSandbox(as, madeOf, (directory) => machine.snapshot(directory, options)),
    async kill() {
      agent.close();
      await cleanup.run();
    },
  };
}
