/** Machines and containers of other processes below sandboxes, by the control API. */
import { randomBytes } from 'node:crypto';
import { agentOf } from '../agent/agent.js';
import { connect, listMachines, type RemoteMachine } from '../control/client/connect.js';
import { isRunning, type MachineRecord } from '../control/machine-store.js';
import { TsvmError } from '../errors.js';
import type { Abortable } from '../util/abort.js';
import type { Backing, Isolation } from './backing.js';

/** Machine or container that runs and has a name. */
export interface SandboxFacts {
  readonly name: string;
  readonly isolation: Isolation;
  readonly labels: Readonly<Record<string, string>>;
  /** Number of the process that made it, and runs it. */
  readonly pid: number;
  /** Time of its start, in milliseconds since 1970. */
  readonly createdMs: number;
  /** Memory of a machine; limit of a container, 0 if it has none. */
  readonly memoryBytes: number;
}

/** Which of those that run are listed. */
export interface SandboxFilter {
  /** Labels that they have, each with this text. Default: all are listed. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

/** Lists what runs and has a name. */
export function runningSandboxes({ labels = {} }: SandboxFilter = {}): readonly SandboxFacts[] {
  const wanted = Object.entries(labels);
  return listMachines()
    .filter((record) => isRunning(record) && record.serves !== true)
    .filter((record) => wanted.every(([label, text]) => record.labels?.[label] === text))
    .map((record) => {
      const { name, pid, createdMs, memoryBytes, labels: own = {} } = record;
      return { name, isolation: isolationOf(record), labels: own, pid, createdMs, memoryBytes };
    });
}

/** Finds what has a name, and asks its agent whether it is there. */
export async function remoteBacking(name: string, options: Abortable): Promise<Backing> {
  const machine = connect(name);
  const record = listMachines().find((one) => one.name === name);
  const backing = backingOf(machine, record === undefined ? 'machine' : isolationOf(record));
  try {
    await backing.agent.facts(options);
    return backing;
  } catch (error) {
    backing.agent.close();
    throw error;
  }
}

const isolationOf = ({ isolation }: MachineRecord): Isolation => isolation ?? 'machine';

function backingOf(machine: RemoteMachine, isolation: Isolation): Backing {
  const { name } = machine;
  const agent = agentOf((options) => machine.dialAgent(options));
  return {
    name,
    isolation,
    agent,
    // The agent has its own variables, among them a PATH.
    defaults: { env: {}, cwd: '/', user: { uid: 0, gid: 0, home: '/root' } },
    machine: isolation === 'machine' ? machine : undefined,
    pause: (options) => machine.pause(options),
    resume: (options) => machine.resume(options),
    async fork(count, options) {
      const run = randomBytes(3).toString('hex');
      const names = Array.from({ length: count }, (_, i) => `${name.slice(0, 40)}-${run}-${i + 1}`);
      await machine.fork(names, true, options);
      return names.map((fork) => backingOf(connect(fork), isolation));
    },
    snapshot: async () => {
      throw new TsvmError('TSVM_SANDBOX', `${name} cannot be saved: another process made it`, {
        hint: `the process that made it can; or save the machine alone: tsvm snapshot ${name} DIR`,
      });
    },
    async kill() {
      agent.close();
      await machine.kill();
      await machine.wait().catch(() => {}); // nobody answers when it has ended
    },
  };
}
