/** Saved machines that go on: contents, chains, several at once, other processes; and what is refused. */

import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import {
  deviceKinds,
  openSavedMachine,
  type RestoreOptions,
  restoreMachine,
  TsvmError,
  virtioConsole,
} from '../../src/index.js';
import { MANIFEST_NAME } from '../../src/snapshot/format.js';
import { PAGE_BYTES } from '../../src/util/units.js';
import { run, TSVM, tsvm } from '../support/cli.js';
import { endOf, inRig, temporaryDirectory } from '../support/guest.js';
import { machineFactory, TinyMachine } from '../support/kvm-machine.js';
import {
  COUNTER_ADDR,
  counter,
  memoryOf,
  NOTEBOOK_ADDR,
  note,
  notebook,
  settledHoldings,
  stopwatch,
} from '../support/living-kernels.js';
import { notHere } from '../support/skip-reasons.js';
import { editManifest, memoryFile, readSnapshot } from '../support/snapshots.js';
import { tapProblem } from '../support/tap-problem.js';
import { tiny, tinyKernel } from '../support/tiny-kernel.js';

const directory = temporaryDirectory();
const machineOf = machineFactory(directory);
let folders = 0;
const folder = (): string => join(directory, `saved${++folders}`);

/** A notebook that waits, with one note in it. */
async function noted(more = {}): Promise<TinyMachine> {
  const guest = await machineOf(notebook(), more);
  await guest.machine.start();
  await guest.log.waitFor(/>/);
  expect(await note(guest, 'a')).toBe('a');
  return guest;
}

async function saved(more = {}): Promise<string> {
  await using guest = await noted(more);
  const path = folder();
  await guest.machine.snapshot(path);
  return path;
}

async function restored(path: string, options: RestoreOptions = {}): Promise<TinyMachine> {
  const guest = new TinyMachine(await restoreMachine(path, options));
  await guest.machine.start();
  return guest;
}

const patternOf = (seed: number): Uint8Array =>
  Uint8Array.from({ length: PAGE_BYTES }, (_, i) => 1 + ((i * seed + seed) % 255));

/** Fails unless it is refused with one sentence, and a hint. */
async function refusal(action: Promise<unknown>): Promise<TsvmError> {
  const outcome = await action.then(
    () => 'it worked',
    (error: unknown) => error,
  );
  expect(outcome).toBeInstanceOf(TsvmError);
  const error = outcome as TsvmError;
  expect(error.message).not.toContain('\n');
  return error;
}

/** A disk, as bad as an overlay and quicker. */
function diskAt(path: string, more = '') {
  return deviceKinds['blk']!.fromCli(path + more);
}

describe('Machine.snapshot()', () => {
  test('leaves the machine running, and what it saved goes on from there, again and again', async () => {
    await using guest = await noted();
    const path = folder();
    const result = await guest.machine.snapshot(path);
    expect(result).toMatchObject({ directory: path, memoryBytes: expect.any(Number) });
    expect(result.memoryBytes % PAGE_BYTES).toBe(0);
    expect(result.totalMs).toBeGreaterThanOrEqual(result.pauseMs);
    expect(guest.machine.state).toBe('running');
    expect(await note(guest, 'b')).toBe('a b');
    for (const letter of ['c', 'd']) {
      await using copy = await restored(path);
      expect(await note(copy, letter)).toBe(`a ${letter}`);
    }
    expect(await note(guest, 'e')).toBe('a b e');
  });

  test('of a machine that is paused leaves it paused, and saves it the same', async () => {
    await using guest = await noted();
    await guest.machine.pause();
    const path = folder();
    await guest.machine.snapshot(path);
    expect(guest.machine.state).toBe('paused');
    await guest.machine.resume();
    expect(await note(guest, 'b')).toBe('a b');
    await using copy = await restored(path);
    expect(copy.machine.state).toBe('running');
    expect(await note(copy, 'c')).toBe('a c');
  });

  test('of a machine that has not started saves its first instruction', async () => {
    await using guest = await machineOf(notebook());
    const path = folder();
    await guest.machine.snapshot(path);
    expect(guest.machine.state).toBe('ready');
    for (const each of [guest, new TinyMachine(await restoreMachine(path))]) {
      await using one = each;
      await one.machine.start();
      await one.log.waitFor(/>/);
      expect(await note(one, 'x')).toBe('x');
    }
  });

  test('in the middle of a busy loop neither loses nor doubles a step', async () => {
    await using guest = await machineOf(counter());
    await guest.machine.start();
    await guest.log.waitFor(/>/);
    let last = 0n;
    const look = (machine: TinyMachine['machine']): bigint => {
      const view = (addr: number) => Buffer.from(memoryOf(machine).read(addr, 8)).readBigUInt64LE();
      const [first, second] = [view(COUNTER_ADDR), view(COUNTER_ADDR + PAGE_BYTES)];
      expect([first, first - 1n]).toContain(second);
      return first;
    };
    for (let i = 0; i < 5; i++) {
      const path = folder();
      await guest.machine.snapshot(path);
      await using copy = new TinyMachine(await restoreMachine(path));
      const at = look(copy.machine);
      expect(at).toBeGreaterThan(last);
      last = at;
      await copy.machine.start();
      for (let now = at; now === at; ) {
        await sleep(5);
        await copy.machine.pause();
        now = look(copy.machine);
        expect(now).toBeGreaterThanOrEqual(at);
        await copy.machine.resume();
      }
      rmSync(path, { recursive: true });
    }
  });

  test('in the first moments of a machine: the time stamp counter of a copy and of a fork is never put back', async () => {
    await using guest = await machineOf(stopwatch());
    const ticks = ({ machine }: TinyMachine): bigint =>
      Buffer.from(memoryOf(machine).read(COUNTER_ADDR, 8)).readBigUInt64LE();
    await guest.machine.start();
    await guest.log.waitFor(/>/);
    const path = folder();
    await guest.machine.snapshot(path);
    await guest.machine.pause();
    const [forked] = await guest.machine.fork(1);
    await using fork = new TinyMachine(forked!);
    await using copy = new TinyMachine(await restoreMachine(path));
    const saved = ticks(copy);
    await copy.machine.start();
    for (const [each, least] of [
      [copy, saved],
      [fork, ticks(guest)],
    ] as const) {
      while (ticks(each) === least) await sleep(1);
      await each.machine.pause();
      expect(ticks(each)).toBeGreaterThan(least);
    }
  });

  test('keeps what was typed and not read, and what the guest printed is printed once', async () => {
    await using guest = await noted();
    await guest.machine.pause();
    const typed = `${'t'.repeat(3000)}\n`;
    guest.machine.console.write(Buffer.from(typed));
    const path = folder();
    await guest.machine.snapshot(path);
    await guest.machine.resume();
    await guest.log.waitFor(/t{3000}\n$/);
    expect(guest.log.text).toBe(`>a\na\n${typed}`);
    await using copy = await restored(path);
    await copy.log.waitFor(/t{3000}\n$/);
    expect(copy.log.text).toBe(`a\n${typed}`);
  });

  test('in the middle of printing: restored, it prints the rest', async () => {
    const text = Array.from({ length: inRig ? 1000 : 30_000 }, (_, i) =>
      String.fromCharCode(97 + (i % 26)),
    ).join('');
    await using guest = await machineOf([...tiny.print(text), ...tiny.powerOff()]);
    const paths: string[] = [];
    await guest.machine.start();
    while (paths.length < 3 && guest.log.end === undefined) {
      const path = folder();
      const made = await guest.machine.snapshot(path).catch(() => undefined);
      if (made !== undefined) paths.push(path);
    }
    await endOf(guest.machine, guest.log);
    expect(guest.log.text).toBe(text);
    expect(paths.length).toBeGreaterThan(0);
    for (const path of paths) {
      await using copy = await restored(path);
      expect(await endOf(copy.machine, copy.log)).toMatchObject({ kind: 'power-off' });
      expect(text.endsWith(copy.log.text)).toBe(true);
    }
  });

  test('of several vCPUs, those that wait to be started among them', async () => {
    const path = await saved({ cpus: 3 });
    await using copy = await restored(path);
    expect(await note(copy, 'b')).toBe('a b');
  });

  test('saves of one machine that overlap come one after the other', async () => {
    await using guest = await noted();
    const paths = [folder(), folder(), folder()];
    await Promise.all(paths.map((path) => guest.machine.snapshot(path)));
    for (const path of paths) {
      await using copy = await restored(path);
      expect(await note(copy, 'b')).toBe('a b');
    }
  });

  test('two saves at once into one folder: one is refused, the other whole', async () => {
    await using first = await noted();
    await using second = await noted();
    const path = folder();
    const results = await Promise.allSettled([first.machine.snapshot(path), second.machine.snapshot(path)]);
    const refused = results.filter(({ status }) => status === 'rejected');
    expect(refused).toHaveLength(1);
    expect(refused[0]).toMatchObject({
      reason: { code: 'TSVM_SNAPSHOT', message: expect.stringContaining('another snapshot is being saved') },
    });
    await using copy = await restored(path);
    expect(await note(copy, 'b')).toBe('a b');
  });

  test('and the end of the machine meanwhile: the snapshot is whole or refused, and the machine ends', async () => {
    for (const delayMs of [0, 1, 3, 10]) {
      await using guest = await noted();
      const path = folder();
      const outcome = guest.machine.snapshot(path).then(
        () => 'saved',
        (error: TsvmError) => error.code,
      );
      await sleep(delayMs);
      await guest.machine.stop();
      expect(guest.machine.state).toBe('ended');
      const what = await outcome;
      expect(what).toBeOneOf(['saved', 'TSVM_STATE']);
      if (what === 'TSVM_STATE') continue;
      await using copy = await restored(path);
      expect(await note(copy, 'b')).toBe('a b');
    }
  });

  test('pause(), resume() and fork() while it is being saved are as without', async () => {
    await using guest = await noted();
    const path = folder();
    const save = guest.machine.snapshot(path);
    await guest.machine.pause();
    await guest.machine.resume();
    const [[child]] = await Promise.all([guest.machine.fork(1), save]);
    await using fork = new TinyMachine(child!);
    expect(await note(guest, 'b')).toBe('a b');
    expect(await note(fork, 'c')).toBe('a c');
    await using copy = await restored(path);
    expect(await note(copy, 'd')).toBe('a d');
  });
});

describe('a restored machine', () => {
  test('is one of ten at once from one snapshot, each with its own memory', async () => {
    const path = await saved();
    const copies = await Promise.all(Array.from({ length: 10 }, () => restored(path)));
    const texts = await Promise.all(copies.map((copy, i) => note(copy, `n${i}`)));
    expect(texts).toEqual(copies.map((_, i) => `a n${i}`));
    const again = await Promise.all(copies.map((copy, i) => note(copy, `m${i}`)));
    expect(again).toEqual(copies.map((_, i) => `a n${i} m${i}`));
    await Promise.all(copies.map(({ machine }) => machine.stop()));
  });

  test('is saved in full again, and needs nothing of the first', async () => {
    const first = await saved();
    const second = folder();
    {
      await using copy = await restored(first);
      expect(await note(copy, 'b')).toBe('a b');
      await copy.machine.snapshot(second);
    }
    rmSync(first, { recursive: true });
    await using copy = await restored(second);
    expect(await note(copy, 'c')).toBe('a b c');
  });

  test('is saved over the snapshot that it runs from, again and again', async () => {
    const path = await saved();
    await using copy = await restored(path);
    for (const letter of ['b', 'c', 'd']) {
      await note(copy, letter);
      await copy.machine.snapshot(path);
    }
    expect(await note(copy, 'e')).toBe('a b c d e');
    await using next = await restored(path);
    expect(await note(next, 'f')).toBe('a b c d f');
    expect(readdirSync(path)).toHaveLength(2);
  });

  test('goes on when its snapshot is removed', async () => {
    const path = await saved();
    await using copy = new TinyMachine(await restoreMachine(path));
    rmSync(path, { recursive: true });
    await copy.machine.start();
    expect(await note(copy, 'b')).toBe('a b');
  });

  test('that was never started leaves nothing, nor does one that ran', async () => {
    const path = await saved();
    await (await restoreMachine(path)).stop();
    const before = await settledHoldings();
    for (let i = 0; i < 20; i++) {
      await using copy = new TinyMachine(await restoreMachine(path));
      if (i % 2 === 0) await copy.machine.start();
      if (i % 4 === 0) await note(copy, 'b');
    }
    expect(await settledHoldings()).toEqual(before);
  });

  test('has the pages of its snapshot, and zeroes where there are none', async () => {
    await using guest = await noted();
    await guest.machine.pause();
    const pages = [0x210, 0x212, 0x290, 0x3ff];
    for (const page of pages) memoryOf(guest.machine).write(page * PAGE_BYTES, patternOf(page));
    const path = folder();
    await guest.machine.snapshot(path);
    const whole = memoryOf(guest.machine).read(0, 0x400 * PAGE_BYTES);
    await using copy = new TinyMachine(await restoreMachine(path));
    expect(Buffer.compare(memoryOf(copy.machine).read(0, 0x400 * PAGE_BYTES), whole)).toBe(0);
  });

  test('in another process: the command line goes on with it', async () => {
    const path = await saved();
    const result = await tsvm(['restore', path], { input: 'b\n~' });
    expect(result).toMatchObject({ status: 0, stderr: '' });
    expect(result.stdout.toString()).toBe('a\nb\n');
  });
});

describe('a differential snapshot', () => {
  test('in a chain: A, then B, then C, each with its contents, pages that became zero too', async () => {
    await using guest = await noted();
    await guest.machine.pause();
    const at = (page: number): number => page * PAGE_BYTES;
    for (const page of [0x300, 0x301, 0x302, 0x303, 0x304])
      memoryOf(guest.machine).write(at(page), patternOf(page));
    const a = folder();
    await guest.machine.snapshot(a);
    const expected: Buffer[] = [Buffer.from(memoryOf(guest.machine).read(0, 0x400 * PAGE_BYTES))];
    const steps = [
      { letter: 'b', write: 0x301, zero: 0x302 },
      { letter: 'c', write: 0x302, zero: 0x303 },
      { letter: 'd', write: 0x350, zero: 0x301 },
    ];
    const paths = [a];
    for (const { letter, write, zero } of steps) {
      await using copy = await restored(paths.at(-1)!);
      await note(copy, letter);
      await copy.machine.pause();
      memoryOf(copy.machine).write(at(write), patternOf(write + letter.charCodeAt(0)));
      memoryOf(copy.machine).fill(at(zero), PAGE_BYTES, 0);
      const path = folder();
      const { memoryBytes } = await copy.machine.snapshot(path, { differential: true });
      expect(memoryBytes).toBeLessThan(30 * PAGE_BYTES);
      expected.push(Buffer.from(memoryOf(copy.machine).read(0, 0x400 * PAGE_BYTES)));
      paths.push(path);
    }
    for (const [i, path] of paths.entries()) {
      await using copy = new TinyMachine(await restoreMachine(path));
      expect(Buffer.compare(memoryOf(copy.machine).read(0, 0x400 * PAGE_BYTES), expected[i]!)).toBe(0);
      await copy.machine.start();
      expect(await note(copy, 'z')).toBe(`${['a', 'b', 'c', 'd'].slice(0, i + 1).join(' ')} z`);
    }
    // In full, it needs none of them.
    const whole = folder();
    {
      await using copy = new TinyMachine(await restoreMachine(paths.at(-1)!));
      await copy.machine.snapshot(whole);
    }
    for (const path of paths) rmSync(path, { recursive: true });
    await using copy = new TinyMachine(await restoreMachine(whole));
    expect(Buffer.compare(memoryOf(copy.machine).read(0, 0x400 * PAGE_BYTES), expected.at(-1)!)).toBe(0);
  });

  test('of a machine that did nothing since is as good as its base', async () => {
    const a = await saved();
    const b = folder();
    {
      await using copy = new TinyMachine(await restoreMachine(a));
      expect(await copy.machine.snapshot(b, { differential: true })).toMatchObject({ memoryBytes: 0 });
    }
    await using copy = await restored(b);
    expect(await note(copy, 'b')).toBe('a b');
  });

  test('twice of one machine: each is based on what it was restored from', async () => {
    const a = await saved();
    const [b, c] = [folder(), folder()];
    {
      await using copy = await restored(a);
      await note(copy, 'b');
      await copy.machine.snapshot(b, { differential: true });
      await note(copy, 'c');
      await copy.machine.snapshot(c, { differential: true });
    }
    rmSync(b, { recursive: true });
    await using copy = await restored(c);
    expect(await note(copy, 'd')).toBe('a b c d');
  });

  test('moves with its base, and is found through a link', async () => {
    const a = await saved();
    const b = folder();
    {
      await using copy = await restored(a);
      await note(copy, 'b');
      await copy.machine.snapshot(b, { differential: true });
    }
    const elsewhere = folder();
    mkdirSync(join(elsewhere, 'links'), { recursive: true });
    const moved = (path: string): string => join(elsewhere, path.slice(directory.length + 1));
    for (const path of [a, b]) renameSync(path, moved(path));
    const link = join(elsewhere, 'links/b');
    symlinkSync(moved(b), link);
    await using copy = await restored(link);
    expect(await note(copy, 'c')).toBe('a b c');
  });

  test('is refused for a machine that was never restored, and for a fork', async () => {
    await using guest = await noted();
    const error = await refusal(guest.machine.snapshot(folder(), { differential: true }));
    expect(error).toMatchObject({
      code: 'TSVM_SNAPSHOT',
      message: expect.stringContaining('not restored'),
      hint: expect.any(String),
    });
    await using copy = await restored(await saved());
    await using fork = new TinyMachine((await copy.machine.fork(1))[0]!);
    expect(await refusal(fork.machine.snapshot(folder(), { differential: true }))).toMatchObject({
      code: 'TSVM_SNAPSHOT',
    });
  });

  test('is refused into the folder of anything it is based on, by whatever name, and spoils nothing', async () => {
    const a = await saved();
    const b = folder();
    {
      await using copy = await restored(a);
      await copy.machine.snapshot(b, { differential: true });
    }
    const link = folder();
    symlinkSync(a, link);
    await using copy = await restored(b);
    for (const [path, why] of [
      [a, 'its own base'],
      [b, 'its own base'],
      [link, 'it is a link'],
    ] as const) {
      const error = await refusal(copy.machine.snapshot(path, { differential: true }));
      expect(error).toMatchObject({ code: 'TSVM_SNAPSHOT', message: expect.stringContaining(why) });
    }
    await using again = await restored(b);
    expect(await note(again, 'b')).toBe('a b');
  });

  test('is refused once its base has been replaced, before and after it is saved', async () => {
    const a = await saved();
    const b = folder();
    await using copy = await restored(a);
    await copy.machine.snapshot(b, { differential: true });
    await copy.machine.snapshot(a);
    expect(await refusal(restoreMachine(b))).toMatchObject({
      code: 'TSVM_SNAPSHOT',
      message: expect.stringContaining('has been replaced since'),
    });
    const error = await refusal(copy.machine.snapshot(folder(), { differential: true }));
    expect(error).toMatchObject({
      code: 'TSVM_SNAPSHOT',
      message: expect.stringContaining('has been replaced since'),
      hint: expect.stringContaining('in full'),
    });
    expect(copy.machine.state).toBe('running');
  });
});

describe('restoreMachine() refuses', () => {
  test.each([
    ['another host profile', 'profile', (it: { host: { profile: string } }) => (it.host.profile = 'other')],
    [
      'a foreign CPU',
      'another CPU',
      (it: { host: { cpu: { family: string } } }) => (it.host.cpu.family = '999'),
    ],
    [
      'a CPU that can do more',
      'lacks teleport',
      (it: { host: { cpu: { flags: string } } }) => (it.host.cpu.flags += ' teleport'),
    ],
  ])('%s', async (_name, message, change) => {
    const path = await saved();
    editManifest(path, (snapshot) => void change(snapshot));
    expect(await refusal(restoreMachine(path))).toMatchObject({
      code: 'TSVM_SNAPSHOT',
      message: expect.stringContaining(message),
      hint: expect.any(String),
    });
  });

  test('a flipped byte of memory, also after cp -r', async () => {
    const path = await saved();
    const copy = folder();
    cpSync(path, copy, { recursive: true });
    {
      await using guest = await restored(copy);
      expect(await note(guest, 'b')).toBe('a b');
    }
    const [first] = readSnapshot(copy).memory.pages[0];
    const content = readFileSync(memoryFile(copy));
    content[first * PAGE_BYTES + 7]! ^= 0x10;
    writeFileSync(memoryFile(copy), content);
    const again = folder();
    cpSync(copy, again, { recursive: true });
    for (const bad of [copy, again]) {
      expect(await refusal(restoreMachine(bad))).toMatchObject({
        code: 'TSVM_SNAPSHOT',
        message: expect.stringContaining('checksum'),
      });
    }
  });

  test('a disk that has changed since, is gone, or became another', async () => {
    const disk = join(directory, 'disk');
    writeFileSync(disk, Buffer.alloc(64 * 1024));
    const devices = [diskAt(disk)];
    const path = await saved({ devices });
    {
      await using copy = await restored(path, { devices });
      expect(await note(copy, 'b')).toBe('a b');
    }
    const kept = readFileSync(disk);
    await sleep(20);
    writeFileSync(disk, kept);
    const changed = { code: 'TSVM_DISK', message: `disk ${disk} has changed since the snapshot was taken` };
    expect(await refusal(restoreMachine(path, { devices }))).toMatchObject(changed);
    truncateSync(disk, 32 * 1024);
    expect(await refusal(restoreMachine(path, { devices }))).toMatchObject({ code: 'TSVM_DISK' });
    rmSync(disk);
    expect(await refusal(restoreMachine(path, { devices }))).toMatchObject({ code: 'TSVM_DISK' });
  });

  test('with disks: direct a disk that another machine writes to', async () => {
    const disk = join(directory, 'disk-direct');
    writeFileSync(disk, Buffer.alloc(64 * 1024));
    const devices = [diskAt(disk)];
    const path = await saved({ devices });
    const direct = { devices, disks: 'direct' } as const;
    await using one = new TinyMachine(await restoreMachine(path, direct));
    expect(await refusal(restoreMachine(path, direct))).toMatchObject({ code: 'TSVM_DISK' });
    expect(await refusal(restoreMachine(path, { devices }))).toMatchObject({ code: 'TSVM_DISK' });
    await one.machine.stop();
    await (await restoreMachine(path, direct)).stop();
  });
});

describe('what a snapshot asks for of the host', () => {
  const disk = join(directory, "a disk's");
  const copyOfDisk = join(directory, 'copy');
  const made = async (): Promise<string> => {
    writeFileSync(disk, Buffer.alloc(64 * 1024));
    cpSync(disk, copyOfDisk);
    for (const path of [disk, copyOfDisk]) utimesSync(path, 1_000, 1_000);
    return await saved({
      devices: [diskAt(disk), virtioConsole({ console: false, ports: [{ name: 'log' }] })],
    });
  };

  test('it gets when it is named, and not else: by the library', async () => {
    const path = await made();
    expect(await refusal(restoreMachine(path))).toMatchObject({ code: 'TSVM_BINDING' });
    await using opened = await openSavedMachine(path);
    const [wish, ...others] = await opened.wishes();
    expect(wish).toMatchObject({ slot: 'disk 0', binding: { path: disk } });
    expect(others).toEqual([]);
    const said: string[] = [];
    const bindings = { 'disk 0': { path: copyOfDisk }, 'port log': { path: join(directory, 'log.sock') } };
    await using copy = new TinyMachine(
      await opened.restore({ devices: bindings, onBind: (slot, text) => said.push(`${slot}: ${text}`) }),
    );
    expect(said).toEqual([
      `disk 0: the disk image ${copyOfDisk}`,
      `port log: the socket ${join(directory, 'log.sock')}`,
    ]);
    expect(existsSync(join(directory, 'log.sock'))).toBe(true);
    expect(copy.machine.config.devices?.map(({ config }) => config)).toMatchObject([
      { path: copyOfDisk },
      {},
    ]);
    // A fork has it without being told: it comes from the machine, not from a file.
    await copy.machine.start();
    await using fork = new TinyMachine((await copy.machine.fork(1))[0]!);
    expect(await note(fork, 'b')).toBe('a b');
  });

  test('it gets when it is named, and not else: by the command line, which is told what to type', {
    timeout: 60_000,
  }, async () => {
    const path = await made();
    const refused = await tsvm(['restore', path, '--timeout', '50s']);
    expect(refused).toMatchObject({ status: 2, stdout: Buffer.from('') });
    const [error, hint] = refused.stderr.split('\n');
    expect(error).toMatch(/^tsvm: .* cannot be restored: it asks for disk 0 \(the disk image .*\), and gets/);
    const [, again = ''] = /^hint: if it may have all of that: (tsvm .*)$/.exec(hint ?? '') ?? [];
    const { stdout } = await run('sh', ['-c', `printf '%s\\0' ${again}`]);
    const words = stdout.toString().split('\0').slice(1, -1);
    expect(words).toEqual(['restore', path, '--timeout', '50s', '--disk', `0=${disk}`]);
    expect(await tsvm(words, { input: 'b\n~' })).toMatchObject({
      status: 0,
      stdout: Buffer.from('a\nb\n'),
      stderr: expect.stringMatching(/^tsvm: disk 0: the disk image .*\n$/),
    });
    expect(await tsvm(['restore', path, '--disk', `1=${disk}`])).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/it has no disk 1\nhint: it has disk 0, port log\n$/),
    });
  });

  test('a card goes on at the interface that is named', { timeout: 60_000 }, async (context) => {
    const why = tapProblem();
    context.skip(why !== undefined, why);
    const kernel = join(directory, 'notebook');
    writeFileSync(kernel, tinyKernel(notebook()));
    const script = `
      set -e
      for tap in tap0 tap1; do ip tuntap add dev $tap mode tap; done
      node=$1 tsvm=$2 saved=$3 kernel=$4
      "$node" "$tsvm" snapshot "$saved" --kernel "$kernel" --memory 4M --net tap,name=tap0 --when '>' </dev/null
      ip link delete tap0
      ! "$node" "$tsvm" restore "$saved" </dev/null
      printf 'b\\n~' | "$node" "$tsvm" restore "$saved" --net 0=tap,name=tap1`;
    const args = ['-n', 'sh', '-c', script, 'sh', process.execPath, TSVM, folder(), kernel];
    const { status, stdout, stderr } = await run('unshare', args, { timeoutMs: 50_000 });
    expect([status, stdout.toString()], stderr).toEqual([0, '>b\n']);
    expect(stderr).toContain('it asks for net 0 (the interface tap0)');
    expect(stderr).toContain('tsvm: net 0: the interface tap1\n');
  });

  test('it finds in its own folder', async () => {
    const path = await made();
    renameSync(disk, join(path, 'disk'));
    editManifest(path, (it) => {
      it.config.devices[0].config.path = join(path, 'disk');
      it.disks[0].path = join(path, 'disk');
    });
    await using copy = await restored(path);
    expect(await note(copy, 'b')).toBe('a b');
  });
});

describe('Machine.snapshot() and fork() refuse', () => {
  test('a machine that has ended', async () => {
    const guest = await noted();
    await guest.machine.stop();
    for (const action of [
      guest.machine.snapshot(folder()),
      guest.machine.fork(1),
      guest.machine.prepareForks(1),
    ]) {
      expect(await refusal(action)).toMatchObject({
        code: 'TSVM_STATE',
        message: expect.stringMatching(/^cannot .* a machine that is ended$/),
      });
    }
  });

  test('a folder that holds other files, and the machine goes on', async () => {
    await using guest = await noted();
    const path = folder();
    mkdirSync(path);
    writeFileSync(join(path, 'letter.txt'), 'dear');
    expect(await refusal(guest.machine.snapshot(path))).toMatchObject({
      code: 'TSVM_SNAPSHOT',
      message: expect.stringContaining('it holds letter.txt'),
      hint: expect.any(String),
    });
    expect(readdirSync(path)).toEqual(['letter.txt']);
    expect(await note(guest, 'b')).toBe('a b');
  });

  test('a machine whose disk is an overlay that was written to', async () => {
    // A tiny guest writes to no disk: the host does it in its place.
    const disk = join(directory, 'disk-overlay');
    writeFileSync(disk, Buffer.alloc(64 * 1024));
    const devices = [diskAt(disk)];
    const path = await saved({ devices });
    await using copy = await restored(path, { devices });
    await copy.machine.snapshot(folder());
    expect(copy.machine.state).toBe('running');
  });
});

/** Mounts a file system of its own, and says whether this process may, as the superuser's may. */
async function tinyFileSystem(path: string, bytes: number): Promise<boolean> {
  mkdirSync(path);
  const { status } = await run('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', path]);
  return status === 0;
}

test('a full disk while saving leaves the old snapshot and nothing else, and the machine running', async (context) => {
  const mount = join(directory, 'small');
  if (!(await tinyFileSystem(mount, 1024 * 1024))) return context.skip(notHere('no tmpfs can be mounted'));
  try {
    await using guest = await noted();
    const path = join(mount, 'saved');
    await guest.machine.snapshot(path);
    const before = readdirSync(path);
    await guest.machine.pause();
    for (let page = 0x280; page < 0x400; page++)
      memoryOf(guest.machine).write(page * PAGE_BYTES, patternOf(page));
    const error = await refusal(guest.machine.snapshot(path));
    expect(error).toMatchObject({
      code: 'TSVM_SNAPSHOT',
      message: expect.stringMatching(/cannot save to .*no space left/i),
      hint: expect.stringContaining('space'),
    });
    expect(readdirSync(path)).toEqual(before);
    await guest.machine.resume();
    expect(await note(guest, 'b')).toBe('a b');
    await using copy = await restored(path);
    expect(await note(copy, 'c')).toBe('a c');
  } finally {
    await run('umount', ['-l', mount]);
  }
});

test('kill -9 at any moment of a save leaves the old snapshot or a new one, and the next save clears up', async () => {
  const path = await saved();
  const kernel = join(directory, 'killed');
  writeFileSync(kernel, tinyKernel([...tiny.print('ready\n'), ...tiny.sleep()]));
  const command = ['snapshot', path, '--kernel', kernel, '--memory', '256M', '--when', 'ready'];
  for (const delayMs of [0, 10, 20, 40, 80]) {
    let killer: NodeJS.Timeout | undefined;
    await tsvm(command, {
      onOutput: (_text, child) => {
        killer ??= setTimeout(() => child.kill('SIGKILL'), delayMs);
      },
    });
    clearTimeout(killer);
    await (await restoreMachine(path)).stop();
  }
  expect(await tsvm(command)).toMatchObject({ status: 0 });
  expect(readdirSync(path)).toHaveLength(2);
  await (await restoreMachine(path)).stop();
});

test('a memory file that is truncated under a running machine ends that machine alone, with a clear message', async () => {
  await using other = await noted();
  for (const truncate of [
    (path: string) => truncateSync(path, 0),
    (path: string) => writeFileSync(path, ''),
    (path: string) => truncateSync(path, NOTEBOOK_ADDR),
  ]) {
    const path = await saved();
    const file = memoryFile(path);
    await using copy = await restored(path);
    truncate(file);
    copy.machine.console.write(Buffer.from('b\n'));
    const end = await endOf(copy.machine, copy.log);
    expect(end).toMatchObject({ kind: 'kvm-error', message: expect.stringMatching(/truncated/) });
    expect(existsSync(join(path, MANIFEST_NAME))).toBe(true);
  }
  expect(await note(other, 'z')).toBe('a z');
});

test('a memory file that is truncated before the machine starts is found out when it does', async () => {
  const path = await saved();
  await using copy = new TinyMachine(await restoreMachine(path));
  truncateSync(memoryFile(path), 0);
  await copy.machine.start();
  const end = await endOf(copy.machine, copy.log);
  expect(end).toMatchObject({ kind: 'kvm-error', message: expect.stringMatching(/truncated/) });
});

test('createMachine() beside restored machines has memory of its own', async () => {
  const path = await saved();
  await using copy = await restored(path);
  await using fresh = await machineOf(notebook());
  await fresh.machine.start();
  await fresh.log.waitFor(/>/);
  expect(await note(fresh, 'x')).toBe('x');
  expect(await note(copy, 'y')).toBe('a y');
});
