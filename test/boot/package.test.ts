/** The package as it is published, installed where nothing is: it boots. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run } from '../support/cli.js';
import { temporaryDirectory } from '../support/guest.js';
import { installedPackage, packageProblem } from '../support/installed-package.js';

const folder = temporaryDirectory();
/** No guest but the one that came with it. */
const env = { TSVM_GUEST_DIR: join(folder, 'none'), TSVM_TEMPLATE_DIR: join(folder, 'templates') };

test('the package boots at once, with its own guest', async ({ skip }) => {
  const problem = packageProblem();
  skip(problem !== undefined, problem);
  const command = join(installedPackage(), 'node_modules/.bin/tsvm');
  const { status, stdout } = await run(command, ['boot', '--memory', '64M', '--', 'uname', '-r'], { env });
  expect([status, stdout.toString()]).toEqual([0, expect.stringMatching(/^6\.\d+\.\d+\n$/)]);
});
