/** The addon's part of disks, without the addon: unlinked temporary files for memfds. */
import {
  fdatasync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  readv,
  rmSync,
  unlinkSync,
  write,
  writev,
} from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { NativeAddon, NativeDiskIo } from '../../src/native/binding.js';

const writeFd = promisify(write);

export type DiskAddon = Pick<
  NativeAddon,
  'memfd' | 'fallocate' | 'flock' | 'blockDeviceBytes' | 'openDiskIo'
>;

export class ScratchAddon implements DiskAddon {
  /** Folder of its files, for disk images too. */
  readonly directory = mkdtempSync(join(tmpdir(), 'tsvm-disk-'));
  /** Error that `memfd` fails with. */
  failure: Error | undefined;
  #count = 0;

  memfd(name: string): number {
    if (this.failure !== undefined) throw this.failure;
    const path = join(this.directory, `${name}-${this.#count++}`);
    const fd = openSync(path, 'wx+');
    unlinkSync(path);
    return fd;
  }

  async fallocate(fd: number, _mode: number, offset: number, length: number): Promise<void> {
    await writeFd(fd, new Uint8Array(length), 0, length, offset);
  }

  openDiskIo(fd: number, _threads: number, onDone: (results: Float64Array) => void): NativeDiskIo {
    const done = (id: number) => (error: NodeJS.ErrnoException | null, count?: number) =>
      onDone(Float64Array.of(id, error === null ? (count ?? 0) : (error.errno ?? -5)));
    return {
      tryRead: () => -constants.errno.EOPNOTSUPP,
      submit: (id: number, call: string, ...rest: unknown[]) => {
        const [first, offset, length] = rest as [never, number, number];
        if (call === 'read') readv(fd, first, offset, done(id));
        else if (call === 'write') writev(fd, first, offset, done(id));
        else if (call === 'sync') fdatasync(fd, done(id));
        else write(fd, new Uint8Array(length), 0, length, offset, done(id));
      },
      close: () => {},
    };
  }

  flock(): boolean {
    return true;
  }

  blockDeviceBytes(): number {
    throw new Error('there are no block devices here');
  }

  /** Files in the directory that are open, unlinked ones too. */
  openFiles(): string[] {
    return openFiles().filter((path) => path.startsWith(`${this.directory}/`));
  }

  remove(): void {
    rmSync(this.directory, { recursive: true });
  }
}

/** Files that this process's descriptors are of. */
export function openFiles(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return []; // the descriptor of the listing itself
    }
  });
}
