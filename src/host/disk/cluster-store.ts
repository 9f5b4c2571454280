/** Stores in which a copy-on-write layer keeps the clusters that were written. */
import type { ByteRange, ClusterSet } from './cluster-set.js';
import type { Bytes } from './layer.js';

export interface ClusterStore extends Bytes {
  /** The clusters that it has. There are only ever more of them. */
  readonly own: Pick<ClusterSet, 'has' | 'hasAll' | 'isEmpty'>;
  /** Tells whether they are still there when everything is closed. */
  readonly isDurable: boolean;
  /** The whole clusters of `range` have been written. */
  keep(range: ByteRange): void;
  /** The range reads as zeroes, and takes as little room as possible. */
  punch(offset: number, length: number): Promise<void>;
  /** Resolves when what is kept cannot be lost any more. */
  flush(): Promise<void>;
}
