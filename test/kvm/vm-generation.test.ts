/** The VM generation ID: another one in each machine that was booted, restored or forked, and an interrupt for those that are copies. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Machine, type MachineConfig, restoreMachine } from '../../src/index.js';
import type { KvmMachine } from '../../src/machine/kvm-machine.js';
import { VM_GENERATION_ADDR } from '../../src/memory/layout.js';
import { temporaryDirectory } from '../support/guest.js';
import { machineFactory } from '../support/kvm-machine.js';
import { tiny } from '../support/tiny-kernel.js';

const directory = temporaryDirectory();
const machineOf = machineFactory(directory);
const NONE = '0'.repeat(32);
/** The second interrupt controller of the two, and of its state (struct kvm_pic_state) the lines that have been raised. */
const SLAVE_PIC = 1;
const IRR = 1;

const generationOf = (machine: Machine): string =>
  Buffer.from((machine as KvmMachine).core.parts.memory.read(VM_GENERATION_ADDR, 16)).toString('hex');

/** Whether the event's line, 9, was raised: the guest here takes no interrupt. */
const isTold = (machine: Machine): boolean => {
  const { vm } = (machine as KvmMachine).core.parts;
  return ((vm.handle.getStruct('kvm_irqchip', SLAVE_PIC)[8 + IRR] ?? 0) & (1 << 1)) !== 0;
};

/** Saves one that runs: its folder. */
async function saved(
  name: string,
  more: MachineConfig = {},
): Promise<{ folder: string; generation: string }> {
  const { machine } = await machineOf([...tiny.mark(9), ...tiny.sleep()], more);
  await using _ = machine;
  const marked = new Promise<void>((resolve) => machine.on('mark', () => resolve()));
  await machine.start();
  await marked;
  const folder = join(directory, name);
  await machine.snapshot(folder);
  return { folder, generation: generationOf(machine) };
}

test('is another one for each boot, restore and fork, whose guest is told; the parent of a fork keeps its own', async () => {
  const first = await saved('first');
  const second = await saved('second');
  await using one = await restoreMachine(first.folder);
  await using two = await restoreMachine(first.folder);
  for (const copy of [one, two]) await copy.start();
  const before = generationOf(one);
  const forks = await one.fork(2);
  try {
    const all = [first.generation, second.generation, ...[one, two, ...forks].map(generationOf)];
    expect(new Set([NONE, ...all]).size).toBe(7);
    expect(generationOf(one)).toBe(before);
    expect([one, two].map(isTold)).toEqual([true, true]);
    const again = join(directory, 'again');
    await forks[0]!.snapshot(again);
    await using third = await restoreMachine(again);
    expect(all).toContain(generationOf(third)); // as it was saved, until it goes on
    await third.start();
    expect(all).not.toContain(generationOf(third));
  } finally {
    await Promise.all(forks.map((fork) => fork.kill()));
  }
});

test('is another one in a fork of a machine that was booted, and the fork alone is told', async () => {
  const { machine } = await machineOf([...tiny.mark(9), ...tiny.sleep()]);
  await using _ = machine;
  await machine.start();
  const [fork] = await machine.fork(1);
  await using __ = fork!;
  expect(generationOf(fork!)).not.toBe(generationOf(machine));
  expect([machine, fork!].map(isTold)).toEqual([false, true]);
});

test('is in a differential snapshot of a copy', async () => {
  const { folder } = await saved('base');
  await using copy = await restoreMachine(folder);
  await copy.start();
  const difference = join(directory, 'difference');
  await copy.snapshot(difference, { differential: true });
  await using third = await restoreMachine(difference, { facts: { fresh: false } });
  expect(generationOf(third)).toBe(generationOf(copy));
});

test('stays what it was in a copy that is not to be fresh', async () => {
  const { folder, generation } = await saved('stale');
  await using copy = await restoreMachine(folder, { facts: { fresh: false } });
  await copy.start();
  const [fork] = await copy.fork(1, { facts: () => ({ fresh: false }) });
  await using _ = fork!;
  expect([copy, fork!].map((each) => [generationOf(each), isTold(each)])).toEqual([
    [generation, false],
    [generation, false],
  ]);
});

test('is none of a guest without ACPI tables, or its copies', async () => {
  const { folder, generation } = await saved('without', { discovery: 'cmdline' });
  await using copy = await restoreMachine(folder);
  await copy.start();
  expect([generation, generationOf(copy), isTold(copy)]).toEqual([NONE, NONE, false]);
});
