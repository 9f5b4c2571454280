/** Environment of an image's command. */

/**
 * Splits the `Env` entries of an image's configuration at their first `=`. They are data: an entry without a value, without a name
 * or with a NUL is dropped, as Docker does, and nothing is taken from this process. The last of a name counts.
 */
export function imageEnvironment(entries: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    entries.flatMap((entry) => {
      const at = entry.indexOf('=');
      return at < 1 || entry.includes('\0') ? [] : [[entry.slice(0, at), entry.slice(at + 1)]];
    }),
  );
}
