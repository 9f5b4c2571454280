/** `tsvm top` in a real terminal: tmux types, and what is on the screen is read. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { tsvm as plain, TSVM } from '../support/cli.js';
import { temporaryDirectory } from '../support/guest.js';

const folder = temporaryDirectory();
const env = { TSVM_RUN_DIR: join(folder, 'run'), TSVM_TEMPLATE_DIR: join(folder, 'templates') };
const tsvm = (...args: string[]) => plain(args, { env, timeoutMs: 280_000 });
const background = (name: string, script: string) =>
  tsvm('run', '--memory', '64M', '-d', '--name', name, '--', 'sh', '-c', script);

/** A server of tmux's for this file alone. */
const tmux = (...args: string[]): string => {
  const { status, stdout, stderr } = spawnSync(
    'tmux',
    ['-S', join(folder, 'tmux'), '-f', '/dev/null', ...args],
    {
      encoding: 'utf8',
      env: { ...process.env, ...env, LC_ALL: 'C.UTF-8' },
    },
  );
  if (status !== 0) throw new Error(`tmux ${args.join(' ')}: ${stderr}`);
  return stdout;
};
const screen = (): string => tmux('capture-pane', '-p', '-t', 'top');
const type = (...keys: string[]): void => void tmux('send-keys', '-t', 'top', ...keys);
const shows = async (what: RegExp): Promise<void> => {
  await expect.poll(screen, { timeout: 60_000, interval: 200 }).toMatch(what);
};

beforeAll(async () => {
  expect(
    (await background('web', 'i=0; while :; do i=$((i+1)); echo line $i 日本語; sleep 0.5; done')).status,
  ).toBe(0);
  expect((await background('db', 'echo waiting; cat')).status).toBe(0);
  const command = `'${process.execPath}' '${TSVM}' top --mouse; echo left with $?; stty -a; cat`;
  tmux('-u', 'new-session', '-d', '-s', 'top', '-x', '80', '-y', '24', command);
}, 300_000);
afterAll(async () => {
  tmux('kill-server');
  await tsvm('rm', '-f', 'web', 'db');
}, 60_000);

test('looks at machines, and steers them by keys', async () => {
  await shows(/^tsvm top {3}2 machines .*\n *NAME +STATE +CPU%.*\ndb +Running +\d.*\nweb +Running +\d/);
  await shows(/━ db ━ \[1 machine\].*\n *Running, process \d+, made .*: sh -c echo waiting; cat/);
  type('j');
  await shows(/━ web ━/);
  type('l');
  await shows(/\[3 console\](?:.|\n)*line \d+ 日本語\n(?:.|\n)*line \d+ 日本語\n/);
  type('2');
  await shows(/DEVICE +KICKS\/S(?:.|\n)*console0 +[1-9]/);
  type('p');
  await shows(/web +Paused/);
  type('4');
  await shows(/state: state paused/);
  type('p');
  await shows(/web +Running/);
  type('/');
  type('-l', 'WEB');
  await shows(/\/WEB▏/);
  type('Enter');
  await shows(/filter: WEB/);
  expect(screen()).not.toMatch(/^db /m);
  type('Escape');
  await shows(/^db /m);
  type('?');
  await shows(/tsvm top: keys/);
  type('x');
  await shows(/^web /m);
  tmux('resize-window', '-t', 'top', '-x', '140', '-y', '40');
  await shows(/NAME +STATE +CPU% +COSTS +MEMORY +EXITS\/S +DISK\/S +NET\/S +CPUS +AGE/);
  tmux('resize-window', '-t', 'top', '-x', '80', '-y', '24');
  await shows(/NAME +STATE +CPU% +COSTS +MEMORY +EXITS\/S +AGE\n/);
});

test('gives the terminal to the console and takes it back', async () => {
  type('k');
  await shows(/━ db ━/);
  type('a');
  await shows(/^waiting\n/);
  type('-l', 'typed');
  type('Enter');
  await shows(/typed/);
  type('C-a', 'd');
  await shows(/━ db ━/);
  expect((await tsvm('logs', 'db')).stdout.toString()).toContain('typed');
});

test('is steered by the mouse', async () => {
  const lineOf = (what: RegExp): number =>
    screen()
      .split('\n')
      .findIndex((line) => what.test(line)) + 1;
  // Pressed and let go, as a terminal says it (xterm, SGR 1006).
  const click = (column: number, line: number): void =>
    type('-l', `\x1b[<0;${column};${line}M`, `\x1b[<0;${column};${line}m`);
  click(3, lineOf(/^web /));
  await shows(/━ web ━/);
  const tabs = lineOf(/━ web ━/);
  click((screen().split('\n')[tabs - 1]?.indexOf('devices') ?? 0) + 1, tabs);
  await shows(/\[2 devices\]/);
  type('-l', '\x1b[<64;3;3M'); // the wheel, up
  await shows(/━ db ━/);
});

test('costs hardly anything while it looks', async () => {
  const pid = Number(tmux('display-message', '-p', '-t', 'top', '#{pane_pid}'));
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
  const cpuMs = (): number => {
    const stat = readFileSync(`/proc/${children[0]}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10;
  };
  const [before, started] = [cpuMs(), performance.now()];
  await sleep(5000);
  // One per cent of a processor is the goal, and was measured; machines that are busy with other tests make it dearer.
  expect((cpuMs() - before) / (performance.now() - started)).toBeLessThan(
    process.env['TSVM_RIG'] === '1' ? 0.5 : 0.05,
  );
});

test('kills after a question, and leaves the terminal as it was', async () => {
  type('K');
  await shows(/kill db\? y: yes/);
  type('n');
  await shows(/db +Running/);
  type('K');
  await shows(/kill db\?/);
  type('y');
  await shows(/db +Ended/);
  type('q');
  await shows(/left with 0\n/);
  expect(screen()).toMatch(/isig icanon iexten echo /);
});

test('prints once for scripts, without a terminal', async () => {
  const once = await tsvm('top', '--once');
  expect(once.stdout.toString()).toMatch(/^1 machine {3}CPU .*\nNAME +STATE.*\nweb +Running/);
  const [web] = JSON.parse((await tsvm('top', '--json')).stdout.toString()) as {
    name: string;
    rates: object;
  }[];
  expect(web).toMatchObject({ name: 'web', rates: { cpu: expect.any(Number) } });
});
