/**
 * Statistics that a guest gives of its memory (virtio 1.3, 5.5.6.3 and 5.5.6.4). It may say anything.
 *
 * @spec virtio-1.3 5.5.6.3  Memory statistics  #yes
 */
import type { ChainReader } from '../../virtio/chain.js';
import { BALLOON_STATS, type BalloonStats } from '../backends/balloon.js';

/** struct virtio_balloon_stat: a tag of 16 bits, a value of 64. */
const STAT_BYTES = 10;
/** Each tag twice, for tags to come; what a guest says beyond is not read. */
const MAX_STATS = 2 * BALLOON_STATS.length;

export function readStats(reader: ChainReader): BalloonStats {
  const stats: Partial<Record<(typeof BALLOON_STATS)[number], number>> = {};
  const bytes = new Uint8Array(Math.min(Math.floor(reader.remaining / STAT_BYTES), MAX_STATS) * STAT_BYTES);
  reader.read(bytes);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += STAT_BYTES) {
    const name = BALLOON_STATS[view.getUint16(at, true)];
    // Above 2^53 a value loses its last digits, which nobody misses.
    if (name !== undefined) stats[name] = Number(view.getBigUint64(at + 2, true));
  }
  return stats;
}
