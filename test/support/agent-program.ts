/** The agent's program, started as a container starts it: with a listening Unix socket as its descriptor 3. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { nativeFile } from '../../src/util/package-file.js';
import { must } from './must.js';

/** Where the programs of the agent are, from the repository's root, where tests run. */
const SOURCES = 'guests/agent';
const HOSTED = 'test/host/agent/hosted.c';
/** Files that hosted.c stands for. */
const FREESTANDING = ['entry.c', 'memory.c'];
const BACKLOG = 511;

export interface AgentProgram extends AsyncDisposable {
  readonly pid: number;
  /** What it said, such as a sanitizer's report. */
  readonly complaints: string;
  readonly isAlive: boolean;
  dial(): Promise<Duplex>;
  /** Descriptors that it has. */
  descriptors(): number;
  /** KiB that it has in memory. */
  residentKiB(): number;
  /** CPU time that it took, in ticks of 10 ms. */
  ticks(): number;
}

/** Starts it; `env` is its environment, which commands have too. */
export async function startAgent(
  program = nativeFile('agent'),
  env: Readonly<Record<string, string>> = { PATH: '/usr/local/bin:/usr/bin:/bin' },
): Promise<AgentProgram> {
  const folder = mkdtempSync(join(tmpdir(), 'tsvm-agent-'));
  const socket = join(folder, 'agent');
  const server = createServer();
  server.listen({ path: join(folder, 'made'), backlog: BACKLOG });
  await once(server, 'listening');
  const child = spawn(program, { env, stdio: ['ignore', 'ignore', 'pipe', descriptorOf(server)] });
  const { pid } = child;
  if (pid === undefined) throw new Error(`${program} does not start`);
  let complaints = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    complaints += text;
  });
  // A server that is closed removes its path.
  renameSync(join(folder, 'made'), socket);
  server.close();
  const stat = (): string[] => readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
  return {
    pid,
    get complaints() {
      return complaints;
    },
    get isAlive() {
      return child.exitCode === null && child.signalCode === null;
    },
    async dial() {
      const connection = connect(socket);
      await once(connection, 'connect');
      return connection;
    },
    descriptors: () => readdirSync(`/proc/${pid}/fd`).length,
    residentKiB: () => Number(/VmRSS:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]),
    ticks: () => Number(stat()[11]) + Number(stat()[12]),
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
      rmSync(folder, { recursive: true });
    },
  };
}

/** Descriptor of a server, which Node keeps for itself. */
function descriptorOf(server: Server): number {
  const { _handle } = server as Server & { readonly _handle?: { readonly fd?: number } };
  if (_handle?.fd === undefined) throw new Error('a server without a descriptor');
  return _handle.fd;
}

/** Compiles it with the C library and sanitizers, which end it at the first thing that they find. */
export function compileSanitized(to: string): void {
  const files = readdirSync(SOURCES).filter((name) => name.endsWith('.c') && !FREESTANDING.includes(name));
  const flags = [
    '-std=gnu11',
    '-g',
    '-O1',
    '-fno-builtin',
    '-fsanitize=address,undefined',
    '-fno-sanitize-recover=all',
  ];
  must('gcc', ...flags, '-o', to, HOSTED, ...files.map((name) => join(SOURCES, name)));
}
