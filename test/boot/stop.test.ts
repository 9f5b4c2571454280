/**
 * Machines that are asked to end. Ctrl-Alt-Del is taken by a kernel with a keyboard driver: Debian's, the one that the rig runs on. Its
 * PID 1 is tsvm's init.
 */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createMachine, type MachineConfig } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { debianKernel, debianKernelProblem } from '../support/debian-kernel.js';
import { ConsoleLog, endOf, guestConfig, interpreted } from '../support/guest.js';
import { skipAll } from '../support/skip.js';
import { notHere } from '../support/skip-reasons.js';

const TIMEOUT_MS = 280_000;
const KEYBOARD_READY = /AT .*keyboard as .*input/;

async function debianConfig(script: string): Promise<MachineConfig> {
  return await guestConfig({
    kernel: join(debianKernel(), 'vmlinux'),
    cmdline: 'console=ttyS0 reboot=k panic=-1 pci=off',
    discovery: 'acpi',
    memoryBytes: 256 * MIB,
    command: { argv: ['sh', '-c', script], tty: false },
  });
}

describe('Debian’s kernel', () => {
  skipAll(
    interpreted
      ? notHere('it takes more than ten minutes where ring 0 is interpreted')
      : debianKernelProblem(),
  );

  test('finds the keyboard, and a machine is asked to stop by it', { timeout: TIMEOUT_MS }, async () => {
    await using machine = await createMachine(
      await debianConfig('trap "echo goodbye; exit 5" TERM; echo up; while :; do sleep 0.1; done'),
    );
    const log = new ConsoleLog(machine);
    await machine.start();
    expect(machine.pressCtrlAltDel()).toBe(false); // nobody is there yet
    await log.waitFor(KEYBOARD_READY);
    await log.waitFor(/^up/m);
    await machine.stop(TIMEOUT_MS);
    expect(await endOf(machine, log)).toEqual({ kind: 'power-off', exitStatus: 5 });
    expect(log.text).toContain('goodbye');
  });
});

test('the default guest has no keyboard, and says so', { timeout: TIMEOUT_MS }, async () => {
  await using machine = await createMachine(
    await guestConfig({ command: { argv: ['sh', '-c', 'echo up; sleep 1000'], tty: false } }),
  );
  const log = new ConsoleLog(machine);
  await machine.start();
  await log.waitFor(/up/);
  expect([machine.pressCtrlAltDel(), machine.requestStop()]).toEqual([false, false]);
  await machine.stop(TIMEOUT_MS);
  expect(await machine.wait()).toEqual({ kind: 'stopped' });
});

test('the default guest listens at its stop port', { timeout: TIMEOUT_MS }, async () => {
  const script = 'trap "echo goodbye" TERM; echo up; while :; do sleep 0.1; done';
  await using machine = await createMachine(
    await guestConfig({ stopPort: true, command: { argv: ['sh', '-c', script], tty: false } }),
  );
  const log = new ConsoleLog(machine);
  await machine.start();
  await log.waitFor(/up/);
  await expect.poll(() => machine.requestStop(), { timeout: 20_000 }).toBe(true);
  await log.waitFor(/goodbye/);
  expect(machine.requestStop()).toBe(true); // it has been asked
  expect(machine.requestStop({ insist: true })).toBe(true);
  expect(await endOf(machine, log)).toEqual({ kind: 'power-off', exitStatus: 137 });
});
