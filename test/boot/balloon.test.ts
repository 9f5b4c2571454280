/** Memory that a guest gives back, measured by what the host has afterwards. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { balloon, type Machine, type MachineBalloon, restoreMachine } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { ConsoleLog, interpreted, Session, temporaryDirectory } from '../support/guest.js';
import { smaps } from '../support/smaps.js';

/** More than fits into the gaps of the guest's memory, which are too small to be reported. Interpreted, a MiB takes a second. */
const FILL_MIB = interpreted ? 8 : 24;
const BACK_MIB = interpreted ? 3 : 12;
const FILL = `dd if=/dev/zero of=/tmp/fill bs=1M count=${FILL_MIB} 2>/dev/null`;

const root = temporaryDirectory();

/**
 * Guest memory that machines of this process have of their own, in MiB: that of shared mappings, and copies in private ones. What
 * a fork or a restored machine only looks at comes and goes.
 */
function heldMib(): number {
  const held = smaps().map(({ head, residentKib, anonymousKib }) => {
    const mapping = /^[0-9a-f]+-[0-9a-f]+ rw-([sp]) .*(memfd:tsvm-ram|\/memory)/.exec(head);
    return mapping === null ? 0 : mapping[1] === 's' ? residentKib : anonymousKib;
  });
  return held.reduce((sum, kib) => sum + kib, 0) / 1024;
}

function balloonOf({ balloon: found }: Pick<Machine, 'balloon'>): MachineBalloon {
  if (found === undefined) throw new Error('no balloon');
  return found;
}

async function until(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Free memory of the guest, in bytes, when it has stood still: what was removed is freed later, and goes to the host by pieces. */
async function freeAtRest(its: MachineBalloon): Promise<number> {
  let last = Number.NaN;
  let same = 0;
  await until('free memory stands still', async () => {
    const { freeBytes = 0 } = await its.stats();
    same = Math.abs(freeBytes - last) < MIB / 4 ? same + 1 : 0;
    last = freeBytes;
    return same === 5;
  });
  return last;
}

/** Waits until the host has at least BACK_MIB less than it has now. */
async function givenBack(act: () => Promise<unknown>): Promise<void> {
  const before = heldMib();
  await act();
  await until('memory comes back', () => heldMib() < before - BACK_MIB);
}

describe('a guest with a balloon', () => {
  let session: Session;

  beforeAll(async () => {
    session = await Session.boot({ devices: [balloon()] });
    await session.run('mkdir -p /tmp && mount -t tmpfs tmp /tmp');
  });

  afterAll(async () => {
    await session?.machine.kill();
  });

  test('what it frees goes back to the host', async () => {
    expect((await session.run(FILL)).status).toBe(0);
    await givenBack(() => session.run('rm /tmp/fill'));
    expect(
      (await session.run(`${FILL}; cmp -n ${FILL_MIB * MIB} /tmp/fill /dev/zero; rm /tmp/fill`)).status,
    ).toBe(0);
  });

  test('stats() are the guest’s', async () => {
    const { totalBytes = 0, freeBytes = 0, availableBytes = 0 } = await balloonOf(session.machine).stats();
    expect(totalBytes).toBeGreaterThan(40 * MIB);
    expect(totalBytes).toBeLessThan(64 * MIB);
    expect(freeBytes).toBeGreaterThan(0);
    expect(availableBytes).toBeGreaterThan(0);
  });

  test('setTarget() takes memory from it, and gives it back', async () => {
    const its = balloonOf(session.machine);
    const before = await freeAtRest(its);
    its.setTarget(2 * MIB);
    await until('it is inflated', () => its.actualBytes === 2 * MIB);
    expect(before - (await freeAtRest(its))).toBeGreaterThan(MIB);
    its.setTarget(0);
    await until('it is deflated', () => its.actualBytes === 0);
    expect(await session.run(`${FILL}; rm /tmp/fill`)).toMatchObject({ status: 0 });
  });

  test('a fork gives its own copies back, and its parent keeps what it has', async () => {
    await session.run('head -c 100000 /dev/urandom > /tmp/keep; md5sum /tmp/keep > /tmp/sum');
    const [fork] = await session.machine.fork(1);
    if (fork === undefined) throw new Error('no fork');
    await using machine = fork;
    const log = new ConsoleLog(machine);
    machine.console.write(Buffer.from(`${FILL}; echo fil""led\n`));
    await log.waitFor(/filled/);
    await givenBack(async () => {
      machine.console.write(Buffer.from('rm /tmp/fill; md5sum -c /tmp/sum\n'));
      await log.waitFor(/keep: OK/);
    });
    expect((await session.run('md5sum -c /tmp/sum')).status).toBe(0);
  });

  test('a restored machine does, and what it saves is whole', async () => {
    const first = join(root, 'first');
    const second = join(root, 'second');
    await session.machine.snapshot(first);
    {
      await using machine = await restoreMachine(first);
      const log = new ConsoleLog(machine);
      await machine.start();
      machine.console.write(Buffer.from(`${FILL}; echo fil""led\n`));
      await log.waitFor(/filled/);
      await givenBack(async () => {
        machine.console.write(Buffer.from('rm /tmp/fill; md5sum -c /tmp/sum\n'));
        await log.waitFor(/keep: OK/);
      });
      await machine.snapshot(second, { differential: true });
    }
    await using machine = await restoreMachine(second);
    const log = new ConsoleLog(machine);
    await machine.start();
    machine.console.write(Buffer.from(`md5sum -c /tmp/sum; ${FILL}; echo fil""led\n`));
    await log.waitFor(/keep: OK/);
    await log.waitFor(/filled/);
  });
});
