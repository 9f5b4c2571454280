/**
 * Templates: machines that were booted once to where the guest's init waits for a command, and saved. Every later one of the
 * same configuration starts from there.
 */

import { TsvmError } from '../errors.js';
import { factOptions, type GuestFacts } from '../guest/facts.js';
import { type MachineConfig, wholeConfig } from '../machine/config.js';
import { createMachine } from '../machine/create.js';
import type { Machine, MachineOf, MachineWith } from '../machine/machine.js';
import { type RestoreOptions, restoreSame } from '../machine/restore.js';
import { type Abortable, isAbort, untilAborted } from '../util/abort.js';
import { templateKey } from './key.js';
import { TemplateStore } from './store.js';

export interface TemplateOptions extends Abortable {
  /** Where templates are kept. Default: `templateDirectory()`. */
  readonly directory?: string;
  /** There is no template yet: one is booted. Called with the machine before it starts. */
  onBoot?(machine: Machine): void;
  /** Another process boots the same template; called once. */
  onWait?(): void;
  /** Where the ports' Unix sockets of this machine are, by the ports' names: the template has none. */
  readonly ports?: Readonly<Record<string, string>>;
  /**
   * Paths of disks of this machine's own by their numbers, which it writes to. Its template has only looked at how large they are: the
   * size and time of change have to be those of the disks of the configuration.
   */
  readonly ownDisks?: Readonly<Record<number, string>>;
  /** Facts for the machine's guest: what it learns of the world with its command. Default: new entropy, and the time. */
  readonly facts?: GuestFacts;
  onSaved?(saved: { readonly directory: string; readonly memoryBytes: number }): void;
}

/**
 * A machine whose guest waits for its command (`machine.channel`), restored from a template; not started yet. The template
 * is booted and saved if it is not there. Its devices are those of `config`: what the template's file says of them is compared, not used.
 *
 * @throws TsvmError whatever `createMachine` throws; `TSVM_TEMPLATE` if the guest does not come to wait for a command.
 */
export async function machineFromTemplate<const Config extends MachineConfig>(
  config: Config,
  options: TemplateOptions = {},
): Promise<MachineOf<Config> & MachineWith<['channel']>> {
  return (await fromTemplate(wholeConfig(config), options)) as MachineOf<Config> & MachineWith<['channel']>;
}

async function fromTemplate(config: MachineConfig, options: TemplateOptions): Promise<Machine> {
  const { ports, ownDisks, facts, signal } = options;
  signal?.throwIfAborted();
  factOptions(facts ?? {}); // else the template would be taken for one that cannot be used
  const store = new TemplateStore(options.directory);
  const key = await templateKey(config);
  const restoreOptions = {
    ...(ports === undefined ? {} : { ports }),
    ...(ownDisks === undefined ? {} : { ownDisks }),
    ...(facts === undefined ? {} : { facts }),
    signal,
  };
  const present = await restored(store, key, config, restoreOptions);
  if (present !== undefined) return present;
  const { onWait, onBoot } = options;
  return await store.locked(key, { onWait, signal }, async () => {
    const made = await restored(store, key, config, restoreOptions); // by whoever had the lock
    if (made !== undefined) return made;
    const machine = await bootToReady(config, { onBoot, signal });
    try {
      const directory = store.pathOf(key);
      const { memoryBytes } = await machine.snapshot(directory, { signal });
      options.onSaved?.({ directory, memoryBytes });
    } finally {
      await machine.kill();
    }
    await store.prune({ keep: key });
    return await restoreSame(store.pathOf(key), config.devices ?? [], restoreOptions);
  });
}

/** Machine of the template; undefined if there is none, or one that cannot be used any more or was saved with other devices, and is replaced. */
async function restored(
  store: TemplateStore,
  key: string,
  config: MachineConfig,
  options: RestoreOptions,
): Promise<Machine | undefined> {
  if (!store.has(key)) return undefined;
  try {
    const machine = await restoreSame(store.pathOf(key), config.devices ?? [], options);
    store.used(key);
    return machine;
  } catch (error) {
    const replaceable =
      !isAbort(error, options.signal) && error instanceof TsvmError && REPLACEABLE.has(error.code);
    if (!replaceable) throw error;
    return undefined;
  }
}

const REPLACEABLE: ReadonlySet<string> = new Set(['TSVM_SNAPSHOT', 'TSVM_STATE', 'TSVM_DISK', 'TSVM_CONFIG']);

interface BootOptions extends Abortable {
  /** Called with the machine before it starts. */
  readonly onBoot?: ((machine: Machine) => void) | undefined;
}

/** Boots `config` until its init waits for a command. */
export async function bootToReady(
  config: MachineConfig,
  { onBoot, signal }: BootOptions = {},
): Promise<Machine> {
  const machine = await createMachine({ ...config, channel: true }, { signal });
  let tail = '';
  const console = machine.on('console', (bytes) => {
    tail = (tail + Buffer.from(bytes).toString('latin1')).slice(-MAX_TAIL);
  });
  const ready = new Promise<boolean>((resolve) => {
    machine.on('mark', ({ name }) => name === 'ready' && resolve(true));
    machine.on('end', () => resolve(false));
  });
  try {
    onBoot?.(machine);
    await machine.start();
    if (await untilAborted(signal, () => ready)) return machine;
  } catch (error) {
    await machine.kill();
    throw error;
  } finally {
    console[Symbol.dispose]();
  }
  const end = await machine.wait();
  if (end.kind === 'stopped')
    throw new TsvmError('TSVM_STATE', 'the machine was stopped before it was ready');
  const said = tail.trim() === '' ? '' : `; its last words:\n${tail.trimEnd()}`;
  throw new TsvmError(
    'TSVM_TEMPLATE',
    `the guest ended (${end.kind}) before it waited for a command${said}`,
    {
      hint: 'the guest needs an init that knows the channel: tsvm guest build makes one',
    },
  );
}

const MAX_TAIL = 2000;
