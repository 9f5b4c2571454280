/** The packages as they are published, installed where nothing is: machines on each version of Node. */
import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { run } from '../support/cli.js';
import { temporaryDirectory } from '../support/guest.js';
import { installedPackage, nodeVersions, packageProblem } from '../support/installed-package.js';

const folder = temporaryDirectory();
/** No guest but the one that came with it. */
const env = {
  TSVM_GUEST_DIR: join(folder, 'none'),
  TSVM_TEMPLATE_DIR: join(folder, 'templates'),
  XDG_CACHE_HOME: join(folder, 'cache'),
};
const problem = packageProblem();

/** Forks a machine of the same template as `tsvm run`, which only the first program boots, and runs a command in the copy. */
const FORK = `import { findGuest, machineFromTemplate } from 'tsvm';
const machine = await machineFromTemplate({ ...(await findGuest()), memoryBytes: 64 * 2 ** 20 });
await machine.start();
const [fork] = await machine.fork(1);
const { channel } = fork;
channel.send({ argv: ['uname', '-r'] }, { timeMs: Date.now(), entropy: crypto.getRandomValues(new Uint8Array(32)) });
channel.stdin.end();
if (fork.state === 'ready') await fork.start();
process.stdout.write((await channel.stdout.toArray()).join(''));
await fork.stop();
await machine.stop();
`;

beforeAll(() => {
  if (problem !== undefined) return;
  symlinkSync(join(installedPackage(), 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, 'fork.mjs'), FORK);
});

test('forks, and runs from a template, on each version of Node', { timeout: 540_000 }, async ({ skip }) => {
  skip(problem !== undefined, problem);
  const command = join(folder, 'node_modules/.bin/tsvm');
  for (const node of nodeVersions()) {
    for (const args of [
      [join(folder, 'fork.mjs')],
      [command, 'run', '--memory', '64M', '--', 'uname', '-r'],
    ]) {
      const { status, stderr, stdout } = await run(node, args, { env, timeoutMs: 150_000 });
      // The first run says that it makes the template.
      const complaints = stderr.replace(/^tsvm: .*template.*\n|^tsvm: saved in .*\n/gm, '');
      expect([status, complaints, stdout.toString()]).toEqual([
        0,
        '',
        expect.stringMatching(/^6\.\d+\.\d+\n$/),
      ]);
    }
  }
});
