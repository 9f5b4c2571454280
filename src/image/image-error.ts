import { TsvmError } from '../errors.js';

/** The error of everything that is wrong with an image. */
export function imageError(message: string, hint?: string, cause?: unknown): TsvmError {
  return new TsvmError('TSVM_IMAGE', message, { hint, cause });
}
