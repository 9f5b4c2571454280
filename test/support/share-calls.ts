/** The system-call checks of test/shares/, compiled before the rig starts. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { must } from './must.js';
import { cachedFor, findCached, uncached } from './test-cache.js';

const NAME = 'share-calls';
/** Files of the repository, from whose root tests run. */
const FOLDER = 'test/shares';

/** The reason why they cannot be had. */
export const shareCallsProblem = (): string | undefined => uncached(NAME);

/** The static program. In the rig, the one that was compiled before it started. */
export function shareCalls(): string {
  const found = process.env['TSVM_RIG'] === '1' ? findCached(NAME) : undefined;
  return join(found ?? cachedFor(NAME, key(), build), NAME);
}

function key(): string {
  const hash = createHash('sha256').update(readFileSync(join(FOLDER, 'build')));
  const sources = readdirSync(join(FOLDER, 'calls')).sort();
  for (const source of sources) hash.update(readFileSync(join(FOLDER, 'calls', source)));
  return hash.digest('hex').slice(0, 12);
}

function build(folder: string): void {
  mkdirSync(folder);
  must(join(FOLDER, 'build'), join(folder, NAME));
}

/** Answers of the checks, by their names, from what the program printed. */
export function answers(output: string): Map<string, string> {
  if (!/^end of the checks\r?$/m.test(output)) throw new Error(`the checks did not end:\n${output}`);
  const lines = output.matchAll(/^([a-z]+\.[a-z0-9_]+)(?: (.*?))?\r?$/gm);
  return new Map(Array.from(lines, ([, name = '', said = '']) => [name, said]));
}

export interface Expected {
  readonly host: string;
  readonly virtiofsd: string;
}

/** The table of what a folder of the host and virtiofsd say, as test/shares/compare wrote it. */
export function expectedAnswers(): Map<string, Expected> {
  const lines = readFileSync(join(FOLDER, 'expected.txt'), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => {
      const [name = '', host = '', virtiofsd = ''] = line.split(' | ');
      return [name, { host, virtiofsd }];
    }),
  );
}
