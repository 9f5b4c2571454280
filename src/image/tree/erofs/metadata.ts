/** Inodes with what follows them, packed into blocks. A record lies in one block, so that data in it are never cut by a block's end. */
import { alignUp } from '../../../util/units.js';
import type { BlockFile } from './block-file.js';
import type { BlockSpace } from './space.js';
import { BLOCK_BYTES, INODE_UNIT } from './superblock.js';

/** Number of blocks that are filled at a time: small records fill what large ones leave. */
const OPEN_BLOCKS = 16;
/** Length of blocks that wait to be written in a row. */
const BATCH_BYTES = 256 * 1024;

/** Block, or as many in a row as a longer record needs. */
interface Block {
  /** Number of the first; undefined until it is about to be written. */
  number?: number;
  /** Content; undefined when it is written. */
  bytes?: Buffer;
  used: number;
}

/** Place of a record. */
export interface Slot {
  readonly block: Block;
  readonly offset: number;
}

export class Metadata {
  readonly #file: BlockFile;
  readonly #space: BlockSpace;
  #open: Block[] = [];
  #full: Block[] = [];

  constructor(file: BlockFile, space: BlockSpace) {
    this.#file = file;
    this.#space = space;
  }

  /** Makes room for a record. */
  place(length: number): Slot {
    const block = this.#blockFor(length);
    const offset = block.used;
    block.used = alignUp(offset + length, INODE_UNIT);
    return { block, offset };
  }

  /** Opens the fullest of the open blocks that has room. */
  #blockFor(length: number): Block {
    let best: Block | undefined;
    for (const block of this.#open)
      if (block.used + length <= BLOCK_BYTES && block.used >= (best?.used ?? 0)) best = block;
    if (best !== undefined) return best;
    const fresh: Block = { bytes: Buffer.alloc(alignUp(length, BLOCK_BYTES)), used: 0 };
    if (length > BLOCK_BYTES) {
      this.#full.push(fresh);
      return fresh;
    }
    this.#open.push(fresh);
    if (this.#open.length > OPEN_BLOCKS) {
      const fullest = this.#open.reduce((most, block) => (block.used > most.used ? block : most));
      this.#open = this.#open.filter((block) => block !== fullest);
      this.#full.push(fullest);
    }
    return fresh;
  }

  add(record: Uint8Array): Slot {
    const slot = this.place(record.length);
    slot.block.bytes?.set(record, slot.offset);
    return slot;
  }

  /** Makes room for a record at a block outside of the space: the root’s, whose number has to be small. */
  placeAt(number: number, length: number): Slot {
    const block = { number, bytes: Buffer.alloc(alignUp(length, BLOCK_BYTES)), used: length };
    this.#full.push(block);
    return { block, offset: 0 };
  }

  /** Writes blocks that are full, if they are many. */
  async spill(): Promise<void> {
    const bytes = this.#full.reduce((sum, block) => sum + (block.bytes?.length ?? 0), 0);
    if (bytes < BATCH_BYTES) return;
    this.#number();
    await this.flush();
  }

  /** Ends placing: from now on, every record has a number. */
  seal(): void {
    this.#full.push(...this.#open);
    this.#open = [];
    this.#number();
  }

  /** Gives numbers in a row to the blocks that are full. */
  #number(): void {
    const blocks = this.#full.filter((block) => block.number === undefined);
    const lengths = blocks.map((block) => (block.bytes?.length ?? 0) / BLOCK_BYTES);
    let next = this.#space.take(lengths.reduce((sum, length) => sum + length, 0));
    for (const [i, block] of blocks.entries()) {
      block.number = next;
      next += lengths[i] ?? 0;
    }
  }

  /** Writes the blocks that have numbers. */
  async flush(): Promise<void> {
    for (const block of this.#full) {
      await this.#file.write((block.number ?? 0) * BLOCK_BYTES, block.bytes ?? Buffer.alloc(0));
      delete block.bytes;
    }
    this.#full = [];
  }

  /** Number of a record, when all are placed. */
  numberOf({ block, offset }: Slot): number {
    if (block.number === undefined) throw new Error('a record without a number');
    return (block.number * BLOCK_BYTES + offset) / INODE_UNIT;
  }

  /** Writes into a record, whether it is written or not. */
  async patch({ block, offset }: Slot, at: number, bytes: Uint8Array): Promise<void> {
    if (block.bytes !== undefined) block.bytes.set(bytes, offset + at);
    else await this.#file.write((block.number ?? 0) * BLOCK_BYTES + offset + at, bytes);
  }
}
