/** A check of `tsvm doctor --production`: one thing of the host that makes the wall around a machine thicker or thinner. */
import type { HostTree } from '../host-tree.js';

/** Judgement of one thing. `unknown` is not passed: what cannot be read cannot be relied upon. */
export interface Verdict {
  readonly status: 'holds' | 'weak' | 'unknown';
  /** Finding, in a few words. */
  readonly detail: string;
}

/** One row of the table, as it is written down. */
interface CheckRow<Value> {
  /** Name, and the heading of its section in docs/production.md. */
  readonly id: string;
  /** Reason for the check, in one line. */
  readonly what: string;
  /** Facts from the host; undefined if they cannot be read. */
  read(host: HostTree): Value | undefined;
  judge(value: Value, now: Date): Verdict;
  /** A command or a sentence that makes it right. */
  readonly remedy: string;
}

export interface HostCheck {
  readonly id: string;
  readonly what: string;
  readonly remedy: string;
  examine(host: HostTree, now: Date): Verdict;
}

export function check<Value>({ id, what, remedy, read, judge }: CheckRow<Value>): HostCheck {
  return {
    id,
    what,
    remedy,
    examine(host, now) {
      const value = read(host);
      return value === undefined ? unknown('this host does not say') : judge(value, now);
    },
  };
}

export const holds = (detail: string): Verdict => ({ status: 'holds', detail });
export const weak = (detail: string): Verdict => ({ status: 'weak', detail });
export const unknown = (detail: string): Verdict => ({ status: 'unknown', detail });
