/** `tsvm logs`: what a machine's console said. */
import { createReadStream, existsSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { Command } from 'commander';
import { isRunning, MachineStore } from '../../control/machine-store.js';
import { machineIn } from '../session/running.js';

const EXAMPLES = `
Examples:
  tsvm logs web                           the last one to two MiB of it, also when it has ended
  tsvm logs -f web                        the last of it, and what follows, until it ends or Ctrl-C`;

export function logsCommand(): Command {
  return new Command('logs')
    .summary('show what a machine’s console said')
    .argument('<name>', 'of the machine')
    .option('-f, --follow', 'go on with what it says')
    .addHelpText('after', EXAMPLES)
    .action(async (name: string, { follow }: { follow?: boolean }) => {
      const { folder, record } = new MachineStore().find(name);
      const sources =
        follow === true && isRunning(record)
          ? [await machineIn(folder).output()]
          : [`${folder.logPath}.1`, folder.logPath]
              .filter((path) => existsSync(path))
              .map((path) => createReadStream(path));
      try {
        for (const source of sources) await pipeline(source, process.stdout, { end: false });
      } catch (error) {
        // The reader went away (`| head`), or the machine did.
        const { code = '' } = error as { code?: string };
        if (!['EPIPE', 'ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE'].includes(code)) throw error;
      }
    });
}
