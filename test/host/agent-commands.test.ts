/** Commands of the agent's program, which runs here, beside the tests. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Connection, openConnection } from '../../src/agent/connection.js';
import { KEPT_BYTES, KEPT_ENDED, WINDOW_BYTES } from '../../src/agent/protocol.js';
import type { RequestOption } from '../../src/agent/strings.js';
import { TsvmError } from '../../src/errors.js';
import { ask, askCommand, finished, listed, type Ran, runCommand } from '../support/agent-commands.js';
import { type AgentProgram, startAgent } from '../support/agent-program.js';
import { eventually } from '../support/eventually.js';
import { must } from '../support/must.js';

const isSuperuser = process.geteuid?.() === 0;
const NOBODY = 65_534;

let agent: AgentProgram;
let connection: Connection;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tsvm-agent-commands-'));
  agent = await startAgent(undefined, { PATH: '/usr/local/bin:/usr/bin:/bin', OWN: 'its', FOO: 'its' });
});

beforeEach(async () => {
  connection = await openConnection(agent.dial);
});

afterEach(async () => {
  for (const [id, [, state]] of await listed(connection))
    if (state === 'running')
      await ask(connection, 'signal', [
        ['id', id],
        ['signal', 9],
      ]);
  connection.lose(new TsvmError('TSVM_AGENT', 'done'));
});

afterAll(async () => {
  expect(agent.isAlive).toBe(true);
  await agent[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const run = (argv: readonly string[], options: readonly RequestOption[] = [], input?: string): Promise<Ran> =>
  runCommand(connection, argv, options, input);
const shell = (text: string, options: readonly RequestOption[] = [], input?: string): Promise<Ran> =>
  run(['sh', '-c', text], options, input);

test('a command has its input, both outputs, variables, and an exit status', async () => {
  const ran = await shell('echo $FOO $OWN; cat; echo error >&2; exit 3', [['env', 'FOO=bar']], 'hello');
  expect(ran).toMatchObject({ last: { exited: '3' }, stdout: 'bar its\nhello', stderr: 'error\n' });
  expect(Number(ran.first['pid'])).toBeGreaterThan(1);
  expect((await run(['true'])).last).toEqual({ exited: '0' });
});

test('a signal ends a command: its own, and one of the host, which comes to the whole group', async () => {
  expect((await shell('kill -SEGV $$')).last).toEqual({ signal: '11' });
  const session = askCommand(
    connection,
    [],
    ['sh', '-c', 'trap "echo trapped; exit 9" TERM; sleep 5 & echo; wait'],
  );
  await session.first;
  session.stdout.once('data', () => session.control('signal=15'));
  expect(await session.last).toEqual({ exited: '9' });
  const other = askCommand(connection, [], ['sleep', '1000']);
  const { id = '' } = await other.first;
  await ask(connection, 'signal', [
    ['id', id],
    ['signal', 9],
  ]);
  expect(await other.last).toEqual({ signal: '9' });
  await expect(
    ask(connection, 'signal', [
      ['id', id],
      ['signal', 9],
    ]),
  ).rejects.toThrow(/^3 signal$/);
});

test('what cannot be done is told with its step and its reason', async () => {
  await expect(run(['there-is-no-such-program'])).rejects.toThrow(/^2 exec$/);
  await expect(run(['/etc/passwd'])).rejects.toThrow(/^13 exec$/);
  await expect(run([''])).rejects.toThrow(/^2 exec$/);
  await expect(run(['true'], [['env', 'PATH=/nowhere']])).rejects.toThrow(/^2 exec$/);
  await expect(run(['true'], [['cwd', '/there/is/none']])).rejects.toThrow(/^2 cwd$/);
  await expect(run(['true'], [['cwd', '/etc/passwd']])).rejects.toThrow(/^20 cwd$/);
  await expect(run(['true'], [['other', 1]])).rejects.toThrow(/^22 other$/);
  await expect(run(['true'], [['uid', -1]])).rejects.toThrow(/^22 uid$/);
  await expect(run(['true'], [['groups', '1,,2']])).rejects.toThrow(/^22 groups$/);
  await expect(run(['true'], [['rlimit', '99:1:1']])).rejects.toThrow(/^22 rlimit$/);
  await expect(run(['true'], [['tty', 2]])).rejects.toThrow(/^22 terminal$/);
  await expect(ask(connection, 'dance')).rejects.toThrow(/^22 dance$/);
  await expect(ask(connection, 'exec')).rejects.toThrow(/^22 operands$/);
  await expect(ask(connection, 'attach', [['id', 999_999]])).rejects.toThrow(/^3 id$/);
});

test.runIf(isSuperuser)(
  'a command has the user and groups that are asked for, and streams of its own',
  async () => {
    const options: RequestOption[] = [
      ['uid', NOBODY],
      ['gid', 7],
      ['groups', '7,5,6'],
    ];
    const ran = await shell('id -u; id -g; id -G; echo again > /dev/stdout', options);
    expect(ran.stdout).toBe(`${NOBODY}\n7\n7 5 6\nagain\n`);
  },
);

test('a directory is made where it is asked for', async () => {
  const deep = join(folder, 'a/b/c');
  await expect(run(['pwd'], [['cwd', deep]])).rejects.toThrow(/^2 cwd$/);
  expect(
    (
      await run(
        ['pwd'],
        [
          ['cwd', deep],
          ['makecwd', 1],
        ],
      )
    ).stdout,
  ).toBe(`${deep}\n`);
  expect(statSync(deep).mode & 0o777).toBe(0o755);
});

test('limits are set, and the agent’s own of descriptors is not handed on', async () => {
  const own = (await shell('ulimit -Sn; ulimit -Hn')).stdout;
  expect(own).toBe(must('sh', '-c', 'ulimit -Sn; ulimit -Hn'));
  expect((await shell('ulimit -Sn; ulimit -Hn', [['rlimit', '7:100:200']])).stdout).toBe('100\n200\n');
});

test('an environment of 100,000 variables and nearly 2 MiB is whole', async () => {
  const variables = Array.from(
    { length: 100_000 },
    (_, i): RequestOption => ['env', `V${i}=${'x'.repeat(12)}`],
  );
  // What a program begins with takes a quarter of its stack at most.
  const stack: RequestOption = ['rlimit', '3:67108864:18446744073709551615'];
  const ran = await shell('env | grep -c "^V[0-9]*=xxxxxxxxxxxx$"', [stack, ...variables]);
  expect(ran).toMatchObject({ stdout: '100000\n', last: { exited: '0' } });
  await expect(run(['true'], [['env', `A=${'x'.repeat(200_000)}`]])).rejects.toThrow(/^7 exec$/);
});

test('a terminal has a size, which can be changed, echoes, and knows the end of its input', async () => {
  const options: RequestOption[] = [
    ['tty', 1],
    ['rows', 33],
    ['cols', 77],
  ];
  const session = askCommand(connection, options, [
    ...[
      'sh',
      '-c',
      'stty size; tty; trap "stty size; exit 4" WINCH; echo ready; while :; do sleep 0.05; done',
    ],
  ]);
  let text = '';
  session.stdout.on('data', (bytes: Buffer) => {
    text += bytes;
    if (/ready/.test(text)) session.control('size=40x50');
  });
  expect(await session.last).toEqual({ exited: '4' });
  expect(text).toMatch(/^33 77\r\n\/dev\/pts\/\d+\r\nready\r\n40 50\r\n$/);
  const cat = await runCommand(connection, ['cat'], [['tty', 1]], 'line\n');
  expect(cat).toMatchObject({ stdout: 'line\r\nline\r\n', last: { exited: '0' } });
  const interrupted = askCommand(connection, [['tty', 1]], ['cat']);
  interrupted.stdout.resume();
  interrupted.input.write('\x03');
  expect(await interrupted.last).toEqual({ signal: '2' });
});

test('output of a command that has ended is whole, and what it left behind does not hold it', async () => {
  const ran = await shell('head -c 3000000 /dev/zero; (sleep 1000; echo late) & exit 6');
  expect([ran.stdout.length, ran.last]).toEqual([3_000_000, { exited: '6' }]);
  process.kill(-Number(ran.first['pid']), 'SIGKILL');
});

test('who does not read is waited for: by a command’s output, and by the host’s input', async () => {
  const yes = askCommand(connection, [['input', 0]], ['yes']);
  const sleep = askCommand(connection, [], ['sleep', '1000']);
  await Promise.all([yes.first, sleep.first]);
  let sent = 0;
  const fill = (): void => {
    if (sent++ < 40) sleep.input.write(Buffer.alloc(50_000), fill);
  };
  fill();
  const settled = async (): Promise<number> => {
    const before = agent.ticks();
    await new Promise((resolve) => setTimeout(resolve, 300));
    return agent.ticks() - before;
  };
  await expect.poll(settled, { timeout: 10_000 }).toBeLessThan(2);
  expect(sent * 50_000).toBeLessThan(WINDOW_BYTES * 2);
  expect((await run(['echo', 'there'])).stdout).toBe('there\n');
});

test('a command outlives its connection; its last output is kept, and who attaches is told what was dropped', async () => {
  const other = await openConnection(agent.dial);
  const bytes = 3_000_000;
  const session = askCommand(
    other,
    [],
    ['sh', '-c', `read go; head -c ${bytes} /dev/zero; echo end; exit 5`],
  );
  const { id = '' } = await session.first;
  session.last.catch(() => {});
  session.input.write('go\n');
  other.lose(new TsvmError('TSVM_AGENT', 'gone'));
  await eventually(async () => (await listed(connection)).get(id)?.[1]).toBe('exited=5');
  const { first, last, stdout } = await finished(askCommand(connection, [['id', id]], [], 'attach'));
  expect(last).toEqual({ exited: '5' });
  expect(stdout.endsWith('\0end\n')).toBe(true);
  const kept = stdout.length;
  expect(kept).toBe(KEPT_BYTES);
  // What was sent before the connection was lost is neither kept nor dropped.
  expect(Number(first['dropped1'])).toBeGreaterThanOrEqual(bytes + 4 - kept - WINDOW_BYTES);
  const again = await finished(askCommand(connection, [['id', id]], [], 'attach'));
  expect(again).toMatchObject({ first: { dropped1: '0', dropped2: '0' }, stdout: '', last: { exited: '5' } });
  await ask(connection, 'forget', [['id', id]]);
  await expect(ask(connection, 'forget', [['id', id]])).rejects.toThrow(/^3 id$/);
});

test('who attaches takes the place of the reader before, and its input goes on', async () => {
  const before = askCommand(connection, [], ['sh', '-c', 'read a; echo $a; read b; echo $b']);
  const { id = '' } = await before.first;
  before.input.write('one\n');
  await new Promise((resolve) => before.stdout.once('data', resolve));
  const after = askCommand(connection, [['id', id]], [], 'attach');
  await after.first;
  await expect(before.last).rejects.toThrow(/^114 attach$/);
  after.input.end('two\n');
  expect(await finished(after)).toMatchObject({ stdout: 'two\n', last: { exited: '0' } });
});

test('a detached command runs without a reader', async () => {
  const { reply } = await ask(
    connection,
    'exec',
    [['detached', 1]],
    ['sh', '-c', 'echo out; echo err >&2; exit 8'],
  );
  const attached = finished(askCommand(connection, [['id', reply['id'] ?? '']], [], 'attach'));
  expect(await attached).toMatchObject({ stdout: 'out\n', stderr: 'err\n', last: { exited: '8' } });
});

test('commands are listed with their arguments, and only the last that have ended are kept', async () => {
  const session = askCommand(connection, [], ['sleep', '1000']);
  const { id = '', pid = '' } = await session.first;
  const now = Date.now() / 1000;
  const [listedPid, state, started, ...argv] = (await listed(connection)).get(id) ?? [];
  expect([listedPid, state, argv]).toEqual([pid, 'running', ['sleep', '1000']]);
  expect(Math.abs(Number(started) - now)).toBeLessThan(60);
  const { reply } = await ask(connection, 'exec', [['detached', 1]], ['sleep', '1001']);
  for (let i = 0; i < KEPT_ENDED + 10; i++) await run(['true']);
  // It began before all others, and ends last.
  await ask(connection, 'signal', [
    ['id', reply['id'] ?? ''],
    ['signal', 9],
  ]);
  await eventually(async () => (await listed(connection)).get(reply['id'] ?? '')?.[1]).toBe('signal=9');
  const states = [...(await listed(connection)).values()].map(([, of]) => of);
  expect(states.filter((of) => of !== 'running')).toHaveLength(KEPT_ENDED);
  await expect(ask(connection, 'forget', [['id', id]])).rejects.toThrow(/^16 /);
});

test('facts are told', async () => {
  const { reply } = await ask(connection, 'facts');
  expect(reply['load']).toMatch(/^\d+\.\d\d \d+\.\d\d \d+\.\d\d$/);
  expect(Number(reply['available'])).toBeLessThanOrEqual(Number(reply['memory']));
  expect(Number(reply['diskfree'])).toBeLessThanOrEqual(Number(reply['disk']));
  expect(Number(reply['processes'])).toBeGreaterThan(1);
});

test('commands one after another and many at once leave no descriptor and no memory behind', async () => {
  for (let i = 0; i < 100; i++) await run(['true']);
  const [descriptors, resident] = [agent.descriptors(), agent.residentKiB()];
  for (let i = 0; i < 1000; i++) await run(['true']);
  const text = 'x'.repeat(60_000);
  const all = await Promise.all(Array.from({ length: 200 }, () => shell('cat; exit 7', [], text)));
  expect(all.every(({ stdout, last }) => stdout === text && last['exited'] === '7')).toBe(true);
  expect(agent.descriptors()).toBe(descriptors);
  expect(agent.residentKiB()).toBeLessThan(resident + 2048);
});
