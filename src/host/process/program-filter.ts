/** Programs of the host as filters, bytes in and bytes out, for formats that no JavaScript library unpacks. */
import { spawn } from 'node:child_process';
import { type FileHandle, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TsvmError } from '../../errors.js';
import { describeFileError } from '../files.js';

/** Bound of what the program writes to stderr, for the error message. */
const MAX_ERROR_BYTES = 1024;

export const XZ = { name: 'xz', debianPackage: 'xz-utils' } as const;

/**
 * Unpacks the .xz or .lzma stream at the start of `bytes` with XZ Utils. Its input is a file, since of one stream it reads no more than
 * belongs to it, and leaves the file's position there.
 */
export async function runXz(
  bytes: Uint8Array,
  format: 'xz' | 'lzma',
  maxBytes: number,
): Promise<{ data: Uint8Array; consumedBytes: number }> {
  const input = await unnamedFile(bytes);
  try {
    const command = [XZ.name, `--format=${format}`, '--single-stream', '-dc'] as const;
    const data = await programOutput({ command, debianPackage: XZ.debianPackage, input }, maxBytes);
    return { data, consumedBytes: await position(input) };
  } finally {
    await input.close();
  }
}

/** A file of `bytes` that no name leads to any more, open at its beginning. */
async function unnamedFile(bytes: Uint8Array): Promise<FileHandle> {
  let folder: string | undefined;
  try {
    folder = await mkdtemp(join(tmpdir(), 'tsvm-'));
    const path = join(folder, 'input');
    await writeFile(path, bytes);
    return await open(path);
  } catch (cause) {
    throw new TsvmError('TSVM_HOST', `cannot make a temporary file: ${describeFileError(cause)}`, {
      hint: 'name a folder that has the space: TMPDIR=FOLDER',
      cause,
    });
  } finally {
    if (folder !== undefined) await rm(folder, { recursive: true });
  }
}

/** Position of an open file, which is the same for every process that has it (proc(5), fdinfo). */
async function position(file: FileHandle): Promise<number> {
  const info = await readFile(`/proc/self/fdinfo/${file.fd}`, 'utf8');
  return Number(/^pos:\s*(\d+)$/m.exec(info)?.[1]);
}

/** A program, and who asks for it. */
export interface FilterProgram {
  readonly command: readonly [string, ...string[]];
  readonly debianPackage: string;
  /** Purpose that it is needed for, for the message. Default: to unpack this file. */
  readonly purpose?: string;
  /** Standard input, read from the file's position on. Default: nothing. */
  readonly input?: FileHandle;
  /** Variables besides this process's. */
  readonly env?: Readonly<Record<string, string>>;
  /** Abort, which kills it; what it did is done by the time that the reason is thrown. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs `program` and collects what it prints, at most `maxBytes`.
 *
 * @throws TsvmError `TSVM_HOST` if the program is not installed, with the Debian package that has it.
 * @throws Error with what the program said, if it fails or prints more.
 */
export function programOutput(program: FilterProgram, maxBytes: number): Promise<Uint8Array> {
  const [name, ...args] = program.command;
  const { signal } = program;
  return new Promise((resolve, reject) => {
    const env = { ...process.env, ...program.env };
    const child = spawn(name, args, { stdio: [program.input?.fd ?? 'ignore', 'pipe', 'pipe'], env });
    const kill = (): void => void child.kill('SIGKILL');
    signal?.addEventListener('abort', kill, { once: true });
    const output: Buffer[] = [];
    let outputBytes = 0;
    let complaint = '';
    child.once('error', (cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'ENOENT') return reject(cause);
      reject(
        new TsvmError(
          'TSVM_HOST',
          `the program '${name}' is needed ${program.purpose ?? 'to unpack this file'}, and is not installed`,
          {
            hint: `install it: apt-get install ${program.debianPackage}`,
            cause,
          },
        ),
      );
    });
    child.stdout?.on('data', (chunk: Buffer) => {
      outputBytes += chunk.length;
      if (outputBytes > maxBytes) kill();
      else output.push(chunk);
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      if (complaint.length < MAX_ERROR_BYTES) complaint += chunk.toString('utf8');
    });
    child.once('close', (code) => {
      signal?.removeEventListener('abort', kill);
      if (signal?.aborted) reject(signal.reason);
      else if (outputBytes > maxBytes) reject(new Error(`unpacks to more than ${maxBytes} bytes`));
      else if (code !== 0)
        reject(new Error(complaint.trim().split('\n')[0] || `${name} failed with status ${code}`));
      else resolve(Buffer.concat(output, outputBytes));
    });
  });
}
