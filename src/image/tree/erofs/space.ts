/** Blocks of a file system that is being made: which are used, and which were and can be used again. */

export interface BlockRange {
  readonly start: number;
  readonly blocks: number;
}

/** Class of a range: all of one class have at least two to the power of its number of blocks, and less than twice as many. */
const classOf = (blocks: number): number => Math.floor(Math.log2(blocks));

export class BlockSpace {
  #end: number;
  readonly #free = new Map<number, BlockRange[]>();

  /** @param end - first block that is not used from the beginning */
  constructor(end: number) {
    this.#end = end;
  }

  /** First block behind all that are used. */
  get end(): number {
    return this.#end;
  }

  /** Takes blocks in a row, of those that were given back if there are so many, and returns the first. Takes the same time however many are free. */
  take(blocks: number): number {
    if (blocks === 0) return 0;
    const largest = Math.max(...this.#free.keys());
    for (let size = classOf(blocks); size <= largest; size++) {
      const ranges = this.#free.get(size);
      const last = ranges?.at(-1);
      if (last === undefined || last.blocks < blocks) continue;
      ranges?.pop();
      this.give({ start: last.start + blocks, blocks: last.blocks - blocks });
      return last.start;
    }
    const start = this.#end;
    this.#end += blocks;
    return start;
  }

  give({ start, blocks }: BlockRange): void {
    if (blocks === 0) return;
    if (start + blocks === this.#end) {
      this.#end = start;
      return;
    }
    const size = classOf(blocks);
    const ranges = this.#free.get(size);
    if (ranges === undefined) this.#free.set(size, [{ start, blocks }]);
    else ranges.push({ start, blocks });
  }
}
