/** Progress of a pull on stderr: one line that is written over on a terminal, else a line for each thing that happens. */
import type { PullEvent } from '../../image/registry/pull.js';
import { printable } from '../../util/printable.js';
import { formatBytes } from '../../util/units.js';
import { complain } from '../complain.js';

const INTERVAL_MS = 200;
const ERASE_LINE = '\r\x1b[2K';

interface LayerState {
  readonly size: number;
  bytes: number;
  /** Bytes that were there before; undefined until anything is known of the layer. */
  before?: number;
}

export class PullProgress implements Disposable {
  readonly #name: string;
  readonly #layers = new Map<string, LayerState>();
  readonly #startMs = performance.now();
  #shown = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(name: string) {
    this.#name = printable(name);
  }

  on(event: PullEvent): void {
    switch (event.kind) {
      case 'layers':
        this.#begin(event.layers);
        break;
      case 'progress':
        this.#advance(event.digest, event.bytes);
        break;
      case 'wait':
        this.#say(`${event.digest}: another process fetches it, waiting`);
        break;
      case 'note':
        this.#say(event.text);
        break;
    }
  }

  #begin(layers: readonly { digest: string; size: number }[]): void {
    this.#layers.clear();
    for (const { digest, size } of layers) this.#layers.set(digest, { size, bytes: 0 });
    const count = `${layers.length} ${layers.length === 1 ? 'layer' : 'layers'}`;
    this.#say(`${this.#name}: ${count}, ${formatBytes(this.#sum(({ size }) => size))}`);
    if (process.stderr.isTTY) this.#timer ??= setInterval(() => this.#show(), INTERVAL_MS);
  }

  #advance(digest: string, bytes: number): void {
    const layer = this.#layers.get(digest);
    if (layer === undefined) return; // a document
    const isFirst = layer.before === undefined;
    if (!isFirst && layer.bytes === layer.size) return; // it was said
    layer.before ??= bytes;
    layer.bytes = bytes;
    if (bytes !== layer.size) return;
    this.#say(`${digest}: ${isFirst ? 'is there' : 'fetched'}, ${formatBytes(layer.size)}`, true);
  }

  /** Writes the one line of a terminal. */
  #show(): void {
    this.#shown = true;
    const bytes = this.#sum((layer) => layer.bytes);
    const fetched = this.#sum((layer) => layer.bytes - (layer.before ?? layer.bytes));
    const rate = fetched / ((performance.now() - this.#startMs) / 1000);
    const done = [...this.#layers.values()].filter((layer) => layer.bytes === layer.size).length;
    process.stderr.write(
      `${ERASE_LINE}tsvm: ${formatBytes(bytes)} of ${formatBytes(this.#sum(({ size }) => size))}, ` +
        `${done} of ${this.#layers.size} layers, ${formatBytes(Math.round(rate))}/s`,
    );
  }

  /** @param inLine - a terminal's one line says it as well */
  #say(text: string, inLine = false): void {
    if (inLine && process.stderr.isTTY) return;
    this.#erase();
    complain(`tsvm: ${text}`);
  }

  #sum(of: (layer: LayerState) => number): number {
    return [...this.#layers.values()].reduce((sum, layer) => sum + of(layer), 0);
  }

  #erase(): void {
    if (this.#shown) process.stderr.write(ERASE_LINE);
    this.#shown = false;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#erase();
  }
}
