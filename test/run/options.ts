/** The part of the test run that is asked for. */
import { parseArgs } from 'node:util';
import { TIERS, type Tier } from './tiers.js';

export const USAGE = `usage: scripts/test [--no-rig] [TIER...]
       scripts/test [--times N] FILE...

  Every check and test: here, and what needs a machine in rigs too.

  TIER         one of ${TIERS.map(({ name }) => name).join(', ')}; default: all
  FILE         a test file as it is named below test/, such as boot/api.test.ts: it runs in a rig
  --no-rig     all tiers but those that start an emulated machine
  --times N    each file N times, in the same rigs`;

export interface Options {
  readonly tiers: readonly Tier[];
  /** Files of the tier in rigs. */
  readonly files: readonly string[];
}

/**
 * @param argv - the words after the command's name
 * @param files - all files that can run in a rig
 * @throws Error that says which word it does not know
 */
export function parseOptions(argv: readonly string[], files: readonly string[]): Options {
  const { values, positionals } = parseArgs({
    args: [...argv],
    options: { 'no-rig': { type: 'boolean' }, times: { type: 'string' } },
    allowPositionals: true,
  });
  const unknown = positionals.find(
    (word) => !files.includes(word) && !TIERS.some(({ name }) => name === word),
  );
  if (unknown !== undefined) throw new Error(`${unknown} is no tier, and no file that runs in a rig`);
  const wanted = positionals.filter((word) => files.includes(word));
  const names = positionals.filter((word) => !files.includes(word));
  const times = Number(values.times ?? 1);
  if (!Number.isInteger(times) || times < 1) throw new Error(`--times ${values.times}: not a number from 1`);
  const tiers = TIERS.filter(({ name, what, inRig }) => {
    if (inRig === true && values['no-rig'] === true) return false;
    if (positionals.length === 0 || names.includes(name)) return true;
    return what.kind === 'rigs' && wanted.length > 0;
  });
  if (tiers.length === 0) {
    throw new Error(`--no-rig leaves nothing of ${wanted.join(', ')}: npx vitest run test/${wanted[0]}`);
  }
  const chosen = wanted.length > 0 ? wanted : files;
  return { tiers, files: Array.from({ length: times }, () => chosen).flat() };
}
