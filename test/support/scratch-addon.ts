/** The addon's part of disks, without the addon: unlinked temporary files for memfds. */
import { mkdtempSync, openSync, readdirSync, readlinkSync, rmSync, unlinkSync, write } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { NativeAddon } from '../../src/native/binding.js';

const writeFd = promisify(write);

export type DiskAddon = Pick<NativeAddon, 'memfd' | 'fallocate' | 'flock' | 'blockDeviceBytes'>;

export class ScratchAddon implements DiskAddon {
  /** For disk images too. */
  readonly directory = mkdtempSync(join(tmpdir(), 'tsvm-disk-'));
  /** What `memfd` fails with. */
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

/** What this process's descriptors are of. */
export function openFiles(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return []; // the descriptor of the listing itself
    }
  });
}
