/** The machine that is looked at, when it is gone in between. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MachineStore } from '../../../src/control/machine-store.js';
import { CloseupSource } from '../../../src/dashboard/closeup.js';
import type { View } from '../../../src/dashboard/sampler.js';
import { temporaryDirectory } from '../../support/guest.js';

test('CloseupSource.look() shows nothing of a machine that somebody removed meanwhile', async () => {
  const store = new MachineStore(join(temporaryDirectory(), 'run'));
  const folder = store.claim('web', { memoryBytes: 1 << 20, cpus: 1, command: [] });
  const [found] = store.list();
  folder.remove();
  const closeup = new CloseupSource();
  const view = { name: 'web', record: found?.record } as View;
  await closeup.look(view, store);
  await closeup.look(undefined, store);
  expect([closeup.console, closeup.timeline]).toEqual(['', []]);
});
