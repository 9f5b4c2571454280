import { expect, test } from 'vitest';
import { HOST_CHECKS } from '../../src/host/production/host-checks.js';
import { tsvmHere } from '../support/cli-here.js';

test('tsvm doctor --production names every check, and its exit status says whether all passed', async () => {
  const { status, stdout, stderr } = await tsvmHere(['doctor', '--production', '--json']);
  const { solid, checks } = JSON.parse(stdout.toString()) as {
    solid: boolean;
    checks: { id: string; status: string }[];
  };
  expect(stderr).toBe('');
  expect(checks.map(({ id }) => id)).toEqual(HOST_CHECKS.map(({ id }) => id));
  expect(solid).toBe(checks.every((check) => check.status === 'holds'));
  expect(status).toBe(solid ? 0 : 1);

  const text = (await tsvmHere(['doctor', '--production'])).stdout.toString();
  for (const { id } of checks) expect(text).toMatch(new RegExp(`^(ok  |WEAK|\\?   )  ${id} `, 'm'));
});
