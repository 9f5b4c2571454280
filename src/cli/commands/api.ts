/** `tsvm api`: a machine that is configured, started and steered over HTTP, as Firecracker is. */
import { Command } from 'commander';
import { EXIT_CODES, exitCodeOf } from '../../control/exit-codes.js';
import { commandEnd, instanceEnd } from '../../control/instance-end.js';
import { TsvmError } from '../../errors.js';
import { endOf } from '../../guest/life.js';
import { isHostname } from '../../util/hostname.js';
import { sayBound } from '../options/binding-options.js';
import { readConfigFile } from '../options/config-file.js';
import { attachConsole } from '../session/console.js';
import { explainEnd } from '../session/machine-end.js';
import { connectStreams, exitWithoutReader, outputTaken } from '../session/run-streams.js';
import { StopSignals } from '../session/stop-signals.js';

const EXAMPLES = `
Examples:
  tsvm api --api-sock /tmp/vm.sock        then, as of Firecracker's getting-started guide:
    curl --unix-socket /tmp/vm.sock -X PUT http://localhost/boot-source -d '{"kernel_image_path":"vmlinux","boot_args":"console=ttyS0 reboot=k panic=1"}'
    curl --unix-socket /tmp/vm.sock -X PUT http://localhost/drives/rootfs -d '{"drive_id":"rootfs","path_on_host":"root.ext4","is_root_device":true,"is_read_only":false}'
    curl --unix-socket /tmp/vm.sock -X PUT http://localhost/actions -d '{"action_type":"InstanceStart"}'
  tsvm api --api-sock /tmp/vm.sock --config-file vm.json
  tsvm api --no-api --config-file vm.json
  tsvm api --openapi > openapi.json       the API, described

The console is on this terminal. docs/api.md says what is the same as in Firecracker and what is not.`;

const DEFAULT_SOCKET = '/run/firecracker.socket';
const ANONYMOUS = 'anonymous-instance';

interface ApiOptions {
  apiSock?: string;
  api: boolean;
  configFile?: string;
  id: string;
  openapi?: boolean;
}

export function apiCommand(): Command {
  return new Command('api')
    .summary('a machine configured over HTTP, by Firecracker’s API')
    .option('--api-sock <path>', `the Unix socket to listen at (default: ${DEFAULT_SOCKET})`)
    .option('--config-file <file>', 'a whole configuration, as GET /vm/config gives it: start it')
    .option('--no-api', 'listen nowhere; needs --config-file')
    .option('--id <id>', 'of the machine; host name of a saved one’s guest', ANONYMOUS)
    .option('--no-seccomp', 'nothing: Firecracker’s clients say it, and there is no filter here to leave out')
    .option('--openapi', 'print the API’s description (OpenAPI 3.1) and end')
    .addHelpText('after', EXAMPLES)
    .action(async (options: ApiOptions) => {
      process.exitCode = await serveApi(options);
    });
}

async function serveApi(options: ApiOptions): Promise<number> {
  if (options.openapi === true) {
    const [{ openApiDocument }, { routes }] = await Promise.all([
      import('../../control/http/openapi.js'),
      import('../../control/routes.js'),
    ]);
    process.stdout.write(`${JSON.stringify(openApiDocument(routes), undefined, 2)}\n`);
    return EXIT_CODES.ok;
  }
  if (!options.api && options.configFile === undefined) {
    throw new TsvmError('TSVM_USAGE', '--no-api: then nobody could start the machine', {
      hint: 'give --config-file',
    });
  }
  if (!isHostname(options.id)) {
    throw new TsvmError('TSVM_USAGE', `--id ${JSON.stringify(options.id)}: not 1 to 64 bytes`, {
      hint: 'it is the host name of a saved machine’s guest, too',
    });
  }
  const [{ ControlServer }, { Instance }, { ConsoleLog }, { configure }, { draftOf }] = await Promise.all([
    import('../../control/http/server.js'),
    import('../../control/instance.js'),
    import('../../control/logs/console-log.js'),
    import('../../control/firecracker/config-file.js'),
    import('../../control/firecracker/draft.js'),
  ]);
  const text = options.configFile === undefined ? undefined : await readConfigFile(options.configFile);
  using stopSignals = StopSignals.ofMachine();
  const hostname = options.id === ANONYMOUS ? undefined : options.id;
  const instance = new Instance(options.id, new ConsoleLog(), { hostname });
  instance.onBind = (_name, slot, text) => sayBound(slot, text);
  await using _server = options.api
    ? await ControlServer.listen(instance, options.apiSock ?? DEFAULT_SOCKET)
    : undefined;
  if (stopSignals.exitCode !== undefined) return stopSignals.exitCode;
  stopSignals.watch(instance);
  // Whoever is told of the start is told before the guest says anything.
  const started = new Promise<void>((resolve) => {
    instance.onAdopt = resolve;
  });
  if (text !== undefined) {
    await configure(instance, text);
    await instance.start();
  }
  await Promise.race([started, instance.ended]);
  if (!instance.hasStarted) return stopSignals.exitCode ?? EXIT_CODES.ok;
  const { machine } = instance;
  const path = draftOf(instance).setup.serial?.serial_out_path;
  const file =
    path == null
      ? undefined
      : machine.on('console', (bytes) => instance.logFiles.at('serial', path).write(bytes));
  // The command of a saved machine has its streams here, if it was not run on a terminal: that is the console.
  const { channel } = machine;
  const isPiped = channel?.hasCommand === true && !channel.hasTerminal;
  const detach = path == null && !isPiped ? attachConsole(machine, { waitForCommand: false }) : () => {};
  const { signal: stop } = stopSignals;
  const { end, status } = await endOf(machine, isPiped ? connectStreams(channel, stop) : undefined);
  detach();
  await outputTaken(stop);
  file?.[Symbol.dispose]();
  if (path != null) await instance.logFiles.at('serial', path).close();
  explainEnd(end);
  const exitCode = stopSignals.exitCode ?? status ?? exitCodeOf(end);
  instance.finish(status === undefined ? instanceEnd(end, exitCode) : commandEnd(exitCode));
  process.stdin.destroy();
  if (stop.aborted) exitWithoutReader(exitCode);
  return exitCode;
}
