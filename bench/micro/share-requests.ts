/**
 * What a share's requests cost the host, without a guest: small files made, looked up, read, listed and removed, and a large one read and
 * written, as FUSE messages in memory to a session over a folder of the host's.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ENTRY_OUT_BYTES, FUSE } from '../../src/devices/fs/protocol.js';
import { FuseSession } from '../../src/devices/fs/session.js';
import { openSharedFolder } from '../../src/host/fs/shared-folder.js';
import { createGuestMemory } from '../../src/memory/guest-memory.js';
import { loadAddon } from '../../src/native/binding.js';
import { MIB } from '../../src/util/units.js';
import { PooledChain } from '../../src/virtio/chain.js';
import { bytes } from '../../test/support/fuse-client.js';
import type { Benchmark } from '../lib/benchmark.js';

const FILES = 300;
const FILE_BYTES = 4096;
const LARGE_BYTES = 64 * MIB;
const PIECE_BYTES = 128 * 1024;
const AT_ONCE = 8;
const O_RDWR = 2;
const HEADER_BYTES = 40;
const ANSWER_BYTES = 16;
/** Of guest memory, for each request at a time: the request, what it writes, and the answer. */
const SLOT_BYTES = MIB;
const PAYLOAD = 256 * 1024;
const ANSWER = 512 * 1024;

export const shareRequests: Benchmark = {
  name: 'share-requests',
  summary: 'requests of a shared folder, from FUSE message to answer',
  defaultRuns: () => 5,
  unfit: () => undefined,
  async run({ runs, scratch }) {
    const shared = mkdtempSync(join(scratch, 'share-'));
    writeFileSync(join(shared, 'large'), new Uint8Array(LARGE_BYTES).fill(1));
    const samples = new Map<string, number[]>();
    // The first round runs cold code.
    for (let round = 0; round <= runs; round++) {
      const folder = await openSharedFolder(loadAddon(), shared);
      const session = new FuseSession(folder, { readOnly: false });
      await measure(new Client(session), `d${round}`, (metric, ms) => {
        if (round > 0) samples.set(metric, [...(samples.get(metric) ?? []), ms]);
      });
      await session.clear();
      await folder.close();
      rmSync(join(shared, `d${round}`), { recursive: true });
    }
    return [...samples].map(([metric, all]) => ({ metric, unit: 'ms', samples: all }));
  },
};

class Client {
  readonly #session: FuseSession;
  readonly #memory = createGuestMemory([{ addr: 0, bytes: new Uint8Array(AT_ONCE * SLOT_BYTES) }]);
  #unique = 1n;

  constructor(session: FuseSession) {
    this.#session = session;
  }

  /** Returns the beginning of the answer's data, which may be longer. */
  async call(
    opcode: number,
    node: bigint,
    args: Uint8Array,
    { room = ENTRY_OUT_BYTES + 16, payload = 0, slot = 0 } = {},
  ): Promise<{ data: Buffer; length: number }> {
    const addr = slot * SLOT_BYTES;
    const length = HEADER_BYTES + args.length;
    const head = [length + payload, opcode, this.#unique++, node, 0, 0, 0, 0] as const;
    this.#memory.write(addr, bytes(...head, args));
    const chain = new PooledChain();
    chain.begin(0);
    chain.segments.append(this.#memory, addr, length, false);
    if (payload > 0) chain.segments.append(this.#memory, addr + PAYLOAD, payload, false);
    chain.segments.append(this.#memory, addr + ANSWER, ANSWER_BYTES + room, true);
    chain.finish(payload > 0 ? 2 : 1, length + payload, ANSWER_BYTES + room);
    const written = await this.#session.handle(chain);
    const answer = Buffer.from(
      this.#memory.read(addr + ANSWER, Math.min(written, ANSWER_BYTES + FILE_BYTES)),
    );
    if (answer.readInt32LE(4) !== 0) throw new Error(`request ${opcode}: errno ${-answer.readInt32LE(4)}`);
    return { data: answer.subarray(ANSWER_BYTES), length: written - ANSWER_BYTES };
  }

  async id(opcode: number, parent: bigint, args: Uint8Array): Promise<bigint> {
    return (await this.call(opcode, parent, args)).data.readBigUInt64LE(0);
  }

  async create(parent: bigint, name: string): Promise<bigint> {
    const { data } = await this.call(FUSE.CREATE, parent, bytes(O_RDWR, 0o100644, 0, 0, name));
    return data.readBigUInt64LE(ENTRY_OUT_BYTES);
  }

  read(handle: bigint, offset: number, size: number, slot = 0) {
    return this.call(FUSE.READ, 0n, bytes(handle, BigInt(offset), size, 0, 0n, 0, 0), { room: size, slot });
  }

  write(handle: bigint, offset: number, size: number) {
    return this.call(FUSE.WRITE, 0n, bytes(handle, BigInt(offset), size, 0, 0n, 0, 0), { payload: size });
  }

  release(handle: bigint) {
    return this.call(FUSE.RELEASE, 0n, bytes(handle, 0, 0, 0n));
  }
}

type Report = (metric: string, ms: number) => void;

async function measure(client: Client, name: string, report: Report): Promise<void> {
  const time = async (metric: string, action: () => Promise<unknown>): Promise<void> => {
    const start = performance.now();
    await action();
    report(metric, performance.now() - start);
  };
  const folder = await client.id(FUSE.MKDIR, 1n, bytes(0o755, 0, name));
  const each = async (action: (file: string) => Promise<unknown>): Promise<void> => {
    for (let i = 0; i < FILES; i++) await action(`f${i}`);
  };
  await time(`${FILES} files made`, () =>
    each(async (file) => {
      const handle = await client.create(folder, file);
      await client.write(handle, 0, FILE_BYTES);
      await client.release(handle);
    }),
  );
  await time(`${FILES} files looked up, opened and read`, () =>
    each(async (file) => {
      const node = await client.id(FUSE.LOOKUP, folder, bytes(file));
      const handle = await client.id(FUSE.OPEN, node, bytes(0, 0));
      await client.read(handle, 0, FILE_BYTES);
      await client.release(handle);
    }),
  );
  await time(`${FILES} files listed with attributes`, () => list(client, folder));
  await time(`${FILES} files removed`, () => each((file) => client.call(FUSE.UNLINK, folder, bytes(file))));
  const large = await client.id(FUSE.OPEN, await client.id(FUSE.LOOKUP, 1n, bytes('large')), bytes(0, 0));
  await time('64 MiB read', async () => {
    for (let at = 0; at < LARGE_BYTES; at += PIECE_BYTES) await client.read(large, at, PIECE_BYTES);
  });
  await time(`64 MiB read, ${AT_ONCE} pieces at a time`, async () => {
    let at = 0;
    const reader = async (slot: number): Promise<void> => {
      while (at < LARGE_BYTES) {
        const offset = at;
        at += PIECE_BYTES;
        await client.read(large, offset, PIECE_BYTES, slot);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, (_, slot) => reader(slot)));
  });
  const copy = await client.create(folder, 'copy');
  await time('64 MiB written', async () => {
    for (let at = 0; at < LARGE_BYTES; at += PIECE_BYTES) await client.write(copy, at, PIECE_BYTES);
  });
}

async function list(client: Client, folder: bigint): Promise<void> {
  const handle = await client.id(FUSE.OPENDIR, folder, bytes(0, 0));
  for (let position = 0n; ; ) {
    const args = bytes(handle, position, FILE_BYTES, 0, 0n, 0, 0);
    const { data, length } = await client.call(FUSE.READDIRPLUS, folder, args, { room: FILE_BYTES });
    if (length === 0) break;
    for (let at = 0; at < length; ) {
      position = data.readBigUInt64LE(at + ENTRY_OUT_BYTES + 8);
      const name = data.readUInt32LE(at + ENTRY_OUT_BYTES + 16);
      at += Math.ceil((ENTRY_OUT_BYTES + 24 + name) / 8) * 8;
    }
  }
  await client.call(FUSE.RELEASEDIR, folder, bytes(handle, 0, 0, 0n));
}
