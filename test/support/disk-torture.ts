/**
 * Random work on a disk and generations of its forks, many requests in flight at a time, against a model.
 *
 * Requests of a batch are started one after the other without waiting. Of a disk's own writes in a batch no two touch the
 * same sector (what would happen is nobody's promise), but they may share clusters, and reads may meet writes: then each word
 * is what it was or what it is to be.
 */
import fc from 'fast-check';
import type { CowDisk } from '../../src/host/cow-disk.js';

const SECTOR_BYTES = 512;
const SECTOR_WORDS = SECTOR_BYTES / 4;
/** Clusters of 4 KiB, and a part of one. */
export const TORTURE_SECTORS = 16 * 8 + 3;
export const TORTURE_BYTES = TORTURE_SECTORS * SECTOR_BYTES;

export interface Step {
  readonly kind: 'read' | 'write' | 'zero' | 'discard' | 'fork' | 'flush' | 'close';
  /** Number of one of the open disks, modulo how many there are. */
  readonly disk: number;
  readonly sector: number;
  readonly count: number;
  /** Place at which the buffer is cut in two, in 64ths. */
  readonly cut: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom(
    ...(['read', 'read', 'read', 'write', 'write', 'write', 'write'] as const),
    ...(['zero', 'discard', 'fork', 'fork', 'flush', 'close'] as const),
  ),
  disk: fc.nat(11),
  sector: fc.nat(TORTURE_SECTORS - 1),
  count: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 40 })),
  cut: fc.nat(64),
});

export const batches = fc.array(fc.array(step, { minLength: 1, maxLength: 16 }), {
  minLength: 1,
  maxLength: 14,
  size: 'max',
});

/** A disk, and what every sector of it holds: a word, 128 times. */
interface Subject {
  readonly disk: CowDisk;
  readonly sectors: Uint32Array;
  /** Values that sectors are being changed to. Undefined: by a discard, to zeroes or not at all. */
  readonly changing: Map<number, number | undefined>;
  /** Requests of this batch. */
  busy: number;
}

export class DiskTorture {
  readonly #subjects: Subject[];
  #stamp = 0;

  /** @param disk all zeroes, TORTURE_BYTES long */
  constructor(disk: CowDisk) {
    this.#subjects = [{ disk, sectors: new Uint32Array(TORTURE_SECTORS), changing: new Map(), busy: 0 }];
  }

  async run(plan: readonly (readonly Step[])[]): Promise<void> {
    for (const batch of plan) {
      const results = await Promise.allSettled(batch.flatMap((one) => this.#start(one)));
      for (const result of results) if (result.status === 'rejected') throw result.reason;
      for (const subject of this.#subjects) await this.#settle(subject);
    }
    for (const subject of this.#subjects) await this.#compare(subject);
  }

  /** Closes all disks, in an order that is as good as any, and compares those that are left. */
  async close(): Promise<void> {
    for (let i = 0; this.#subjects.length > 0; i++) {
      const [closed] = this.#subjects.splice((i * 7) % this.#subjects.length, 1);
      await closed?.disk.close();
      for (const subject of this.#subjects) await this.#compare(subject);
    }
  }

  #start({ kind, disk: index, sector, count: wanted, cut }: Step): Promise<void>[] {
    const subject = this.#subjects[index % this.#subjects.length] as Subject;
    const { disk, sectors, changing } = subject;
    const count = Math.min(wanted, TORTURE_SECTORS - sector);
    const [offset, length] = [sector * SECTOR_BYTES, count * SECTOR_BYTES];
    const range = Array.from({ length: count }, (_, i) => sector + i);
    switch (kind) {
      case 'fork':
        if (changing.size > 0 || this.#subjects.length >= 12) return [];
        this.#subjects.push({ disk: disk.fork(), sectors: sectors.slice(), changing: new Map(), busy: 0 });
        return [];
      case 'close':
        if (subject.busy > 0 || this.#subjects.length === 1) return [];
        this.#subjects.splice(this.#subjects.indexOf(subject), 1);
        return [disk.close()];
      case 'flush':
        subject.busy++;
        return [disk.flush()];
      case 'read': {
        subject.busy++;
        const before = sectors.slice();
        return [
          this.#read(
            disk,
            sector,
            count,
            cut,
            (at, word) => word === before[at] || isNext(subject, at, word),
          ),
        ];
      }
      default:
    }
    if (range.some((at) => changing.has(at))) return [];
    subject.busy++;
    if (kind === 'write') {
      const words = new Uint32Array(count * SECTOR_WORDS);
      for (const [i, at] of range.entries()) {
        const stamp = ++this.#stamp;
        words.fill(stamp, i * SECTOR_WORDS, (i + 1) * SECTOR_WORDS);
        changing.set(at, stamp);
      }
      return [disk.writev(halves(words, cut), offset).then((done) => check(done === length, 'short write'))];
    }
    for (const at of range) changing.set(at, kind === 'zero' ? 0 : undefined);
    return [kind === 'zero' ? disk.writeZeroes(offset, length, cut % 2 === 0) : disk.discard(offset, length)];
  }

  /** Takes what a batch changed to be the case from now on. */
  async #settle(subject: Subject): Promise<void> {
    const { sectors, changing } = subject;
    for (const [at, word] of changing) {
      if (word !== undefined) sectors[at] = word;
      else {
        let found = -1;
        await this.#read(subject.disk, at, 1, 0, (_, word) => {
          const first = found < 0;
          if (first) found = word;
          return word === found && (word === 0 || word === sectors[at]);
        });
        sectors[at] = found;
      }
    }
    changing.clear();
    subject.busy = 0;
  }

  async #compare({ disk, sectors }: Subject): Promise<void> {
    await this.#read(disk, 0, TORTURE_SECTORS, 20, (at, word) => word === sectors[at]);
  }

  async #read(
    disk: CowDisk,
    sector: number,
    count: number,
    cut: number,
    isRight: (sector: number, word: number) => boolean,
  ): Promise<void> {
    const words = new Uint32Array(count * SECTOR_WORDS).fill(0xdeadbeef);
    const done = await disk.readv(halves(words, cut), sector * SECTOR_BYTES);
    check(done === count * SECTOR_BYTES, 'short read');
    for (const [i, word] of words.entries()) {
      const at = sector + Math.floor(i / SECTOR_WORDS);
      if (!isRight(at, word))
        throw new Error(`sector ${at}, word ${i % SECTOR_WORDS}: 0x${word.toString(16)}`);
    }
  }
}

function isNext({ changing }: Subject, sector: number, word: number): boolean {
  return changing.has(sector) && word === (changing.get(sector) ?? 0);
}

function halves(words: Uint32Array, cut: number): Uint8Array[] {
  const bytes = new Uint8Array(words.buffer);
  const middle = Math.floor((bytes.length * cut) / 64);
  return [bytes.subarray(0, middle), bytes.subarray(middle)];
}

function check(condition: boolean, message: string): void {
  if (!condition) throw new Error(message);
}
