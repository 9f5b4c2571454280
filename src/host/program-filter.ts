/** Programs of the host as filters, bytes in and bytes out, for formats that no JavaScript library unpacks. */
import { spawn } from 'node:child_process';
import { TsvmError } from '../errors.js';

/** Of what the program writes to stderr, for the error message. */
const MAX_ERROR_BYTES = 1024;

export const XZ = { name: 'xz', debianPackage: 'xz-utils' } as const;

/** Unpacks a .xz or .lzma file with XZ Utils. */
export function runXz(bytes: Uint8Array, format: 'xz' | 'lzma', maxBytes: number): Promise<Uint8Array> {
  return filterThrough(
    { command: [XZ.name, `--format=${format}`, '-dc'], debianPackage: XZ.debianPackage },
    bytes,
    maxBytes,
  );
}

/** A program, and who asks for it. */
export interface FilterProgram {
  readonly command: readonly [string, ...string[]];
  readonly debianPackage: string;
  /** What it is needed for, for the message. Default: to unpack this file. */
  readonly purpose?: string;
  /** Variables besides this process's. */
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * Feeds `input` to `program` and collects what it prints, at most `maxBytes`.
 *
 * @throws TsvmError `TSVM_HOST` if the program is not installed, with the Debian package that has it.
 * @throws Error with what the program said, if it fails or prints more.
 */
export function filterThrough(
  program: FilterProgram,
  input: Uint8Array,
  maxBytes: number,
): Promise<Uint8Array> {
  const [name, ...args] = program.command;
  return new Promise((resolve, reject) => {
    const env = { ...process.env, ...program.env };
    const child = spawn(name, args, { stdio: ['pipe', 'pipe', 'pipe'], env });
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
    child.stdout.on('data', (chunk: Buffer) => {
      outputBytes += chunk.length;
      if (outputBytes > maxBytes) child.kill('SIGKILL');
      else output.push(chunk);
    });
    child.stderr.on('data', (chunk: Buffer) => {
      if (complaint.length < MAX_ERROR_BYTES) complaint += chunk.toString('utf8');
    });
    // The program may end before it has read everything; its exit status tells whether that is an error.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    child.once('close', (code) => {
      if (outputBytes > maxBytes) reject(new Error(`unpacks to more than ${maxBytes} bytes`));
      else if (code !== 0)
        reject(new Error(complaint.trim().split('\n')[0] || `${name} failed with status ${code}`));
      else resolve(Buffer.concat(output, outputBytes));
    });
  });
}
