/** `tsvm top`: a look inside running machines. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { MachineStore } from '../../control/machine-store.js';
import { TsvmError } from '../../errors.js';
import { packageFile } from '../../util/package-file.js';

const EXAMPLES = `
Examples:
  tsvm top                                machines that have a name; ? shows the keys
  tsvm top --read-only                    nothing can be done to them from here
  tsvm top --once                         what it would show, once, for scripts; --json for programs

COSTS is the memory of a machine's process, pages that it shares in proportion.`;

const INTERVAL_MS = 1000;
const ONCE_COLUMNS = 120;

interface TopOptions {
  once?: boolean;
  json?: boolean;
  readOnly?: boolean;
  colour: boolean;
  mouse?: boolean;
}

export function topCommand(): Command {
  return new Command('top')
    .summary('watch machines: processor, memory, exits, devices, console')
    .option('--once', 'print what it would show, and end')
    .option('--json', 'with --once: as JSON, with rates over a second')
    .option('--read-only', 'only look')
    .option('--mouse', 'click machines and panes, turn the wheel (selecting text needs shift then)')
    .option('--no-colour', 'only what every terminal has (also: NO_COLOR in the environment)')
    .addHelpText('after', EXAMPLES)
    .action(async (options: TopOptions) => {
      if (options.once === true || options.json === true) await once(options.json === true);
      else await watch(options);
    });
}

async function once(json: boolean): Promise<void> {
  const [{ Sampler }, { overviewLines, select, summary }] = await Promise.all([
    import('../../dashboard/sampler.js'),
    import('../../dashboard/overview.js'),
  ]);
  const sampler = new Sampler(new MachineStore());
  await sampler.look();
  await sleep(INTERVAL_MS);
  await sampler.look();
  sampler.close();
  const views = select(sampler.views, '', 'name');
  if (json) {
    const machines = views.map(({ record, state, stats, rates, container }) => ({
      ...record,
      state,
      stats,
      rates,
      container,
    }));
    process.stdout.write(`${JSON.stringify(machines, undefined, 2)}\n`);
  } else {
    const { head, lines } = overviewLines(views, process.stdout.columns ?? ONCE_COLUMNS);
    process.stdout.write(`${[summary(views), head, ...lines].map((line) => line.trimEnd()).join('\n')}\n`);
  }
  // Its streams of events would keep this process.
  process.stdout.write('', () => process.exit(0));
}

async function watch({ readOnly, colour, mouse }: TopOptions): Promise<void> {
  if (process.stdin.isTTY !== true || process.stdout.isTTY !== true) {
    throw new TsvmError('TSVM_USAGE', 'tsvm top needs a terminal', { hint: 'for scripts: tsvm top --once' });
  }
  const [{ runDashboard }, { isUtf8 }] = await Promise.all([
    import('../../dashboard/screen.js'),
    import('../../dashboard/text.js'),
  ]);
  await runDashboard({
    readOnly: readOnly === true,
    mouse: mouse === true,
    colour: colour && !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb',
    unicode: isUtf8(process.env),
    attach: [process.execPath, packageFile('dist/bin/tsvm.cjs'), 'attach'],
  });
  process.exit(0); // blessed keeps listening
}
