/** Clusters in memory, which are thrown away. */
import { type ByteRange, ClusterSet } from './cluster-set.js';
import type { ClusterStore } from './cluster-store.js';
import { ScratchFile } from './scratch-file.js';

export class MemoryStore extends ScratchFile implements ClusterStore {
  readonly own: ClusterSet = new ClusterSet();
  readonly isDurable = false;

  keep(range: ByteRange): void {
    this.own.addAll(range);
  }

  async flush(): Promise<void> {}
}
