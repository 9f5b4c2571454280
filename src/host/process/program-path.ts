/** Programs of the host, found along PATH as a shell finds them. */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

/** Path of a program that this user may execute; undefined if it is not installed. */
export function programPath(name: string): string | undefined {
  for (const folder of (process.env['PATH'] ?? '').split(':')) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // in another one, then
    }
  }
  return undefined;
}
