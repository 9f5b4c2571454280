/**
 * Saved states that mean harm, their checksums in order: each is refused with an error of tsvm's or makes a machine that can be
 * run and stopped. Never a TypeError, a hang or a crash.
 */
// biome-ignore-all lint/suspicious/noAssignInExpressions: each change is one assignment
import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { deviceKinds, restoreMachine, TsvmError } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { inRig, temporaryDirectory } from '../support/guest.js';
import { machineFactory } from '../support/kvm-machine.js';
import { notebook, settledHoldings } from '../support/living-kernels.js';
import { editManifest, type LooseSnapshot, readSnapshot } from '../support/snapshots.js';

const directory = temporaryDirectory();
const machineOf = machineFactory(directory);
const good = join(directory, 'good');
const bad = join(directory, 'bad');
const disk = join(directory, 'disk');
const devices = [
  deviceKinds['blk']!.fromCli(disk),
  deviceKinds['rng']!.fromCli(''),
  deviceKinds['console']!.fromConfig({ console: true }),
];

beforeAll(async () => {
  writeFileSync(disk, Buffer.alloc(64 * 1024));
  await using guest = await machineOf(notebook(), { devices, channel: true });
  await guest.machine.start();
  await guest.log.waitFor(/>/);
  await guest.machine.snapshot(good);
  cpSync(good, bad, { recursive: true });
});

/** Restores it, lets it run for a moment, and returns the code of the error if there was one. */
async function outcomeOf(change: (snapshot: LooseSnapshot) => void): Promise<string> {
  cpSync(join(good, 'machine.json'), join(bad, 'machine.json'));
  editManifest(bad, (snapshot) => void change(snapshot));
  try {
    await using machine = await restoreMachine(bad, { devices });
    await machine.start();
    await sleep(1);
    return 'runs';
  } catch (error) {
    expect(error, String((error as Error).stack)).toBeInstanceOf(TsvmError);
    expect((error as TsvmError).message).not.toMatch(/(?<!received )undefined|\[object|\n/);
    return (error as TsvmError).code;
  }
}

type Path = readonly (string | number)[];

/** Every value below `value` and `value` itself; of a list, its first element and its last. */
function* pathsOf(value: unknown, path: Path = []): Generator<Path> {
  if (path.length > 0) yield path;
  if (typeof value !== 'object' || value === null) return;
  const keys = Array.isArray(value)
    ? [...new Set([0, value.length - 1])].filter((i) => i >= 0 && i < value.length)
    : Object.keys(value);
  for (const key of keys) yield* pathsOf((value as Record<string | number, unknown>)[key], [...path, key]);
}

function valueAt(snapshot: LooseSnapshot, path: Path): unknown {
  return path.reduce((value, key) => value[key], snapshot);
}

function put(snapshot: LooseSnapshot, path: Path, value: unknown): void {
  const owner = path.slice(0, -1).reduce((at, key) => at[key], snapshot);
  const key = path.at(-1)!;
  if (value === undefined) delete owner[key];
  else owner[key] = value;
}

const HUGE = Number.MAX_SAFE_INTEGER;
const HOSTILE: Readonly<Record<string, readonly unknown[]>> = {
  number: [-1, 0.5, 0xffff_ffff, HUGE, '1', null, undefined],
  string: ['', 'AAAA', '*', '\0', 'f'.repeat(70_000), 7, null, undefined],
  boolean: ['toggle', 1, undefined],
  object: [null, 7, {}, [], undefined],
  list: [[], [null], ['x'], [-1], 'twice', {}, undefined],
};

function hostileValues(value: unknown): unknown[] {
  const kind = Array.isArray(value) ? 'list' : value === null ? 'object' : typeof value;
  const values = HOSTILE[kind] ?? [];
  return values.map((hostile) => {
    if (hostile === 'toggle') return !value;
    if (hostile === 'twice') return [...(value as unknown[]), ...(value as unknown[])];
    return hostile;
  });
}

/** Tells what the kernel alone can judge, and is left to it: a register is any number. */
const isKernels = (path: Path): boolean =>
  path.includes('structs') || path.includes('msrs') || path.includes('irqchips') || path.includes('cpuid');

describe('a hostile saved state', () => {
  test(
    'with any value replaced by one of another type or beyond its range',
    async () => {
      const original = readSnapshot(good);
      const outcomes = new Map<string, number>();
      let tried = 0;
      for (const path of pathsOf(original)) {
        for (const value of hostileValues(valueAt(original, path))) {
          if (isKernels(path) && typeof value === 'number') continue;
          // Under emulation, a part of them.
          if (inRig && tried++ % 8 !== 0) continue;
          const outcome = await outcomeOf((snapshot) => put(snapshot, path, value)).catch((error: Error) => {
            throw new Error(`${path.join('.')} = ${JSON.stringify(value)}: ${error.message}`, {
              cause: error,
            });
          });
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        }
      }
      expect(outcomes.get('TSVM_SNAPSHOT')).toBeGreaterThan(50);
    },
    120_000 * (inRig ? 3 : 1),
  );

  const slot = (snapshot: LooseSnapshot, deviceId: number) =>
    snapshot.state.platform.slots.find((each: { deviceId: number }) => each.deviceId === deviceId);
  const BLK = 2;
  /** Leaves the device as after a driver that did everything right, but for what `queue` says. */
  const live = (snapshot: LooseSnapshot, queue: object, more: object = {}) => {
    const blk = slot(snapshot, BLK);
    Object.assign(blk, { status: 0xf, driverFeatures: '100000000', ...more });
    Object.assign(blk.queues[0], {
      size: 8,
      ready: true,
      descAddr: 0x1000,
      availAddr: 0x2000,
      usedAddr: 0x3000,
      position: { nextAvail: 0, nextUsed: 0, signalledUsed: 0 },
      ...queue,
    });
  };
  test('is good when nothing is wrong with it', async () => {
    expect(await outcomeOf(() => {})).toBe('runs');
    expect(await outcomeOf((snapshot) => live(snapshot, {}))).toBe('runs');
    // A driver may write anything before it says that a queue is ready.
    const nowhere = { ready: false, descAddr: 2 ** 63, usedAddr: 2 ** 64, position: null };
    expect(await outcomeOf((snapshot) => live(snapshot, nowhere))).toBe('runs');
  });

  const refused: Readonly<Record<string, (snapshot: LooseSnapshot) => void>> = {
    'a device that is live with nothing negotiated': (it) =>
      live(it, {}, { status: 7, driverFeatures: 'ffffffffffffffff' }),
    'descriptors outside RAM': (it) => live(it, { descAddr: 4 * MIB }),
    'descriptors that end outside RAM': (it) => live(it, { descAddr: 4 * MIB - 64 }),
    'descriptors beyond every address': (it) => live(it, { descAddr: 2 ** 64 }),
    'descriptors at no address': (it) => live(it, { descAddr: 4096.5 }),
    'descriptors below every address': (it) => live(it, { descAddr: -4096 }),
    'an available ring outside RAM': (it) => live(it, { availAddr: 2 ** 32 }),
    'a used ring over devices': (it) => live(it, { usedAddr: 0xd000_0000 }),
    'a queue of size 0': (it) => live(it, { size: 0 }),
    'a queue of a size that is no power of two': (it) => live(it, { size: 7 }),
    'a queue of a huge size': (it) => live(it, { size: 0x8000_0000 }),
    'a ring that is not aligned': (it) => live(it, { descAddr: 0x1001 }),
    'features that were never offered': (it) => live(it, {}, { driverFeatures: 'ffffffffffffffff' }),
    'another type of device': (it) => void (slot(it, BLK).deviceId = 4),
    'another order of devices': (it) => void it.state.platform.slots.reverse(),
    'a device too few': (it) => void it.state.platform.slots.pop(),
    'a device too many': (it) => void it.state.platform.slots.push(slot(it, BLK)),
    'a queue too many': (it) => void slot(it, BLK).queues.push(slot(it, BLK).queues[0]),
    'no queue': (it) => void (slot(it, BLK).queues = []),
    'another size of disk': (it) => void (slot(it, BLK).device.sectorCount = 2 ** 40),
    'a version of the future': (it) => void (slot(it, BLK).device.version = 99),
    'no vCPU': (it) => void (it.state.vm.vcpus = []),
    'a vCPU too many': (it) => void it.state.vm.vcpus.push(it.state.vm.vcpus[0]),
    'more vCPUs than it has states': (it) => void (it.config.cpus = 2),
    'a hundred thousand vCPUs': (it) => void (it.config.cpus = 100_000),
    'no CPUID leaf of a whole size': (it) => void (it.state.vm.vcpus[0].cpuid = 'AAAA'),
    'CPUID without end': (it) =>
      void (it.state.vm.vcpus[0].cpuid = Buffer.alloc(40 * 5000).toString('base64')),
    'registers that are too short': (it) => void (it.state.vm.vcpus[0].structs.kvm_regs = 'AAAA'),
    'registers that are too long': (it) => void (it.state.vm.vcpus[0].structs.kvm_sregs += 'AAAA'),
    'a state of no vCPU': (it) =>
      void (it.state.vm.vcpus[0].structs.kvm_mp_state = Buffer.from([99, 0, 0, 0]).toString('base64')),
    'an interrupt controller that is too short': (it) => void (it.state.vm.irqchips[2] = 'AAAA'),
    'a timer that is too short': (it) => void (it.state.vm.pit = ''),
    'a clock that is too short': (it) => void (it.state.vm.clock = 'AAAA'),
    'no serial port': (it) => void delete it.state.platform.board.serial,
    'a port device too many': (it) => void (it.state.platform.board.speaker = { version: 1 }),
    'a register beyond its width': (it) => void (it.state.platform.board.rtc.index = 256),
    'a FIFO that is too long': (it) => void (it.state.platform.board.serial.fifo = new Array(17).fill(1)),
    'a CMOS that is too short': (it) => void (it.state.platform.board.rtc.cmos = [1, 2]),
    'a device of no kind': (it) => void (it.config.devices[0].kind = 'warp'),
    'a device of an inherited kind': (it) => void (it.config.devices[0].kind = 'constructor'),
    'a device with a field too many': (it) => void (it.config.devices[0].config.more = 1),
    'an overlay that nobody named': (it) => void (it.config.devices[0].config.overlay = '/tmp/overlay'),
    'a folder of the host': (it) =>
      void (it.config.devices[1] = { kind: 'fs', config: { path: '/', tag: 'x', readOnly: false } }),
    'a network of the host': (it) =>
      void (it.config.devices[1] = { kind: 'net', config: { backend: 'user', loopback: true } }),
    'a channel that is not there': (it) => void (it.config.guest = 'none'),
    'a spec of the future': (it) => void (it.config.version = 2),
    'a command for its guest': (it) => void (it.config.command = { argv: ['x'] }),
    'a console elsewhere': (it) => void (it.config.console = 'none'),
    'memory that is not there': (it) => void (it.config.memoryBytes = 2 ** 50),
    'another size of memory': (it) => void (it.config.memoryBytes = 8 * MIB),
    'no memory': (it) => void (it.config.memoryBytes = 0),
    'another disk': (it) => void (it.disks[0].mtimeNs = '1'),
    'no disk': (it) => void (it.disks = []),
    'its memory as a base': (it) => void (it.base = { directory: '/proc/self', checksum: '0'.repeat(64) }),
  };
  test.each(Object.keys(refused))('with %s is refused', async (name) => {
    expect(await outcomeOf(refused[name]!)).toMatch(/^TSVM_/);
  });

  test.each(['/tmp', '/dev/null', '/etc/shadow', '', '/a\0b', '../../etc/shadow'])(
    'that names %j as its disk has the one that was bound, or none',
    async (path) => {
      const change = (it: LooseSnapshot) => void (it.config.devices[0].config.path = path);
      expect(await outcomeOf(change)).toMatch(/^(runs|TSVM_CONFIG)$/);
      await expect(restoreMachine(bad)).rejects.toMatchObject({
        code: expect.stringMatching(/^TSVM_(BINDING|CONFIG)$/),
      });
    },
  );

  test('that names a kernel of the host has none', async () => {
    editManifest(bad, () => ({
      ...readSnapshot(good),
      config: { ...readSnapshot(good).config, kernel: '/etc/shadow' },
    }));
    await using machine = await restoreMachine(bad, { devices });
    expect(machine.config.kernel).toBeUndefined();
  });

  test('that is refused leaves nothing behind', async () => {
    const all = Object.values(refused);
    for (const change of all.slice(0, 3)) await outcomeOf(change);
    const before = await settledHoldings();
    for (const change of all) await outcomeOf(change);
    expect(await settledHoldings()).toEqual(before);
  });

  test('with a queue that loops and rings full of rubbish hurts its own machine alone', async () => {
    expect(
      await outcomeOf((snapshot) =>
        live(snapshot, { position: { nextAvail: 0x7fff, nextUsed: 0xffff, signalledUsed: 1 } }),
      ),
    ).toBe('runs');
    rmSync(bad, { recursive: true });
  });
});
