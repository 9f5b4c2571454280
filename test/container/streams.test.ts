/** Standard streams of a container that are files: they are the launcher's, and the command's are pipes. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test, vi } from 'vitest';
import { cliProblem, run, TSVM } from '../support/cli.js';
import { makeBusyboxRoot } from '../support/container.js';
import { temporaryDirectory } from '../support/guest.js';
import { notRoot } from '../support/skip-reasons.js';

// Each runs the command line several times, on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 });

const folder = temporaryDirectory();
const root = join(folder, 'root');
const log = join(folder, 'log');
const input = join(folder, 'input');

beforeAll(() => {
  const problem = cliProblem();
  if (problem !== undefined) throw new Error(problem);
  makeBusyboxRoot(root);
});

const command = `"${process.execPath}" "${TSVM}" container run --rootfs "${root}" -- sh -c`;
/** A line of the shell in which `tsvm` runs a script in a container. */
const line = (text: string) => run('/bin/bash', ['-c', `tsvm() { ${command} "$1"; }; cd ${folder}; ${text}`]);
const logged = (): string => readFileSync(log, 'utf8');

test('a log can be neither read nor rewritten, and what is said is behind what was there', async () => {
  writeFileSync(log, 'before\n');
  const attempts = [
    'test -p /proc/self/fd/1 && echo pipe',
    'for f in 0 1 2; do test -f /proc/self/fd/$f && echo file; test -b /proc/self/fd/$f && echo disk; done',
    ': > /proc/self/fd/1',
    'exit 3',
  ].join('; ');
  const { status } = await line(`tsvm '${attempts}' < log >> log 2>> log`);
  expect(status).toBe(3);
  expect(logged()).toBe('before\npipe\n');
});

test('several writers of one file follow one another, each from where the last one was', async () => {
  const { status } = await line(`{ echo a; tsvm 'echo b; echo c >&2; echo d; exit 7'; echo $?; } > log 2>&1`);
  expect([status, logged()]).toEqual([0, 'a\nb\nc\nd\n7\n']);
  await line(`echo e > log; tsvm 'echo f' >> log; tsvm 'echo g' >> log`);
  expect(logged()).toBe('e\nf\ng\n');
  await line(`tsvm 'echo out; echo err >&2' > log 2> input`);
  expect([logged(), readFileSync(input, 'utf8')]).toEqual(['out\n', 'err\n']);
});

test('input is read from where it stands, and what nobody took stays for the next', async () => {
  writeFileSync(input, 'one two three four');
  const { stdout } = await line(
    `{ dd bs=1 count=4 2>/dev/null; tsvm 'dd bs=1 count=4 2>/dev/null'; cat; } < input`,
  );
  expect(stdout.toString()).toBe('one two three four');
  const none = await line(`{ tsvm 'true'; cat; } < input`);
  expect(none.stdout.toString()).toBe('one two three four');
  const all = await line(`{ tsvm 'cat'; cat; } < input`);
  expect(all.stdout.toString()).toBe('one two three four');
});

test('much of it is whole when the command has ended, both ways', async () => {
  const bytes = Buffer.from(Array.from({ length: 3_000_000 }, (_, i) => (i * 31) & 0xff));
  writeFileSync(input, bytes);
  const { status } = await line(`tsvm 'cat; exit 5' < input > log`);
  expect([status, readFileSync(log).equals(bytes)]).toEqual([5, true]);
});

test('an output that takes no more is said, and is no success', async () => {
  const { status, stderr } = await line(`ulimit -f 64; tsvm 'head -c 1000000 /dev/zero; true' > log`);
  expect([status, stderr]).toEqual([
    125,
    'tsvm: the command’s output was cut: its file takes no more (EFBIG)\n',
  ]);
  const full = await line(`tsvm 'echo x; exit 6' > /dev/full`);
  expect(full.status).toBe(6);
});

test('a directory is no stream, and no way to what is around it', async () => {
  for (const [redirection, what] of [
    [`< ${folder}`, 'EISDIR'],
    [`3< ${folder} 1<&3`, 'EISDIR'],
  ] as const) {
    const { status, stderr } = await line(`tsvm 'ls /proc/self/fd/0/..' ${redirection}`);
    expect([status, stderr]).toEqual([
      125,
      expect.stringMatching(`^tsvm: cannot pass the standard streams on: ${what}`),
    ]);
  }
});

const CHANGE =
  'for at in 0 1; do chmod 666 /proc/self/fd/$at && echo changed $at; touch /proc/self/fd/$at; done 2>/dev/null';

test('a FIFO, a device and a terminal of the host’s stay as they are', async ({ skip }) => {
  skip(notRoot() !== undefined, notRoot());
  const fifo = await line(
    `mkfifo -m 600 fifo; exec 9<> fifo; tsvm '${CHANGE}; echo out' < /dev/full > fifo; head -n 1 <&9; stat -c %a fifo`,
  );
  expect([fifo.stdout.toString(), fifo.stderr]).toEqual(['out\n600\n', '']);
  writeFileSync(
    join(folder, 'on-terminal'),
    `stat -c %a $(tty); "${process.execPath}" "${TSVM}" container run --rootfs "${root}" -- \\
       sh -c 'test -c /proc/self/fd/1 && echo device; ${CHANGE}' < /dev/full; stat -c %a $(tty)`,
  );
  const terminal = await line('script -qec "sh on-terminal" /dev/null < /dev/null');
  // Without a KVM, a line on a terminal says what one would add.
  const lines = terminal.stdout.toString().replace(/^tsvm: .*$/m, '');
  const [before, ...after] = lines.trim().split(/\s+/);
  expect(after).toEqual(['device', before]);
});

test('one that was opened in another mount namespace is relayed', async ({ skip }) => {
  skip(notRoot() !== undefined, notRoot());
  const { stdout, stderr } = await line(
    `mkfifo -m 600 away; exec 9<> away; echo in >&9; exec 8> /dev/full
       unshare -m "${process.execPath}" "${TSVM}" container run --rootfs "${root}" -- sh -c 'read -r x; echo $x; ${CHANGE}' < away
       stat -c %a away`,
  );
  expect([stdout.toString(), stderr]).toEqual(['in\nchanged 0\nchanged 1\n600\n', '']);
});

test('what nobody took of a FIFO stays for the next, and who writes to one that nobody reads is told', async () => {
  const next = await line(
    `mkfifo next; exec 9<> next; printf 'one\\ntwo\\n' >&9; tsvm true < next; head -n 1 <&9`,
  );
  expect(next.stdout.toString()).toBe('one\n');
  const none = await line(`mkfifo none; head -c 1 none > /dev/null & tsvm 'yes' > none`);
  expect([none.status, none.stderr]).toEqual([141, '']);
});

test('signals and the status are the command’s', async () => {
  const script = 'trap "echo got; exit 4" TERM; echo up; while :; do sleep 0.05; done';
  const { stdout } = await line(
    `: > log; ${command} '${script}' > log & pid=$!; until grep -q up log; do sleep 0.05; done; kill -TERM $pid; wait $pid; echo $?`,
  );
  expect([stdout.toString(), logged()]).toEqual(['4\n', 'up\ngot\n']);
});
