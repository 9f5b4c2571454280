import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { candidates } from '../../../src/cli/commands/complete.js';
import { MachineStore } from '../../../src/control/machine-store.js';
import { temporaryDirectory } from '../../support/guest.js';

const folder = temporaryDirectory();
const about = { memoryBytes: 1, cpus: 1, command: [] };

beforeEach(() => {
  const runs = join(folder, 'runs');
  vi.stubEnv('TSVM_RUN_DIR', runs);
  const store = new MachineStore(runs);
  if (store.list().length > 0) return;
  store.claim('web', about);
  store.claim('worker', about);
});
afterEach(() => vi.unstubAllEnvs());

const root = new Command('tsvm')
  .addCommand(new Command('stop').argument('<name...>').option('--timeout <duration>').option('-f, --force'))
  .addCommand(new Command('exec').argument('<name>').argument('<command...>').option('-e, --env <name>'))
  .addCommand(new Command('cp').argument('<source>').argument('<destination>'))
  .addCommand(new Command('run').option('--isolation <kind>').option('--kernel <file>'))
  .addCommand(new Command('__complete'), { hidden: true });

test.each([
  ['', 'cp exec help run stop'],
  ['st', 'stop'],
  ['stop ', 'web worker'],
  ['stop web ', 'web worker'],
  ['stop wo', 'worker'],
  ['stop --', '--force --help --timeout'],
  ['stop --timeout ', ''],
  ['stop --timeout 1s w', 'web worker'],
  ['exec -e A=1 w', 'web worker'],
  ['exec web ', ''],
  ['exec web --', '--env --help'],
  ['cp a we', 'web:'],
  ['run --isolation ', 'container vm'],
  ['run --kernel ', ''],
  ['run -- ', ''],
  ['nothing ', ''],
])('after "tsvm %s": %s', async (line, found) => {
  expect((await candidates(root, line.split(' '))).join(' ')).toBe(found);
});
