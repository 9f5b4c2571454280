/**
 * How fast a device may go: token buckets, of bytes and of operations, refilled all the time.
 *
 * What is let through may cost more than there is left: the debt is waited for afterwards. So no request is too large for its
 * bucket, and nothing need be known of one before it is taken.
 */
import { TsvmError } from '../errors.js';
import type { Clock } from '../util/clock.js';
import { type Fields, optional } from '../util/fields.js';
import { MAX_TIMER_MS } from '../util/timer.js';
import { GIB, parseBytes } from '../util/units.js';
import { checkRequestConfig } from './config-fields.js';

export interface RateLimit {
  readonly bytesPerSecond?: number;
  /** What a device that rested may move at once. Default: a tenth of a second's. */
  readonly bytesBurst?: number;
  /** Requests of a disk, frames of a network card. */
  readonly opsPerSecond?: number;
  readonly opsBurst?: number;
}

const DEFAULT_BURST_SECONDS = 0.1;
/** Less would be no device, and its timers would be late for more. */
const MIN_PER_SECOND = 1;
const MAX_PER_SECOND = 1024 * GIB;

class Bucket {
  readonly #perMs: number;
  readonly #capacity: number;
  #tokens: number;
  #atMs: number;

  constructor(perSecond: number, burst: number | undefined, nowMs: number) {
    this.#perMs = perSecond / 1000;
    this.#capacity = burst ?? Math.max(1, perSecond * DEFAULT_BURST_SECONDS);
    this.#tokens = this.#capacity;
    this.#atMs = nowMs;
  }

  /** Until there is something in it; 0 if there is. */
  waitMs(nowMs: number): number {
    this.#tokens = Math.min(this.#capacity, this.#tokens + (nowMs - this.#atMs) * this.#perMs);
    this.#atMs = nowMs;
    return this.#tokens > 0 ? 0 : Math.min(Math.max(1, -this.#tokens / this.#perMs), MAX_TIMER_MS);
  }

  take(count: number): void {
    // What is owed beyond the longest timer is let off.
    this.#tokens = Math.max(this.#tokens - count, -MAX_TIMER_MS * this.#perMs);
  }
}

export class RateLimiter {
  readonly #clock: Clock;
  readonly #resume: () => void;
  #limit: RateLimit = {};
  #bytes: Bucket | undefined;
  #ops: Bucket | undefined;
  #callOff: (() => void) | undefined;

  /** @param resume called when `open` is true again, after it was found false. */
  constructor(limit: RateLimit, clock: Clock, resume: () => void) {
    this.#clock = clock;
    this.#resume = resume;
    this.#set(limit);
  }

  get limit(): RateLimit {
    return this.#limit;
  }

  /** From now on, with full buckets: `resume` is called, for what was held up until now. */
  set(limit: RateLimit): void {
    this.stop();
    this.#set(limit);
    this.#resume();
  }

  #set({ bytesPerSecond, bytesBurst, opsPerSecond, opsBurst }: RateLimit): void {
    const now = this.#clock.nowMs();
    this.#bytes = bytesPerSecond === undefined ? undefined : new Bucket(bytesPerSecond, bytesBurst, now);
    this.#ops = opsPerSecond === undefined ? undefined : new Bucket(opsPerSecond, opsBurst, now);
    this.#limit = {
      ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
      ...(bytesBurst === undefined ? {} : { bytesBurst }),
      ...(opsPerSecond === undefined ? {} : { opsPerSecond }),
      ...(opsBurst === undefined ? {} : { opsBurst }),
    };
  }

  /** The next operation may begin. */
  get open(): boolean {
    if (this.#bytes === undefined && this.#ops === undefined) return true;
    const now = this.#clock.nowMs();
    const waitMs = Math.max(this.#bytes?.waitMs(now) ?? 0, this.#ops?.waitMs(now) ?? 0);
    if (waitMs === 0) return true;
    this.#callOff ??= this.#clock.after(waitMs, () => {
      this.#callOff = undefined;
      this.#resume();
    });
    return false;
  }

  /** One operation of so many bytes has begun. */
  charge(bytes: number): void {
    this.#bytes?.take(bytes);
    this.#ops?.take(1);
  }

  /** `resume` is not called any more, until `open` is asked again. */
  stop(): void {
    this.#callOff?.();
    this.#callOff = undefined;
  }
}

function isRate(value: unknown): value is number {
  return (
    Number.isInteger(value) && (value as number) >= MIN_PER_SECOND && (value as number) <= MAX_PER_SECOND
  );
}

const RATE = optional(['a whole number a second', isRate]);
const BURST = optional(['a whole number', isRate]);

/** Those of a limit, in a configuration that comes as data. */
export const LIMIT_FIELDS: Fields<RateLimit> = {
  bytesPerSecond: RATE,
  bytesBurst: BURST,
  opsPerSecond: RATE,
  opsBurst: BURST,
};

/** @throws TsvmError `TSVM_CONFIG`, naming the field. */
export function checkLimit(limit: unknown): RateLimit {
  return checkRequestConfig<RateLimit>('limit', limit, LIMIT_FIELDS);
}

/** As a device saved it. @throws TsvmError `TSVM_STATE` */
export function restoredLimit(saved: unknown): RateLimit {
  try {
    return checkLimit(saved);
  } catch (error) {
    throw new TsvmError('TSVM_STATE', `saved state is not valid: ${(error as Error).message}`);
  }
}

/** `10M`, or with a burst `10M/64M`, as on the command line; undefined if it is none. */
export function parseLimit(of: 'bytes' | 'ops', text: string): RateLimit | undefined {
  const [rate, burst, ...more] = text.split('/').map(parseBytes);
  if (!isRate(rate) || more.length > 0) return undefined;
  if (text.includes('/') && !isRate(burst)) return undefined;
  const perSecond = of === 'bytes' ? { bytesPerSecond: rate } : { opsPerSecond: rate };
  if (burst === undefined) return perSecond;
  return { ...perSecond, ...(of === 'bytes' ? { bytesBurst: burst } : { opsBurst: burst }) };
}
