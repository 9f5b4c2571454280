/** Files of a sandbox: those of its agent, each call with a time limit, and texts. */
import type { Readable, Writable } from 'node:stream';
import type { AgentFileEntry, AgentFileFacts } from '../agent/entries.js';
import type { AgentFiles, ReadOptions, WriteOptions } from '../agent/files.js';
import type { AgentPath } from '../agent/path.js';
import type { AgentFileEvent } from '../agent/watch.js';
import type { Abortable } from '../util/abort.js';
import { isMissing } from './accounts.js';
import { type CallOptions, inTime } from './call.js';

/** Data for a file of a sandbox. */
export type SandboxFileData = string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** Files of a sandbox, as its superuser has them. A call that cannot be done is refused with a TsvmError `TSVM_FILE` that names the path. */
export interface SandboxFiles {
  /** Reads a file, of up to 1 GiB. */
  read(path: AgentPath, options?: Omit<ReadOptions, 'signal'> & CallOptions): Promise<Buffer>;
  /** Reads a file as text; bytes that are no UTF-8 become U+FFFD. */
  readText(path: AgentPath, options?: Omit<ReadOptions, 'signal'> & CallOptions): Promise<string>;
  /** Writes a file, from text, bytes, or what gives bytes one after the other. Directories above it are made if they are missing. */
  write(
    path: AgentPath,
    data: SandboxFileData,
    options?: Omit<WriteOptions, 'signal'> & CallOptions,
  ): Promise<{ readonly size: number }>;
  /** Tells facts of a file. @param options - `follow: false`: of a symbolic link itself. Default: true */
  stat(
    path: AgentPath,
    options?: { readonly follow?: boolean } & CallOptions,
  ): Promise<AgentFileFacts & { readonly target?: Buffer }>;
  /** Lists what is in a directory. @param options - `depth`: levels below it. Default: 1; `Infinity`: all */
  list(
    path: AgentPath,
    options?: { readonly depth?: number } & CallOptions,
  ): Promise<readonly AgentFileEntry[]>;
  mkdir(
    path: AgentPath,
    options?: { readonly parents?: boolean; readonly mode?: number } & CallOptions,
  ): Promise<void>;
  /** Removes a file, link or empty directory. @param options - `recursive`: all that is in it; `force`: also what is not there */
  remove(
    path: AgentPath,
    options?: { readonly recursive?: boolean; readonly force?: boolean } & CallOptions,
  ): Promise<void>;
  rename(from: AgentPath, to: AgentPath, options?: CallOptions): Promise<void>;
  chmod(path: AgentPath, mode: number, options?: CallOptions): Promise<void>;
  /** Reads a file as a stream, of any size. */
  createReadStream(path: AgentPath, options?: ReadOptions): Readable;
  createWriteStream(path: AgentPath, options?: WriteOptions): Writable;
  /** Tells whether there is a file, directory or other thing of that name. */
  exists(path: AgentPath, options?: CallOptions): Promise<boolean>;
  /**
   * Tells of changes of a file, or of what is in a directory, until the loop is left or the call is aborted. The first event, `watching`, says
   * that changes are seen from now on.
   */
  watch(
    path: AgentPath,
    options?: { readonly recursive?: boolean } & Abortable,
  ): AsyncGenerator<AgentFileEvent>;
  /** Reads a file or directory as a tar archive. */
  tar(path: AgentPath, options?: Abortable): Readable;
  /** Unpacks a tar archive into a directory, which is made if it is missing. No name of it leads out of the directory. */
  untar(path: AgentPath, archive: AsyncIterable<Uint8Array>, options?: CallOptions): Promise<void>;
}

/** Directory of a file; empty for one at the root, or in the working directory. */
function aboveOf(path: AgentPath): Buffer {
  const bytes = Buffer.from(path);
  return bytes.subarray(0, Math.max(bytes.lastIndexOf('/'), 0));
}

/**
 * Files of an agent, as a sandbox has them.
 *
 * @param use - makes a call, which is a use of the sandbox as long as it takes
 */
export function sandboxFiles(
  files: AgentFiles,
  use: <T>(call: () => Promise<T>) => Promise<T>,
): SandboxFiles {
  const used = <T extends Readable | Writable>(stream: T): T => {
    const closed = new Promise<void>((resolve) => void stream.once('close', resolve));
    use(() => closed).catch((error: Error) => stream.destroy(error));
    return stream;
  };
  const limited = async <T>(
    what: string,
    { timeoutMs, signal }: CallOptions,
    call: (options: { readonly signal?: AbortSignal }) => Promise<T>,
  ): Promise<T> =>
    await inTime(what, { timeoutMs, signal }, (options) =>
      use(() => call(options.signal === undefined ? {} : { signal: options.signal })),
    );
  const read: SandboxFiles['read'] = (path, { timeoutMs, signal, ...options } = {}) =>
    limited('read a file', { timeoutMs, signal }, (more) => files.read(path, { ...options, ...more }));
  const stat: SandboxFiles['stat'] = (path, { timeoutMs, signal, ...options } = {}) =>
    limited('look at a file', { timeoutMs, signal }, (more) => files.stat(path, { ...options, ...more }));
  return {
    read,
    readText: async (path, options) => (await read(path, options)).toString('utf8'),
    write: (path, data, { timeoutMs, signal, ...options } = {}) =>
      limited('write a file', { timeoutMs, signal }, async (more) => {
        const above = aboveOf(path);
        if (above.length > 0) await files.mkdir(above, { parents: true, ...more });
        return await files.write(path, data, { ...options, ...more });
      }),
    stat,
    list: (path, { timeoutMs, signal, ...options } = {}) =>
      limited('list a directory', { timeoutMs, signal }, async (more) => {
        const entries: AgentFileEntry[] = [];
        for await (const entry of files.list(path, { ...options, ...more })) entries.push(entry);
        return entries;
      }),
    mkdir: (path, { timeoutMs, signal, ...options } = {}) =>
      limited('make a directory', { timeoutMs, signal }, (more) =>
        files.mkdir(path, { ...options, ...more }),
      ),
    remove: (path, { timeoutMs, signal, ...options } = {}) =>
      limited('remove a file', { timeoutMs, signal }, (more) => files.remove(path, { ...options, ...more })),
    rename: (from, to, options = {}) =>
      limited('rename a file', options, (more) => files.rename(from, to, more)),
    chmod: (path, mode, options = {}) =>
      limited('change a mode', options, (more) => files.chmod(path, mode, more)),
    createReadStream: (path, options) => used(files.createReadStream(path, options)),
    createWriteStream: (path, options) => used(files.createWriteStream(path, options)),
    exists: (path, options) =>
      stat(path, { ...options, follow: false }).then(
        () => true,
        (error: unknown) => {
          if (isMissing(error)) return false;
          throw error;
        },
      ),
    async *watch(path, options) {
      let leave = (): void => {};
      const left = new Promise<void>((resolve) => {
        leave = resolve;
      });
      await new Promise<void>((resolve, reject) => {
        const begun = async (): Promise<void> => {
          resolve();
          await left;
        };
        use(begun).catch(reject);
      });
      try {
        yield* files.watch(path, options);
      } finally {
        leave();
      }
    },
    tar: (path, options = {}) =>
      used(files.readTar(path, options.signal === undefined ? {} : { signal: options.signal })),
    untar: (path, archive, options = {}) =>
      limited('unpack an archive', options, async (more) => {
        await files.mkdir(path, { parents: true, ...more });
        await files.writeTar(path, archive, more);
      }),
  };
}
