/** Readers of what a command says that go away. */
import { expect, test } from 'vitest';
import { tsvm } from '../support/cli.js';
import { temporaryDirectory } from '../support/guest.js';

test('a command whose complaints nobody reads goes on', async () => {
  const env = { TSVM_RUN_DIR: temporaryDirectory() };
  // It says on stderr what it waits for.
  const ended = tsvm(['serve', '--name', 'pool'], { env, onStart: ({ stderr }) => void stderr?.destroy() });
  const machines = async () => (await tsvm(['ps'], { env })).stdout.toString();
  await expect.poll(machines, { interval: 100, timeout: 60_000 }).toMatch(/pool +Serving/);
  expect((await tsvm(['stop', 'pool'], { env })).status).toBe(0);
  expect((await ended).status).toBe(0);
}, 100_000);
