/** Facts of processes: this one, one that has ended, and texts of the kernel's. */
import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import {
  childrenOf,
  commandLineOf,
  hasDefaultRoute,
  heldMemory,
  ownHeldMemory,
  parentOf,
  parseRollup,
  processExists,
  processStart,
  statusField,
  threadTimes,
} from '../../../src/host/proc.js';

describe('this process', () => {
  test('has a start, a parent, a command line and a state', () => {
    expect(processExists(process.pid)).toBe(true);
    expect(processStart(process.pid)).toMatch(/^\d+$/);
    expect(parentOf(process.pid)).toBe(process.ppid);
    expect(commandLineOf(process.pid).length).toBeGreaterThan(0);
    expect(statusField('self', 'Pid')).toBe(`${process.pid}`);
    expect(statusField('self', 'No such field')).toBeUndefined();
    expect(threadTimes(process.pid)).toEqual({
      cpuMs: expect.any(Number),
      state: expect.stringMatching(/^[RSD]$/),
    });
  });

  test('holds memory, more of it than is its own', async () => {
    const { residentBytes, privateBytes } = heldMemory(process.pid);
    expect(residentBytes).toBeGreaterThanOrEqual(privateBytes);
    expect((await ownHeldMemory()).privateBytes).toBeGreaterThan(1 << 20);
  });
});

test('a process that has ended is no error', () => {
  const { pid } = spawnSync('true');
  expect(processExists(pid)).toBe(false);
  expect(processStart(pid)).toBeUndefined();
  expect([parentOf(pid), childrenOf(pid), commandLineOf(pid), hasDefaultRoute(pid)]).toEqual([
    1,
    [],
    [],
    false,
  ]);
  expect(threadTimes(pid)).toEqual({ cpuMs: 0, state: '-' });
  expect(heldMemory(pid)).toEqual({ residentBytes: 0, proportionalBytes: 0, privateBytes: 0 });
});

test('parseRollup() adds all that is private', () => {
  const text =
    '55d0-7ffd ---p 00000000 00:00 0 [rollup]\nRss: 9 kB\nPss: 4 kB\nPss_Anon: 3 kB\nPrivate_Clean: 1 kB\nPrivate_Dirty: 2 kB\n';
  expect(parseRollup(text)).toEqual({ residentBytes: 9216, proportionalBytes: 4096, privateBytes: 3072 });
  expect(parseRollup('')).toEqual({ residentBytes: 0, proportionalBytes: 0, privateBytes: 0 });
});
