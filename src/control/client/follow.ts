/** Streams of the control API as loops: events, and lines of the console. */
import type { Readable } from 'node:stream';
import { TsvmError } from '../../errors.js';
import type { MachineEvent } from '../../machine/machine.js';
import { eventFeed } from '../../machine/report/feeds.js';
import type { Abortable } from '../../util/abort.js';
import type { FeedReader } from '../../util/feed.js';
import { LineFeed } from '../../util/line-feed.js';

/** Bound of one event; the API's are far shorter. */
const MAX_EVENT_CHARACTERS = 64 << 10;

/** Stream that is about to be opened, of the machine `name`. */
export interface Source extends Abortable {
  readonly name: string;
  open(): Promise<Readable>;
}

/** Things that are made of a stream's bytes. */
interface Sink<T> {
  readonly reader: FeedReader<T>;
  push(bytes: Uint8Array): void;
  end(): void;
  fail(error: unknown): void;
}

export function followEvents(source: Source): FeedReader<MachineEvent> {
  return follow(source, (onClose) => {
    const feed = eventFeed({ signal: source.signal, onClose });
    const decoder = new TextDecoder();
    let rest = '';
    return {
      reader: feed.reader,
      push(bytes) {
        const messages = (rest + decoder.decode(bytes, { stream: true })).split('\n\n');
        rest = (messages.pop() ?? '').slice(-MAX_EVENT_CHARACTERS);
        for (const event of messages.map(parseEvent)) {
          if (event?.name === 'end') feed.end(event);
          else if (event !== undefined) feed.push(event);
        }
      },
      end: () => feed.end(),
      fail: (error) => feed.fail(error),
    };
  });
}

export function followLines(source: Source): FeedReader<string> {
  return follow(source, (onClose) => new LineFeed({ signal: source.signal, onClose }));
}

/** Reads the stream as it comes, so that its process need not wait for the reader of what is made of it. */
function follow<T>(source: Source, make: (onClose: () => void) => Sink<T>): FeedReader<T> {
  let stream: Readable | undefined;
  let isClosed = false;
  const sink = make(() => {
    isClosed = true;
    stream?.destroy();
  });
  const pump = async (): Promise<void> => {
    stream = await source.open();
    if (isClosed) stream.destroy();
    for await (const bytes of stream as AsyncIterable<Buffer>) sink.push(bytes);
    sink.end();
  };
  pump().catch((error: unknown) => sink.fail(explained(source.name, error)));
  return sink.reader;
}

function explained(name: string, cause: unknown): TsvmError {
  if (cause instanceof TsvmError) return cause;
  const hint = 'its process has gone, or this one was busy for too long';
  return new TsvmError('TSVM_STATE', `${name}: what it tells has broken off`, { hint, cause });
}

/** Event of a message; undefined of a comment. */
function parseEvent(message: string): MachineEvent | undefined {
  const [, name] = /^event: (\w+)$/m.exec(message) ?? [];
  const [, data] = /^data: (.*)$/m.exec(message) ?? [];
  if (name === undefined || data === undefined) return undefined;
  const { at_ms: atMs, ...detail } = JSON.parse(data) as { at_ms: number };
  return { name, atMs, detail } as MachineEvent;
}
