/** The list of machines: one line for each. */
import { formatAge } from '../util/age.js';
import { formatBytes } from '../util/units.js';
import { costOf, cpuOf, type View } from './sampler.js';
import { formatCount, sparkline, toWidth } from './text.js';

export const SORTS = ['name', 'cpu', 'memory', 'exits'] as const;
export type Sort = (typeof SORTS)[number];

const SPARK = 12;

interface Column {
  readonly title: string;
  readonly width: number;
  readonly right?: boolean;
  /** Left out first where there is no room: the higher, the sooner. */
  readonly luxury: number;
  cell(view: View): string;
}

const COLUMNS: readonly Column[] = [
  { title: 'STATE', width: 9, luxury: 0, cell: ({ state }) => state },
  { title: 'CPU%', width: 6, right: true, luxury: 0, cell: (view) => percent(cpuOf(view)) },
  {
    title: '',
    width: SPARK,
    luxury: 1,
    cell: ({ cpuHistory, record }) => sparkline(cpuHistory, SPARK, record.cpus),
  },
  {
    title: 'COSTS',
    width: 10,
    right: true,
    luxury: 0,
    cell: (view) => bytes(costOf(view)),
  },
  {
    title: 'MEMORY',
    width: 10,
    right: true,
    luxury: 2,
    cell: ({ record }) => (record.memoryBytes === 0 ? '-' : formatBytes(record.memoryBytes)),
  },
  { title: 'EXITS/S', width: 8, right: true, luxury: 0, cell: ({ rates }) => count(rates?.exits) },
  { title: 'DISK/S', width: 10, right: true, luxury: 3, cell: ({ rates }) => bytes(rates?.diskBytes) },
  { title: 'NET/S', width: 6, right: true, luxury: 3, cell: ({ rates }) => count(rates?.netFrames) },
  { title: 'CPUS', width: 4, right: true, luxury: 4, cell: ({ record }) => String(record.cpus) },
  {
    title: 'AGE',
    width: 7,
    right: true,
    luxury: 1,
    cell: ({ record }) => age(record.createdMs, record.end?.atMs),
  },
];

/** Those that the filter lets through, in order; the running ones first. */
export function select(views: readonly View[], filter: string, sort: Sort): View[] {
  const value = (view: View): number =>
    ({
      name: 0,
      cpu: cpuOf(view) ?? 0,
      memory: costOf(view) ?? 0,
      exits: view.rates?.exits ?? 0,
    })[sort];
  const over = (view: View): number => Number(view.record.end !== undefined);
  return views
    .filter(({ name, record }) =>
      `${name} ${record.command.join(' ')}`.toLowerCase().includes(filter.toLowerCase()),
    )
    .sort((a, b) => over(a) - over(b) || value(b) - value(a) || (a.name < b.name ? -1 : 1));
}

/** The head and a line for each, as wide as the terminal. */
export function overviewLines(views: readonly View[], width: number): { head: string; lines: string[] } {
  const nameWidth = Math.min(24, Math.max(8, ...views.map(({ name }) => name.length)));
  const columns = [...COLUMNS];
  const used = (): number => nameWidth + columns.reduce((sum, column) => sum + column.width + 1, 0);
  while (used() > width) {
    const most = Math.max(...columns.map(({ luxury }) => luxury));
    if (most === 0) break;
    columns.splice(
      columns.findLastIndex(({ luxury }) => luxury === most),
      1,
    );
  }
  const line = (name: string, cell: (column: Column) => string): string =>
    toWidth(
      [
        toWidth(name, nameWidth),
        ...columns.map((column) => {
          const text = cell(column);
          return column.right === true
            ? text.padStart(column.width).slice(-column.width)
            : toWidth(text, column.width);
        }),
      ].join(' '),
      width,
    );
  return {
    head: line('NAME', ({ title }) => title),
    lines: views.map((view) => line(view.name, (column) => column.cell(view))),
  };
}

/** All of them in one line. */
export function summary(views: readonly View[]): string {
  const running = views.filter(
    ({ record, container }) => record.end === undefined && container === undefined,
  );
  const containers = views.filter(({ container }) => container !== undefined).length;
  // A process may run several: it counts once.
  const processes = new Map(running.map((view) => [view.record.pid, view]));
  const cpu = [...processes.values()].reduce((sum, { rates }) => sum + (rates?.cpu ?? 0), 0);
  const costs = [...processes.values()].reduce(
    (sum, { stats }) => sum + (stats?.process.proportionalBytes ?? 0),
    0,
  );
  const memory = running.reduce((sum, { record }) => sum + record.memoryBytes, 0);
  const beside = containers === 0 ? '' : `, ${containers} container${containers === 1 ? '' : 's'}`;
  const machines = `${running.length} machine${running.length === 1 ? '' : 's'}${beside}`;
  return `${machines}   CPU ${percent(cpu)}%   ${formatBytes(costs)} for ${formatBytes(memory)} of guest memory`;
}

const percent = (share: number | undefined): string =>
  share === undefined ? '-' : (share * 100).toFixed(share < 0.0995 ? 1 : 0);
const bytes = (value: number | undefined): string => (value === undefined ? '-' : formatBytes(value));
const count = (value: number | undefined): string => (value === undefined ? '-' : formatCount(value));
const age = (fromMs: number, toMs = Date.now()): string => formatAge(toMs - fromMs);
