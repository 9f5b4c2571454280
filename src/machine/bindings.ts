/** Binds what a saved machine wishes of the host to what the operator names. Nothing else of a saved machine opens anything. */
import { realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { type Binding, type HostSlot, type HostUse, mapPaths } from '../devices/host-slot.js';
import type { DeviceKind, DeviceRequest } from '../devices/registry.js';
import { isErrnoError, TsvmError } from '../errors.js';
import { OwnFolder } from '../host/own-folder.js';
import { SNAPSHOT_FOLDER } from '../snapshot/format.js';
import { shellQuote } from '../util/shell-quote.js';
import { kindOf } from './spec.js';

/**
 * Things of the host that the operator lets a saved machine have: a list of device requests, as `createMachine` took them, of which each
 * stands for the saved one of its kind and place; or bindings by the names of slots, `{ 'disk 0': { path: 'root.img' } }`.
 */
export type DeviceBindings = readonly DeviceRequest[] | Readonly<Record<string, object>>;

/** Something of the host that a saved machine asks for, and that is not bound. */
export interface HostWish {
  /** Name of the slot: `disk 0`, `share src`, `net 0`, `port log`, `vsock`. */
  readonly slot: string;
  /** Words for what it asks for, which are fit for a terminal. */
  readonly text: string;
  /** Binding that grants just that. Paths are absolute. */
  readonly binding: Binding;
  /** Options of `tsvm restore` that grant it, for a shell; undefined if the command line cannot say it. */
  readonly option: string | undefined;
}

/** Devices as they were saved. */
export interface SavedDevices {
  /** Folder of the snapshot. What lies in it is the machine's without being named. */
  readonly folder: string;
  /** Folder that relative paths of the devices are relative to. */
  readonly from: string;
  readonly devices: readonly { readonly kind: string; readonly config: unknown }[];
}

export interface BindingOptions {
  /**
   * Things of the host that the machine may have: a snapshot opens nothing because it says so. What lies in the snapshot's folder need not
   * be named.
   */
  readonly devices?: DeviceBindings;
  /** Path of the vsock's Unix sockets: a short way to say `{ vsock: { path } }`. */
  readonly vsock?: string;
  /** Paths of the ports' Unix sockets by the ports' names: a short way to say `{ 'port NAME': { path } }`. */
  readonly ports?: Readonly<Record<string, string>>;
  /** Paths of disks by their numbers, which the machine writes to: a short way to say `{ 'disk N': { path, direct: true } }`. */
  readonly ownDisks?: Readonly<Record<number, string>>;
  /** Called for each slot that is bound, before anything is opened. `text`: what it is, in words that are fit for a terminal. */
  onBind?(slot: string, text: string): void;
}

/**
 * The requests of the saved devices, with what the operator names in the place of what they wish.
 *
 * @throws TsvmError `TSVM_BINDING` if a wish is not bound, or a slot is named that is not there.
 */
export async function bindDevices(saved: SavedDevices, options: BindingOptions): Promise<DeviceRequest[]> {
  const { requests, bound, wishes } = await bind(saved, options);
  if (wishes.length > 0) throw unboundError(saved.folder, wishes);
  for (const { slot, text } of bound) options.onBind?.(slot, text);
  return requests;
}

/** Lists what the saved devices ask for and `options` do not bind. @throws TsvmError `TSVM_BINDING` for a slot that is not there. */
export async function unboundWishes(saved: SavedDevices, options: BindingOptions): Promise<HostWish[]> {
  return (await bind(saved, options)).wishes;
}

/**
 * The operator's own requests, for a machine that was saved with the same: nothing of the saved ones is used but that they are the same.
 *
 * @throws TsvmError `TSVM_SNAPSHOT` if they are not.
 */
export async function bindSame(
  saved: SavedDevices,
  requests: readonly DeviceRequest[],
  options: BindingOptions,
): Promise<DeviceRequest[]> {
  const devices = requests.map(({ kind, config }) => ({ kind, config: config ?? {} }));
  if (JSON.stringify(devices) !== JSON.stringify(saved.devices)) {
    throw new TsvmError('TSVM_SNAPSHOT', `${saved.folder}: its devices are not those that were asked for`, {
      hint: 'remove it: tsvm template prune',
    });
  }
  const own = resolve('.');
  return await bindDevices({ folder: saved.folder, from: own, devices }, { devices: requests, ...options });
}

interface Outcome {
  readonly requests: DeviceRequest[];
  readonly bound: { readonly slot: string; readonly text: string }[];
  readonly wishes: HostWish[];
}

async function bind(saved: SavedDevices, options: BindingOptions): Promise<Outcome> {
  const given = givenBindings(options);
  const from = resolve(saved.folder, saved.from);
  const there = new Set<string>();
  const outcome: Outcome = { requests: [], bound: [], wishes: [] };
  for (const { kind, config, ordinal } of withOrdinals(saved.devices)) {
    const { hostUse, fromConfig } = kind;
    let current = config;
    for (const slot of hostUse?.slots(config, ordinal) ?? []) {
      if (hostUse === undefined) continue;
      there.add(slot.name);
      const wish = slot.wish && mapPaths(hostUse, slot.wish, (path) => resolve(from, path));
      const binding = given.get(slot.name) ?? (wish && (await insideFolder(saved.folder, hostUse, wish)));
      if (binding === undefined) {
        if (wish !== undefined) outcome.wishes.push(wishOf(kind, hostUse, slot, wish));
        continue;
      }
      current = hostUse.bind(current, slot.name, binding);
      const now = hostUse.slots(current, ordinal).find(({ name }) => name === slot.name);
      const shown = mapPaths(hostUse, { ...now?.wish, ...now?.rights }, (path) => resolve(path));
      outcome.bound.push({ slot: slot.name, text: hostUse.describe(shown, shellQuote) });
    }
    outcome.requests.push(fromConfig(current));
  }
  const unknown = [...given.keys()].find((name) => !there.has(name));
  if (unknown !== undefined) throw noSuchSlot(saved.folder, unknown, [...there]);
  return outcome;
}

function* withOrdinals(
  devices: readonly { readonly kind: string; readonly config?: unknown }[],
): Generator<{ kind: DeviceKind; config: unknown; ordinal: number }> {
  const ordinals = new Map<string, number>();
  for (const { kind: name, config } of devices) {
    const kind = kindOf(name);
    const ordinal = ordinals.get(name) ?? 0;
    ordinals.set(name, ordinal + 1);
    yield { kind, config, ordinal };
  }
}

/** The operator's bindings by the names of their slots; the later of two for the same slot counts. */
function givenBindings({
  devices = {},
  vsock,
  ports = {},
  ownDisks = {},
}: BindingOptions): Map<string, Binding> {
  return new Map<string, Binding>([
    ...(isList(devices) ? requestBindings(devices) : (Object.entries(devices) as [string, Binding][])),
    ...(vsock === undefined ? [] : [['vsock', { path: vsock }] as const]),
    ...Object.entries(ports).map(([name, path]) => [`port ${name}`, { path }] as const),
    ...Object.entries(ownDisks).map(([number, path]) => [`disk ${number}`, { path, direct: true }] as const),
  ]);
}

const isList = (devices: DeviceBindings): devices is readonly DeviceRequest[] => Array.isArray(devices);

function requestBindings(requests: readonly DeviceRequest[]): [string, Binding][] {
  return [...withOrdinals(requests)].flatMap(({ kind, config, ordinal }) =>
    (kind.hostUse?.slots(config, ordinal) ?? []).flatMap(({ name, wish, rights }): [string, Binding][] =>
      wish === undefined ? [] : [[name, { ...wish, ...rights }]],
    ),
  );
}

/**
 * The wish with its paths through the snapshot's folder itself, if all of it lies there: files and folders of the same owner, that are no
 * links and that nobody else may change. Undefined if some of it lies elsewhere, or if it is of a kind that has to be named.
 */
async function insideFolder(folder: string, use: HostUse, wish: Binding): Promise<Binding | undefined> {
  const real = use.ownFolder ? realPath(folder) : undefined;
  if (real === undefined) return undefined;
  const paths = use.pathFields.map((field) => wish[field]).filter((path) => typeof path === 'string');
  if (!paths.every((path) => [real, resolve(folder)].includes(dirname(path)))) return undefined;
  using own = OwnFolder.open(real, { ...SNAPSHOT_FOLDER, rootsToo: true });
  if (own === undefined) return undefined;
  for (const path of paths) await checkOwn(own, basename(path));
  return mapPaths(use, wish, (path) => join(real, basename(path)));
}

function realPath(folder: string): string | undefined {
  try {
    return realpathSync(folder);
  } catch {
    return undefined; // It was removed since it was opened: then nothing lies in it.
  }
}

/** @throws TsvmError for what is another's, a link, or of a kind that is not opened. A name that is not there will be made. */
async function checkOwn(folder: OwnFolder, name: string): Promise<void> {
  const stats = folder.stats(name);
  if (stats === undefined) return;
  if (stats.isDirectory()) {
    folder.folder(name)?.[Symbol.dispose]();
    return;
  }
  if (stats.isFile() && stats.nlink > 1) {
    const message = `${shellQuote(join(folder.path, name))} has another name as well, and may be another's`;
    throw new TsvmError('TSVM_SNAPSHOT', message, { hint: 'put a copy there' });
  }
  try {
    await (await folder.openFile(name)).close();
  } catch (cause) {
    if (cause instanceof TsvmError || !isErrnoError(cause)) throw cause;
    throw new TsvmError(
      'TSVM_SNAPSHOT',
      `${shellQuote(join(folder.path, name))} is a link, or no file or folder`,
      {
        hint: 'put the file itself there, or name another when the machine is restored',
        cause,
      },
    );
  }
}

function wishOf({ cliFlag }: DeviceKind, use: HostUse, slot: HostSlot, wish: Binding): HostWish {
  const value = use.toCli(slot, wish);
  return {
    slot: slot.name,
    text: use.describe(wish, shellQuote),
    binding: wish,
    option: value === undefined ? undefined : `--${cliFlag} ${shellQuote(value)}`,
  };
}

function unboundError(folder: string, wishes: readonly HostWish[]): TsvmError {
  const asked = wishes.map(({ slot, text }) => `${slot} (${text})`).join(', ');
  return new TsvmError(
    'TSVM_BINDING',
    `${folder} cannot be restored: it asks for ${asked}, and gets of the host only what is named when it is restored`,
    { hint: `name what it may have: ${optionsFor(wishes)}` },
  );
}

/** The options that grant all of `wishes`; for what the command line cannot say, the library's words. */
export function optionsFor(wishes: readonly HostWish[]): string {
  return wishes
    .map(({ slot, option }) => option ?? `(${slot}: by the library, RestoreOptions.devices)`)
    .join(' ');
}

function noSuchSlot(folder: string, name: string, there: readonly string[]): TsvmError {
  const has = there.length === 0 ? 'nothing of the host that could be named' : there.join(', ');
  return new TsvmError('TSVM_BINDING', `${folder} cannot be restored: it has no ${name}`, {
    hint: `it has ${has}`,
  });
}
