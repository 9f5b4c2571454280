import { describe, expect, test } from 'vitest';
import type { Host } from '../../../src/devices/backends/host.js';
import {
  Blk,
  blk,
  blkKind,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_WRITE_ZEROES,
} from '../../../src/devices/blk/blk.js';
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from '../../../src/devices/blk/request.js';
import { bareHost } from '../../support/bare-host.js';
import { MemoryDisk, type MemoryDiskOptions, settle } from '../../support/memory-disk.js';
import {
  type AddOptions,
  NEEDS_RESET,
  type Request,
  Rig,
  type StartOptions,
} from '../../support/mock-driver.js';

const SECTORS = 128;

function setUp(options: MemoryDiskOptions = {}, start: StartOptions = {}, id = 'disk-0') {
  const disk = new MemoryDisk({ sizeBytes: SECTORS * 512, ...options });
  const device = new Blk({ backend: disk, id });
  const rig = new Rig(device);
  const queue = rig.driver.start(start).queue(0);

  /** Adds a request; `readable` follows the header, `writable` precedes the status byte. */
  const add = (
    type: number,
    sector: number,
    {
      readable = [],
      writable = [],
      ...rest
    }: { readable?: Uint8Array[]; writable?: number[] } & AddOptions = {},
  ): Request => queue.add([header(type, sector), ...readable], [...writable, 1], rest);

  /** Status byte of a request. */
  const status = (request: Request): number => queue.written(request).at(-1) as number;

  const run = async (
    ...args: Parameters<typeof add>
  ): Promise<{ status: number; data: Uint8Array; length: number }> => {
    const request = add(...args);
    queue.kick();
    await settle();
    const [used] = queue.used();
    if (used === undefined) throw new Error('not completed');
    return { status: status(request), data: queue.written(request).subarray(0, -1), length: used.length };
  };
  return { disk, device, rig, queue, add, run, status };
}

function header(type: number, sector: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setBigUint64(8, BigInt(sector), true);
  return bytes;
}

function range(sector: number, count: number, flags = 0): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(sector), true);
  view.setUint32(8, count, true);
  view.setUint32(12, flags, true);
  return bytes;
}

const block = (value: number, length = 512): Uint8Array => new Uint8Array(length).fill(value);

test('Blk reads what it wrote, in place, over several buffers', async () => {
  const { disk, run } = setUp();
  const written = await run(VIRTIO_BLK_T_OUT, 3, { readable: [block(1), block(2, 1024)] });
  expect(written).toMatchObject({ status: VIRTIO_BLK_S_OK, length: 1 });
  expect(disk.bytes[3 * 512]).toBe(1);
  const read = await run(VIRTIO_BLK_T_IN, 4, { writable: [512, 512] });
  expect(read).toMatchObject({ status: VIRTIO_BLK_S_OK, length: 1025 });
  expect(Buffer.compare(read.data, block(2, 1024))).toBe(0);
});

test('Blk takes a request whatever its framing (2.7.4.1 MUST NOT)', async () => {
  const { rig, queue, disk } = setUp();
  disk.bytes.fill(7);
  const head = header(VIRTIO_BLK_T_IN, 0);
  const request = queue.add([head.subarray(0, 3), head.subarray(3, 9), head.subarray(9)], [1, 510, 2], {
    indirect: true,
  });
  queue.kick();
  await settle();
  expect(queue.used()).toEqual([{ head: request.head, length: 513 }]);
  expect(Buffer.compare(queue.written(request), Buffer.concat([block(7), block(0, 1)]))).toBe(0);
  expect(rig.failures).toEqual([]);
});

test('Blk tells its geometry in the configuration (5.2.4)', () => {
  const { rig } = setUp();
  const { driver } = rig;
  expect(driver.config(0, 8)).toBe(SECTORS);
  expect(driver.config(12, 4)).toBe(254);
  expect(driver.config(20, 4)).toBe(512);
});

test('Blk offers what its backend can do', () => {
  const bits = VIRTIO_BLK_F_RO | VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES;
  expect(setUp().device.features & bits).toBe(VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES);
  expect(setUp({ plain: true }).device.features & bits).toBe(0n);
  expect(setUp({ readOnly: true }).device.features & bits).toBe(VIRTIO_BLK_F_RO);
});

test('Blk refuses sectors past the end, and lengths that are no multiple of 512 (hostile 33)', async () => {
  const { run, disk } = setUp();
  const cases: [number, number][] = [
    [SECTORS, 512],
    [SECTORS - 1, 1024],
    [2 ** 32, 512],
    [2 ** 53 - 1, 512],
    [2 ** 63, 512],
    [0, 511],
    [0, 513],
    [0, 1],
  ];
  for (const [sector, length] of cases) {
    const read = await run(VIRTIO_BLK_T_IN, sector, { writable: [length] });
    expect(read, `read ${sector}+${length}`).toMatchObject({ status: VIRTIO_BLK_S_IOERR, length: 0 });
    const write = await run(VIRTIO_BLK_T_OUT, sector, { readable: [block(1, length)] });
    expect(write, `write ${sector}+${length}`).toMatchObject({ status: VIRTIO_BLK_S_IOERR });
  }
  expect(disk.log).toEqual([]);
});

test('Blk keeps a read-only disk as it is, also when RO was not negotiated (5.2.6.2 MUST; hostile 34)', async () => {
  for (const refused of [0n, VIRTIO_BLK_F_RO]) {
    const features = new Blk({ backend: new MemoryDisk({ readOnly: true }) }).features & ~refused;
    const { run, disk } = setUp({ readOnly: true }, { features: features | (1n << 32n) });
    expect((await run(VIRTIO_BLK_T_OUT, 0, { readable: [block(1)] })).status).toBe(VIRTIO_BLK_S_IOERR);
    expect((await run(VIRTIO_BLK_T_DISCARD, 0, { readable: [range(0, 1)] })).status).toBe(VIRTIO_BLK_S_IOERR);
    expect((await run(VIRTIO_BLK_T_WRITE_ZEROES, 0, { readable: [range(0, 1)] })).status).toBe(
      VIRTIO_BLK_S_IOERR,
    );
    expect((await run(VIRTIO_BLK_T_FLUSH, 0)).status).toBe(VIRTIO_BLK_S_OK); // hostile 35
    expect((await run(VIRTIO_BLK_T_IN, 0, { writable: [512] })).status).toBe(VIRTIO_BLK_S_OK);
    expect(disk.log).toEqual(['read 0+512']);
  }
});

test('Blk flushes when asked, and tells when that fails (hostile 35)', async () => {
  const { run, disk } = setUp();
  expect((await run(VIRTIO_BLK_T_FLUSH, 0)).status).toBe(VIRTIO_BLK_S_OK);
  disk.failure = Object.assign(new Error('EIO'), { code: 'EIO' });
  expect((await run(VIRTIO_BLK_T_FLUSH, 0)).status).toBe(VIRTIO_BLK_S_IOERR);
  expect(disk.log).toEqual(['flush', 'flush']);
});

test.each(['ENOSPC', 'EIO', 'EFBIG'])(
  'Blk turns %s into an I/O error, and lives on (hostile 36)',
  async (code) => {
    const { run, disk, device, rig } = setUp();
    disk.failure = Object.assign(new Error(code), { code });
    expect((await run(VIRTIO_BLK_T_OUT, 0, { readable: [block(1)] })).status).toBe(VIRTIO_BLK_S_IOERR);
    expect((await run(VIRTIO_BLK_T_IN, 0, { writable: [512] })).status).toBe(VIRTIO_BLK_S_IOERR);
    disk.failure = undefined;
    expect((await run(VIRTIO_BLK_T_OUT, 0, { readable: [block(1)] })).status).toBe(VIRTIO_BLK_S_OK);
    expect(device.counters.ioErrors).toBe(2);
    expect(rig.failures).toEqual([]);
  },
);

test('Blk turns short transfers into I/O errors (hostile 36, 37)', async () => {
  const { run, disk } = setUp();
  disk.shortBytes = 1;
  expect((await run(VIRTIO_BLK_T_OUT, 0, { readable: [block(1)] })).status).toBe(VIRTIO_BLK_S_IOERR);
  expect((await run(VIRTIO_BLK_T_IN, 0, { writable: [512] })).status).toBe(VIRTIO_BLK_S_IOERR);
});

test('Blk makes every write durable before it completes, unless the driver can flush (5.2.6.2 MUST)', async () => {
  const version1 = 1n << 32n;
  const writeThrough = setUp({}, { features: version1 });
  await writeThrough.run(VIRTIO_BLK_T_OUT, 0, { readable: [block(1)] });
  expect(writeThrough.disk.log).toEqual(['write 0+512', 'flush']);
  const writeBack = setUp({}, { features: version1 | VIRTIO_BLK_F_FLUSH });
  await writeBack.run(VIRTIO_BLK_T_OUT, 0, { readable: [block(1)] });
  expect(writeBack.disk.log).toEqual(['write 0+512']);
  await writeThrough.run(VIRTIO_BLK_T_WRITE_ZEROES, 0, { readable: [range(0, 1)] });
  expect(writeThrough.disk.log.slice(2)).toEqual(['zero 0+512 false', 'flush']);
});

test('Blk lets no write to its configuration through (hostile 24)', () => {
  const { rig } = setUp();
  for (let offset = 0; offset < 60; offset++) {
    rig.driver.writeConfig(offset, Uint8Array.of(0xff));
  }
  expect(rig.driver.config(0, 8)).toBe(SECTORS);
});

test('Blk discards and writes zeroes over several ranges', async () => {
  const { run, disk } = setUp();
  disk.bytes.fill(9);
  const ranges = [range(1, 2), range(10, 1, 1)];
  expect((await run(VIRTIO_BLK_T_WRITE_ZEROES, 0, { readable: ranges })).status).toBe(VIRTIO_BLK_S_OK);
  expect((await run(VIRTIO_BLK_T_DISCARD, 0, { readable: [range(127, 1)] })).status).toBe(VIRTIO_BLK_S_OK);
  expect(disk.log).toEqual(['zero 512+1024 false', 'zero 5120+512 true', 'discard 65024+512']);
});

test('Blk refuses ranges that lie about counts, lengths and flags (5.2.6.2 MUST; hostile 38)', async () => {
  const { run, disk } = setUp();
  const cases: [number, Uint8Array[], number][] = [
    [VIRTIO_BLK_T_DISCARD, [range(0, 1, 1)], VIRTIO_BLK_S_UNSUPP], // unmap is not for discard
    [VIRTIO_BLK_T_DISCARD, [range(0, 1, 2)], VIRTIO_BLK_S_UNSUPP],
    [VIRTIO_BLK_T_WRITE_ZEROES, [range(0, 1, 0x8000_0001)], VIRTIO_BLK_S_UNSUPP],
    [VIRTIO_BLK_T_DISCARD, [], VIRTIO_BLK_S_IOERR],
    [VIRTIO_BLK_T_DISCARD, [range(0, 1).subarray(0, 15)], VIRTIO_BLK_S_IOERR],
    [VIRTIO_BLK_T_DISCARD, [range(0, 1), Uint8Array.of(1)], VIRTIO_BLK_S_IOERR],
    [VIRTIO_BLK_T_DISCARD, new Array(33).fill(range(0, 1)), VIRTIO_BLK_S_IOERR],
    [VIRTIO_BLK_T_WRITE_ZEROES, [range(SECTORS, 1)], VIRTIO_BLK_S_IOERR],
    [VIRTIO_BLK_T_WRITE_ZEROES, [range(0, SECTORS + 1)], VIRTIO_BLK_S_IOERR],
    [VIRTIO_BLK_T_WRITE_ZEROES, [range(2 ** 63, 0xffff_ffff)], VIRTIO_BLK_S_IOERR],
    [VIRTIO_BLK_T_WRITE_ZEROES, [range(0, 1), range(SECTORS, 1)], VIRTIO_BLK_S_IOERR],
  ];
  for (const [type, readable, expected] of cases) {
    expect((await run(type, 0, { readable })).status).toBe(expected);
  }
  expect(disk.log).toEqual([]);
});

test('Blk says that it cannot, where the backend cannot', async () => {
  const plain = setUp({ plain: true });
  expect((await plain.run(VIRTIO_BLK_T_DISCARD, 0, { readable: [range(0, 1)] })).status).toBe(
    VIRTIO_BLK_S_UNSUPP,
  );
  const { run, disk } = setUp();
  disk.failure = Object.assign(new Error('EOPNOTSUPP'), { code: 'EOPNOTSUPP' });
  expect((await run(VIRTIO_BLK_T_DISCARD, 0, { readable: [range(0, 1)] })).status).toBe(VIRTIO_BLK_S_UNSUPP);
});

test('Blk answers requests that it does not know', async () => {
  const { run } = setUp();
  for (const type of [2, 3, 14, 0xffff_ffff]) {
    expect((await run(type, 0, { writable: [512] })).status).toBe(VIRTIO_BLK_S_UNSUPP);
  }
});

test('Blk gives its id, into a buffer of any length (hostile 39)', async () => {
  const { run } = setUp();
  const text = async (length: number): Promise<string> => {
    const { data, status } = await run(VIRTIO_BLK_T_GET_ID, 0, { writable: [length] });
    expect(status).toBe(VIRTIO_BLK_S_OK);
    return Buffer.from(data).toString('latin1');
  };
  expect(await text(20)).toBe(`disk-0${'\0'.repeat(14)}`);
  expect(await text(4)).toBe('disk');
  expect(await text(0)).toBe('');
  expect((await run(VIRTIO_BLK_T_GET_ID, 0, { writable: [64] })).length).toBe(20);
  expect((await run(VIRTIO_BLK_T_GET_ID, 0, { writable: [20] })).length).toBe(21);
});

test('Blk answers a header that is too short, and needs a reset when it cannot even answer', async () => {
  const { queue, rig } = setUp();
  const short = queue.add([header(0, 0).subarray(0, 15)], [513]);
  queue.kick();
  expect(queue.used()).toEqual([{ head: short.head, length: 0 }]);
  expect(queue.written(short).at(-1)).toBe(VIRTIO_BLK_S_IOERR);
  const mute = queue.add([header(0, 0)], []);
  queue.kick();
  expect(queue.used()).toEqual([{ head: mute.head, length: 0 }]);
  expect(rig.driver.status & NEEDS_RESET).toBe(NEEDS_RESET);
});

test('Blk has many requests in flight, but not more than its bound, and signals them together', async () => {
  const { disk, add, queue, rig } = setUp();
  disk.held = true;
  for (let i = 0; i < 50; i++) add(VIRTIO_BLK_T_IN, i, { writable: [512], indirect: true });
  queue.kick();
  await settle();
  expect(disk.waiting).toBe(32);
  expect(queue.used()).toEqual([]);
  await disk.release(10);
  expect(queue.used()).toHaveLength(10);
  expect(rig.interrupts).toBe(1);
  expect(disk.waiting).toBe(32);
  disk.held = false;
  await disk.release();
  expect(queue.used()).toHaveLength(40);
});

test('Blk completes out of order', async () => {
  const { disk, add, queue } = setUp();
  disk.held = true;
  const slow = add(VIRTIO_BLK_T_IN, 0, { writable: [512] });
  queue.kick();
  disk.held = false;
  const quick = add(VIRTIO_BLK_T_IN, 1, { writable: [512] });
  queue.kick();
  await settle();
  expect(queue.used().map(({ head }) => head)).toEqual([quick.head]);
  await disk.release();
  expect(queue.used().map(({ head }) => head)).toEqual([slow.head]);
});

test('Blk cuts a large transfer into pieces', async () => {
  const sizeBytes = 9 << 20;
  const disk = new MemoryDisk({ sizeBytes });
  disk.bytes.fill(5);
  const rig = new Rig(new Blk({ backend: disk }), {
    regions: [{ addr: 0, bytes: new Uint8Array(16 << 20) }],
  });
  const queue = rig.driver.start().queue(0);
  const request = queue.add([header(VIRTIO_BLK_T_IN, 0)], [5 << 20, 4 << 20, 1]);
  queue.kick();
  await settle();
  expect(queue.used()).toEqual([{ head: request.head, length: sizeBytes + 1 }]);
  expect(disk.log).toEqual(['read 0+4194304', 'read 4194304+4194304', 'read 8388608+1048576']);
  expect(
    queue
      .written(request)
      .subarray(0, -1)
      .every((byte) => byte === 5),
  ).toBe(true);
});

test('Blk.reset() waits for the piece of a large transfer that is under way, and leaves the others', async () => {
  const disk = new MemoryDisk({ sizeBytes: 9 << 20 });
  disk.held = true;
  const rig = new Rig(new Blk({ backend: disk }), {
    regions: [{ addr: 0, bytes: new Uint8Array(16 << 20) }],
  });
  const queue = rig.driver.start().queue(0);
  queue.add([header(VIRTIO_BLK_T_IN, 0)], [9 << 20, 1]);
  queue.kick();
  await settle();
  const reset = rig.driver.reset();
  disk.held = false;
  await disk.release();
  await reset;
  expect(disk.log).toEqual(['read 0+4194304']);
  expect(queue.used()).toEqual([]);
});

test('Blk.reset() waits for I/O in flight, and nothing is written to guest memory afterwards (2.4.1; hostile 23)', async () => {
  const { disk, add, queue, rig } = setUp();
  disk.bytes.fill(3);
  disk.held = true;
  const request = add(VIRTIO_BLK_T_IN, 0, { writable: [512] });
  add(VIRTIO_BLK_T_IN, 1, { writable: [512] });
  const statusByte = request.writable[1]?.addr as number;
  rig.memory.writeU8(statusByte, 0xee);
  queue.kick();
  await settle();
  let done = false;
  const reset = Promise.resolve(rig.driver.reset()).then(() => {
    done = true;
  });
  await settle();
  expect(done).toBe(false);
  expect(rig.driver.status).not.toBe(0);
  const rings = rig.memory.read(queue.usedAddr, 64);
  await disk.release(1);
  expect(done).toBe(false);
  await disk.release();
  await reset;
  expect(rig.driver.status).toBe(0);
  expect(rig.memory.readU8(statusByte)).toBe(0xee);
  const after = rig.memory.read(0, rig.memory.sizeBytes);
  await settle();
  expect(Buffer.compare(rig.memory.read(0, rig.memory.sizeBytes), after)).toBe(0);
  expect(Buffer.compare(rig.memory.read(queue.usedAddr, 64), rings)).toBe(0);
  expect(rig.interrupts).toBe(0);
  disk.held = false;
  const fresh = rig.driver.start().queue(0);
  fresh.add([header(VIRTIO_BLK_T_IN, 0)], [512, 1]);
  fresh.kick();
  await settle();
  expect(fresh.used()).toHaveLength(1);
});

test('Blk.drain() lets what is in flight end, and leaves the rest in the queue until resume()', async () => {
  const { disk, add, queue, rig } = setUp();
  disk.held = true;
  add(VIRTIO_BLK_T_IN, 0, { writable: [512] });
  queue.kick();
  await settle();
  const paused = rig.core.pause();
  add(VIRTIO_BLK_T_IN, 1, { writable: [512] });
  queue.kick();
  await disk.release();
  await paused;
  expect(queue.used()).toHaveLength(1);
  const state = JSON.parse(JSON.stringify(rig.transport.save()));
  expect(disk.log).toHaveLength(1);

  const copyDisk = new MemoryDisk({ sizeBytes: SECTORS * 512 });
  const copy = new Rig(new Blk({ backend: copyDisk }), { regions: rig.memory.regions });
  copy.transport.restore(state);
  copy.core.resume();
  await settle();
  expect(queue.used()).toHaveLength(1);
  expect(copyDisk.log).toEqual(['read 512+512']);
  const smaller = new Rig(new Blk({ backend: new MemoryDisk({ sizeBytes: 512 }) }), {
    regions: rig.memory.regions,
  });
  expect(() => smaller.transport.restore(state)).toThrow(/128 sectors, not 1/);
});

test('Blk.close() waits for I/O, flushes and closes the backend (hostile 40)', async () => {
  const { disk, add, queue, device } = setUp();
  disk.held = true;
  add(VIRTIO_BLK_T_OUT, 0, { readable: [block(1)] });
  queue.kick();
  await settle();
  const closed = device.close();
  await settle();
  expect(disk.log).toEqual(['write 0+512']);
  disk.held = false;
  await disk.release();
  await closed;
  expect(disk.log).toEqual(['write 0+512', 'flush']);
  expect(disk.closed).toBe(true);
});

function host(disk: MemoryDisk, opened: unknown[] = []): Host {
  return bareHost({
    openDisk: async (path, options) => {
      opened.push([path, options]);
      return disk;
    },
  });
}

test('blkKind.fromCli() takes PATH[,ro][,id=NAME]', async () => {
  const opened: unknown[] = [];
  const request = blkKind.fromCli('a.img,ro,id=root');
  expect(request.kind).toBe('blk');
  await request.open(host(new MemoryDisk({ readOnly: true }), opened));
  await blkKind.fromCli('b.img').open(host(new MemoryDisk(), opened));
  expect(opened).toEqual([
    ['a.img', { readOnly: true }],
    ['b.img', { readOnly: false }],
  ]);
  for (const text of ['', ',ro', 'a.img,rw', 'a.img,id='])
    expect(() => blkKind.fromCli(text)).toThrow(/disk/);
  expect(() => blk({ path: 'a', id: 'longer-than-twenty-bytes' })).toThrow(/id/);
});

test('blk() refuses a disk shorter than a sector, and closes it', async () => {
  const disk = new MemoryDisk({ sizeBytes: 511 });
  await expect(blk({ path: 'tiny.img' }).open(host(disk))).rejects.toMatchObject({ code: 'TSVM_DISK' });
  expect(disk.closed).toBe(true);
});

describe('Blk with several queues (5.2.4, VIRTIO_BLK_F_MQ)', () => {
  const several = (disk: MemoryDisk) => {
    const rig = new Rig(new Blk({ backend: disk, queues: 3 }));
    const driver = rig.driver.start();
    return { driver, queues: [0, 1, 2].map((index) => driver.queue(index)) };
  };

  test('tells how many, and serves each', async () => {
    const disk = new MemoryDisk();
    const { driver, queues } = several(disk);
    expect(driver.config(34, 2)).toBe(3);
    const requests = queues.map((queue, index) =>
      queue.add([header(VIRTIO_BLK_T_OUT, index), block(index + 1)], [1]),
    );
    for (const queue of queues) queue.kick();
    await settle();
    for (const [index, queue] of queues.entries()) {
      expect(queue.used()).toEqual([{ head: requests[index]?.head, length: 1 }]);
      expect(disk.bytes[index * 512]).toBe(index + 1);
    }
  });

  test('takes from each in turn what the backend may have at a time', async () => {
    const disk = new MemoryDisk();
    disk.held = true;
    const { queues } = several(disk);
    for (const queue of queues)
      for (let i = 0; i < 40; i++) queue.add([header(VIRTIO_BLK_T_IN, 0)], [512, 1]);
    for (const queue of queues) queue.kick();
    await settle();
    expect(disk.waiting).toBe(32);
    await disk.release();
    await disk.release();
    const served = queues.map((queue) => queue.used().length);
    expect(Math.min(...served)).toBeGreaterThan(15);
  });
});

describe('Blk.grow()', () => {
  test('tells the driver, and serves what was added', async () => {
    const { disk, device, rig, run } = setUp();
    const before = rig.driver.generation;
    expect(await run(VIRTIO_BLK_T_IN, SECTORS, { writable: [512] })).toMatchObject({
      status: VIRTIO_BLK_S_IOERR,
    });
    await device.grow(2 * SECTORS * 512);
    expect(rig.driver.generation).not.toBe(before);
    expect(rig.driver.config(0, 8)).toBe(2 * SECTORS);
    expect(device.sizeBytes).toBe(disk.sizeBytes);
    expect(await run(VIRTIO_BLK_T_IN, SECTORS, { writable: [512] })).toMatchObject({
      status: VIRTIO_BLK_S_OK,
    });
  });

  test.each([
    ['TSVM_CONFIG', 'the same size', SECTORS * 512, {}],
    ['TSVM_CONFIG', 'less', 512, {}],
    ['TSVM_CONFIG', 'half a sector more', SECTORS * 512 + 256, {}],
    ['TSVM_DISK', 'a disk that is only read', SECTORS * 1024, { readOnly: true }],
  ])('%s for %s', async (code, _, bytes, options) => {
    const { device } = setUp(options);
    await expect(device.grow(bytes)).rejects.toMatchObject({ code });
    expect(device.sizeBytes).toBe(SECTORS * 512);
  });
});

test('Blk.replaceBackend() puts another disk there, of its own size', async () => {
  const { disk, device, rig, run } = setUp();
  const other = new MemoryDisk({ sizeBytes: 2 * SECTORS * 512 });
  expect(device.replaceBackend(other)).toBe(disk);
  expect(rig.driver.config(0, 8)).toBe(2 * SECTORS);
  const bytes = new Uint8Array(512).fill(7);
  expect(await run(VIRTIO_BLK_T_OUT, SECTORS, { readable: [bytes] })).toMatchObject({
    status: VIRTIO_BLK_S_OK,
  });
  expect(other.bytes.subarray(SECTORS * 512, SECTORS * 512 + 512)).toEqual(bytes);
});

test('a limit that was changed is that of the copy', () => {
  const { device } = setUp();
  device.setLimit({ opsPerSecond: 5 });
  const copy = setUp().device;
  copy.restore(device.save());
  expect(copy.save()['limit']).toEqual({ opsPerSecond: 5 });
  expect(() => device.setLimit({ opsPerSecond: 0 })).toThrow('limit.opsPerSecond');
  expect(() => copy.restore({ ...device.save(), limit: 'none' })).toThrow('saved state');
});
