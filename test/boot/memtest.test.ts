/** Memtest86+: a bzImage that is not Linux, has no payload for the host to unpack, and finds memory and CPU by itself. */
import { expect, test } from 'vitest';
import { createMachine } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { ConsoleLog, endOf, interpreted } from '../support/guest.js';
import { memtestImage, memtestProblem } from '../support/memtest.js';
import { notHere } from '../support/skip-reasons.js';

const ESCAPE = Uint8Array.of(0x1b);

test('Memtest86+ boots as a bzImage, shows its first screen, tests the memory that it was given, and resets', async ({
  skip,
}) => {
  const problem = interpreted
    ? notHere('kvm_pvm does not interpret the x87 instructions of Memtest86+')
    : memtestProblem();
  skip(problem !== undefined, problem);

  const machine = await createMachine({
    kernel: memtestImage(),
    entry: 'bzimage',
    cmdline: 'console=ttyS0,115200 nosmp',
    memoryBytes: 64 * MIB,
  });
  await using _ = { [Symbol.asyncDispose]: () => machine.kill() };
  const log = new ConsoleLog(machine);
  await machine.start();
  await log.waitFor(/Memtest86\+ v/);
  await log.waitFor(/Memory {2}: +64MB/);
  await log.waitFor(/#0 {2}\[Address test.*of 63\.\dMB\]/s);
  await log.waitFor(/Pass: {2}0 +Errors: 0 /);
  machine.console.write(ESCAPE);
  expect(await endOf(machine, log)).toMatchObject({ kind: 'reset' });
});
