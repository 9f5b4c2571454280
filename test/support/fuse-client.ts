/** The guest's side of a virtio-fs: puts requests together as Linux does, and takes answers apart. */

import type { FsOptions } from '../../src/devices/fs/fs.js';
import { Fs } from '../../src/devices/fs/fs.js';
import { FUSE, IN_HEADER_BYTES, OUT_HEADER_BYTES } from '../../src/devices/fs/protocol.js';
import { settle } from './memory-disk.js';
import { type MockQueue, Rig } from './mock-driver.js';

const WAIT_MS = 10_000;

export interface Answer {
  /** Positive, or 0. */
  readonly errno: number;
  readonly data: Buffer;
}

/** Little-endian fields: numbers are 32 bits, bigints 64, texts end with NUL. */
export function bytes(...fields: readonly (number | bigint | string | Uint8Array)[]): Buffer {
  return Buffer.concat(
    fields.map((field) => {
      if (typeof field === 'string') return Buffer.from(`${field}\0`);
      if (typeof field === 'object') return Buffer.from(field);
      const buffer = Buffer.alloc(typeof field === 'bigint' ? 8 : 4);
      if (typeof field === 'bigint') buffer.writeBigUInt64LE(BigInt.asUintN(64, field));
      else buffer.writeUInt32LE(field >>> 0);
      return buffer;
    }),
  );
}

export class FuseClient {
  readonly device: Fs;
  readonly rig: Rig;
  readonly hiprio: MockQueue;
  readonly requests: MockQueue;
  /** User of the guest who asks. */
  user = { uid: 1000, gid: 1001 };
  #unique = 1n;

  constructor(options: Omit<FsOptions, 'tag' | 'readOnly'> & Partial<FsOptions>) {
    this.device = new Fs({ tag: 'tag', readOnly: false, ...options });
    this.rig = new Rig(this.device);
    const driver = this.rig.driver.start();
    this.hiprio = driver.queue(0);
    this.requests = driver.queue(1);
  }

  header(opcode: number, node: bigint, length: number): Buffer {
    return bytes(IN_HEADER_BYTES + length, opcode, this.#unique++, node, this.user.uid, this.user.gid, 7, 0);
  }

  /** @param room for the answer's data */
  async call(opcode: number, node: bigint | number, args: Uint8Array, room = 4096): Promise<Answer> {
    const request = this.requests.add(
      [this.header(opcode, BigInt(node), args.length), args].filter(({ length }) => length > 0),
      [OUT_HEADER_BYTES, room].filter((length) => length > 0),
    );
    this.requests.kick();
    let used = this.requests.used();
    for (const deadline = performance.now() + WAIT_MS; used.length === 0 && performance.now() < deadline; ) {
      await settle();
      used = this.requests.used();
    }
    if (used.length !== 1) throw new Error(`no answer to request ${opcode}`);
    const answer = Buffer.from(this.requests.written(request)).subarray(0, used[0]?.length);
    if (answer.readUInt32LE(0) !== answer.length) throw new Error('the length is not the length');
    return { errno: 0 - answer.readInt32LE(4), data: answer.subarray(OUT_HEADER_BYTES) };
  }

  async init(minor = 41): Promise<Answer> {
    return await this.call(FUSE.INIT, 0, bytes(7, minor, 131_072, 0xffff_ffff, 0, new Uint8Array(44)));
  }

  /** The node ID, and the attributes that came with it. */
  async lookup(
    parent: number,
    name: string,
  ): Promise<{ errno: number; id: number; mode: number; size: number }> {
    const { errno, data } = await this.call(FUSE.LOOKUP, parent, bytes(name));
    return errno === 0 ? { errno, ...entryOf(data) } : { errno, id: 0, mode: 0, size: 0 };
  }

  async open(node: number, flags = 0): Promise<{ errno: number; handle: bigint }> {
    const { errno, data } = await this.call(FUSE.OPEN, node, bytes(flags, 0));
    return { errno, handle: errno === 0 ? data.readBigUInt64LE(0) : 0n };
  }

  async read(handle: bigint, offset: number, size: number): Promise<Answer> {
    return await this.call(FUSE.READ, 0, bytes(handle, BigInt(offset), size, 0, 0n, 0, 0), size);
  }

  async write(handle: bigint, offset: number, data: Uint8Array | string): Promise<Answer> {
    const content = Buffer.from(data);
    return await this.call(
      FUSE.WRITE,
      0,
      bytes(handle, BigInt(offset), content.length, 0, 0n, 0, 0, content),
    );
  }

  async forget(node: number, count: number): Promise<void> {
    this.hiprio.add([this.header(FUSE.FORGET, BigInt(node), 8), bytes(BigInt(count))], []);
    this.hiprio.kick();
    await settle();
  }

  /** Names of a folder, by READDIR. */
  async list(node: number, roomBytes = 4096): Promise<string[]> {
    return (await this.listRaw(node, roomBytes)).map(({ name }) => name.toString());
  }

  /** Entries of a folder, by READDIR; `between` is called after each answer. */
  async listRaw(
    node: number,
    roomBytes = 4096,
    between: () => void = () => {},
  ): Promise<{ name: Buffer; ino: bigint }[]> {
    const { data } = await this.call(FUSE.OPENDIR, node, bytes(0, 0));
    const handle = data.readBigUInt64LE(0);
    const entries: { name: Buffer; ino: bigint }[] = [];
    for (let offset = 0n; ; between()) {
      const listed = await this.call(
        FUSE.READDIR,
        node,
        bytes(handle, offset, roomBytes, 0, 0n, 0, 0),
        roomBytes,
      );
      if (listed.errno !== 0) throw new Error(`READDIR: ${listed.errno}`);
      if (listed.data.length === 0) return entries;
      for (const { name, ino, next } of direntsOf(listed.data)) {
        entries.push({ name: Buffer.from(name), ino });
        offset = next;
      }
    }
  }
}

/** Entries in an answer of READDIR, or of READDIRPLUS, where `headBytes` of struct fuse_entry_out stand before each. */
export function* direntsOf(
  data: Buffer,
  headBytes = 0,
): Generator<{ head: Buffer; name: Buffer; ino: bigint; next: bigint }> {
  for (let at = 0; at < data.length; ) {
    const dirent = data.subarray(at + headBytes);
    const end = 24 + dirent.readUInt32LE(16);
    yield {
      head: data.subarray(at, at + headBytes),
      name: dirent.subarray(24, end),
      ino: dirent.readBigUInt64LE(0),
      next: dirent.readBigUInt64LE(8),
    };
    at += Math.ceil((headBytes + end) / 8) * 8;
  }
}

export function entryOf(data: Buffer): { id: number; mode: number; size: number } {
  return {
    id: Number(data.readBigUInt64LE(0)),
    size: Number(data.readBigUInt64LE(48)),
    mode: data.readUInt32LE(40 + 60),
  };
}
