/** Changes of files where an agent is, as they come. */
import type { Abortable } from '../util/abort.js';
import { type OpenSession, toldOf } from './ask-agent.js';
import { checkRelative } from './entries.js';
import { fileRefused } from './file-errors.js';
import type { AgentPath } from './path.js';
import type { Ask } from './session.js';
import { requestBytes, StringSplitter } from './strings.js';
import { Violation } from './violation.js';

const MAX_STRING_BYTES = 1 << 20;
const KINDS = ['made', 'changed', 'removed', 'moved-from', 'moved-to', 'lost'] as const;

/** Change of a file. */
export interface AgentFileEvent {
  /** `watching` comes first, when changes are seen; `lost`: there were more changes than the agent's kernel keeps, and some are not told. */
  readonly kind: 'watching' | (typeof KINDS)[number];
  /** Path relative to what is watched; what is no UTF-8 in it is replaced. Empty for what is watched itself. */
  readonly path: string;
  /** The same path, byte by byte. */
  readonly pathBytes: Buffer;
}

/** Watches a file or directory until its reader ends it. */
export async function* watchFiles(
  open: OpenSession,
  path: AgentPath,
  { recursive = false, signal }: { readonly recursive?: boolean } & Abortable,
): AsyncGenerator<AgentFileEvent> {
  const ask: Ask<void, void> = {
    request: requestBytes('watch', recursive ? [['recursive', 1]] : [], [path]),
    outputs: { 1: 'bytes' },
    first: () => {},
    last: () => {},
    refused: fileRefused('watch', path),
  };
  const session = await open(ask, { signal });
  const abort = (): void => session.close(signal?.reason);
  signal?.addEventListener('abort', abort, { once: true });
  if (signal?.aborted === true) abort();
  try {
    await session.first;
    yield { kind: 'watching', path: '', pathBytes: Buffer.alloc(0) };
    const splitter = new StringSplitter(MAX_STRING_BYTES);
    let kind: Buffer | undefined;
    for await (const piece of session.stdout) {
      for (const string of splitter.push(piece as Buffer)) {
        if (kind === undefined) kind = string;
        else {
          yield eventOf(kind, string);
          kind = undefined;
        }
      }
    }
    await session.last;
  } catch (error) {
    throw toldOf(session, error);
  } finally {
    signal?.removeEventListener('abort', abort);
    session.close();
  }
}

function eventOf(kindBytes: Buffer, string: Buffer): AgentFileEvent {
  const text = kindBytes.toString('latin1');
  const kind = KINDS.find((known) => known === text);
  if (kind === undefined) throw new Violation('a change of a file that is none');
  const pathBytes = Buffer.from(string);
  checkRelative(pathBytes);
  return { kind, path: pathBytes.toString(), pathBytes };
}
