/** Copies of the host's files to where an agent is. */
import { createReadStream, lstatSync, readdirSync, readlinkSync, type Stats, statSync } from 'node:fs';
import type { Agent } from '../agent/agent.js';
import { isErrnoError, TsvmError } from '../errors.js';
import { describeFileError } from '../host/files.js';
import { outputFrom } from '../image/program.js';
import type { Abortable } from '../util/abort.js';
import { isMissing } from './accounts.js';
import { copyPath, isFollowed } from './copy-place.js';

/** How something is copied. */
export interface CopyOptions extends Abortable {
  /** Keep owners and times. Default: owners are the superuser there, and this process here. */
  readonly archive?: boolean;
  /** Copy what a symbolic link leads to, if the source is one. Default: the link. */
  readonly follow?: boolean;
  /** Told of the bytes that have been copied so far. */
  readonly onBytes?: (bytes: number) => void;
}

const TAR = { name: 'tar', debianPackage: 'tar' } as const;
const NUL = Buffer.of(0);

/** Copies a file or directory of the host to `path`, by docker's rules. @throws TsvmError `TSVM_FILE` that names the path */
export async function copyIn(
  agent: Agent,
  source: string,
  path: string,
  options: CopyOptions,
): Promise<void> {
  const { signal, archive = false, follow = false } = options;
  const facts = factsOf(source, follow || isFollowed(source));
  const isDirectory = facts.isDirectory();
  const kind = await kindThere(agent, path, options);
  const to = copyPath({ path: source, isDirectory }, { path, kind });
  const owner = archive ? { uid: facts.uid, gid: facts.gid, mtime: facts.mtime } : {};
  if (isDirectory) {
    const there = to === path ? kind : await kindThere(agent, to, options);
    await agent.files.writeTar(to, counted(packed(source, archive, there === 'missing'), options), {
      signal,
    });
  } else if (facts.isSymbolicLink()) {
    await agent.files.remove(to, { force: true, signal });
    await agent.files.symlink(readlinkSync(source, { encoding: 'buffer' }), to, { signal });
  } else if (facts.isFile()) {
    const mode = facts.mode & 0o7777;
    await agent.files.write(to, counted(createReadStream(source), options), { mode, signal, ...owner });
    await agent.files.chmod(to, mode, { signal });
  } else {
    throw new TsvmError('TSVM_FILE', `${source} is neither a file, a directory nor a link`);
  }
}

/** Unpacks an archive into a directory that is there. */
export async function unpackIn(
  agent: Agent,
  archive: AsyncIterable<Uint8Array>,
  path: string,
  options: CopyOptions,
): Promise<void> {
  if ((await kindThere(agent, path, options)) !== 'directory') {
    throw new TsvmError('TSVM_FILE', `${path} is no directory there`, {
      hint: 'an archive is unpacked into one: make it first',
    });
  }
  await agent.files.writeTar(path, counted(archive, options), { signal: options.signal });
}

async function kindThere(
  agent: Agent,
  path: string,
  { signal }: Abortable,
): Promise<'missing' | 'directory' | 'other'> {
  try {
    const { kind } = await agent.files.stat(path, { signal });
    return kind === 'directory' ? 'directory' : 'other';
  } catch (error) {
    if (isMissing(error)) return 'missing';
    throw error;
  }
}

function factsOf(path: string, follows: boolean): Stats {
  try {
    return follows ? statSync(path) : lstatSync(path);
  } catch (cause) {
    if (!isErrnoError(cause)) throw cause;
    throw new TsvmError('TSVM_FILE', `${path}: ${describeFileError(cause)}`, { cause });
  }
}

/** Archive of what is in a directory; with `isNew` of the directory itself too, whose mode another one would take over. */
function packed(directory: string, archive: boolean, isNew: boolean): AsyncIterable<Uint8Array> {
  const names = isNew ? [Buffer.from('.')] : readdirSync(directory, { encoding: 'buffer' });
  if (names.length === 0) return nothing();
  const owners = archive ? ['--numeric-owner'] : ['--owner=0', '--group=0'];
  const args = ['-C', directory, '-S', ...owners, '--null', '--verbatim-files-from', '-T', '-', '-cf', '-'];
  return outputFrom(TAR, args, list(names));
}

async function* nothing(): AsyncGenerator<Uint8Array> {
  yield Buffer.alloc(1024); // an archive that is at its end
}

async function* list(names: readonly Buffer[]): AsyncGenerator<Uint8Array> {
  for (const name of names) yield Buffer.concat([Buffer.from('./'), name, NUL]);
}

/** Passes pieces on, and tells of their bytes. */
export async function* counted(
  pieces: AsyncIterable<Uint8Array>,
  { onBytes }: CopyOptions,
): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const piece of pieces) {
    bytes += piece.length;
    onBytes?.(bytes);
    yield piece;
  }
}
