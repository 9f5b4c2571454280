import { expect, test } from 'vitest';
import { parseOptions } from '../../run/options.js';
import { TIERS } from '../../run/tiers.js';

const FILES = ['kvm/a.test.ts', 'boot/b.test.ts'];
const chosen = (...argv: string[]) => {
  const { tiers, files } = parseOptions(argv, FILES);
  return { tiers: tiers.map(({ name }) => name), files };
};
const all = TIERS.map(({ name }) => name);

test.each<[string[], string[], string[]]>([
  [[], all, FILES],
  [
    ['--no-rig'],
    all.filter((name) => !['new user', 'rig itself', 'nodes, rig', 'rig'].includes(name)),
    FILES,
  ],
  [['lint', 'unit'], ['lint', 'unit'], FILES],
  [['rig'], ['rig'], FILES],
  [['boot/b.test.ts'], ['rig'], ['boot/b.test.ts']],
  [['unit', 'boot/b.test.ts'], ['unit', 'rig'], ['boot/b.test.ts']],
  [['--times', '2', 'rig'], ['rig'], [...FILES, ...FILES]],
])('parseOptions(%j)', (argv, tiers, files) => {
  expect(chosen(...argv)).toEqual({ tiers, files });
});

test.each([
  [['boot/none.test.ts'], /boot\/none\.test\.ts is no tier, and no file that runs in a rig/],
  [['--times', '0'], /--times 0/],
  [['--times', 'x'], /--times x/],
  [['--what'], /--what/],
  [['--no-rig', 'boot/b.test.ts'], /leaves nothing of boot\/b\.test\.ts/],
])('parseOptions(%j) says what it does not know', (argv, error) => {
  expect(() => chosen(...argv)).toThrow(error);
});
