/**
 * A host and its LAN as two network namespaces, to see what a guest with a user-mode network reaches.
 *
 * The host is 192.0.2.2; at 192.0.2.1 is its router, at 192.0.2.9 a neighbour, and at 169.254.169.254 what clouds have there. On each
 * something listens on port 7001, and on the host's loopback alone on port 7002.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { notHere } from './skip-reasons.js';

export const PLACES = {
  'the host’s own address': '192.0.2.2',
  'the host’s router': '192.0.2.1',
  'a neighbour in its LAN': '192.0.2.9',
  'the metadata service': '169.254.169.254',
} as const;
export const PORT = 7001;
export const LOOPBACK_PORT = 7002;

const LISTEN = `
  const { createServer } = require('node:net');
  const servers = JSON.parse(process.argv[1]).map(({ port, address }) =>
    new Promise((done) => createServer((socket) => socket.on('error', () => {}).end('hello')).listen(port, address, done)));
  Promise.all(servers).then(() => process.stdout.write('ready'));
`;

export class SmallNet {
  /** Process in the host's network namespace. */
  readonly host: number;
  readonly #processes: readonly ChildProcess[];

  private constructor(host: number, processes: readonly ChildProcess[]) {
    this.host = host;
    this.#processes = processes;
  }

  static async open(): Promise<SmallNet> {
    const processes: ChildProcess[] = [];
    const start = async (command: readonly string[]): Promise<number> => {
      const [program = '', ...args] = command;
      const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
      processes.push(child);
      await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
      return child.pid as number;
    };
    const listening = (pid: number, ...at: { port: number; address: string }[]): Promise<number> =>
      start([...enter(pid), process.execPath, '-e', LISTEN, JSON.stringify(at)]);
    const namespace = ['unshare', '-n', 'sh', '-c', 'echo ready; exec sleep 600'];
    const [host, lan] = [await start(namespace), await start(namespace)];
    const net = new SmallNet(host, processes);
    try {
      const inLan = (args: string): void => net.#ip(lan, args);
      const inHost = (args: string): void => net.#ip(host, args);
      inLan(`link add lan0 type veth peer name eth0 netns ${host}`);
      for (const address of ['192.0.2.1/24', '192.0.2.9/24', '169.254.169.254/32'])
        inLan(`addr add ${address} dev lan0`);
      inLan('link set lan0 up');
      inHost('link set lo up');
      inHost('addr add 192.0.2.2/24 dev eth0');
      inHost('link set eth0 up');
      inHost('route add default via 192.0.2.1');
      await listening(
        host,
        { port: PORT, address: '0.0.0.0' },
        { port: LOOPBACK_PORT, address: '127.0.0.1' },
      );
      await listening(lan, { port: PORT, address: '0.0.0.0' });
      return net;
    } catch (error) {
      net.close();
      throw error;
    }
  }

  #ip(pid: number, args: string): void {
    const [program = '', ...rest] = [...enter(pid), 'ip', ...args.split(' ')];
    execFileSync(program, rest, { stdio: 'pipe' });
  }

  close(): void {
    for (const child of this.#processes) child.kill('SIGKILL');
  }
}

/** Beginning of a command that runs in the network namespace of a process. */
export const enter = (pid: number): string[] => ['nsenter', '-t', String(pid), '-n'];

/** Reason why there can be none here, if there cannot. */
export function smallNetProblem(): string | undefined {
  try {
    execFileSync('unshare', ['-n', 'ip', 'link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'eth0'], {
      stdio: 'pipe',
    });
    return undefined;
  } catch (error) {
    return notHere(`no namespaces with a cable between them: ${String(error)}`);
  }
}
