/** The two sides of a balloon: the device's and the host's. */

/** VIRTIO_BALLOON_S_*: names and units. In the order of the tags. */
export const BALLOON_STATS = [
  'swapInBytes',
  'swapOutBytes',
  'majorFaults',
  'minorFaults',
  'freeBytes',
  'totalBytes',
  'availableBytes',
  'cacheBytes',
  'hugePageAllocations',
  'hugePageFailures',
  'oomKills',
  'allocationStalls',
  'asyncScannedPages',
  'directScannedPages',
  'asyncReclaimedPages',
  'directReclaimedPages',
] as const;

/** Statistics that the guest gave. Counters count from its boot. */
export type BalloonStats = Readonly<Partial<Record<(typeof BALLOON_STATS)[number], number>>>;

/** The device's side of a balloon. */
export interface BalloonControl {
  /** Memory that the guest has been asked to give back. */
  readonly targetBytes: number;
  /** Memory that it says it has given back for that. Free page reports come on top. */
  readonly actualBytes: number;
  /** Asks the guest to give back so much, in all; less than before lets it take some again. It may be slow, or never do it. */
  setTarget(bytes: number): void;
  /**
   * Asks the guest anew what it has to say of its memory.
   *
   * @throws TsvmError `TSVM_BALLOON` if it has no driver, or does not answer.
   */
  stats(): Promise<BalloonStats>;
}

/** The host's side of a balloon. */
export interface BalloonHost {
  /** Called once, by the device. */
  attach(control: BalloonControl): void;
  /** Drops what guest memory holds there; whole pages only. Reading it gives anything that was there before, or zeroes. */
  release(views: readonly Uint8Array[]): Promise<void>;
}
