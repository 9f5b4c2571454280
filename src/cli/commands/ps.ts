/** `tsvm ps`: which machines there are. */
import { Command } from 'commander';
import {
  isRunning,
  type MachineFolder,
  type MachineRecord,
  MachineStore,
} from '../../control/machine-store.js';
import { formatAge } from '../../util/age.js';
import { formatBytes } from '../../util/units.js';
import { describeEnd, machineIn } from '../session/running.js';
import { formatTable } from '../table.js';

const EXAMPLES = `
Examples:
  tsvm ps                                 machines with a name that run
  tsvm ps -a                              those that have ended as well, until tsvm rm
  tsvm ps --json | jq -r '.[].name'`;

interface PsOptions {
  all?: boolean;
  json?: boolean;
}

export function psCommand(): Command {
  return new Command('ps')
    .summary('list machines and containers')
    .description('List machines and containers that have a name: those that run, or all.')
    .option('-a, --all', 'those that have ended, too')
    .option('--json', 'all that is known of each, as a list')
    .addHelpText('after', EXAMPLES)
    .action(async (options: PsOptions) => {
      const found = new MachineStore()
        .list()
        .filter(({ record }) => options.all === true || isRunning(record));
      const machines = await Promise.all(
        found.map(async ({ folder, record }) => ({
          ...record,
          state: isRunning(record) ? await stateOf(folder) : 'Ended',
        })),
      );
      process.stdout.write(
        options.json === true
          ? `${JSON.stringify(machines, undefined, 2)}\n`
          : formatTable(HEAD, machines.map(row)),
      );
    });
}

const HEAD = ['NAME', 'STATE', 'ISOLATION', 'CPUS', 'MEMORY', 'AGE', 'PID', 'COMMAND'];

function row(record: MachineRecord & { readonly state: string }): string[] {
  const { name, state, isolation = 'vm', cpus, memoryBytes, createdMs, pid, command, end } = record;
  return [
    name,
    end === undefined ? state : `Ended, ${describeEnd(record)}`,
    isolation,
    cpus === 0 ? '-' : String(cpus),
    memoryBytes === 0 ? '-' : formatBytes(memoryBytes),
    formatAge(Date.now() - createdMs),
    end === undefined ? String(pid) : '-',
    command.join(' ') || '-',
  ];
}

/** State of a machine. One that does not answer must not keep the others from being seen. */
async function stateOf(folder: MachineFolder): Promise<string> {
  try {
    return await machineIn(folder).state();
  } catch {
    return 'No answer';
  }
}
