/** Longest delay of setTimeout(), in milliseconds: some 24 days. A longer one fires at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;
