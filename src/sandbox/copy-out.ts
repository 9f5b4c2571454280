/** Copies of files where an agent is, to the host. */
import { statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import type { Readable } from 'node:stream';
import type { Agent } from '../agent/agent.js';
import { type Extracted, extractTar } from '../agent/tar-extract.js';
import { isErrnoError, TsvmError } from '../errors.js';
import { describeFileError } from '../host/files.js';
import { type CopyOptions, counted } from './copy-in.js';
import { copyPath, isFollowed } from './copy-place.js';

/** Reads a file or directory as an archive, whose entries begin with its name. */
export function packOut(agent: Agent, path: string, { signal, follow = false }: CopyOptions): Readable {
  const base = path.split('/').findLast((part) => part !== '' && part !== '.') ?? '.';
  return agent.files.readTar(path, { name: base, follow: follow || isFollowed(path), signal });
}

/** Copies a file or directory to `path` of the host, by docker's rules. @throws TsvmError `TSVM_FILE` that names the path */
export async function copyOut(
  agent: Agent,
  source: string,
  path: string,
  options: CopyOptions,
): Promise<Extracted> {
  const { signal, archive = false } = options;
  const follow = options.follow === true || isFollowed(source);
  const { kind } = await agent.files.stat(source, { follow, signal });
  if (kind !== 'directory' && kind !== 'file' && kind !== 'link')
    throw new TsvmError('TSVM_FILE', `${source} is neither a file, a directory nor a link`);
  const to = copyPath({ path: source, isDirectory: kind === 'directory' }, { path, kind: kindHere(path) });
  // A directory that is there keeps its own mode and owner.
  const joins = kind === 'directory' && kindHere(to) === 'directory';
  const packed = agent.files.readTar(source, { name: joins ? '.' : basename(to), follow, signal });
  return await extractTar(counted(packed, options), joins ? to : dirname(to), { owners: archive, signal });
}

function kindHere(path: string): 'missing' | 'directory' | 'other' {
  try {
    return statSync(path).isDirectory() ? 'directory' : 'other';
  } catch (cause) {
    if (!isErrnoError(cause)) throw cause;
    if (cause.code === 'ENOENT') return 'missing';
    throw new TsvmError('TSVM_FILE', `${path}: ${describeFileError(cause)}`, { cause });
  }
}
