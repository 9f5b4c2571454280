/** `tsvm logs`: what a machine's console said. */
import { createReadStream, existsSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { Command } from 'commander';
import { isRunning, MachineStore } from '../../control/machine-store.js';
import { TsvmError } from '../../errors.js';
import { lastLines } from '../../util/last-lines.js';
import { machineIn } from '../session/running.js';
import { parseCount } from '../values.js';

const EXAMPLES = `
Examples:
  tsvm logs web                           the last one to two MiB of it, also when it has ended
  tsvm logs --tail 20 web                 the last lines of it
  tsvm logs -f web                        the last of it, and what follows, until it ends or Ctrl-C`;

export function logsCommand(): Command {
  return new Command('logs')
    .summary('show what a machine’s console said')
    .argument('<name>', 'of the machine')
    .option('-f, --follow', 'go on with what it says')
    .option('-n, --tail <lines>', 'the last lines alone, of what is kept')
    .addHelpText('after', EXAMPLES)
    .action(async (name: string, { follow, tail }: { follow?: boolean; tail?: string }) => {
      const lines = askedLines(tail, follow === true);
      const { folder, record } = new MachineStore().find(name);
      const sources =
        follow === true && isRunning(record)
          ? [await machineIn(folder).output()]
          : [`${folder.logPath}.1`, folder.logPath]
              .filter((path) => existsSync(path))
              .map((path) => createReadStream(path));
      try {
        if (lines !== undefined) {
          const whole = Buffer.concat(await Promise.all(sources.map(async (source) => await buffer(source))));
          process.stdout.write(lastLines(whole, lines));
          return;
        }
        for (const source of sources) await pipeline(source, process.stdout, { end: false });
      } catch (error) {
        // The reader went away (`| head`), or the machine did.
        const { code = '' } = error as { code?: string };
        if (!['EPIPE', 'ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE'].includes(code)) throw error;
      }
    });
}

/** Number of lines that are asked for; undefined for all. */
function askedLines(tail: string | undefined, follow: boolean): number | undefined {
  if (tail === undefined || tail === 'all') return undefined;
  const lines = parseCount('--tail', tail, 0, Number.MAX_SAFE_INTEGER);
  if (!follow) return lines;
  throw new TsvmError('TSVM_USAGE', '--tail: what follows has no last line', {
    hint: 'leave out --follow, or --tail',
  });
}
