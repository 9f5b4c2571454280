import { readFileSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { BlockBackend, ConsolePort, PortHost } from '../../../src/devices/host.js';
import { checkDiskFacts, type DiskFacts } from '../../../src/host/disk-facts.js';
import { createHost, type HostOptions, type MachineHost } from '../../../src/host/host.js';
import type { NativeAddon } from '../../../src/native/binding.js';
import { ScratchAddon } from '../../support/scratch-addon.js';

const CONSOLE: ConsolePort = { onOutput: () => {}, onDrain: () => {}, connect: () => {} };
const RW = { readOnly: false };
const RO = { readOnly: true };

let addon: ScratchAddon;
let image: string;
let other: string;

beforeEach(() => {
  addon = new ScratchAddon();
  image = join(addon.directory, 'a.img');
  other = join(addon.directory, 'b.img');
  for (const path of [image, other]) writeFileSync(path, Buffer.alloc(16_384, 1));
});

afterEach(() => {
  const open = addon.openFiles();
  addon.remove();
  expect(open).toEqual([]);
});

function host(options?: HostOptions): MachineHost {
  return createHost(addon as unknown as NativeAddon, CONSOLE, options);
}

async function read(disk: BlockBackend, offset = 0): Promise<number | undefined> {
  const bytes = new Uint8Array(512);
  expect(await disk.readv([bytes], offset)).toBe(512);
  return bytes[0];
}

const write = (disk: BlockBackend, value: number): Promise<number> =>
  disk.writev([new Uint8Array(512).fill(value)], 0);

describe('MachineHost.fork()', () => {
  test('hands out forks of the disks as they were then, in the order of their opening', async () => {
    const parent = host();
    const disks = [await parent.openDisk(image, RW), await parent.openDisk(other, RO)] as const;
    await write(disks[0], 2);
    const child = parent.fork(CONSOLE);
    await write(disks[0], 3);
    const forks = [await child.openDisk(image, RW), await child.openDisk(other, RO)] as const;
    expect([await read(forks[0]), await read(forks[1]), await read(disks[0])]).toEqual([2, 1, 3]);
    expect([forks[0].readOnly, forks[1].readOnly]).toEqual([false, true]);
    await write(forks[0], 4);
    for (const disk of [...disks, ...forks]) await disk.close();
    expect(readFileSync(image)[0]).toBe(3);
    expect(addon.openFiles()).toEqual([]);
  });

  test('of a fork has the fork’s disks', async () => {
    const parent = host();
    const disk = await parent.openDisk(image, RW);
    const child = parent.fork(CONSOLE);
    const fork = await child.openDisk(image, RW);
    await write(fork, 5);
    const grandchild = await child.fork(CONSOLE).openDisk(image, RW);
    expect([await read(disk), await read(grandchild)]).toEqual([1, 5]);
    for (const open of [fork, disk, grandchild]) await open.close();
    expect(addon.openFiles()).toEqual([]);
  });

  test('is a bug of the caller’s when the fork opens anything else', async () => {
    const parent = host();
    const disk = await parent.openDisk(image, RW);
    for (const [path, how] of [
      [image, RO],
      [other, RW],
    ] as const) {
      const fork = parent.fork(CONSOLE);
      await expect(fork.openDisk(path, how)).rejects.toThrow('a fork opens');
      await fork.close();
    }
    expect(addon.openFiles()).toEqual([image]);
    const child = parent.fork(CONSOLE);
    await (await child.openDisk(image, RW)).close();
    await expect(child.openDisk(image, RW)).rejects.toThrow('a fork opens');
    await disk.close();
  });

  test('is one when the fork maps anything else, and the file is closed with it', async () => {
    const parent = host();
    const file = await parent.openPmemFile(image);
    const child = parent.fork(CONSOLE);
    await expect(child.openPmemFile(other)).rejects.toThrow('a fork maps');
    await file.close();
    expect(addon.openFiles()).toEqual([image]);
    await child.close();
    expect(addon.openFiles()).toEqual([]);
  });

  test('close() closes what was not handed out', async () => {
    const parent = host();
    const disks = [await parent.openDisk(image, RW), await parent.openDisk(other, RW)];
    const child = parent.fork(CONSOLE);
    const fork = await child.openDisk(image, RW);
    for (const disk of disks) await disk.close();
    expect(addon.openFiles()).toEqual([image, other]);
    await child.close();
    await child.close();
    expect(addon.openFiles()).toEqual([image]);
    await fork.close();
    expect(addon.openFiles()).toEqual([]);
  });

  test('has a console and ports of its own', async () => {
    const port: PortHost = { ...CONSOLE, onOutput: () => true, onOpen: () => {}, connect: () => {} };
    const parent = host({ ports: (name) => (name === 'known' ? port : undefined) });
    expect(parent.openPort('known')).toBe(port);
    expect(() => parent.openPort('unknown')).toThrow(
      expect.objectContaining({ code: 'TSVM_CONFIG', message: expect.stringContaining('port unknown') }),
    );
    const console = { ...CONSOLE };
    expect(parent.fork(console).openConsole()).toBe(console);
    expect(() => parent.fork(console).openPort('known')).toThrow('port known');
    expect(parent.fork(console, () => port).openPort('known')).toBe(port);
  });
});

describe('createHost() with overlays', () => {
  test('never writes to a file', async () => {
    const overlay = host({ disks: 'overlay' });
    const disk = await overlay.openDisk(image, RW);
    expect(disk.readOnly).toBe(false);
    await write(disk, 2);
    await disk.flush();
    expect([await read(disk), await read(disk, 512)]).toEqual([2, 1]);
    await disk.close();
    expect(readFileSync(image)).toEqual(Buffer.alloc(16_384, 1));
    expect(addon.openFiles()).toEqual([]);
  });

  test('a read-only disk stays read-only', async () => {
    const disk = await host({ disks: 'overlay' }).openDisk(image, RO);
    expect(disk.readOnly).toBe(true);
    await disk.close();
  });

  test('can be forked', async () => {
    const overlay = host({ disks: 'overlay' });
    const disk = await overlay.openDisk(image, RW);
    await write(disk, 2);
    const fork = await overlay.fork(CONSOLE).openDisk(image, RW);
    await write(disk, 3);
    expect([await read(disk), await read(fork)]).toEqual([3, 2]);
    await disk.close();
    await fork.close();
  });
});

describe('a disk that is direct, or is not', () => {
  test('is so whatever the host’s others are', async () => {
    const overlay = host({ disks: 'overlay' });
    const disks = [
      await overlay.openDisk(image, { readOnly: false, direct: true }),
      await overlay.openDisk(other, RW),
    ] as const;
    await write(disks[0], 2);
    expect(await overlay.disks()).toHaveLength(2); // so it can be saved
    expect(readFileSync(image)[0]).toBe(2);
    await write(disks[1], 2);
    await expect(overlay.disks()).rejects.toThrow(other);
    const spared = await host().openDisk(other, { readOnly: false, direct: false });
    await write(spared, 3);
    for (const disk of [...disks, spared]) await disk.close();
    expect(readFileSync(other)[0]).toBe(1);
  });
});

describe('MachineHost.disks()', () => {
  test('resolves paths against the directory', async () => {
    const relative = host({ directory: addon.directory });
    const disk = await relative.openDisk('b.img', RO);
    expect(await relative.disks()).toMatchObject([{ path: other, readOnly: true, sizeBytes: 16_384 }]);
    const fork = relative.fork(CONSOLE);
    expect(fork.directory).toBe(addon.directory);
    await fork.close();
    await disk.close();
  });

  test('is the same for the same files, also as JSON, and in a host with overlays', async () => {
    const first = host();
    const disks = [await first.openDisk(image, RW), await first.openDisk(other, RO)];
    await write(disks[0] as BlockBackend, 2);
    const saved: DiskFacts[] = JSON.parse(JSON.stringify(await first.disks()));
    for (const disk of disks) await disk.close();
    const second = host({ disks: 'overlay' });
    const again = [await second.openDisk(image, RW), await second.openDisk(other, RO)];
    checkDiskFacts(saved, await second.disks());
    for (const disk of again) await disk.close();
  });

  test('refuses a disk whose contents are in memory', async () => {
    const refusal = { code: 'TSVM_DISK', message: expect.stringContaining(image) };
    const overlay = host({ disks: 'overlay' });
    const restored = await overlay.openDisk(image, RW);
    await write(restored, 2);
    await expect(overlay.disks()).rejects.toMatchObject(refusal);
    await restored.close();

    const parent = host();
    const disk = await parent.openDisk(image, RW);
    const child = parent.fork(CONSOLE);
    const fork = await child.openDisk(image, RW);
    expect(await child.disks()).toHaveLength(1);
    await write(disk, 2);
    await expect(child.disks()).rejects.toMatchObject(refusal);
    expect(await parent.disks()).toHaveLength(1);
    await fork.close();
    await disk.close();
  });
});

describe('an image that ends within a sector', () => {
  const end = Buffer.concat([Buffer.alloc(300, 1), Buffer.alloc(212)]);
  beforeEach(() => truncateSync(image, 8192 + 300));

  async function last(disk: BlockBackend): Promise<Buffer> {
    const bytes = [new Uint8Array(512), new Uint8Array(100).fill(9), new Uint8Array(412).fill(9)];
    expect(await disk.readv(bytes, 8192 - 512)).toBe(1024);
    return Buffer.concat(bytes.slice(1));
  }

  test.each<[string, HostOptions | undefined, { readOnly: boolean; overlay?: string }]>([
    ['read-only', undefined, RO],
    ['to be written', undefined, RW],
    ['under a layer in memory', { disks: 'overlay' }, RW],
    ['under an overlay', undefined, { ...RW, overlay: 'o' }],
  ])('%s, is a disk of whole sectors, zeroes at its end', async (_how, options, { readOnly, overlay }) => {
    const how = overlay === undefined ? { readOnly } : { readOnly, overlay: join(addon.directory, overlay) };
    const disk = await host(options).openDisk(image, how);
    expect(disk.sizeBytes).toBe(8192 + 512);
    expect(await last(disk)).toEqual(end);
    expect(await disk.readv([new Uint8Array(512)], 8192 + 512)).toBe(0);
    if (!readOnly) {
      expect(await write(disk, 2)).toBe(512);
      expect(await last(disk)).toEqual(end);
      expect(await disk.writev([new Uint8Array(512).fill(3)], 8192)).toBe(512);
      expect(await last(disk)).toEqual(Buffer.alloc(512, 3));
    }
    await disk.close();
    const isWritten = options === undefined && overlay === undefined && !readOnly;
    expect(readFileSync(image).length).toBe(isWritten ? 8192 + 512 : 8192 + 300);
  });

  test('keeps its length until that is needed, and grows by what is asked for', async () => {
    const disk = await host().openDisk(image, RW);
    await disk.resize?.(8192 + 512);
    expect([disk.sizeBytes, readFileSync(image).length]).toEqual([8192 + 512, 8192 + 300]);
    await disk.resize?.(16_384);
    expect([disk.sizeBytes, readFileSync(image).length]).toEqual([16_384, 16_384]);
    await disk.close();
  });
});

describe('checkDiskFacts()', () => {
  async function facts(): Promise<readonly DiskFacts[]> {
    const reader = host();
    const disk = await reader.openDisk(image, RO);
    try {
      return await reader.disks();
    } finally {
      await disk.close();
    }
  }

  test.each<[string, () => void]>([
    ['written', () => writeFileSync(image, Buffer.alloc(16_384, 2))],
    ['touched', () => utimesSync(image, 1, 1)],
    ['truncated', () => truncateSync(image, 8192)],
    [
      'replaced',
      () => {
        rmSync(image);
        writeFileSync(image, Buffer.alloc(16_384, 1));
      },
    ],
  ])('notices that a disk was %s', async (_how, change) => {
    utimesSync(image, 1_000, 1_000);
    const saved = await facts();
    change();
    const now = await facts();
    expect(() => checkDiskFacts(saved, now)).toThrow(
      expect.objectContaining({
        code: 'TSVM_DISK',
        message: `disk ${image} has changed since the snapshot was taken`,
        hint: expect.any(String),
      }),
    );
  });

  test('takes a copy at another path that has its size and its time of change', async () => {
    const [saved] = await facts();
    const elsewhere: DiskFacts = { ...saved!, path: '/elsewhere', inode: '1' };
    checkDiskFacts([elsewhere], [saved!]);
    for (const changed of [{ sizeBytes: 512 }, { mtimeNs: '1' }, { readOnly: false }]) {
      expect(() => checkDiskFacts([{ ...elsewhere, ...changed }], [saved!])).toThrow(/has changed since/);
    }
  });

  test('refuses facts that are none', async () => {
    const now = await facts();
    for (const saved of [undefined, null, {}, [], [...now, ...now]]) {
      expect(() => checkDiskFacts(saved as DiskFacts[], now)).toThrow(
        expect.objectContaining({ code: 'TSVM_STATE' }),
      );
    }
    for (const saved of [[null], [7], [{}], [{ ...now[0], path: '/elsewhere', mtimeNs: '1' }]]) {
      expect(() => checkDiskFacts(saved as DiskFacts[], now)).toThrow(
        expect.objectContaining({ code: 'TSVM_DISK' }),
      );
    }
  });
});
