/** Facts that a machine learns of the world outside: what is wrong in a copy that goes on with the memory of its original. */
import { randomBytes } from 'node:crypto';
import { TsvmError } from '../errors.js';

/** Minimum of entropy that is worth a reseed: a key of the kernel's generator. */
const MIN_ENTROPY_BYTES = 32;
/** Maximum that guests/init takes in one message; the kernel would take more (include/uapi/linux/random.h). */
const MAX_ENTROPY_BYTES = 64;
/** HOST_NAME_MAX of Linux. */
const MAX_HOSTNAME_BYTES = 64;

/** Facts for the guest of a machine that goes on as a copy. */
export interface GuestFacts {
  /** Milliseconds since 1970, fractions too. */
  readonly timeMs?: number;
  /** 32 to 64 bytes, never used before: copies of one machine would have the same random numbers. */
  readonly entropy?: Uint8Array;
  readonly hostname?: string;
}

/** Time and entropy as they are now, for one machine only. */
export function freshFacts(): GuestFacts {
  return { timeMs: Date.now(), entropy: randomBytes(MIN_ENTROPY_BYTES) };
}

/** Options of a message to guests/init that carry `facts`. @throws TsvmError `TSVM_CONFIG` */
export function factOptions({ timeMs, entropy, hostname }: GuestFacts): string[] {
  const options = [];
  if (timeMs !== undefined) {
    if (!Number.isFinite(timeMs) || timeMs < 0)
      throw new TsvmError('TSVM_CONFIG', `timeMs: ${timeMs} is no time`);
    const seconds = Math.floor(timeMs / 1000);
    options.push(`time=${seconds}.${Math.floor((timeMs - 1000 * seconds) * 1e6)}`);
  }
  if (entropy !== undefined) {
    if (entropy.length < MIN_ENTROPY_BYTES || entropy.length > MAX_ENTROPY_BYTES)
      throw new TsvmError(
        'TSVM_CONFIG',
        `entropy: ${entropy.length} bytes, not ${MIN_ENTROPY_BYTES} to ${MAX_ENTROPY_BYTES}`,
      );
    options.push(`entropy=${Buffer.from(entropy).toString('hex')}`);
  }
  if (hostname !== undefined) {
    if (hostname === '' || Buffer.byteLength(hostname) > MAX_HOSTNAME_BYTES)
      throw new TsvmError('TSVM_CONFIG', `hostname: it must be 1 to ${MAX_HOSTNAME_BYTES} bytes`);
    options.push(`hostname=${hostname}`);
  }
  return options;
}
