/** Agent whose sandbox is this host: its commands are processes of the test's, its ports those of the loopback interface. */
import { type ChildProcess, spawn } from 'node:child_process';
import { connect } from 'node:net';
import { constants } from 'node:os';
import type { Duplex, Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Agent } from '../../src/agent/agent.js';
import type { AgentCommand } from '../../src/agent/command.js';
import type { AgentExit, AgentProcess } from '../../src/agent/process.js';
import { TsvmError } from '../../src/errors.js';
import type { Backing } from '../../src/sandbox/backing.js';
import { Sandbox } from '../../src/sandbox/sandbox.js';

const POLL_MS = 10;

/** What the fake was asked for, and files that it has. */
export interface FakeAgent {
  readonly commands: AgentCommand[];
  readonly files: Map<string, string>;
  readonly agent: Agent;
}

export function fakeAgent(): FakeAgent {
  const commands: AgentCommand[] = [];
  const files = new Map<string, string>();
  const agent = {
    async spawn(command: AgentCommand): Promise<AgentProcess> {
      commands.push(command);
      return await startProcess(command);
    },
    ports: {
      dial: (port: number) => dialPort(port),
      async wait(port: number, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
        for (;;) {
          signal?.throwIfAborted();
          const socket = await dialPort(port).catch(() => undefined);
          socket?.destroy();
          if (socket !== undefined) return;
          await sleep(POLL_MS);
        }
      },
    },
    files: {},
  };
  return { commands, files, agent: agent as unknown as Agent };
}

/** Sandbox over a fake. */
export function fakeSandbox(
  more: Partial<Backing> = {},
): FakeAgent & { readonly box: Sandbox; readonly backing: Backing } {
  const fake = fakeAgent();
  const nothing = async (): Promise<void> => {};
  const backing: Backing = {
    name: 'box',
    isolation: 'container',
    agent: fake.agent,
    defaults: {
      env: { PATH: process.env['PATH'] ?? '', FROM: 'image' },
      cwd: '/',
      user: { uid: 0, gid: 0, home: '/root' },
    },
    machine: undefined,
    pause: nothing,
    resume: nothing,
    fork: async () => [],
    snapshot: nothing,
    kill: nothing,
    ...more,
  };
  return { ...fake, backing, box: new Sandbox(backing) };
}

function dialPort(port: number): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    socket.once('connect', () => resolve(socket));
    socket.once('error', reject);
  });
}

async function startProcess(command: AgentCommand): Promise<AgentProcess> {
  const [program = '', ...args] = command.argv;
  const child = spawn(program, args, {
    env: { ...command.env },
    cwd: command.cwd,
    stdio: 'pipe',
    detached: true,
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', () => reject(new TsvmError('TSVM_SANDBOX', `${program}: not found`)));
  });
  if (command.hasInput === false) child.stdin.end();
  child.stdin.on('error', () => {});
  return {
    id: 1,
    pid: child.pid ?? 0,
    stdin: child.stdin as Writable,
    stdout: child.stdout as Readable,
    stderr: child.stderr as Readable,
    exited: exitOf(child),
    signal: (number: number) => void process.kill(-(child.pid ?? 0), number),
    resize() {},
    detach() {},
  };
}

function exitOf(child: ChildProcess): Promise<AgentExit> {
  return new Promise((resolve) => {
    child.once('close', (code, signal) =>
      resolve({
        exitCode: code ?? 0,
        outOfMemory: false,
        ...(signal === null ? {} : { signal: constants.signals[signal] }),
      }),
    );
  });
}
