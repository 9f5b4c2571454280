/** Where a container's agent listens: a socket of the host's, in a folder that is this user's alone and goes with the container. */
import { mkdtempSync, readdirSync, rmdirSync } from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { TsvmError } from '../../errors.js';
import { type FolderRules, OwnFolder } from '../../host/own-folder.js';
import { connectTo, lookAtSocketPath } from '../../host/unix-listener.js';
import { type Abortable, untilAborted } from '../../util/abort.js';

const PREFIX = 'tsvm-agent-';
const NAME = 'agent.sock';
const RULES: FolderRules = {
  code: 'TSVM_CONTAINER',
  what: 'the folder of an agent’s socket',
  hint: 'remove it',
  secret: true,
};

/** The folder and the path in it, which is still free. */
export class AgentSocket {
  readonly folder: string;
  readonly path: string;

  private constructor(folder: string) {
    this.folder = folder;
    this.path = join(folder, NAME);
  }

  /** @throws TsvmError `TSVM_CONTAINER` if there can be none. */
  static async make(): Promise<AgentSocket> {
    const socket = new AgentSocket(mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`)));
    try {
      await lookAtSocketPath({ path: socket.path, what: 'the agent’s socket', code: 'TSVM_CONTAINER' });
    } catch (error) {
      socket.remove();
      throw error;
    }
    return socket;
  }

  /** Connects to the agent. @throws TsvmError `TSVM_STATE` if it has ended. */
  async dial({ signal }: Abortable = {}): Promise<Duplex> {
    const socket = new Socket({ allowHalfOpen: true });
    const connected = (): Promise<void> =>
      new Promise((resolve, reject) => {
        socket.once('connect', resolve);
        socket.once('error', (cause) => {
          reject(new TsvmError('TSVM_STATE', 'the agent of this container has ended', { cause }));
        });
        connectTo(socket, this.path);
      });
    await untilAborted(signal, connected, () => socket.destroy());
    return socket;
  }

  remove(): void {
    remove(this.folder);
  }
}

/** Removes those of this user's processes that were killed with their containers. */
export function sweepAgentSockets(isAlive: (pid: number) => boolean): void {
  for (const name of readdirSync(tmpdir())) {
    const [, pid] = /^tsvm-agent-(\d+)-/.exec(name) ?? [];
    if (pid !== undefined && !isAlive(Number(pid))) remove(join(tmpdir(), name));
  }
}

/** By way of the open folder, which nobody else may enter, as a copied root is removed. */
function remove(path: string): void {
  try {
    using folder = OwnFolder.open(path, RULES);
    folder?.remove(NAME);
    rmdirSync(path);
  } catch {
    // Another user's, or another process was quicker.
  }
}
