/** Events and lines of a machine, for loops. */
import type { Abortable } from '../../util/abort.js';
import { disposeAll } from '../../util/cleanup.js';
import { Feed, type FeedReader } from '../../util/feed.js';
import { LineFeed } from '../../util/line-feed.js';
import type { Machine, MachineEvent } from '../machine.js';

/** Events that wait for a slow reader. */
const MAX_WAITING_EVENTS = 1024;

/** Part of a machine that tells. */
type Teller = Pick<Machine, 'on' | 'state'>;

export interface FeedOwner extends Abortable {
  /** Called once, when the reader has left, or has all. */
  onClose(): void;
}

export function eventFeed({ signal, onClose }: FeedOwner): Feed<MachineEvent> {
  return new Feed<MachineEvent>({
    signal,
    most: MAX_WAITING_EVENTS,
    lost: (count) => ({ name: 'lost', atMs: Date.now(), detail: { count } }),
    onClose,
  });
}

export function eventsOf(machine: Teller, { signal }: Abortable): FeedReader<MachineEvent> {
  const told = <Event extends MachineEvent>(name: Event['name'], detail: Event['detail']): MachineEvent =>
    ({ name, atMs: Date.now(), detail }) as MachineEvent;
  return readerOf(machine, signal, eventFeed, (feed) => [
    machine.on('state', (state) => feed.push(told('state', { state }))),
    machine.on('mark', (mark) => feed.push(told('mark', mark))),
    machine.on('deviceError', (error) => feed.push(told('deviceError', error))),
    machine.on('end', (end) => feed.end(told('end', end))),
  ]);
}

export function linesOf(machine: Teller, { signal }: Abortable): FeedReader<string> {
  const lineFeed = (owner: FeedOwner): LineFeed => new LineFeed(owner);
  return readerOf(machine, signal, lineFeed, (feed) => [
    machine.on('console', (bytes) => feed.push(bytes)),
    machine.on('end', () => feed.end()),
  ]);
}

/** Makes a feed and listens to the machine for it, until that ends or the reader leaves. */
function readerOf<AnyFeed extends { readonly reader: unknown; end(): void }>(
  machine: Teller,
  signal: AbortSignal | undefined,
  make: (owner: FeedOwner) => AnyFeed,
  listen: (feed: AnyFeed) => readonly Disposable[],
): AnyFeed['reader'] {
  const subscriptions: Disposable[] = [];
  const leave = (): void => disposeAll(subscriptions);
  const feed = make({ signal, onClose: leave });
  if (machine.state === 'ended') feed.end();
  else if (!signal?.aborted) subscriptions.push(...listen(feed), machine.on('end', leave));
  return feed.reader;
}
