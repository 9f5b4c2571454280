/** `tsvm ps`: which machines there are. */
import { Command } from 'commander';
import {
  isRunning,
  type MachineFolder,
  type MachineRecord,
  MachineStore,
} from '../../control/machine-store.js';
import { formatAge } from '../../util/age.js';
import { printable } from '../../util/printable.js';
import { formatBytes } from '../../util/units.js';
import { collect } from '../options/device-options.js';
import { parseRowFilters, parseRowFormat, type RowFields } from '../options/row-format.js';
import { describeEnd, machineIn } from '../session/running.js';
import { formatTable } from '../table.js';

const EXAMPLES = `
Examples:
  tsvm ps                                 machines with a name that run
  tsvm ps -a                              those that have ended as well, until tsvm rm
  tsvm rm $(tsvm ps -aq --filter status=ended)
  tsvm ps --format '{{.Name}}\\t{{.State}}' --filter isolation=container
  tsvm ps --json | jq -r '.[].name'

A name of --filter may be given several times: one of its values is enough. name=TEXT is a part of the name; status= and
isolation= (vm, container) are the whole word; label=NAME or label=NAME=VALUE. The fields of --format are Name, State, Isolation, Cpus, Memory, Age, Pid and Command.`;

interface PsOptions {
  all?: boolean;
  quiet?: boolean;
  format?: string;
  filter?: string[];
  json?: boolean;
}

export function psCommand(): Command {
  return new Command('ps')
    .alias('ls')
    .summary('list machines and containers')
    .description('List machines and containers that have a name: those that run, or all.')
    .option('-a, --all', 'those that have ended, too')
    .option('-q, --quiet', 'names alone')
    .option('--format <template>', 'json, or a line for each: {{.Name}} is {{.State}}')
    .option(
      '--filter <name=value>',
      'only those with this name, status, isolation or label; repeatable',
      collect,
    )
    .option('--json', 'all that is known of each, as a list')
    .addHelpText('after', EXAMPLES)
    .action(async (options: PsOptions) => {
      const show = lineOf(options);
      const isAsked = parseRowFilters(options.filter ?? [], FILTERS);
      const found = new MachineStore()
        .list()
        .filter(({ record }) => options.all === true || isRunning(record));
      const known = await Promise.all(
        found.map(async ({ folder, record }) => ({
          ...record,
          state: isRunning(record) ? await stateOf(folder) : 'Ended',
        })),
      );
      const machines = known.filter(isAsked);
      if (show !== undefined) {
        for (const machine of machines) process.stdout.write(`${show(fieldsOf(machine))}\n`);
        return;
      }
      process.stdout.write(
        options.json === true || options.format === 'json'
          ? `${JSON.stringify(machines, undefined, 2)}\n`
          : formatTable(HEAD, machines.map(row)),
      );
    });
}

const HEAD = ['NAME', 'STATE', 'ISOLATION', 'CPUS', 'MEMORY', 'AGE', 'PID', 'COMMAND'];

type ListedMachine = MachineRecord & { readonly state: string };

const isWord = (text: string, value: string): boolean => text.toLowerCase() === value.toLowerCase();

const FILTERS: Readonly<Record<string, (machine: ListedMachine, value: string) => boolean>> = {
  name: ({ name }, value) => name.includes(value),
  status: ({ state }, value) => isWord(state, value),
  isolation: ({ isolation = 'vm' }, value) => isWord(isolation, value),
  label: ({ labels = {} }, wanted) => {
    const [, name = wanted, value] = /^([^=]*)=(.*)$/s.exec(wanted) ?? [];
    return Object.hasOwn(labels, name) && (value === undefined || labels[name] === value);
  },
};

/** Writer of a machine's line, if not all of it is shown. */
function lineOf({ quiet, format }: PsOptions): ((fields: RowFields) => string) | undefined {
  if (quiet === true) return ({ name = '' }) => name;
  if (format === undefined || format === 'json') return undefined;
  return parseRowFormat(
    format,
    HEAD.map((name) => name.toLowerCase()),
  );
}

/** Fields of a machine, by the heads of the table's columns. */
function fieldsOf(machine: ListedMachine): RowFields {
  const cells = row(machine);
  return Object.fromEntries(HEAD.map((name, i) => [name.toLowerCase(), printable(cells[i] ?? '')]));
}

function row(record: ListedMachine): string[] {
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
