/** Things that wait for one reader, who takes them one by one at its own pace, in memory that has a bound. */
import type { Abortable } from './abort.js';

export interface FeedOptions<T> extends Abortable {
  /** Bound of the sum of what waits. */
  readonly most: number;
  /** Share of an item in that sum. Default: 1. */
  weight?(item: T): number;
  /** Makes the item that stands in the place of `count` others, which were lost. */
  lost(count: number): T;
  /** Called once, when nothing is taken any more: the reader has left, or has all. */
  onClose?(): void;
}

/** Iterator over what a machine tells, from the call on that gave it. Leaving its loop, `return()` and an abort end it. */
export interface FeedReader<T> extends AsyncIterableIterator<T, undefined, undefined>, AsyncDisposable {
  return(value?: undefined): Promise<IteratorResult<T, undefined>>;
  [Symbol.asyncIterator](): FeedReader<T>;
}

interface Weighed<T> {
  readonly item: T;
  readonly weight: number;
}

/** Queue between a writer that does not wait and a reader that may be slow. What finds no room is lost, and its place says how much it was. */
export class Feed<T> {
  readonly #options: FeedOptions<T>;
  #items: Weighed<T>[] = [];
  /** Items that the reader comes to first, the first of all at the end. */
  #first: Weighed<T>[] = [];
  #weight = 0;
  #lostCount = 0;
  #isOver = false;
  #isClosed = false;
  #failure: { readonly error: unknown } | undefined;
  /** Steps of the reader that wait. */
  readonly #waiting: (() => void)[] = [];
  readonly #abort = (): void => this.fail(this.#options.signal?.reason);
  readonly reader: FeedReader<T>;

  constructor(options: FeedOptions<T>) {
    this.#options = options;
    const { signal } = options;
    const leave = async (): Promise<IteratorResult<T, undefined>> => {
      this.#close();
      return { done: true, value: undefined };
    };
    this.reader = {
      next: () => this.#next(),
      return: leave,
      [Symbol.asyncIterator]: () => this.reader,
      [Symbol.asyncDispose]: async () => void (await leave()),
    };
    if (signal?.aborted) this.#abort();
    else signal?.addEventListener('abort', this.#abort, { once: true });
  }

  push(item: T): void {
    if (this.#isOver) return;
    const { most, weight: weigh = () => 1 } = this.#options;
    const weight = weigh(item);
    if (this.#weight + weight > most) {
      this.#lostCount++;
      return;
    }
    this.#sayLost();
    this.#add(item, weight);
  }

  /** Ends it: the reader gets what waits, and then `last`, for which there is always room. */
  end(...last: readonly T[]): void {
    if (this.#isOver) return;
    this.#sayLost();
    for (const item of last) this.#add(item, 0);
    this.#isOver = true;
    this.#wake();
  }

  /** Ends it at once: the next step of the reader throws `error`. */
  fail(error: unknown): void {
    if (this.#isClosed) return;
    this.#failure = { error };
    this.#close();
  }

  #add(item: T, weight: number): void {
    this.#items.push({ item, weight });
    this.#weight += weight;
    this.#wake();
  }

  #sayLost(): void {
    if (this.#lostCount > 0) this.#add(this.#options.lost(this.#lostCount), 0);
    this.#lostCount = 0;
  }

  async #next(): Promise<IteratorResult<T, undefined>> {
    for (;;) {
      if (this.#failure !== undefined) {
        const { error } = this.#failure;
        this.#failure = undefined;
        throw error;
      }
      const next = this.#take();
      if (next !== undefined) {
        this.#weight -= next.weight;
        return { done: false, value: next.item };
      }
      if (this.#isOver) {
        this.#close();
        return { done: true, value: undefined };
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  #take(): Weighed<T> | undefined {
    if (this.#first.length === 0) {
      if (this.#items.length === 0) this.#sayLost();
      this.#first = this.#items.reverse();
      this.#items = [];
    }
    return this.#first.pop();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#isOver = true;
    this.#items = [];
    this.#first = [];
    this.#lostCount = 0;
    this.#options.signal?.removeEventListener('abort', this.#abort);
    this.#wake();
    this.#options.onClose?.();
  }
}
