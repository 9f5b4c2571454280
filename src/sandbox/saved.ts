/** Sandboxes that were saved: a folder each, by name, with the saved machine and what the sandbox was made of. */
import { join, resolve } from 'node:path';
import { checkName } from '../control/machine-store.js';
import { TsvmError } from '../errors.js';
import { cacheDirectory } from '../host/cache-directory.js';
import { type FolderRules, OwnFolder } from '../host/own-folder.js';
import { findFile } from '../image/source/open-source.js';
import { checkSandboxOptions, placedVolumes, type SandboxOptions } from './options.js';

const RULES: FolderRules = {
  code: 'TSVM_SANDBOX',
  what: 'the folder of saved sandboxes',
  hint: 'set TSVM_SANDBOX_DIR to a folder of your own',
};
const OPTIONS = 'sandbox.json';
const MACHINE = 'machine';
const MAX_OPTIONS_BYTES = 4 << 20;

/** $TSVM_SANDBOX_DIR, or $XDG_CACHE_HOME/tsvm/sandboxes, or ~/.cache/tsvm/sandboxes. */
function sandboxDirectory(): string {
  return cacheDirectory('TSVM_SANDBOX_DIR', 'sandboxes');
}

export interface SavedSandbox {
  readonly options: SandboxOptions;
  /** Folder of the saved machine. */
  readonly directory: string;
}

/** What is kept of options: neither its name nor what is of one call, and paths that mean the same in every working directory. */
function keptOptions(options: SandboxOptions): SandboxOptions {
  const {
    name: _name,
    labels: _labels,
    signal: _signal,
    timeoutMs: _timeoutMs,
    onTimeout: _onTimeout,
    ports: _ports,
    image,
    ...rest
  } = options;
  const volumes = placedVolumes(options).map(({ target, ...volume }) => [target, volume] as const);
  return {
    ...rest,
    ...(image === undefined ? {} : { image: findFile(image) === undefined ? image : resolve(image) }),
    volumes: Object.fromEntries(volumes),
  };
}

/**
 * Saves a sandbox; one of that name is replaced.
 *
 * @param save - saves the machine into a folder
 */
export async function saveSandbox(
  name: string,
  options: SandboxOptions,
  save: (directory: string) => Promise<unknown>,
): Promise<void> {
  checkName(name);
  const directory = sandboxDirectory();
  using store = OwnFolder.make(directory, RULES);
  store.makeFolder(name);
  // What is there of an earlier one fits no other machine.
  using folder = store.folder(name);
  folder?.remove(OPTIONS);
  await save(join(directory, name, MACHINE));
  folder?.write(OPTIONS, JSON.stringify(keptOptions(options)));
}

/** Reads what was saved. @throws TsvmError `TSVM_SANDBOX` if there is none of that name, or it is damaged */
export function readSaved(name: string): SavedSandbox {
  checkName(name);
  const directory = sandboxDirectory();
  using store = OwnFolder.open(directory, RULES);
  using folder = store?.folder(name);
  const text = folder?.read(OPTIONS, MAX_OPTIONS_BYTES);
  if (text === undefined) {
    throw new TsvmError('TSVM_SANDBOX', `there is no saved sandbox ${name} in ${directory}`, {
      hint: `save one: await box.snapshot('${name}')`,
    });
  }
  return { options: parsed(name, text), directory: join(directory, name, MACHINE) };
}

function parsed(name: string, text: string): SandboxOptions {
  try {
    const options = JSON.parse(text) as SandboxOptions;
    checkSandboxOptions(options);
    return options;
  } catch (cause) {
    throw new TsvmError('TSVM_SANDBOX', `the saved sandbox ${name} is damaged`, {
      hint: 'save it anew',
      cause,
    });
  }
}
