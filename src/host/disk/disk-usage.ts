/** Space that files take. */
import { lstatSync, readdirSync } from 'node:fs';

/** Unit of st_blocks (stat(3type)). */
export const BLOCK_BYTES = 512;

/** Space that a file, or a folder with all in it, takes on the disk; a file with several names counts once. What cannot be read counts nothing. */
export function diskUsage(path: string): number {
  const seen = new Set<string>();
  let bytes = 0;
  const rest: (string | Buffer)[] = [path];
  for (let one = rest.pop(); one !== undefined; one = rest.pop()) {
    try {
      const stats = lstatSync(one);
      const { dev, ino, nlink, blocks } = stats;
      const isDirectory = stats.isDirectory();
      const identity = `${dev} ${ino}`;
      if (nlink > 1 && !isDirectory && seen.has(identity)) continue;
      if (nlink > 1) seen.add(identity);
      bytes += blocks * BLOCK_BYTES;
      if (!isDirectory) continue;
      const folder = Buffer.from(one);
      for (const name of readdirSync(folder, { encoding: 'buffer' }))
        rest.push(Buffer.concat([folder, Buffer.from('/'), name]));
    } catch {
      // it is gone meanwhile, or may not be entered
    }
  }
  return bytes;
}
