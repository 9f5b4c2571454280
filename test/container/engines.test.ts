/** The same container by other runtimes. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ContainerConfig } from '../../src/container/config.js';
import { ENGINES, type Engine } from '../../src/container/config.js';
import { startContainer } from '../../src/container/container.js';
import { tsvm } from '../support/cli.js';
import { compileCallProbe, makeBusyboxRoot, outputOf, traces } from '../support/container.js';
import { dockerForFile } from '../support/docker-daemon.js';
import { temporaryDirectory } from '../support/guest.js';

const folder = temporaryDirectory();
const root = join(folder, 'root');
beforeAll(() => compileCallProbe(makeBusyboxRoot(root)));
dockerForFile(folder);

const run = async (engine: Engine, script: string, config: Partial<ContainerConfig> = {}, input?: string) => {
  const container = await startContainer(
    { layers: [root], argv: ['sh', '-c', script], ...config },
    { engine },
  );
  if (input !== undefined) container.stdin?.write(input);
  container.stdin?.end();
  return await outputOf(container);
};

describe.each(ENGINES)('%s', (engine) => {
  test('runs a command over layers that stay as they are, with its environment, directory and status', async () => {
    const before = traces();
    const { stdout, stderr, status } = await run(
      engine,
      'id -u; hostname; pwd; echo $A; cat; touch /x; echo e >&2; exit 9',
      {
        env: { PATH: '/bin', A: 'a' },
        cwd: '/tmp',
        hostname: 'box',
      },
      'input',
    );
    expect([stdout, stderr, status]).toEqual(['0\nbox\n/tmp\na\ninput', 'e\n', { kind: 'exited', code: 9 }]);
    expect(existsSync(join(root, 'x'))).toBe(false);
    expect(traces()).toEqual(before);
  });

  test('gives it the same capabilities', async () => {
    const { stdout } = await run(engine, 'grep -E "CapEff|NoNewPrivs" /proc/self/status');
    expect(stdout).toBe('CapEff:\t00000000a80425fb\nNoNewPrivs:\t1\n');
  });

  test('leaves it no device node of the host’s to change', async () => {
    // Where a node is the runtime's own, a change of it is nothing to the host; these change nothing.
    const { stdout } = await run(
      engine,
      `for at in null zero full random urandom tty; do
        grep -q " /$at /dev/$at " /proc/self/mountinfo || continue
        chmod 666 /dev/$at 2>/dev/null && echo $at
      done
      echo x >/dev/null && echo written`,
    );
    expect(stdout).toBe('written\n');
  });
});

// tsvm's own filter answers the second with EPERM; without one, both calls come through.
test.each([
  ['docker', 'clone-user 1'],
  ['podman', 'no-random-addresses 38'],
] as const)('%s filters by its own profile', async (engine, line) => {
  const { stdout } = await run(engine, 'grep Seccomp: /proc/self/status; /bin/call-probe');
  expect(stdout.split('\n')).toEqual(expect.arrayContaining(['Seccomp:\t2', line]));
});

test('docker’s daemon keeps neither container nor image, and takes one layer', async () => {
  const list = (...command: string[]) => spawnSync('docker', command, { encoding: 'utf8' }).stdout;
  const { stdout } = await run('docker', 'echo x > /x; cat /x');
  expect([stdout, list('ps', '--all', '--quiet'), list('images', '--all', '--quiet')]).toEqual([
    'x\n',
    '',
    '',
  ]);
  await expect(run('docker', 'true', { layers: [root, root] })).rejects.toThrow('it takes one layer');
});

test('the command line takes them, and refuses others', async () => {
  const by = (engine: string, ...options: string[]) =>
    tsvm(['container', 'run', '--engine', engine, ...options, '--rootfs', root, '--', 'sh', '-c', 'exit 4']);
  expect((await by('bwrap')).status).toBe(4);
  const unknown = await by('lxc');
  expect([unknown.status, unknown.stderr]).toEqual([
    2,
    expect.stringContaining('is not one of runc, crun, bwrap, podman, docker'),
  ]);
  const stats = await by('runc', '--stats');
  expect([stats.status, stats.stderr]).toEqual([
    2,
    expect.stringContaining('runc keeps a cgroup of its own'),
  ]);
  const missing = await tsvm(['container', 'run', '--engine', 'crun', '--rootfs', root, '--', 'true'], {
    env: { PATH: '/nowhere' },
  });
  expect([missing.status, missing.stderr]).toEqual([125, expect.stringContaining('apt-get install crun')]);
});
