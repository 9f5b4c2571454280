/** Host names of Linux. */

/** HOST_NAME_MAX of Linux. */
export const MAX_HOSTNAME_BYTES = 64;

/** Tells whether Linux takes it as a host name. */
export function isHostname(text: string): boolean {
  return text !== '' && Buffer.byteLength(text) <= MAX_HOSTNAME_BYTES && !text.includes('\0');
}
