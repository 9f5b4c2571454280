/** The filter of system calls by what a program in the container gets: tsvm's own, and the one in the bundle of an OCI runtime. */
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { startContainer } from '../../src/container/container.js';
import { tsvm } from '../support/cli.js';
import { compileCallProbe, makeBusyboxRoot, outputOf } from '../support/container.js';
import { temporaryDirectory } from '../support/guest.js';

const root = join(temporaryDirectory(), 'root');
beforeAll(() => compileCallProbe(makeBusyboxRoot(root)));

const EXPECTED = `unix 0
inet 0
inet6 0
key 1
netlink 0
packet 0
alg 1
vsock 1
pair 0
alg-pair 1
clone 0
clone-user 1
clone3 38
personality 0
no-random-addresses 1
keyctl 1
mount 1
`;

test.each(['tsvm', 'runc', 'crun'] as const)('%s: calls are judged by their arguments', async (engine) => {
  const host = engine === 'tsvm' ? {} : { engine };
  const container = await startContainer({ layers: [root], argv: ['/bin/call-probe'] }, host);
  container.stdin?.end();
  expect((await outputOf(container)).stdout).toBe(EXPECTED);
});

test('a program of 32-bit calls is killed: they hide a socket’s family in memory', async () => {
  const container = await startContainer({ layers: [root], argv: ['/bin/call-of-32-bit'] });
  container.stdin?.end();
  expect((await outputOf(container)).status).toEqual({ kind: 'killed', signal: 31 });
});

test('tsvm container run says why a 32-bit program ended, in one line, also below a shell', async () => {
  const inContainer = (...args: string[]) => tsvm(['container', 'run', '--rootfs', root, ...args]);
  const line =
    'tsvm: ended by SIGSYS: 32-bit programs do not run in a container (docs/container.md); in a machine they do';
  const direct = await inContainer('--', '/bin/call-of-32-bit');
  expect([direct.status, direct.stderr]).toEqual([159, `${line}\n`]);
  const below = await inContainer('--', 'sh', '-c', '/bin/call-of-32-bit; exit $?');
  expect([below.status, below.stderr]).toEqual([159, expect.stringContaining(line)]);
});
