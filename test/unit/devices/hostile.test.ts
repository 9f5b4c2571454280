/**
 * The hostile corpus, against every registered device. Whatever a driver does, the device survives, the worst that
 * happens is DEVICE_NEEDS_RESET, and after a reset it works.
 */
import { describe, expect, test } from 'vitest';
import { CONFIG_OFFSET, REG } from '../../../src/virtio/transport/mmio.js';
import { KINDS, makeSpecimen, type Specimen } from '../../support/device-zoo.js';
import { BAD_CHAINS } from '../../support/hostile-chains.js';
import { settle } from '../../support/memory-disk.js';
import {
  DRIVER_OK,
  FAILED,
  type MockQueue,
  NEEDS_RESET,
  NEXT,
  Rig,
  WRITE,
} from '../../support/mock-driver.js';
import { TRANSPORT_NAMES, type TransportName } from '../../support/transports.js';

interface Subject extends Specimen {
  readonly rig: Rig;
}

async function subject(kind: string, transport: TransportName): Promise<Subject> {
  const specimen = await makeSpecimen(kind);
  return { ...specimen, rig: new Rig(specimen.device, { transport }) };
}

/** Kicks every queue and lets host and I/O do what they do. */
async function provoke({ rig, stir }: Subject): Promise<void> {
  for (const index of [...rig.driver.queues.keys(), 0xffff]) rig.driver.notify(index);
  stir();
  for (let i = 0; i < 4; i++) {
    await settle();
    rig.runDeferred();
  }
}

/** After a reset, a plain request on every queue is served (or waits, where the device has nothing to say). */
async function expectAlive(tested: Subject): Promise<void> {
  const { rig } = tested;
  await rig.driver.reset();
  expect(rig.driver.status).toBe(0);
  const failures = rig.failures.length;
  rig.driver.start();
  const requests = rig.driver.queues.map((queue) => queue.add([new Uint8Array(16)], [512, 1]));
  await provoke(tested);
  expect(rig.failures.slice(failures)).toEqual([]);
  rig.driver.queues.forEach((queue, index) => {
    expect(queue.used().map(({ head }) => head)).toEqual([requests[index]?.head]);
  });
}

interface Case {
  readonly name: string;
  /** Whether the device needs a reset afterwards; undefined where that is up to the device. */
  readonly breaks: boolean | undefined;
  /** For what only one transport has. */
  readonly transport?: TransportName;
  run(tested: Subject): void | Promise<void>;
}

const eachQueue = (tested: Subject, act: (queue: MockQueue) => void): void => {
  tested.rig.driver.start();
  for (const queue of tested.rig.driver.queues) act(queue);
};

const CASES: readonly Case[] = [
  ...BAD_CHAINS.filter(({ ramBytes }) => ramBytes === undefined).map(
    (chain): Case => ({
      name: chain.name,
      breaks: true,
      run({ rig }) {
        rig.driver.start({
          features: (chain.features ?? ((offered) => offered))(rig.driver.offeredFeatures()),
        });
        for (const queue of rig.driver.queues) queue.rawPublish(chain.build(queue, rig));
      },
    }),
  ),
  {
    name: 'heads beyond the queue (hostile 2)',
    breaks: true,
    run: (tested) => eachQueue(tested, (queue) => queue.rawPublish(queue.size)),
  },
  {
    name: 'empty buffers everywhere (hostile 5)',
    breaks: false,
    run: (tested) =>
      eachQueue(tested, (queue) => {
        queue.addDescriptors([
          { addr: 0, length: 0 },
          { addr: 0x8000, length: 1, flags: WRITE },
          { addr: 0xffff_ffff, length: 0, flags: WRITE },
        ]);
      }),
  },
  {
    name: 'a chain as long as the queue (hostile 7)',
    breaks: false,
    run: (tested) =>
      eachQueue(tested, (queue) => {
        for (let i = 0; i < queue.size; i++) {
          const last = i === queue.size - 1;
          queue.rawDescriptor(i, {
            addr: 0x10000 + 16 * i,
            length: 16,
            flags: WRITE | (last ? 0 : NEXT),
            next: i + 1,
          });
        }
        queue.rawDescriptor(0, { addr: 0x10000, length: 16, flags: NEXT, next: 1 });
        queue.rawPublish(0);
      }),
  },
  {
    name: 'an available index far ahead (hostile 10)',
    breaks: true,
    run: (tested) => eachQueue(tested, (queue) => queue.rawAvailIdx(queue.size + 1)),
  },
  {
    name: 'an available index that goes backwards (hostile 10)',
    breaks: true,
    run: (tested) => eachQueue(tested, (queue) => queue.rawAvailIdx(0xffff)),
  },
  {
    name: 'one head many times (hostile 11)',
    breaks: undefined, // what was completed at once may come again
    run: (tested) =>
      eachQueue(tested, (queue) => {
        queue.rawDescriptor(0, { addr: 0x10000, length: 16, flags: NEXT, next: 1 });
        queue.rawDescriptor(1, { addr: 0x11000, length: 513, flags: WRITE });
        for (let i = 0; i < queue.size; i++) queue.rawPublish(0);
      }),
  },
  {
    name: 'rings full of themselves: buffers are the rings (hostile 14, 19)',
    breaks: undefined,
    run: (tested) =>
      eachQueue(tested, (queue) => {
        queue.addDescriptors([
          { addr: queue.descAddr, length: 16 * queue.size },
          { addr: queue.descAddr, length: 16 * queue.size, flags: WRITE },
          { addr: queue.availAddr, length: 6 + 2 * queue.size, flags: WRITE },
          { addr: queue.usedAddr, length: 6 + 8 * queue.size, flags: WRITE },
        ]);
      }),
  },
  {
    name: 'every register written with every kind of value, while live (hostile 15, 16)',
    breaks: false,
    transport: 'mmio',
    async run({ rig }) {
      rig.driver.start();
      const { registers } = rig;
      for (const select of [0, 1, 0xffff]) {
        for (let offset = 0; offset < 0x100; offset += 4) {
          if (offset === REG.Status) continue;
          for (const value of [0, 1, 0x8000_0000, 0xffff_ffff]) {
            void registers.write(REG.QueueSel, select);
            await registers.write(offset, value);
            registers.read(offset);
          }
        }
      }
      expect(rig.driver.status & DRIVER_OK).toBe(DRIVER_OK);
    },
  },
  {
    name: 'registers and configuration at every offset and width (hostile 24, 25)',
    breaks: false,
    transport: 'mmio',
    run({ rig }) {
      rig.driver.start();
      for (const width of [1, 2, 4, 8]) {
        for (let offset = 0; offset + width <= 2 * CONFIG_OFFSET; offset++) {
          if (offset > REG.Status - width && offset < REG.Status + 4) continue;
          rig.registers.readBytes(offset, width);
          void rig.registers.writeBytes(offset, new Uint8Array(width).fill(0xff));
        }
      }
    },
  },
  {
    name: 'all that a driver says while it sets up, while live (hostile 15, 16, 22)',
    breaks: false,
    run({ rig }) {
      const { driver } = rig;
      driver.start();
      for (const index of [...driver.queues.keys(), driver.queues.length, 0xffff_ffff]) {
        driver.face.startQueue(index, { size: 0x8000_0000, descAddr: 2 ** 62, availAddr: 1, usedAddr: 0 });
        for (const word of [0, 1, 0xffff_ffff]) driver.acceptWord(index, word);
      }
      driver.setStatus(0xff & ~FAILED & ~NEEDS_RESET);
      expect(driver.status & DRIVER_OK).toBe(DRIVER_OK);
    },
  },
  {
    name: 'kicks before DRIVER_OK and for queues that are not there (hostile 17)',
    breaks: false,
    async run(tested) {
      await provoke(tested);
      tested.rig.driver.negotiate();
      tested.rig.driver.setUpQueue(0).rawPublish(0xffff);
      await provoke(tested);
    },
  },
  {
    name: 'garbage in used_event (hostile 20)',
    breaks: false,
    run: (tested) =>
      eachQueue(tested, (queue) => {
        queue.usedEvent = 0xdead;
        queue.add([new Uint8Array(16)], [513]);
      }),
  },
  {
    name: 'status bits skipped and taken back (hostile 21)',
    breaks: false,
    async run({ rig }) {
      for (const status of [4, 15, 8, 1, 0xff, 0, 2, 15, FAILED, 15]) await rig.driver.writeStatus(status);
    },
  },
  {
    name: 'features that were not offered (hostile 22)',
    breaks: false,
    run({ rig }) {
      expect(rig.driver.negotiate(0xffff_ffff_ffff_ffffn)).toBe(false);
      expect(rig.driver.negotiate(rig.driver.offeredFeatures() & ~(1n << 32n))).toBe(false);
    },
  },
  {
    name: 'a reset with everything in flight (hostile 23)',
    breaks: false,
    async run(tested) {
      eachQueue(tested, (queue) => {
        for (let i = 0; i < 4; i++) queue.add([new Uint8Array(16)], [513]);
        queue.kick();
      });
      tested.stir();
      await tested.rig.driver.reset();
      const before = tested.rig.memory.read(0, tested.rig.memory.sizeBytes);
      await settle();
      tested.rig.runDeferred();
      expect(Buffer.compare(tested.rig.memory.read(0, tested.rig.memory.sizeBytes), before)).toBe(0);
    },
  },
  {
    name: 'configuration read and written at every offset and width (hostile 24, 25)',
    breaks: false,
    run({ rig }) {
      rig.driver.start();
      for (const width of [1, 2, 4, 8]) {
        for (let offset = 0; offset + width <= CONFIG_OFFSET; offset++) {
          rig.driver.config(offset, width);
          rig.driver.writeConfig(offset, new Uint8Array(width).fill(0xff));
        }
      }
    },
  },
  {
    name: 'reset in a loop (hostile 32)',
    breaks: false,
    async run({ rig }) {
      for (let i = 0; i < 50; i++) {
        rig.driver.start({ queueSize: 2 });
        for (const queue of rig.driver.queues) queue.kick();
        await rig.driver.reset();
      }
    },
  },
  {
    name: 'a driver that refills as fast as the device works (hostile 12)',
    breaks: false,
    async run(tested) {
      const { rig } = tested;
      eachQueue(tested, (queue) => {
        for (let i = 0; i < queue.size; i++)
          queue.addDescriptors([{ addr: 0x10000, length: 64, flags: WRITE }]);
      });
      for (const queue of rig.driver.queues) {
        queue.kick();
        queue.rawAvailIdx(queue.availIdx + queue.used().length);
        queue.kick();
      }
    },
  },
];

test('every registered device has a specimen, a name, an id and sane queues', async () => {
  for (const kind of KINDS) {
    const { device } = await makeSpecimen(kind);
    expect(device.deviceId).toBeGreaterThan(0);
    expect(device.queueSizes.length).toBeGreaterThan(0);
    expect(device.features >> 24n).toBe(0n); // 24 and up are the transport's
  }
});

const PLACES = KINDS.flatMap((kind) => TRANSPORT_NAMES.map((transport) => ({ kind, transport })));

describe.each(PLACES)('$kind survives, by way of $transport,', ({ kind, transport }) => {
  const cases = CASES.filter((one) => one.transport === undefined || one.transport === transport);
  test.each(cases)('$name', async ({ run, breaks }) => {
    const tested = await subject(kind, transport);
    const { rig } = tested;
    await run(tested);
    await provoke(tested);
    const looked = rig.core.counters.queues.some(({ errors }) => errors > 0);
    if (breaks) {
      expect(looked).toBe(true);
      expect(rig.driver.status & NEEDS_RESET).toBe(NEEDS_RESET);
      expect(rig.failures).toHaveLength(1);
    } else if (breaks === false) {
      expect(rig.failures).toEqual([]);
    }
    await expectAlive(tested);
  });
});
