/** Facts that a machine learns of the world outside: what is wrong in a copy that goes on with the memory of its original. */
import { randomBytes } from 'node:crypto';
import { TsvmError } from '../errors.js';
import { isHostname, MAX_HOSTNAME_BYTES } from '../util/hostname.js';
import { MAX_ENTROPY_BYTES } from './protocol.js';

/** Minimum of entropy that is worth a reseed: a key of the kernel's generator. */
const MIN_ENTROPY_BYTES = 32;

/** Facts for a guest. The time and new entropy go with every message that carries facts, unless `fresh` is false. */
export interface GuestFacts {
  /** Milliseconds since 1970, fractions too. Default: now. */
  readonly timeMs?: number | undefined;
  /** 32 to 64 bytes, never used before: copies of one machine would have the same random numbers. Default: random ones. */
  readonly entropy?: Uint8Array | undefined;
  /** Default: the guest keeps the one that it has. */
  readonly hostname?: string | undefined;
  /** Default true. With false, nothing is told that is not given here: a copy has its original's random numbers then, and its time. */
  readonly fresh?: boolean | undefined;
}

/** Facts of `more`, and of `base` those that it leaves open. */
export function mergeFacts(base: GuestFacts, more: GuestFacts): GuestFacts {
  const given = Object.entries(more).filter(([, value]) => value !== undefined);
  return { ...base, ...Object.fromEntries(given) };
}

/** Options of a message to guests/init that carry `facts`. @throws TsvmError `TSVM_CONFIG` */
export function factOptions({ hostname, fresh = true, ...given }: GuestFacts): string[] {
  const timeMs = given.timeMs ?? (fresh ? Date.now() : undefined);
  const entropy = given.entropy ?? (fresh ? randomBytes(MIN_ENTROPY_BYTES) : undefined);
  const options: string[] = [];
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
    if (!isHostname(hostname))
      throw new TsvmError(
        'TSVM_CONFIG',
        `hostname: it must be 1 to ${MAX_HOSTNAME_BYTES} bytes, none of them a NUL`,
      );
    options.push(`hostname=${hostname}`);
  }
  return options;
}
