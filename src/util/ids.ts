/** User and group ids of Linux. */

/** Greatest id there is. The next, 2^32 - 1, means "leave it as it is" to the kernel (setresuid(2)), and 2^32 would be 0: the superuser. */
export const MAX_ID = 0xffff_fffe;
/** Description of an id, for messages. */
export const ID_RANGE = `a whole number from 0 to ${MAX_ID}`;

/** Bound of a user's groups beside its own: guests/init has room for so many. Linux itself takes 65,536. */
export const MAX_GROUPS = 1023;

/** Tells whether a value of any type is an id: no fraction, no NaN, nothing that 32 bits would cut. */
export function isId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_ID;
}

/** Reads decimal digits; undefined if they are no id. */
export function parseId(text: string): number | undefined {
  const id = /^\d+$/.test(text) ? Number(text) : undefined;
  return isId(id) ? id : undefined;
}
