/**
 * The three families of failure.
 *
 * - {@link TsvmError}: the operator asked for something that cannot be done. The command line prints message and hint.
 * - {@link GuestError}: the guest broke a rule of the machine it runs on. It never leaves the device that caught it.
 * - an `AssertionError` from `node:assert`: a bug in tsvm.
 */

/** What went wrong, for programs. Messages may change between versions, codes do not. */
export type TsvmErrorCode =
  | 'TSVM_USAGE'
  | 'TSVM_CONFIG'
  | 'TSVM_KVM_UNAVAILABLE'
  | 'TSVM_KVM'
  | 'TSVM_ADDON'
  | 'TSVM_HOST'
  | 'TSVM_FILE'
  | 'TSVM_DISK'
  | 'TSVM_NET'
  | 'TSVM_KERNEL_IMAGE'
  | 'TSVM_INITRD'
  | 'TSVM_CMDLINE'
  | 'TSVM_FIRMWARE'
  | 'TSVM_MEMORY'
  | 'TSVM_STATE'
  | 'TSVM_SNAPSHOT'
  | 'TSVM_BINDING'
  | 'TSVM_TEMPLATE'
  | 'TSVM_VSOCK'
  | 'TSVM_PORT'
  | 'TSVM_BALLOON'
  | 'TSVM_PMEM'
  | 'TSVM_SHARE'
  | 'TSVM_GUEST_BUILD'
  | 'TSVM_CONTAINER'
  | 'TSVM_IMAGE'
  | 'TSVM_AGENT'
  | 'TSVM_COMMAND'
  | 'TSVM_COMMAND_NOT_FOUND';

/** A failure that the operator can act on: what happened, to what, and what to do about it. */
export class TsvmError extends Error {
  override readonly name = 'TsvmError';
  readonly code: TsvmErrorCode;
  /** One sentence that says what to do, or undefined where there is nothing to do. */
  readonly hint: string | undefined;

  constructor(
    code: TsvmErrorCode,
    message: string,
    options: { hint?: string | undefined; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
  }
}

/**
 * The guest broke a rule: a bad descriptor, an address outside its memory, an illegal register write.
 *
 * Thrown only by memory, chains, transport and devices. The transport turns it into DEVICE_NEEDS_RESET, one event and
 * one count; it never ends the process and is never logged per request.
 */
export class GuestError extends Error {
  override readonly name = 'GuestError';
}

/** True for an error that carries an errno name, as Node's and the addon's do. */
export function isErrnoError(
  error: unknown,
): error is Error & { code: string; errno: number; syscall: string } {
  return error instanceof Error && typeof (error as { code?: unknown }).code === 'string' && 'errno' in error;
}

/** Makes the error that using a file would give, for a check that found so without using it. */
export function foundErrno(code: string): Error {
  return Object.assign(new Error(code), { code, errno: 0 });
}
