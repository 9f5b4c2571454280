/** The same container by other runtimes, as to cgroups: tested twice, as cgroups.test.ts is. */
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { ENGINES } from '../../src/container/config.js';
import { startContainer } from '../../src/container/container.js';
import { makeBusyboxRoot, traces } from '../support/container.js';
import { dockerForFile } from '../support/docker-daemon.js';
import { temporaryDirectory } from '../support/guest.js';

const folder = temporaryDirectory();
const root = join(folder, 'root');
beforeAll(() => void makeBusyboxRoot(root));
dockerForFile(folder);

describe.each(ENGINES)('%s', (engine) => {
  test('has no more processes than it may have, and leaves nothing when it is killed', async () => {
    const before = traces();
    const sleepers = Array.from({ length: 15 }, () => 'sleep 100 &').join(' ');
    await using container = await startContainer(
      { layers: [root], argv: ['sh', '-c', `(${sleepers}); echo up; read x`], limits: { pids: 10 } },
      { engine },
    );
    let stderr = '';
    container.stderr?.on('data', (bytes: Buffer) => {
      stderr += bytes.toString();
    });
    await new Promise((resolve) => container.stdout?.once('data', resolve));
    await expect.poll(() => stderr).toMatch(/can't fork/);
    await container[Symbol.asyncDispose]();
    expect(traces()).toEqual(before);
  });
});
