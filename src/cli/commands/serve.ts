/** `tsvm serve`: one process that runs many machines, and `--in`, by which others are made in it. */
import { resolve } from 'node:path';
import { Command } from 'commander';
import type { RemoteMachine } from '../../control/client/connect.js';
import { EXIT_CODES } from '../../control/exit-codes.js';
import { checkName, MachineStore } from '../../control/machine-store.js';
import type { SlotBindings } from '../../control/pool-request.js';
import { TsvmError } from '../../errors.js';
import { backgroundName, reportReady, startInBackground } from '../background.js';
import { addBindingOptions, deviceBindings, sayBound, withCommandLine } from '../options/binding-options.js';
import { readConfigFile } from '../options/config-file.js';
import { type DeviceOptions, once } from '../options/device-options.js';
import { runningMachine } from '../session/running.js';
import { StopSignals } from '../session/stop-signals.js';
import { parseCount, parseMemory } from '../values.js';
import { sayWithoutKvm } from '../without-kvm.js';

const EXAMPLES = `
Examples:
  tsvm serve --name pool -d               Node's memory once, not for each machine
  tsvm make pool web --snapshot here     a machine in it, of a saved one; the next of the same in a millisecond
  tsvm make pool job --snapshot "$(tsvm template list --json | jq -r '.[0].directory')" -- ./job
  tsvm make pool db --snapshot there --disk 0=root.img --net 0=tap,name=tap0
                                          what it may have of this host: a snapshot gets nothing because it asks for it
  tsvm make pool db --config-file vm.json
  tsvm stop pool                          ends all its machines`;

export function serveCommand(): Command {
  return new Command('serve')
    .summary('run many machines in one process')
    .description('Run machines that others ask for (tsvm make, PUT /tsvm/machines/NAME) in this process.')
    .requiredOption('--name <name>', 'by which it is found', once('--name'))
    .option('-d, --detach', 'in the background')
    .option('--max-machines <n>', 'refuse to run more of them than that at once')
    .option('--max-memory <size>', 'refuse machines beyond so much memory together: 16G')
    .addHelpText('after', EXAMPLES)
    .action(async (options: ServeOptions) => {
      process.exitCode = await servePool(options);
    });
}

interface ServeOptions {
  name: string;
  detach?: boolean;
  maxMachines?: string;
  maxMemory?: string;
}

export function makeCommand(): Command {
  const command = new Command('make')
    .summary('make a machine in the process of tsvm serve')
    .argument('<pool>', 'the name of tsvm serve')
    .argument('<name>', 'of the machine')
    .argument('[command...]', 'for a guest that waits for one (after --)')
    .option('--snapshot <dir>', 'what tsvm snapshot saved, or a template')
    .option('--config-file <file>', 'a machine in Firecracker’s words, as GET /vm/config gives it');
  return addBindingOptions(command)
    .addHelpText('after', EXAMPLES)
    .action(async (pool: string, name: string, command: string[], options: MakeOptions) => {
      checkName(name);
      const devices = deviceBindings(options);
      const request = await requestOf(command, options, devices);
      try {
        await runningMachine(pool).machine.make(name, request);
      } catch (error) {
        throw 'snapshot' in request ? await withCommandLine(error, request.snapshot, { devices }) : error;
      }
    });
}

interface MakeOptions extends DeviceOptions {
  snapshot?: string;
  configFile?: string;
}

async function requestOf(
  command: readonly string[],
  { snapshot, configFile }: MakeOptions,
  devices: SlotBindings,
): Promise<Parameters<RemoteMachine['make']>[1]> {
  if ((snapshot === undefined) === (configFile === undefined)) {
    throw new TsvmError('TSVM_USAGE', 'tsvm make: one of --snapshot and --config-file', {
      hint: 'for example: --snapshot DIR',
    });
  }
  // The other process may stand elsewhere.
  if (snapshot !== undefined)
    return {
      snapshot: resolve(snapshot),
      ...(command.length === 0 ? {} : { command }),
      ...(Object.keys(devices).length === 0 ? {} : { devices }),
    };
  const [slot] = Object.keys(devices);
  if (slot !== undefined) {
    throw new TsvmError('TSVM_USAGE', `${slot}: a machine that is no saved one has it in its --config-file`, {
      hint: 'leave it out',
    });
  }
  const text = await readConfigFile(configFile ?? '');
  try {
    return { config: JSON.parse(text) as object };
  } catch (cause) {
    throw new TsvmError('TSVM_FILE', `the configuration ${configFile}: ${(cause as Error).message}`, {
      hint: 'check the file: it must be JSON',
      cause,
    });
  }
}

async function servePool({ name, detach, maxMachines, maxMemory }: ServeOptions): Promise<number> {
  checkName(name);
  const limits = {
    machines: maxMachines === undefined ? undefined : parseCount('--max-machines', maxMachines, 1, 1_000_000),
    memoryBytes: maxMemory === undefined ? undefined : parseMemory('--max-memory', maxMemory),
  };
  if (backgroundName() === undefined)
    sayWithoutKvm('each machine that is asked for is refused until there is one', { always: true });
  if (detach === true && backgroundName() === undefined) return await startInBackground(name);
  const { Pool } = await import('../../control/pool.js');
  using stopSignals = StopSignals.ofMachine();
  await using pool = await Pool.open(new MachineStore(), name, limits);
  pool.instance.onBind = (machine, slot, text) => sayBound(`${machine}: ${slot}`, text);
  if (stopSignals.exitCode !== undefined) return stopSignals.exitCode;
  stopSignals.watch(pool.instance);
  if (backgroundName() === undefined)
    process.stderr.write(`tsvm: runs machines for: tsvm make ${name} NAME\n`);
  else reportReady();
  await pool.instance.ended;
  return stopSignals.exitCode ?? EXIT_CODES.ok;
}
