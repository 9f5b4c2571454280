/** Facts about the machine that an agent is in. */
import type { Abortable } from '../util/abort.js';
import { askAgent, type OpenSession } from './ask-agent.js';
import { askRefused } from './command-errors.js';
import { type Reply, requestBytes } from './strings.js';
import { Violation } from './violation.js';

const AVERAGES = 3;

/** Facts of the kernel that the agent runs on. In a container load and memory are the host's. */
export interface AgentFacts {
  /** Averages of the load over 1, 5 and 15 minutes. */
  readonly load: readonly number[];
  readonly uptimeSeconds: number;
  readonly memoryBytes: number;
  /** Memory that programs can have without swapping. */
  readonly availableMemoryBytes: number;
  readonly swapBytes: number;
  readonly freeSwapBytes: number;
  /** Size of the file system at `/`. */
  readonly diskBytes: number;
  readonly freeDiskBytes: number;
  readonly processes: number;
}

/** Asks for the facts of the moment. */
export async function readFacts(open: OpenSession, options: Abortable): Promise<AgentFacts> {
  return await askAgent(
    open,
    { request: requestBytes('facts'), last: factsOf, refused: askRefused },
    options,
  );
}

function factsOf(reply: Reply): AgentFacts {
  const load = reply.text('load').split(' ');
  if (load.length !== AVERAGES) throw new Violation('a load that is none');
  return {
    load: load.map(fraction),
    uptimeSeconds: fraction(reply.text('uptime')),
    memoryBytes: reply.number('memory'),
    availableMemoryBytes: reply.number('available'),
    swapBytes: reply.number('swap'),
    freeSwapBytes: reply.number('swapfree'),
    diskBytes: reply.number('disk'),
    freeDiskBytes: reply.number('diskfree'),
    processes: reply.number('processes'),
  };
}

function fraction(text: string): number {
  if (!/^\d{1,12}(\.\d{1,9})?$/.test(text)) throw new Violation('a number that is none');
  return Number(text);
}
