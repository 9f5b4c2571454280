/** Reading the operator's files, with errors that name them. */
import { type FileHandle, open } from 'node:fs/promises';
import { isErrnoError, TsvmError, type TsvmErrorCode } from '../errors.js';
import { formatBytes } from '../util/units.js';

/** What went wrong with a file, in words. */
export function describeFileError(cause: unknown): string {
  switch (isErrnoError(cause) ? cause.code : undefined) {
    case 'ENOENT':
      return 'no such file';
    case 'EACCES':
    case 'EPERM':
      return 'permission denied';
    case 'EISDIR':
      return 'it is a directory';
    case 'ENOTDIR':
      return 'a part of the path is not a directory';
    case 'ENOSPC':
    case 'EDQUOT':
      return 'no space left on the device';
    case 'EROFS':
      return 'the file system is read-only';
    case 'ELOOP':
      return 'too many symbolic links';
    default:
      return cause instanceof Error ? cause.message : String(cause);
  }
}

/** Reads a whole regular file of at most `maxBytes`. `what` names its role: `kernel`, `initramfs`. */
export async function readInputFile(
  what: string,
  path: string,
  options: { code: TsvmErrorCode; maxBytes: number; hint?: string },
): Promise<Uint8Array> {
  const { code, maxBytes } = options;
  const hint = options.hint ?? 'check the path';
  try {
    const file = await open(path, 'r');
    try {
      const stat = await file.stat();
      if (stat.isDirectory())
        throw new TsvmError(code, `cannot read ${what} ${path}: it is a directory`, { hint });
      if (!stat.isFile())
        throw new TsvmError(code, `cannot read ${what} ${path}: not a regular file`, { hint });
      if (stat.size > maxBytes) {
        throw new TsvmError(
          code,
          `${what} ${path} is too large: ${formatBytes(stat.size)}, at most ${formatBytes(maxBytes)}`,
          {
            hint: 'is it the right file?',
          },
        );
      }
      return await readWhole(file, stat.size);
    } finally {
      await file.close();
    }
  } catch (cause) {
    if (cause instanceof TsvmError) throw cause;
    throw new TsvmError(code, `cannot read ${what} ${path}: ${describeFileError(cause)}`, { hint, cause });
  }
}

/** In one go: readFile() takes 512 KiB at a time, and twice the time. A file that shrinks meanwhile is what is left of it. */
async function readWhole(file: FileHandle, sizeBytes: number): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafeSlow(sizeBytes);
  let at = 0;
  while (at < sizeBytes) {
    const { bytesRead } = await file.read(bytes, at, sizeBytes - at, at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return bytes.subarray(0, at);
}
