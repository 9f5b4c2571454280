/** Forks: what parent and child share, what they do not, and what is left of them. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { deviceKinds, type Machine, restoreMachine } from '../../src/index.js';
import type { KvmMachine } from '../../src/machine/kvm-machine.js';
import { PAGE_BYTES } from '../../src/util/units.js';
import { endOf, inRig, temporaryDirectory } from '../support/guest.js';
import { machineFactory, TinyMachine } from '../support/kvm-machine.js';
import {
  COUNTER_ADDR,
  counter,
  memoryOf,
  note,
  notebook,
  settledHoldings,
} from '../support/living-kernels.js';
import { tiny } from '../support/tiny-kernel.js';

const directory = temporaryDirectory();
const machineOf = machineFactory(directory);

async function noted(more = {}): Promise<TinyMachine> {
  const guest = await machineOf(notebook(), more);
  await guest.machine.start();
  await guest.log.waitFor(/>/);
  expect(await note(guest, 'a')).toBe('a');
  return guest;
}

async function forksOf(machine: Machine, count: number): Promise<TinyMachine[]> {
  return (await machine.fork(count)).map((fork) => new TinyMachine(fork));
}

async function stopAll(guests: readonly TinyMachine[]): Promise<void> {
  await Promise.all(guests.map(({ machine }) => machine.kill()));
}

describe('Machine.fork()', () => {
  test('makes machines that run on from there, each with memory of its own, and the parent runs on', async () => {
    await using guest = await noted();
    const forks = await forksOf(guest.machine, 3);
    expect(forks.map(({ machine }) => machine.state)).toEqual(['running', 'running', 'running']);
    expect(await note(guest, 'p')).toBe('a p');
    for (const [i, fork] of forks.entries()) expect(await note(fork, `f${i}`)).toBe(`a f${i}`);
    expect(await note(guest, 'q')).toBe('a p q');
    for (const [i, fork] of forks.entries()) expect(await note(fork, `g${i}`)).toBe(`a f${i} g${i}`);
    await stopAll(forks);
    expect(await note(guest, 'r')).toBe('a p q r');
  });

  test('makes machines that outlive their parent', async () => {
    const guest = await noted();
    const [fork] = await forksOf(guest.machine, 1);
    await using _ = fork!;
    await guest.machine.kill();
    expect(await note(fork!, 'b')).toBe('a b');
  });

  test('of a fork of a fork of a fork', async () => {
    let at = await noted();
    const line = [at];
    for (const letter of ['b', 'c', 'd']) {
      const [next] = await forksOf(at.machine, 1);
      at = next!;
      line.push(at);
      await note(at, letter);
    }
    const texts = await Promise.all(line.map((guest, i) => note(guest, `x${i}`)));
    expect(texts).toEqual(['a x0', 'a b x1', 'a b c x2', 'a b c d x3']);
    // The first may go: nobody looks through a machine that has ended.
    await line[0]!.machine.kill();
    expect(await note(line[3]!, 'y')).toBe('a b c d x3 y');
    await stopAll(line);
  });

  test('of a machine that is paused: it stays paused, its forks run', async () => {
    await using guest = await noted();
    await guest.machine.pause();
    const forks = [...(await forksOf(guest.machine, 1)), ...(await forksOf(guest.machine, 1))];
    expect(guest.machine.state).toBe('paused');
    for (const fork of forks) expect(await note(fork, 'f')).toBe('a f');
    await guest.machine.resume();
    expect(await note(guest, 'p')).toBe('a p');
    await stopAll(forks);
  });

  test('again and again while parent and forks write: each has what was there when it was made', async () => {
    await using guest = await noted();
    const forks: TinyMachine[] = [];
    let text = 'a';
    for (let i = 0; i < 6; i++) {
      forks.push((await forksOf(guest.machine, 1))[0]!);
      text = await note(guest, `p${i}`);
    }
    expect(text).toBe('a p0 p1 p2 p3 p4 p5');
    for (const [i, fork] of forks.entries()) {
      const own = ['a', ...Array.from({ length: i }, (_, n) => `p${n}`), 'f'].join(' ');
      expect(await note(fork, 'f')).toBe(own);
    }
    await stopAll(forks);
  });

  test('of a busy machine: memory is of one moment in every fork', async () => {
    await using guest = await machineOf(counter());
    await guest.machine.start();
    await guest.log.waitFor(/>/);
    for (let i = 0; i < 10; i++) {
      const forks = await forksOf(guest.machine, 2);
      for (const each of [guest, ...forks]) {
        await each.machine.pause();
        const at = (addr: number) => Buffer.from(memoryOf(each.machine).read(addr, 8)).readBigUInt64LE();
        const [first, second] = [at(COUNTER_ADDR), at(COUNTER_ADDR + PAGE_BYTES)];
        expect([first, first - 1n]).toContain(second);
      }
      await guest.machine.resume();
      await stopAll(forks);
    }
  });

  test('of a restored machine, that is saved and forked again', async () => {
    await using guest = await noted();
    const path = join(directory, 'saved');
    await guest.machine.snapshot(path);
    await using copy = new TinyMachine(await restoreMachine(path));
    await copy.machine.start();
    const [fork] = await forksOf(copy.machine, 1);
    expect(await note(copy, 'c')).toBe('a c');
    expect(await note(fork!, 'f')).toBe('a f');
    const again = join(directory, 'saved-fork');
    await fork!.machine.snapshot(again);
    await using grandchild = new TinyMachine(await restoreMachine(again));
    await grandchild.machine.start();
    expect(await note(grandchild, 'g')).toBe('a f g');
    expect(await note(fork!, 'h')).toBe('a f h');
    await fork!.machine.kill();
  });

  test('keeps what was typed and not read, for parent and fork', async () => {
    await using guest = await noted();
    await guest.machine.pause();
    guest.machine.console.write(Buffer.from(`${'t'.repeat(2000)}\n`));
    const [fork] = await forksOf(guest.machine, 1);
    await guest.machine.resume();
    for (const each of [guest, fork!]) await each.log.waitFor(/t{2000}\n$/);
    await fork!.machine.kill();
  });

  test('of several vCPUs', async () => {
    await using guest = await noted({ cpus: 3 });
    const [fork] = await forksOf(guest.machine, 1);
    expect(await note(fork!, 'f')).toBe('a f');
    await fork!.machine.kill();
  });

  test('ends with its own end, and its own exit status', async () => {
    const code = [...tiny.print('>'), ...tiny.countMarks(1000)];
    await using guest = await machineOf(code);
    await guest.machine.start();
    await guest.log.waitFor(/>/);
    const [fork] = await forksOf(guest.machine, 1);
    await fork!.machine.kill();
    expect(await endOf(fork!.machine, fork!.log)).toEqual({ kind: 'stopped' });
    expect(guest.machine.state).toBe('running');
  });

  test('gives each fork its disk as it was', async () => {
    const disk = join(directory, 'disk');
    writeFileSync(disk, Buffer.alloc(64 * 1024, 7));
    await using guest = await noted({ devices: [deviceKinds['blk']!.fromCli(disk)] });
    const [first] = await forksOf(guest.machine, 1);
    const [second] = await forksOf(first!.machine, 1);
    await first!.machine.kill();
    expect(await note(second!, 'f')).toBe('a f');
    await second!.machine.kill();
    expect(readFileSync(disk).every((byte) => byte === 7)).toBe(true);
  });

  test.each([0, -1, 1.5, 10_001, Number.NaN])('of %d machines is refused', async (count) => {
    await using guest = await noted();
    await expect(guest.machine.fork(count)).rejects.toMatchObject({ code: 'TSVM_CONFIG' });
    await expect(guest.machine.prepareForks(count)).rejects.toMatchObject({ code: 'TSVM_CONFIG' });
    expect(guest.machine.state).toBe('running');
  });

  test('of a machine that was not started is refused', async () => {
    await using guest = await machineOf(notebook());
    await expect(guest.machine.fork(1)).rejects.toMatchObject({ code: 'TSVM_STATE' });
  });

  test('and the end of the parent meanwhile: forks or none, and no half of one', async () => {
    for (const delayMs of [0, 1, 5, 20]) {
      const guest = await noted();
      const before = await settledHoldings();
      const outcome = guest.machine.fork(5).then(
        (forks) => forks,
        (error: { code: string }) => error.code,
      );
      await sleep(delayMs);
      await guest.machine.kill();
      const what = await outcome;
      if (typeof what === 'string') {
        expect(what).toBe('TSVM_STATE');
      } else {
        const forks = what.map((machine) => new TinyMachine(machine));
        for (const fork of forks) expect(await note(fork, 'f')).toBe('a f');
        await stopAll(forks);
      }
      expect((await settledHoldings()).fds.length).toBeLessThan(before.fds.length);
    }
  });

  test('prepareForks() gives the next forks their virtual machines, and leaves none at the end', async () => {
    const before = await settledHoldings();
    {
      await using guest = await noted();
      await guest.machine.prepareForks(4);
      expect((guest.machine as KvmMachine).core.prepared).toHaveLength(4);
      const forks = await forksOf(guest.machine, 3);
      expect((guest.machine as KvmMachine).core.prepared).toHaveLength(1);
      for (const fork of forks) expect(await note(fork, 'f')).toBe('a f');
      await stopAll(forks);
    }
    expect(await settledHoldings()).toEqual(before);
  });
});

const FORKS = inRig ? 60 : 200;
test(
  `${FORKS} forks that were made and ended leave no descriptor, mapping or thread`,
  async () => {
    const disk = join(directory, 'many');
    writeFileSync(disk, Buffer.alloc(64 * 1024));
    await using guest = await machineOf([...tiny.print('>'), ...tiny.sleep()], {
      devices: [deviceKinds['blk']!.fromCli(disk)],
    });
    await guest.machine.start();
    await guest.log.waitFor(/>/);
    await stopAll(await forksOf(guest.machine, 1));
    const before = await settledHoldings();
    for (let made = 0; made < FORKS; made += 20) {
      const forks = await forksOf(guest.machine, 20);
      await guest.machine.pause();
      memoryOf(guest.machine).fill(COUNTER_ADDR, PAGE_BYTES, made);
      await guest.machine.resume();
      // A fork of a fork copies all that is in use.
      forks.push(...(await forksOf(forks[0]!.machine, 1)));
      for (const fork of forks) expect(fork.machine.state).toBe('running');
      await stopAll(forks);
    }
    expect(await settledHoldings()).toEqual(before);
  },
  60_000 * (inRig ? 3 : 1),
);
