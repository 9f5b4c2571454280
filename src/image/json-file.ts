/** JSON files of the operator's, which other programs may have written. */
import type { z } from 'zod';
import { isErrnoError, TsvmError } from '../errors.js';
import { readInputText } from '../host/files.js';
import { MIB } from '../util/units.js';

/** Bound of such a file. */
const MAX_BYTES = MIB;

/** Reads a file; undefined if there is none. @throws TsvmError `TSVM_FILE` that names it if it cannot be read or is no JSON. */
export async function readJsonFile(what: string, path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readInputText(what, path, { code: 'TSVM_FILE', maxBytes: MAX_BYTES });
  } catch (error) {
    const { cause } = error as { cause?: unknown };
    if (isErrnoError(cause) && (cause.code === 'ENOENT' || cause.code === 'ENOTDIR')) return undefined;
    throw error;
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new TsvmError('TSVM_FILE', `${path}: it is not JSON`, { hint: 'mend it, or move it away', cause });
  }
}

/** Reads what such a file has by a schema. @throws TsvmError `TSVM_FILE` that names the file and the first problem. */
export function parseFile<T>(schema: z.ZodType<T>, path: string, value: unknown, hint: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new TsvmError('TSVM_FILE', `${path}: ${describeIssue(result.error)}`, { hint });
}

/** First problem that a schema has with a value, in a line. */
export function describeIssue(error: z.ZodError): string {
  const [issue] = error.issues;
  const message = (issue?.code === 'invalid_key' ? issue.issues[0] : issue)?.message ?? '';
  return `${issue?.path.join('.') ?? ''} ${message}`.trim();
}
