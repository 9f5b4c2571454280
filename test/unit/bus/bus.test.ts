import { expect, test } from 'vitest';
import { Bus } from '../../../src/bus/bus.js';
import type { BusDevice } from '../../../src/bus/bus-device.js';

/** A device that remembers what was done to it and reads as its offsets. */
function recorder(name: string): BusDevice & { log: string[] } {
  const log: string[] = [];
  return {
    name,
    log,
    read(offset, data) {
      log.push(`r${offset}+${data.length}`);
      data.forEach((_, i) => {
        data[i] = offset + i;
      });
    },
    write(offset, data) {
      log.push(`w${offset}=${[...data].join('.')}`);
    },
  };
}

test('Bus gives an access to the device that holds it, with a relative offset', () => {
  const bus = new Bus();
  const high = recorder('high');
  const low = recorder('low');
  bus.attach(0xd000_1000, 0x200, high);
  bus.attach(0xd000_0000, 0x200, low);
  const data = new Uint8Array(4);
  bus.read(0xd000_0010, data);
  expect([...data]).toEqual([0x10, 0x11, 0x12, 0x13]);
  bus.write(0xd000_11fc, Uint8Array.of(1, 2, 3, 4));
  bus.read(0xd000_0000, data);
  expect(low.log).toEqual(['r16+4', 'r0+4']);
  expect(high.log).toEqual(['w508=1.2.3.4']);
  expect(bus.ranges.map(({ device }) => device.name)).toEqual(['low', 'high']);
});

test('Bus refuses overlap', () => {
  const bus = new Bus();
  bus.attach(0x100, 0x10, recorder('a'));
  bus.attach(0x110, 0x10, recorder('b'));
  expect(() => bus.attach(0x10f, 1, recorder('c'))).toThrow(/overlaps a/);
  expect(() => bus.attach(0x0, 0x101, recorder('c'))).toThrow(/overlaps a/);
  expect(() => bus.attach(0x11f, 0x100, recorder('c'))).toThrow(/overlaps b/);
  expect(() => bus.attach(0x80, 0x200, recorder('c'))).toThrow(/overlaps a/);
  expect(() => bus.attach(0x200, 0, recorder('c'))).toThrow(/bad length/);
});

test('Bus reads all ones and drops writes where nothing is (hostile 26)', () => {
  const bus = new Bus();
  const device = recorder('a');
  const empty = new Uint8Array(4);
  bus.read(0x5000, empty);
  expect([...empty]).toEqual([255, 255, 255, 255]);
  bus.attach(0x100, 0x10, device);
  const straddling = new Uint8Array(4);
  for (const addr of [0xff, 0xfe, 0x10d, 0x10f, 0x110, 0, Number.MAX_SAFE_INTEGER]) {
    bus.read(addr, straddling.fill(0));
    expect([...straddling], `read at ${addr}`).toEqual([255, 255, 255, 255]);
    bus.write(addr, straddling);
  }
  for (const width of [0, 3, 5, 16]) bus.write(0x100, new Uint8Array(width));
  expect(device.log).toEqual([]);
  expect(bus.counters).toEqual({ unclaimedReads: 8, unclaimedWrites: 11 });
});

test('Bus.detach() leaves nothing behind', () => {
  const bus = new Bus();
  const device = recorder('a');
  bus.attach(0x100, 0x10, device);
  bus.write(0x100, Uint8Array.of(1));
  bus.detach(device);
  bus.write(0x100, Uint8Array.of(1));
  expect(device.log).toEqual(['w0=1']);
});

test('Bus.write() hands on the promise of a device that needs time', async () => {
  const bus = new Bus();
  bus.attach(0, 4, { name: 'slow', read() {}, write: () => Promise.resolve() });
  await expect(bus.write(0, Uint8Array.of(1))).resolves.toBeUndefined();
});
