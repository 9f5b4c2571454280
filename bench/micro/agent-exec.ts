/**
 * What a command costs through the agent, from its request to its exit status, and how fast its output comes: beside the tests of this
 * host, without a machine or container, so that it is the agent's program, the client and the kernel alone. `spawn` is the same command
 * started by Node itself.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openConnection } from '../../src/agent/connection.js';
import { quantile } from '../../src/util/statistics.js';
import { askCommand, runCommand } from '../../test/support/agent-commands.js';
import { startAgent } from '../../test/support/agent-program.js';
import type { Benchmark } from '../lib/benchmark.js';

const ROUNDS = 500;
const WARM_UP = 50;
const TRUE = '/bin/true';
const OUTPUT_BYTES = 2e9;
const OUTPUT = ['head', '-c', `${OUTPUT_BYTES}`, '/dev/zero'];

export const agentExec: Benchmark = {
  name: 'agent-exec',
  summary: 'a command through the agent, and its output',
  defaultRuns: () => 5,
  unfit: () => undefined,
  async run({ runs }) {
    await using agent = await startAgent();
    const connection = await openConnection(agent.dial);
    const samples = new Map<string, number[]>();
    const add = (metric: string, value: number): void => {
      samples.set(metric, [...(samples.get(metric) ?? []), value]);
    };
    for (let i = 0; i < runs; i++) {
      const kinds = {
        'true through the agent': () => runCommand(connection, [TRUE]),
        'true by spawn': () => once(spawn(TRUE, { stdio: ['ignore', 'pipe', 'pipe'] }), 'close'),
      };
      for (const [metric, run] of Object.entries(kinds)) {
        const times = await timed(run);
        add(`${metric}, p50`, quantile(times, 0.5));
        add(`${metric}, p99`, quantile(times, 0.99));
      }
    }
    const rates = [];
    for (let i = 0; i < runs; i++) {
      const session = askCommand(connection, [['input', 0]], OUTPUT);
      const begun = process.hrtime.bigint();
      let bytes = 0;
      session.stdout.on('data', (piece: Buffer) => (bytes += piece.length));
      session.stderr.resume();
      await session.last;
      await session.stdout.closed;
      rates.push((bytes / Number(process.hrtime.bigint() - begun)) * 1e3);
    }
    connection.close();
    return [
      ...[...samples].map(([metric, values]) => ({ metric, unit: 'us', samples: values })),
      { metric: 'standard output', unit: 'MB/s', samples: rates },
    ];
  },
};

/** Microseconds that each round took, one after another. */
async function timed(run: () => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < ROUNDS + WARM_UP; i++) {
    const begun = process.hrtime.bigint();
    await run();
    times.push(Number(process.hrtime.bigint() - begun) / 1e3);
  }
  return times.slice(WARM_UP);
}
