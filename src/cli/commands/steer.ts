/** Commands of one request each, to machines that run: pause, resume, stop, kill, wait, fork; and rm and inspect, which read the record. */
import { Command } from 'commander';
import { isRunning, MachineStore } from '../../control/machine-store.js';
import { TsvmError } from '../../errors.js';
import { eachOf } from '../session/each-of.js';
import { ANSWER_MS, machineIn, recordedEnd, runningMachine } from '../session/running.js';
import { parseDuration } from '../values.js';

const names = ['<name...>', 'of machines'] as const;

export function pauseCommand(): Command {
  return new Command('pause')
    .summary('stop a machine’s vCPUs')
    .argument(...names)
    .addHelpText('after', '\nExamples:\n  tsvm pause web && tsvm resume web')
    .action((machines: string[]) =>
      eachOf(machines, async (name) => {
        await runningMachine(name).machine.pause();
      }),
    );
}

export function resumeCommand(): Command {
  return new Command('resume')
    .summary('let a paused machine go on')
    .argument(...names)
    .addHelpText('after', '\nExamples:\n  tsvm resume web')
    .action((machines: string[]) =>
      eachOf(machines, async (name) => {
        await runningMachine(name).machine.resume();
      }),
    );
}

export function stopCommand(): Command {
  return new Command('stop')
    .summary('end a machine')
    .description(
      'End machines: the command of `tsvm run` gets SIGTERM and some time, then the guest powers off. A machine that has nobody to be asked is ended at once; disks are flushed.',
    )
    .argument(...names)
    .option('--timeout <duration>', 'how long the guest may take: 10s, 500ms', '10s')
    .addHelpText('after', '\nExamples:\n  tsvm stop web\n  tsvm stop --timeout 60s db')
    .action((machines: string[], options: { timeout: string }) => {
      const timeoutMs = parseDuration('--timeout', options.timeout);
      return eachOf(machines, async (name) => {
        const running = runningMachine(name);
        await running.machine.stop(timeoutMs);
        await recordedEnd(running);
      });
    });
}

export function killCommand(): Command {
  return new Command('kill')
    .summary('end a machine at once')
    .description(
      'End machines as pulling the plug does; disks are flushed. One whose process hangs is ended with it.',
    )
    .argument(...names)
    .addHelpText('after', '\nExamples:\n  tsvm kill web')
    .action((machines: string[]) =>
      eachOf(machines, async (name) => {
        const running = runningMachine(name);
        const { machine, record } = running;
        try {
          await machine.kill(ANSWER_MS);
          await recordedEnd(running);
        } catch (error) {
          if (!isRunning(record)) return; // it was about to end anyway
          try {
            process.kill(record.pid, 'SIGKILL');
          } catch {
            throw error;
          }
        }
      }),
    );
}

export function waitCommand(): Command {
  return new Command('wait')
    .summary('wait until machines have ended')
    .description(
      'Wait until machines have ended, and print their exit statuses, a line each; exit with the status that `tsvm boot` or `tsvm run` had, of several with that of the last.',
    )
    .argument(...names)
    .addHelpText(
      'after',
      '\nExamples:\n  tsvm run -d --name job -- ./job && tsvm wait job\n  tsvm wait one two                       0 and 1, for example, in two lines',
    )
    .action((machines: string[]) =>
      eachOf(machines, async (name) => {
        const exitCode = await exitCodeOfNamed(name);
        process.stdout.write(`${exitCode}\n`);
        process.exitCode = exitCode;
      }),
    );
}

async function exitCodeOfNamed(name: string): Promise<number> {
  const store = new MachineStore();
  const { folder, record } = store.find(name);
  try {
    if (isRunning(record)) return (await machineIn(folder).wait()).exitCode;
  } catch {
    // Its process is gone: the record says how.
  }
  return store.find(name).record.end?.exitCode ?? 0;
}

export function forkCommand(): Command {
  return new Command('fork')
    .summary('make running copies of a machine')
    .description(
      'Make running copies that share the machine’s memory until they write to it, in its process. Its disks get a layer for each.',
    )
    .argument('<name>', 'of the machine')
    .argument('<copy...>', 'names of the copies')
    .addHelpText('after', '\nExamples:\n  tsvm fork warm one two three')
    .action(async (name: string, copies: string[]) => {
      await runningMachine(name).machine.fork(copies);
    });
}

export function rmCommand(): Command {
  return new Command('rm')
    .summary('forget machines that have ended')
    .argument(...names)
    .option('-f, --force', 'end those that run')
    .addHelpText('after', '\nExamples:\n  tsvm rm web\n  tsvm rm -f $(tsvm ps -a --json | jq -r ".[].name")')
    .action((machines: string[], { force }: { force?: boolean }) =>
      eachOf(machines, async (name) => {
        const { removeRootDisk } = await import('../../image/root-disk.js');
        const isKnown = new MachineStore().list().some(({ record }) => record.name === name);
        // One that ended before the folder of machines was emptied has its disk still.
        if (!isKnown && removeRootDisk(name)) return;
        const { folder, record } = new MachineStore().find(name);
        if (isRunning(record)) {
          if (force !== true) {
            throw new TsvmError('TSVM_STATE', `${name} runs`, {
              hint: `tsvm stop ${name}, or tsvm rm -f ${name}`,
            });
          }
          const machine = machineIn(folder);
          await machine.kill();
          await recordedEnd({ folder, record, machine });
        }
        folder.remove();
        removeRootDisk(name);
      }),
    );
}

export function inspectCommand(): Command {
  return new Command('inspect')
    .summary('print all that is known of a machine, as JSON')
    .argument('<name>', 'of the machine')
    .addHelpText('after', '\nExamples:\n  tsvm inspect web | jq .machine.devices')
    .action(async (name: string) => {
      const { folder, record } = new MachineStore().find(name);
      const facts = { record, folder: folder.path, socket: folder.socketPath };
      const machine = machineIn(folder);
      const isContainer = record.isolation === 'container';
      const running = isRunning(record)
        ? {
            machine: await machine.call<object>('GET', '/tsvm/machine'),
            ...(isContainer ? {} : { config: await machine.call<object>('GET', '/vm/config') }),
            ...(isContainer || record.serves === true ? {} : { timeline: await machine.timeline() }),
          }
        : {};
      process.stdout.write(`${JSON.stringify({ ...facts, ...running }, undefined, 2)}\n`);
    });
}
