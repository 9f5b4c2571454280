/** Machines that have ended, once more: start, restart, rename. */
import { Command, Option } from 'commander';
import { isRunning, type MachineRecord, MachineStore } from '../../control/machine-store.js';
import { TsvmError } from '../../errors.js';
import { startInBackground } from '../background.js';
import { eachOf } from '../session/each-of.js';
import { machineIn, recordedEnd } from '../session/running.js';
import { parseDuration } from '../values.js';

const names = ['<name...>', 'of machines'] as const;

export function startCommand(): Command {
  return (
    new Command('start')
      .summary('start machines that have ended, once more')
      .description(
        'Start machines that have ended, in the background: by the command line that made them, with their root disks (--root-disk). What else was written to their roots was gone with their memory.',
      )
      .argument(...names)
      // Of tsvm make, which was called start before there was this.
      .allowUnknownOption()
      .addOption(new Option('--snapshot <dir>').hideHelp())
      .addOption(new Option('--config-file <file>').hideHelp())
      .addHelpText('after', '\nExamples:\n  tsvm stop db && tsvm start db')
      .action((machines: string[], options: { snapshot?: string; configFile?: string }) => {
        refuseOptions(machines, options.snapshot ?? options.configFile);
        return eachOf(machines, async (name) => {
          const { record } = new MachineStore().find(name);
          if (isRunning(record)) {
            throw new TsvmError('TSVM_STATE', `${name} runs`, { hint: `tsvm restart ${name}` });
          }
          await start(record);
        });
      })
  );
}

export function restartCommand(): Command {
  return new Command('restart')
    .summary('end machines, and start them once more')
    .description('What tsvm stop does for machines that run, then what tsvm start does.')
    .argument(...names)
    .option('--timeout <duration>', 'how long the guest may take to end: 10s, 500ms', '10s')
    .addHelpText('after', '\nExamples:\n  tsvm restart db')
    .action((machines: string[], options: { timeout: string }) => {
      const timeoutMs = parseDuration('--timeout', options.timeout);
      return eachOf(machines, async (name) => {
        const { folder, record } = new MachineStore().find(name);
        refuseWithout(record);
        if (isRunning(record)) {
          const machine = machineIn(folder);
          await machine.stop(timeoutMs);
          await recordedEnd({ folder, record, machine });
        }
        await start(record);
      });
    });
}

export function renameCommand(): Command {
  return new Command('rename')
    .summary('give a machine that has ended another name')
    .argument('<name>', 'of the machine')
    .argument('<to>', 'its new name')
    .addHelpText('after', '\nExamples:\n  tsvm stop web && tsvm rename web old')
    .action(async (name: string, to: string) => {
      const { renameRootDisk } = await import('../../image/root-disk.js');
      new MachineStore().rename(name, to);
      renameRootDisk(name, to);
    });
}

/** Runs the command line that made it. */
async function start(record: MachineRecord): Promise<void> {
  const status = await startInBackground(record.name, refuseWithout(record));
  // Why it has failed is said.
  if (status !== 0) process.exitCode = status;
}

/** @throws TsvmError `TSVM_STATE` for a machine that no command line made */
function refuseWithout({ name, start }: MachineRecord): NonNullable<MachineRecord['start']> {
  if (start !== undefined) return start;
  throw new TsvmError('TSVM_STATE', `${name} was made by a program, or by another machine`, {
    hint: 'it is made anew where it was made: tsvm fork, tsvm make, or the program',
  });
}

function refuseOptions(words: readonly string[], source: string | undefined): void {
  if (source !== undefined) {
    throw new TsvmError('TSVM_USAGE', 'tsvm start: it starts machines that have ended', {
      hint: `a machine in the process of tsvm serve: tsvm make POOL NAME --snapshot DIR`,
    });
  }
  const option = words.find((word) => word.startsWith('-'));
  if (option === undefined) return;
  throw new TsvmError('TSVM_USAGE', `unknown option '${option}'`, {
    hint: 'tsvm start --help lists its options',
  });
}
