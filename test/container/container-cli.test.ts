/** `tsvm container run`: as a user runs it, and as nobody in particular. */
import type { ChildProcess } from 'node:child_process';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { cliProblem, run, TSVM, tsvm } from '../support/cli.js';
import { installIn, makeBusyboxRoot } from '../support/container.js';
import { temporaryDirectory } from '../support/guest.js';

const folder = temporaryDirectory();
const root = join(folder, 'root');
/** Place in which nobody in particular finds the command. */
const installed = join(folder, 'tsvm');
const NOBODY = '65534';

beforeAll(() => {
  const problem = cliProblem();
  if (problem !== undefined) throw new Error(problem);
  makeBusyboxRoot(root);
  installIn(installed);
  chmodSync(folder, 0o755);
});

const inContainer = (args: readonly string[], options = {}) =>
  tsvm(['container', 'run', '--rootfs', root, ...args], options);

test('output, error and status are the command’s', async () => {
  const result = await inContainer(
    ['-e', 'WORD=hi', '-w', '/tmp', '--', 'sh', '-c', 'cat; echo $WORD $PWD >&2; exit 9'],
    {
      input: 'input',
    },
  );
  expect([result.stdout.toString(), result.stderr, result.status]).toEqual(['input', 'hi /tmp\n', 9]);
});

test('a terminal that nobody reads holds up no end', async () => {
  // Of lengths that leave room for a part of the next write.
  const script = 'while :; do echo abcdefg; done';
  const args = ['container', 'run', '--timeout', '1s', '--rootfs', root, '--', 'sh', '-c', script];
  const command = [process.execPath, TSVM, ...args].map((word) => `'${word}'`).join(' ');
  writeFileSync(join(folder, 'unread'), `${command} 2>/dev/null; echo $? > ended\n`);
  const wait = 'for i in $(seq 300); do test -s ended && break; sleep 0.1; done';
  await run('/bin/sh', ['-c', `cd ${folder}; script -qec 'sh unread' /dev/null < /dev/null | { ${wait}; }`]);
  expect(readFileSync(join(folder, 'ended'), 'utf8')).toBe('124\n');
});

test.each(['077', '000'])('the umask %s of who starts it makes no other container', async (umask) => {
  const script = 'umask; stat -c %a / /made /made/here; id -u';
  const args = [
    '--user',
    '1000:1000',
    '--volume',
    `${root}:/made/here`,
    '--rootfs',
    root,
    '--',
    'sh',
    '-c',
    script,
  ];
  const command = [process.execPath, TSVM, 'container', 'run', ...args].map((word) => `'${word}'`).join(' ');
  const { stdout, stderr } = await run('/bin/sh', ['-c', `umask ${umask}; ${command}`]);
  expect([stdout.toString(), stderr]).toEqual(['0022\n755\n755\n755\n1000\n', '']);
});

test.each([
  [['--', 'nope'], 127, 'tsvm: nope: not found in the container'],
  [['--', '/etc'], 126, 'tsvm: /etc: not executable'],
  [['--memory', '1k', '--', 'true'], 2, 'nothing starts in it'],
  [['--cpus', 'x', '--', 'true'], 2, "--cpus: 'x' is not a number"],
  [['--cap-add', 'FLY', '--', 'true'], 2, 'no such capability'],
  [['--host-namespace', 'mount', '--', 'true'], 2, 'is not one of pid'],
  [['--volume', 'x', '--', 'true'], 2, '--volume'],
  [['--net', 'bridge', '--', 'true'], 2, 'is not one of none, user, host'],
  [['--timeout', '300ms', '--', 'sleep', '100'], 124, 'ended after 300ms'],
])('%j ends with %i and says why', async (args, status, message) => {
  const result = await inContainer(args);
  expect([result.status, result.stderr]).toEqual([status, expect.stringContaining(message)]);
});

test('SIGTERM goes to the command', async () => {
  // At the second word: by then it is known to run.
  const script = 'trap "exit 4" TERM; while :; do echo up; sleep 0.1; done';
  const result = await inContainer(['--', 'sh', '-c', script], {
    onOutput: (soFar: string, child: ChildProcess) => {
      if (soFar.startsWith('up\nup\n')) child.kill('SIGTERM');
    },
  });
  expect(result.status).toBe(4);
});

test('nobody in particular runs a container too, and is told what the host forbids', async () => {
  const asNobody = (args: readonly string[]) =>
    run('setpriv', [
      ...['--reuid', NOBODY, '--regid', NOBODY, '--clear-groups', process.execPath],
      ...[join(installed, 'dist/bin/tsvm.cjs'), 'container', 'run', '--rootfs', root, ...args],
    ]);
  const result = await asNobody([
    '--',
    'sh',
    '-c',
    'id -u; echo x > /new && cat /new; hostname; cat /proc/self/uid_map',
  ]);
  expect(result.stdout.toString().replace(/ +/g, ' ')).toBe(`0\nx\ncontainer\n 0 ${NOBODY} 1\n`);
  const limited = await asNobody(['--memory', '64M', '--', 'true']);
  expect([limited.status, limited.stderr]).toEqual([
    125,
    expect.stringMatching(/a limit of memory: .*\nhint: .*systemd-run/),
  ]);
  const another = await asNobody(['--user', '1000:0', '--', 'true']);
  expect([another.status, another.stderr]).toEqual([125, 'tsvm: cannot become user 1000: EINVAL\n']);
  const shared = await asNobody(['--host-namespace', 'user', '--', 'true']);
  expect([shared.status, shared.stderr]).toEqual([
    125,
    expect.stringContaining('cannot make the namespaces: EPERM'),
  ]);
});
