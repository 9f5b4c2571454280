/**
 * Machines whose memory the host has put into swap space, as it does with those in a cgroup whose `memory.high` is below their size:
 * saved, restored and saved once more, they have every page.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { restoreMachine } from '../../src/index.js';
import { KIB, PAGE_BYTES } from '../../src/util/units.js';
import { inRig, temporaryDirectory } from '../support/guest.js';
import { machineFactory, TinyMachine } from '../support/kvm-machine.js';
import { memoryOf, note, notebook } from '../support/living-kernels.js';
import { skipAll } from '../support/skip.js';
import { notHere, notRoot } from '../support/skip-reasons.js';
import { smaps } from '../support/smaps.js';

const CGROUPS = '/sys/fs/cgroup';
const cgroup = join(CGROUPS, `tsvm-test-swap-${process.pid}`);
/** Disk in memory, which the rig has no other use for. */
const RIG_SWAP = '/dev/ram0';
/** Pages that are told apart, in a part of memory that the guest leaves alone. */
const FIRST = 0x240;
const COUNT = 0x100;

const directory = temporaryDirectory();
const machineOf = machineFactory(directory);

const read = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '');
const hasSwap = (): boolean => read('/proc/swaps').trim().split('\n').length > 1;

function swapProblem(): string | undefined {
  if (
    !read(join(CGROUPS, 'cgroup.subtree_control')).includes('memory') ||
    read('/proc/self/cgroup') !== '0::/\n'
  )
    return notHere('it needs cgroup v2 with a memory controller, and this process in its root');
  return hasSwap() || inRig ? undefined : notHere('this host has no swap space');
}

/** Bytes of guests' memory that are in swap space. */
function swappedBytes(): number {
  const ram = smaps().filter(({ head }) => /memfd:tsvm-ram|tsvm-test/.test(head));
  return ram.reduce((sum, { swappedKib }) => sum + swappedKib, 0) * KIB;
}

/** Has the kernel take memory from this process, as it does beyond `memory.high`, until half of what is told apart is in swap space. */
function reclaim(): void {
  for (let tries = 0; tries < 50 && swappedBytes() < (COUNT / 2) * PAGE_BYTES; tries++) {
    try {
      writeFileSync(join(cgroup, 'memory.reclaim'), '1M');
    } catch {
      // EAGAIN: it was less than that.
    }
  }
  expect(swappedBytes()).toBeGreaterThan((COUNT / 4) * PAGE_BYTES);
}

const problem = notRoot() ?? swapProblem();

describe('a machine whose memory is in swap space', () => {
  skipAll(problem);

  const addsSwap = problem === undefined && !hasSwap();

  beforeAll(() => {
    if (problem !== undefined) return;
    if (addsSwap) {
      execFileSync('mkswap', [RIG_SWAP], { stdio: 'ignore' });
      execFileSync('swapon', [RIG_SWAP]);
    }
    mkdirSync(cgroup);
    writeFileSync(join(cgroup, 'cgroup.procs'), String(process.pid));
  });

  afterAll(() => {
    if (problem !== undefined) return;
    writeFileSync(join(CGROUPS, 'cgroup.procs'), String(process.pid));
    rmdirSync(cgroup);
    if (addsSwap) execFileSync('swapoff', [RIG_SWAP]);
  });

  test('is saved whole, and so is a restored one with pages of its own', async () => {
    const patternOf = (seed: number) =>
      Uint8Array.from({ length: PAGE_BYTES }, (_, i) => (i * 7 + seed) % 255);
    const write = (guest: TinyMachine, from: number, seed: number): void => {
      for (let page = from; page < FIRST + COUNT; page += 2)
        memoryOf(guest.machine).write(page * PAGE_BYTES, patternOf(page + seed));
    };
    const contents = (guest: TinyMachine) =>
      memoryOf(guest.machine).read(FIRST * PAGE_BYTES, COUNT * PAGE_BYTES);
    const path = join(directory, 'saved');
    const again = join(directory, 'again');

    await using guest = await machineOf(notebook());
    await guest.machine.start();
    await guest.log.waitFor(/>/);
    await note(guest, 'a');
    write(guest, FIRST, 0);
    const first = Buffer.from(contents(guest));
    reclaim();
    await guest.machine.snapshot(path);
    await guest.machine.kill();

    await using copy = new TinyMachine(await restoreMachine(path));
    await copy.machine.start();
    expect(Buffer.compare(contents(copy), first)).toBe(0);
    write(copy, FIRST + 1, 100);
    const second = Buffer.from(contents(copy));
    reclaim();
    const [fork] = await copy.machine.fork(1);
    await using forked = new TinyMachine(fork!);
    expect(Buffer.compare(contents(forked), second)).toBe(0);
    reclaim();
    await copy.machine.snapshot(again);

    await using last = new TinyMachine(await restoreMachine(again));
    await last.machine.start();
    expect(Buffer.compare(contents(last), second)).toBe(0);
    expect(await note(last, 'b')).toBe('a b');
  });
});
