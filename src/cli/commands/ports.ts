/** `tsvm port` and `tsvm forward`: ports of a machine or container that runs. Neither needs a network card. */
import { once } from 'node:events';
import { Command } from 'commander';
import { TsvmError } from '../../errors.js';
import { checkPort, LOOPBACK, PortForward } from '../../sandbox/port-forward.js';
import { Cleanup } from '../../util/cleanup.js';
import { agentOfNamed } from '../session/named-agent.js';
import { formatTable } from '../table.js';

export function portCommand(): Command {
  return new Command('port')
    .summary('list the ports that listen in a machine or container')
    .description(
      'List the TCP ports that something listens on in a machine or container that runs and has a name.',
    )
    .argument('<name>', 'of the machine or container')
    .option('--json', 'as JSON')
    .addHelpText('after', '\nExamples:\n  tsvm port web\n  tsvm port --json web | jq -r ".[].port"')
    .action(async (name: string, { json }: { json?: boolean }) => {
      await using agent = agentOfNamed(name);
      const ports = [...(await agent.ports.list())].sort((a, b) => a.port - b.port);
      if (json === true) process.stdout.write(`${JSON.stringify(ports, undefined, 2)}\n`);
      else {
        const rows = ports.map(({ protocol, address, port }) => [`${port}/${protocol}`, address]);
        process.stdout.write(formatTable(['PORT', 'ADDRESS'], rows));
      }
    });
}

const EXAMPLES = `
Examples:
  tsvm forward web 8080:80                  http://127.0.0.1:8080 is port 80 of web, until Ctrl-C
  tsvm forward web 80                       a free port of this host, which is printed
  tsvm forward web 0.0.0.0:8080:80 5432:5432

Connections end at the loopback interface of the machine or container: what listens only there is reached too.`;

export function forwardCommand(): Command {
  return new Command('forward')
    .summary('lead ports of this host into a machine or container that runs')
    .description(
      'Lead ports of this host to ports in a machine or container that runs and has a name, until Ctrl-C.',
    )
    .argument('<name>', 'of the machine or container')
    .argument('<port...>', '[[HOSTIP:]HOSTPORT:]PORT')
    .addHelpText('after', EXAMPLES)
    .action(async (name: string, texts: string[]) => {
      await forward(name, texts);
    });
}

/** Ports of `[[HOSTIP:]HOSTPORT:]PORT`; an address of IPv6 stands in brackets. @throws TsvmError `TSVM_USAGE` */
export function parseForward(text: string): { host: string; hostPort: number; port: number } {
  const [, bracketed, plain, hostPort, port] =
    /^(?:(?:(?:\[([^\]]*)\]|([^:[\]]*)):)?(\d*):)?(\d+)$/.exec(text) ?? [];
  if (port === undefined) {
    throw new TsvmError('TSVM_USAGE', `'${text}' is no port to forward`, {
      hint: '[[HOSTIP:]HOSTPORT:]PORT: 8080:80, 127.0.0.1:8080:80, 80',
    });
  }
  const forward = {
    host: bracketed || plain || LOOPBACK,
    hostPort: Number(hostPort ?? 0),
    port: Number(port),
  };
  checkPort(forward.port);
  checkPort(forward.hostPort, 0);
  return forward;
}

async function forward(name: string, texts: readonly string[]): Promise<void> {
  const asked = texts.map(parseForward);
  await using agent = agentOfNamed(name);
  await agent.ports.list(); // a machine without an agent is told of now
  const stop = Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
  const opened = new Cleanup();
  try {
    for (const one of asked) {
      const listening = await PortForward.listen((to) => agent.ports.dial(to), one);
      opened.defer(() => listening[Symbol.asyncDispose]());
      const { host, hostPort, port } = listening;
      const address = host.includes(':') ? `[${host}]` : host;
      process.stdout.write(`${address}:${hostPort} -> ${name}:${port}\n`);
    }
    await stop;
  } finally {
    await opened.run();
  }
}
