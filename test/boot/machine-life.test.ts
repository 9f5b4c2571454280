/** The life of machines as library objects, over kernels of a few instructions. */
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { Rng } from '../../src/devices/rng.js';
import {
  createMachine,
  type DeviceRequest,
  type Machine,
  type MachineConfig,
  type MachineState,
} from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { ConsoleLog, endOf, temporaryDirectory } from '../support/guest.js';
import { tiny, tinyKernel } from '../support/tiny-kernel.js';

const directory = temporaryDirectory();
let kernels = 0;

function config(code: readonly number[], more: MachineConfig = {}): MachineConfig {
  const kernel = join(directory, `kernel${++kernels}`);
  writeFileSync(kernel, tinyKernel(code));
  return { kernel, memoryBytes: 4 * MIB, ...more };
}

async function run(code: readonly number[], more: MachineConfig = {}) {
  await using machine = await createMachine(config(code, more));
  const log = new ConsoleLog(machine);
  await machine.start();
  return { end: await endOf(machine, log), text: log.text };
}

describe('the end of a machine', () => {
  test('power-off carries the exit status that the guest reported', async () => {
    const { end, text } = await run([...tiny.print('hello\n'), ...tiny.exitStatus(42), ...tiny.powerOff()]);
    expect(end).toEqual({ kind: 'power-off', exitStatus: 42 });
    expect(text).toBe('hello\n');
  });

  test('power-off without a status has none', async () => {
    expect((await run(tiny.powerOff())).end).toEqual({ kind: 'power-off', exitStatus: undefined });
  });

  test('reset is told from power-off', async () => {
    expect((await run(tiny.reset())).end).toEqual({ kind: 'reset', exitStatus: undefined });
  });

  test('a reset after a panic message is the panic, with its line', async () => {
    const code = [...tiny.print('Kernel panic - not syncing: no reason\r\nmore\r\n'), ...tiny.reset()];
    expect((await run(code)).end).toEqual({
      kind: 'panic',
      message: 'Kernel panic - not syncing: no reason',
    });
  });

  test('a triple fault is one', async () => {
    expect((await run(tiny.tripleFault())).end).toEqual({ kind: 'triple-fault' });
  });

  test('everything printed before the end is delivered before it', async () => {
    const text = 'x'.repeat(3000);
    expect((await run([...tiny.print(text), ...tiny.powerOff()])).text).toBe(text);
  });
});

describe('Machine', () => {
  test('goes ready, running, paused, running, ended, and says so', async () => {
    await using machine = await createMachine(config([...tiny.mark(9), ...tiny.spin()]));
    const states: MachineState[] = [];
    machine.on('state', (state) => states.push(state));
    expect(machine.state).toBe('ready');
    const marked = new Promise((resolve) => machine.on('mark', resolve));
    await machine.start();
    expect(await marked).toEqual({ code: 9, name: 'mark-9', ms: expect.any(Number) });
    await machine.pause();
    expect(machine.state).toBe('paused');
    await machine.resume();
    await machine.kill();
    expect(states).toEqual(['running', 'paused', 'running', 'ended']);
    expect(await machine.wait()).toEqual({ kind: 'stopped' });
  });

  test('start() twice, or after the end, is TSVM_STATE', async () => {
    await using machine = await createMachine(config(tiny.sleep()));
    await machine.start();
    await expect(machine.start()).rejects.toMatchObject({ code: 'TSVM_STATE' });
    await machine.kill();
    await expect(machine.start()).rejects.toMatchObject({ code: 'TSVM_STATE' });
    await expect(machine.pause()).rejects.toMatchObject({ code: 'TSVM_STATE' });
    await expect(machine.resume()).rejects.toMatchObject({ code: 'TSVM_STATE' });
  });

  test('pause() before start() is TSVM_STATE, and resume() of a running machine too', async () => {
    await using machine = await createMachine(config(tiny.sleep()));
    await expect(machine.pause()).rejects.toMatchObject({ code: 'TSVM_STATE' });
    await machine.start();
    await expect(machine.resume()).rejects.toMatchObject({ code: 'TSVM_STATE' });
  });

  test('kill() and dispose may come in any order, twice, at once, and before start()', async () => {
    const machine = await createMachine(config(tiny.spin()));
    await Promise.all([machine.kill(), machine.kill(), machine[Symbol.asyncDispose]()]);
    await machine[Symbol.asyncDispose]();
    expect(machine.state).toBe('ended');
    const running = await createMachine(config(tiny.spin()));
    await running.start();
    await Promise.all([running[Symbol.asyncDispose](), running.kill()]);
    await running[Symbol.asyncDispose]();
    expect(await running.wait()).toEqual({ kind: 'stopped' });
  });

  test('kill() of a paused machine ends it', async () => {
    await using machine = await createMachine(config(tiny.spin()));
    await machine.start();
    await machine.pause();
    await machine.kill();
    expect(machine.state).toBe('ended');
  });

  test('pause() in the middle of busy vCPUs stops them until resume()', async () => {
    await using machine = await createMachine(config(tiny.countMarks(1000)));
    const marks: number[] = [];
    machine.on('mark', ({ code }) => marks.push(code));
    const grown = async (): Promise<void> => {
      const before = marks.length;
      while (marks.length < before + 3) await sleep(1);
    };
    await machine.start();
    for (let round = 0; round < 10; round++) {
      await grown();
      await machine.pause();
      const paused = marks.length;
      await sleep(20);
      expect(marks.length).toBe(paused);
      await machine.resume();
    }
    await grown();
    await machine.kill();
    const lost = marks.findIndex((mark, i) => i > 0 && mark !== ((marks[i - 1] ?? 0) + 1) % 64);
    expect(lost, 'a mark that was lost or doubled').toBe(-1);
  });

  test('pause() and resume() without waiting leave a consistent machine', async () => {
    await using machine = await createMachine(config(tiny.countMarks(100)));
    await machine.start();
    await Promise.all([machine.pause(), machine.resume(), machine.pause(), machine.pause()]);
    expect(machine.state).toBe('paused');
    await machine.resume();
    expect(machine.state).toBe('running');
  });

  const fail = (): never => {
    throw new Error('from the listener');
  };

  test.each([
    ['throws', fail],
    ['rejects', async () => fail()],
  ])(
    'a listener that %s ends its machine, and neither the process nor the machine beside it',
    async (_, listener) => {
      await using machine = await createMachine(config([...tiny.mark(3), ...tiny.powerOff()]));
      await using other = await createMachine(config([...tiny.mark(3), ...tiny.powerOff()]));
      machine.on('state', listener);
      await machine.start();
      await other.start();
      expect(await machine.wait()).toMatchObject({
        kind: 'bug',
        message: "a fault in a listener for 'state': Error: from the listener",
        report: expect.stringContaining('machine-life.test'),
      });
      expect(await other.wait()).toEqual({ kind: 'power-off', exitStatus: undefined });
    },
  );

  test('a device that throws, or that cannot be drained, ends its machine', async () => {
    const broken = (device: object): DeviceRequest => ({
      kind: 'broken',
      open: async () => Object.assign(new Rng({ fillRandom: () => {} }), device),
    });
    const drain = async (): Promise<void> => {
      throw new Error('does not drain');
    };
    const closed: string[] = [];
    const close = (): void => void closed.push('closed');
    await using machine = await createMachine({
      ...config(tiny.powerOff()),
      devices: [broken({ drain, close }), broken({ close })],
    });
    await machine.start();
    expect(await machine.wait()).toMatchObject({ message: 'does not drain' });
    expect(closed).toEqual(['closed', 'closed']);
  });

  test('timeline() has phases in order and exits by kind', async () => {
    await using machine = await createMachine(config([...tiny.mark(1), ...tiny.mark(2), ...tiny.powerOff()]));
    await machine.start();
    await machine.wait();
    const { phases, exits, profile } = machine.timeline();
    expect(phases.map(({ name }) => name)).toEqual([
      'create', 'files-read', 'vm-created', 'guest-loaded', 'start', 'init', 'command', 'end',
    ]); // biome-ignore format: one line reads better
    expect(phases.map(({ ms }) => ms)).toEqual(phases.map(({ ms }) => ms).toSorted((a, b) => a - b));
    expect(profile).toBe(machine.profile);
    expect(exits.byReason['io']).toBe(3);
    expect(exits.toJavaScript).toBe(3 + exits.byHostProfile);
  });

  test('two machines at once in one process do not know of each other', async () => {
    const codes = [tiny.print('first'), tiny.print('second')];
    const results = await Promise.all(
      codes.map((code, i) => run([...code, ...tiny.exitStatus(i + 1), ...tiny.powerOff()])),
    );
    expect(results).toEqual([
      { end: { kind: 'power-off', exitStatus: 1 }, text: 'first' },
      { end: { kind: 'power-off', exitStatus: 2 }, text: 'second' },
    ]);
  });
});

describe('what a machine leaves behind', () => {
  const COUNT = 20;

  /** Descriptors, threads and mappings of ours in this process. */
  function holdings(): { fds: string[]; threads: string[]; mappings: string[] } {
    const links = readdirSync('/proc/self/fd').map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return '';
      }
    });
    const threads = readdirSync('/proc/self/task').map((task) => {
      try {
        return readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim();
      } catch {
        return '';
      }
    });
    const mappings = readFileSync('/proc/self/maps', 'utf8').split('\n');
    return {
      fds: links.filter((link) => /kvm|memfd:tsvm|eventfd|tsvm-test/.test(link)),
      threads: threads.filter((name) => /vcpu/i.test(name)),
      mappings: mappings.filter((line) => /kvm|tsvm-r/.test(line)),
    };
  }

  async function settled(): Promise<ReturnType<typeof holdings>> {
    for (let i = 0; i < 5; i++) await sleep(10);
    return holdings();
  }

  beforeAll(async () => {
    await run(tiny.powerOff(), { cpus: 2 }); // what Node makes once, for the first
  });

  test(`${COUNT} machines made, run and ended leave no descriptor, thread or mapping`, async () => {
    const before = await settled();
    const disk = join(directory, 'disk');
    writeFileSync(disk, new Uint8Array(4096));
    const { deviceKinds } = await import('../../src/index.js');
    for (let i = 0; i < COUNT; i++) {
      const devices = [deviceKinds['blk']!.fromCli(disk), deviceKinds['rng']!.fromCli('')];
      await run(tiny.powerOff(), { cpus: 2, devices });
    }
    expect(await settled()).toEqual(before);
  });

  test(`${COUNT} machines made and stopped unstarted, or while they run, leave nothing`, async () => {
    const before = await settled();
    for (let i = 0; i < COUNT; i++) {
      const machine: Machine = await createMachine(config(tiny.spin(), { cpus: 2 }));
      if (i % 2 === 0) await machine.start();
      await machine.kill();
    }
    expect(await settled()).toEqual(before);
  });

  test(`${COUNT} machines that could not be made leave nothing`, async () => {
    const before = await settled();
    const kernel = join(directory, 'kernel');
    writeFileSync(kernel, tinyKernel(tiny.spin(), { loadAddr: 64 * MIB }));
    const disk = join(directory, 'disk');
    writeFileSync(disk, new Uint8Array(4096));
    const { deviceKinds } = await import('../../src/index.js');
    for (let i = 0; i < COUNT; i++) {
      const made = createMachine({
        kernel,
        memoryBytes: 4 * MIB,
        devices: [deviceKinds['blk']!.fromCli(disk)],
      });
      await expect(made).rejects.toMatchObject({ code: 'TSVM_KERNEL_IMAGE' });
    }
    expect(await settled()).toEqual(before);
  });
});
