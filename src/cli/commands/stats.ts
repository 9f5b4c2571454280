/** `tsvm stats`: what machines cost and do, over a second. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import type { RemoteMachine } from '../../control/client/connect.js';
import { isRunning, MachineStore } from '../../control/machine-store.js';
import { ratesBetween } from '../../control/stats/rates.js';
import type { MachineStats } from '../../control/stats/stats.js';
import { formatBytes } from '../../util/units.js';
import { machineIn, runningMachine } from '../session/running.js';
import { formatTable } from '../table.js';

const EXAMPLES = `
Examples:
  tsvm stats                              every machine that runs, each second until Ctrl-C
  tsvm stats --no-stream                  once
  tsvm stats web db --json                two of them: counters since their start, for programs`;

const INTERVAL_MS = 1000;

export function statsCommand(): Command {
  return new Command('stats')
    .summary('show what machines cost and do')
    .description('Show each machine’s processor time, memory, exits and devices, over each second.')
    .argument('[name...]', 'of machines (default: all that run)')
    .option('--no-stream', 'once, over one second')
    .option('--json', 'counters since the start of each, at once')
    .addHelpText('after', EXAMPLES)
    .action(async (names: string[], { json, stream }: { json?: boolean; stream: boolean }) => {
      const machines = names.length > 0 ? names.map((name) => runningMachine(name).machine) : allRunning();
      const read = async (): Promise<readonly (readonly [string, MachineStats])[]> =>
        await Promise.all(machines.map(async (machine) => [machine.name, await machine.stats()] as const));
      const first = await read();
      if (json === true) {
        const rows = first.map(([name, stats]) => ({ name, ...stats }));
        process.stdout.write(`${JSON.stringify(rows, undefined, 2)}\n`);
        return;
      }
      for (let before = first; ; ) {
        await sleep(INTERVAL_MS);
        const now = before === first ? await read() : await read().catch(noneWhenEnded(machines));
        if (now === undefined) return;
        const rows = now.map(([name, stats], i) => row(name, before[i]?.[1] ?? stats, stats));
        process.stdout.write(
          `${before !== first && process.stdout.isTTY ? HOME : ''}${formatTable(HEAD, rows)}`,
        );
        if (!stream || machines.length === 0 || process.stdout.destroyed) return;
        before = now;
      }
    });
}

/** Where the table stands that is written over (ECMA-48, CUP and ED). */
const HOME = '\u001b[H\u001b[J';

/** Makes what ends the stream when a machine has ended, and passes on any other error. */
function noneWhenEnded(machines: readonly RemoteMachine[]): (error: unknown) => undefined {
  return (error) => {
    const running = new MachineStore().list().filter(({ record }) => isRunning(record));
    if (machines.every(({ name }) => running.some(({ record }) => record.name === name))) throw error;
    return undefined;
  };
}

const HEAD = ['NAME', 'STATE', 'CPU', 'MEMORY', 'COSTS', 'EXITS/S', 'TO JS/S', 'REQUESTS/S'];

function row(name: string, before: MachineStats, now: MachineStats): string[] {
  const rates = ratesBetween(before, now);
  const rounded = (value: number | undefined): string =>
    value === undefined ? '-' : Math.round(value).toString();
  return [
    name,
    now.state,
    `${rounded(rates && rates.cpu * 100)} %`,
    formatBytes(now.memoryBytes - (now.balloonBytes ?? 0)),
    formatBytes(now.process.proportionalBytes),
    rounded(rates?.exits),
    rounded(rates?.toJavaScript),
    rounded(rates?.devices.reduce((sum, { requests }) => sum + requests, 0)),
  ];
}

function allRunning(): RemoteMachine[] {
  return new MachineStore()
    .list()
    .filter(({ record }) => isRunning(record) && record.serves !== true)
    .map(({ folder }) => machineIn(folder));
}
