/** Commands over the channel: every test has a machine of its own, a fork of one that was booted once. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { BootMarks } from '../../src/devices/pc/boot-marks.js';
import { OFFER } from '../../src/guest/protocol.js';
import {
  createMachine,
  type GuestCommand,
  type GuestFacts,
  type Machine,
  type MachineConfig,
} from '../../src/index.js';
import { channelOf, textOf } from '../support/channel.js';
import { ConsoleLog, endOf, guestConfig, interpreted, markOf } from '../support/guest.js';

/** Bytes of a large transfer; where ring 0 is interpreted, each page that is copied costs milliseconds. */
const BULK_BYTES = interpreted ? 200_000 : 1_000_000;

async function bootToReady(more: MachineConfig = {}): Promise<{ machine: Machine; log: ConsoleLog }> {
  const machine = await createMachine(await guestConfig({ channel: true, ...more }));
  const log = new ConsoleLog(machine);
  const ready = markOf(machine, 'ready');
  await machine.start();
  const ended = endOf(machine, log).then((end) => {
    throw new Error(
      `the guest ended (${JSON.stringify(end)}) before it was ready. The console:\n${log.text}`,
    );
  });
  await Promise.race([ready, ended]);
  ended.catch(() => {});
  return { machine, log };
}

interface Result {
  readonly status: number | undefined;
  readonly out: string;
  readonly err: string;
}

/** Runs one command in a machine that is ready, with all of `input`. */
async function run(
  machine: Machine,
  command: GuestCommand,
  input?: string | Uint8Array,
  facts?: GuestFacts,
): Promise<Result> {
  const channel = channelOf(machine);
  if (input === undefined) channel.stdin.end();
  channel.send(command, facts);
  if (input !== undefined) channel.stdin.end(input);
  const [status, out, err] = await Promise.all([
    channel.exited,
    textOf(channel.stdout),
    textOf(channel.stderr),
  ]);
  return { status, out, err };
}

const shell = (script: string): GuestCommand => ({ argv: ['sh', '-c', script] });
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('in a fork of a guest that is ready', () => {
  let template: Machine;

  beforeAll(async () => {
    template = (await bootToReady()).machine;
  });

  afterAll(async () => {
    await template?.kill();
  });

  async function fork(): Promise<Machine> {
    const [machine] = await template.fork(1);
    if (machine === undefined) throw new Error('no fork');
    return machine;
  }

  test('standard output and error come apart, with the exit status', async () => {
    await using machine = await fork();
    expect(await run(machine, shell('echo out; echo err >&2; exit 3'))).toEqual({
      status: 3,
      out: 'out\n',
      err: 'err\n',
    });
  });

  test('a command that says nothing and reads nothing', async () => {
    await using machine = await fork();
    expect(await run(machine, { argv: ['true'] })).toEqual({ status: 0, out: '', err: '' });
  });

  test(`${BULK_BYTES} bytes of any value go through cat unchanged`, async () => {
    await using machine = await fork();
    const bytes = randomBytes(BULK_BYTES);
    const { status, out } = await run(machine, { argv: ['cat'] }, bytes);
    expect([status, out.length, sha256(Buffer.from(out, 'latin1'))]).toEqual([0, BULK_BYTES, sha256(bytes)]);
  });

  test('standard input has an end, also an empty one', async () => {
    await using machine = await fork();
    expect((await run(machine, { argv: ['wc', '-c'] }, 'twelve bytes')).out).toBe('12\n');
    await using other = await fork();
    expect((await run(other, { argv: ['wc', '-c'] })).out).toBe('0\n');
    await using late = await fork();
    const result = run(late, { argv: ['wc', '-c'] }, '');
    expect((await result).out).toBe('0\n');
  });

  test('more input than fits, for a command that does not read it', async () => {
    await using machine = await fork();
    expect((await run(machine, shell('sleep 0.1; echo done'), new Uint8Array(500_000))).out).toBe('done\n');
  });

  test('input for a command that has closed its own is thrown away, and the writer told', async () => {
    await using machine = await fork();
    const channel = channelOf(machine);
    const closed = once(channel.stdin, 'close');
    const { out, status } = await run(
      machine,
      shell('exec <&-; echo closed; sleep 1'),
      new Uint8Array(500_000),
    );
    await closed;
    expect([out, status]).toEqual(['closed\n', 0]);
  });

  test('a slow reader on the host makes the command wait, and loses nothing', async () => {
    await using machine = await fork();
    const channel = channelOf(machine);
    channel.stdin.end();
    // More than pipe, port and stream hold together.
    channel.send(shell('head -c 1000000 /dev/zero; echo finished >&2'));
    const early = await Promise.race([channel.exited, sleep(interpreted ? 10_000 : 2000, 'waiting')]);
    expect(early).toBe('waiting');
    const err = textOf(channel.stderr);
    let length = 0;
    for await (const part of channel.stdout) {
      length += part.length;
      await sleep(1);
    }
    expect([length, await err, await channel.exited]).toEqual([1_000_000, 'finished\n', 0]);
  });

  test('a reader on the host that goes away gives the command SIGPIPE', async () => {
    await using machine = await fork();
    const channel = channelOf(machine);
    channel.stdout.destroy();
    const err = textOf(channel.stderr);
    channel.send(shell('yes; echo $? >&2'));
    channel.stdin.end();
    expect([await channel.exited, await err]).toEqual([0, '141\n']);
  });

  test('/dev/stdin, /dev/stdout and /dev/stderr can be opened', async () => {
    await using machine = await fork();
    const script = 'cat /proc/self/fd/0 > /proc/self/fd/1; echo x > /proc/self/fd/2; echo $?';
    expect(await run(machine, shell(script), 'in\n')).toEqual({ status: 0, out: 'in\n0\n', err: 'x\n' });
  });

  test('a user who is not root opens its streams by their names', async () => {
    await using machine = await fork();
    const script = 'cat /proc/self/fd/0 > /proc/self/fd/1; echo x > /proc/self/fd/2; id -u';
    const command = { ...shell(script), user: { uid: 1000, gid: 1000 } };
    expect(await run(machine, command, 'in\n')).toEqual({ status: 0, out: 'in\n1000\n', err: 'x\n' });
  });

  test('signals go to the whole process group', async () => {
    await using machine = await fork();
    const channel = channelOf(machine);
    channel.stdin.end();
    channel.send(shell('echo up; sleep 1000 | sleep 1000'));
    await once(channel.stdout, 'readable');
    channel.signal(15);
    expect(await channel.exited).toBe(128 + 15);
  });

  test('a signal for a command that has not been started yet reaches it', async () => {
    await using machine = await fork();
    const channel = channelOf(machine);
    channel.send({ argv: ['sleep', '1000'] });
    channel.signal(9);
    expect(await channel.exited).toBe(128 + 9);
  });

  test('what cannot be run says so, with the status of a shell', async () => {
    await using machine = await fork();
    const missing = await run(machine, { argv: ['no-such-program'] });
    expect(missing).toEqual({ status: 127, out: '', err: 'no-such-program: applet not found\n' });
    await using other = await fork();
    const directory = await run(other, { argv: ['/dev'] });
    expect(directory).toEqual({ status: 126, out: '', err: 'init: /dev: permission denied\n' });
  });

  test('environment, directory and arguments of any kind', async () => {
    await using machine = await fork();
    const { out } = await run(machine, {
      argv: ['sh', '-c', 'pwd; echo "$GREETING"; echo "$#:$1:$2"', 'sh', '', 'ünï\n"\\'],
      env: { GREETING: 'häll=o' },
      cwd: '/proc',
    });
    expect(Buffer.from(out, 'latin1').toString()).toBe('/proc\nhäll=o\n2::ünï\n"\\\n');
    await using other = await fork();
    const { out: path } = await run(other, { argv: ['busybox', 'env'], env: { PATH: '/nowhere:/bin' } });
    expect(path.split('\n')).toContain('PATH=/nowhere:/bin');
  });

  test('a command of many pages', async () => {
    await using machine = await fork();
    const words = Array.from({ length: 3000 }, (_, i) => `word-${i}`);
    const { out } = await run(machine, {
      argv: ['sh', '-c', 'echo "$#"; shift 2999; echo "$1"', 'sh', ...words],
    });
    expect(out).toBe('3000\nword-2999\n');
  });

  test('time, entropy and host name are set before the command runs', async () => {
    await using machine = await fork();
    const { out } = await run(machine, shell('hostname; date +%s'), undefined, {
      timeMs: 4_102_444_800_123.25,
      entropy: new Uint8Array(32).fill(1),
      hostname: 'copy-7',
    });
    const [name, seconds] = out.split('\n');
    expect(name).toBe('copy-7');
    expect(Number(seconds) - 4_102_444_800).toBeGreaterThanOrEqual(0);
    expect(Number(seconds) - 4_102_444_800).toBeLessThan(60);
  });

  test('copies with different entropy have different random numbers', async () => {
    const read = async (entropy?: Uint8Array) => {
      await using machine = await fork();
      const command = { argv: ['head', '-c', '16', '/dev/urandom'] };
      return (await run(machine, command, undefined, entropy === undefined ? {} : { entropy })).out;
    };
    expect(await read(new Uint8Array(32).fill(1))).not.toBe(await read(new Uint8Array(32).fill(2)));
  });

  test('a daemon that keeps the streams open does not keep the command from its end', async () => {
    await using machine = await fork();
    const { status, out } = await run(machine, shell('(sleep 1000; echo late) & echo before'));
    expect([status, out]).toEqual([0, 'before\n']);
    await using other = await fork();
    const busy = await run(other, shell('yes & sleep 0.2; exit 4'));
    expect([busy.status, busy.out.startsWith('y\ny\n')]).toEqual([4, true]);
  });

  test('with a terminal, the command has the console and not the streams', async () => {
    await using machine = await fork();
    const log = new ConsoleLog(machine);
    const channel = channelOf(machine);
    channel.send({ ...shell('tty; stty size; read x; stty size'), tty: true, rows: 30, columns: 100 });
    await log.waitFor(/30 100\r\n/);
    channel.resize(40, 120);
    machine.console.write(Buffer.from('\n'));
    expect(await channel.exited).toBe(0);
    expect(log.text).toMatch(/^\/dev\/ttyS0\r\n30 100\r\n\r\n40 120\r\n$/);
    expect(await textOf(channel.stdout)).toBe('');
  });

  test('one command, and none after the end', async () => {
    const machine = await fork();
    const channel = channelOf(machine);
    channel.send({ argv: ['true'] });
    expect(() => channel.send({ argv: ['true'] })).toThrow(/had one/);
    await channel.exited;
    await machine.kill();
    expect(() => channel.send({ argv: ['true'] })).toThrow(/had one/);
  });

  test('close() powers the guest off, before a command and after it', async () => {
    const machine = await fork();
    channelOf(machine).close();
    expect(await machine.wait()).toEqual({ kind: 'power-off', exitStatus: 0 });
    const other = await fork();
    await run(other, shell('exit 5'));
    channelOf(other).close();
    expect(await other.wait()).toEqual({ kind: 'power-off', exitStatus: 5 });
  });

  test('a machine that ends before its command does leaves no promise behind', async () => {
    const machine = await fork();
    const channel = channelOf(machine);
    channel.send({ argv: ['sleep', '1000'] });
    channel.stdin.write('x');
    await machine.kill();
    expect(await channel.exited).toBeUndefined();
    expect(await textOf(channel.stdout)).toBe('');
  });

  test('a fork of a machine whose command runs has the output from then on, and the input', async () => {
    await using machine = await fork();
    const channel = channelOf(machine);
    channel.send(shell('echo once; read line; echo "got $line"; exit 6'));
    await once(channel.stdout, 'readable');
    expect(String(channel.stdout.read())).toBe('once\n');
    const [child] = await machine.fork(1);
    if (child === undefined) throw new Error('no fork');
    await using copy = child;
    channelOf(copy).stdin.write('copy\n');
    channel.stdin.write('original\n');
    expect(await textOf(channelOf(copy).stdout)).toBe('got copy\n');
    expect(await textOf(channel.stdout)).toBe('got original\n');
    expect([await channelOf(copy).exited, await channel.exited]).toEqual([6, 6]);
  });
});

test('a command that is sent before the guest is ready waits for it', async () => {
  await using machine = await createMachine(await guestConfig({ channel: true }));
  const result = run(machine, shell('cat; exit 7'), 'early');
  await machine.start();
  expect(await result).toEqual({ status: 7, out: 'early', err: '' });
});

test('a machine without any console has a channel all the same', async () => {
  const { cmdline = '' } = await guestConfig();
  // `null`: so that the kernel's idea of a serial port does not count either.
  const { machine } = await bootToReady({
    console: 'none',
    cmdline: `${cmdline} console=null`,
  });
  await using _ = machine;
  expect(() => channelOf(machine).send({ argv: ['true'], tty: true })).toThrow(/no console/);
  expect(await run(machine, shell('echo quiet'))).toEqual({ status: 0, out: 'quiet\n', err: '' });
});

test('a virtio console and a channel share one device', async () => {
  const { machine, log } = await bootToReady({ console: 'virtio' });
  await using _ = machine;
  const channel = channelOf(machine);
  channel.send({ ...shell('tty; stty size; read x; echo "read $x"'), tty: true, rows: 30, columns: 100 });
  await log.waitFor(/30 100\r\n/);
  machine.console.write(Buffer.from('typed\n'));
  await log.waitFor(/read typed\r\n/);
  expect(log.text).toMatch(/\/dev\/hvc0/);
  expect(await channel.exited).toBe(0);
});

test('a guest whose init speaks another version of the channel says so, and ends', async ({
  onTestFinished,
}) => {
  const version = vi.spyOn(BootMarks.prototype, 'read').mockImplementation((offset, data) => {
    data[0] = offset === 0 ? OFFER.CHANNEL : 9;
  });
  onTestFinished(() => version.mockRestore());
  await using machine = await createMachine(await guestConfig({ channel: true }));
  const log = new ConsoleLog(machine);
  await machine.start();
  expect(await endOf(machine, log)).toEqual({ kind: 'power-off', exitStatus: 127 });
  expect(log.text).toContain(
    'init: the host speaks version 9 of the channel, and this init version 1: make the guest anew (tsvm guest build)',
  );
});
