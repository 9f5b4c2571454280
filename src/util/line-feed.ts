/** Output of a guest, line by line, for one reader. */
import type { Abortable } from './abort.js';
import { Feed, type FeedReader } from './feed.js';

/** Characters that wait for a reader. */
const MAX_WAITING_CHARACTERS = 1 << 20;
/** Memory that a line takes besides its characters, in characters. */
const LINE_COST = 16;
/** Longest line; a longer one comes in pieces, since a guest may never end one. */
export const MAX_LINE_CHARACTERS = 64 << 10;

/** Splits bytes into lines; each comes without its end. */
export class LineSplitter {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #rest = '';

  /** Takes bytes, and gives the lines that they complete. */
  push(bytes: Uint8Array): string[] {
    const lines: string[] = [];
    const [first = '', ...more] = this.#decoder.decode(bytes, { stream: true }).split('\n');
    this.#rest += first;
    for (const text of more) {
      this.#cutLong(lines);
      lines.push(withoutReturns(this.#rest));
      this.#rest = text;
    }
    this.#cutLong(lines);
    return lines;
  }

  /** Ends it: gives what came after the last line's end as a line. */
  end(): string[] {
    this.#rest += this.#decoder.decode();
    return this.#rest === '' ? [] : [withoutReturns(this.#rest)];
  }

  #cutLong(lines: string[]): void {
    for (; this.#rest.length > MAX_LINE_CHARACTERS; this.#rest = this.#rest.slice(MAX_LINE_CHARACTERS))
      lines.push(this.#rest.slice(0, MAX_LINE_CHARACTERS));
  }
}

export class LineFeed {
  readonly #feed: Feed<string>;
  readonly #splitter = new LineSplitter();

  constructor(options: Abortable & { onClose?(): void }) {
    const { signal } = options;
    this.#feed = new Feed({
      signal,
      most: MAX_WAITING_CHARACTERS,
      weight: (line) => line.length + LINE_COST,
      lost: (count) => `[tsvm: ${count} lines are lost here: their reader was too slow]`,
      onClose: () => options.onClose?.(),
    });
  }

  get reader(): FeedReader<string> {
    return this.#feed.reader;
  }

  push(bytes: Uint8Array): void {
    for (const line of this.#splitter.push(bytes)) this.#feed.push(line);
  }

  /** Ends it, with what came after the last line's end as a line. */
  end(): void {
    this.#feed.end(...this.#splitter.end());
  }

  fail(error: unknown): void {
    this.#feed.fail(error);
  }
}

/** Line without the carriage returns that a terminal has at its end. */
function withoutReturns(line: string): string {
  let end = line.length;
  while (line[end - 1] === '\r') end--;
  return line.slice(0, end);
}
