/** Files of the tsvm package that are not code: recipes, lists, its manifest. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** An absolute path. Holds for dist/host/ and for the bundle in dist/bin/, which are equally deep. */
export function packageFile(path: string): string {
  return fileURLToPath(new URL(`../../${path}`, import.meta.url));
}

/** Of tsvm, as in its package.json. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version: string }).version;
}
