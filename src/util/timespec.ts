/** Times in nanoseconds since 1970 as struct timespec has them. */

const NS_PER_SECOND = 1_000_000_000n;

/** Splits a time into seconds, which are negative before 1970, and nanoseconds, which never are. */
export function timespecOf(ns: bigint): [seconds: bigint, nanoseconds: bigint] {
  const nanoseconds = ((ns % NS_PER_SECOND) + NS_PER_SECOND) % NS_PER_SECOND;
  return [(ns - nanoseconds) / NS_PER_SECOND, nanoseconds];
}

export function nanosecondsOf(seconds: bigint, nanoseconds: bigint): bigint {
  return seconds * NS_PER_SECOND + nanoseconds;
}
