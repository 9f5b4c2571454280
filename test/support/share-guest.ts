/** A guest with a share of the host's folder, for tests of what it can do there. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FUSE } from '../../src/devices/fs/protocol.js';
import { openSharedFolder, type SharedFolder } from '../../src/host/fs/shared-folder.js';
import { loadAddon } from '../../src/native/binding.js';
import { bytes, entryOf, FuseClient } from './fuse-client.js';

export const ROOT = 1;
export const O_RDWR = 2;

export class ShareGuest extends FuseClient {
  readonly shared: string;
  readonly folder: SharedFolder;

  constructor(shared: string, folder: SharedFolder) {
    super({ fileSystem: folder });
    this.shared = shared;
    this.folder = folder;
  }

  static async open(shared: string = newShare()): Promise<ShareGuest> {
    return new ShareGuest(shared, await openSharedFolder(loadAddon(), shared));
  }

  /** Path on the host. */
  at(name: string): string {
    return join(this.shared, name);
  }

  /** Reads what stat(2) says of an entry or of attributes, which come after `skip` bytes. */
  static stat(data: Buffer, skip: number) {
    return {
      ino: data.readBigUInt64LE(skip),
      size: Number(data.readBigUInt64LE(skip + 8)),
      mtime: data.readBigUInt64LE(skip + 32),
      mtimeNs: data.readUInt32LE(skip + 52),
      mode: data.readUInt32LE(skip + 60),
      nlink: data.readUInt32LE(skip + 64),
      uid: data.readUInt32LE(skip + 68),
      gid: data.readUInt32LE(skip + 72),
    };
  }

  async getattr(node: number) {
    const { errno, data } = await this.call(FUSE.GETATTR, node, bytes(0, 0, 0n));
    return { errno, ...(errno === 0 ? ShareGuest.stat(data, 16) : undefined) };
  }

  async create(
    parent: number,
    name: string | Uint8Array,
    { mode = 0o644, flags = O_RDWR, opcode = FUSE.CREATE as number } = {},
  ): Promise<{ errno: number; id: number; handle: bigint }> {
    const encoded = Buffer.concat([Buffer.from(name), Buffer.alloc(1)]);
    const { errno, data } = await this.call(opcode, parent, bytes(flags, 0o100000 | mode, 0, 0, encoded));
    if (errno !== 0) return { errno, id: 0, handle: 0n };
    return { errno, id: entryOf(data).id, handle: data.readBigUInt64LE(128) };
  }

  async release(node: number, handle: bigint): Promise<void> {
    await this.call(FUSE.RELEASE, node, bytes(handle, 0, 0, 0n), 0);
  }

  /** SETATTR of a size, a mode, or an owner. */
  async setattr(
    node: number,
    { mode, uid, gid, size }: { mode?: number; uid?: number; gid?: number; size?: number },
  ): Promise<number> {
    const valid =
      (mode === undefined ? 0 : 1) |
      (uid === undefined ? 0 : 2) |
      (gid === undefined ? 0 : 4) |
      (size === undefined ? 0 : 8);
    const times = [0n, 0n, 0n, 0, 0, 0] as const;
    const fields = bytes(valid, 0, 0n, BigInt(size ?? 0), 0n, ...times, mode ?? 0, 0, uid ?? 0, gid ?? 0, 0);
    return (await this.call(FUSE.SETATTR, node, fields)).errno;
  }

  async close(): Promise<void> {
    await this.device.close();
    // Node's own names what it removes by its path, which may be too long.
    execFileSync('rm', ['-rf', this.shared]);
  }
}

export function newShare(): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), 'tsvm-share-')));
  chmodSync(path, 0o777);
  return path;
}

export const openDescriptors = (): number => readdirSync('/proc/self/fd').length;
