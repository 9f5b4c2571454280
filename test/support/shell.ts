/** A shell in a guest, over the channel, for tests that save, restore and fork. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  createMachine,
  type GuestChannel,
  type Machine,
  type MachineConfig,
  restoreMachine,
} from '../../src/index.js';
import { ConsoleLog, guestConfig, markOf } from './guest.js';

/** Time that a guest may take to answer. */
const WAIT_MS = 100_000;

/** A shell in the guest that takes lines over the channel; it lives on in copies of the machine. */
export class Shell implements AsyncDisposable {
  readonly machine: Machine;
  readonly channel: GuestChannel;
  readonly log: ConsoleLog;
  output = '';
  #line = 0;
  /** A copy of the machine may have printed the marks of the original. */
  readonly #id = randomUUID();

  /** @param machine whose shell runs already, or is about to be started by {@link Shell.in} */
  constructor(machine: Machine) {
    this.machine = machine;
    this.log = new ConsoleLog(machine);
    this.channel = machine.channel!;
    this.channel.stdout.on('data', (bytes: Buffer) => {
      this.output += bytes.toString('latin1');
    });
  }

  /** Starts one in a fresh machine that was booted to where its init waits. */
  static async booted(more: MachineConfig = {}): Promise<Shell> {
    const machine = await createMachine({ ...(await guestConfig()), channel: true, ...more });
    const mark = markOf(machine, 'ready');
    await machine.start();
    await mark;
    return await Shell.in(machine);
  }

  /** Starts one in a machine whose init waits for a command. */
  static async in(machine: Machine): Promise<Shell> {
    const shell = new Shell(machine);
    shell.channel.send({ argv: ['sh', '-c', 'exec 2>&1; exec sh'] });
    if (machine.state === 'ready') await machine.start();
    await shell.run('mkdir -p /tmp');
    return shell;
  }

  /** Goes on with the one that runs in a restored machine. */
  static async restored(path: string, options: Parameters<typeof restoreMachine>[1] = {}): Promise<Shell> {
    const shell = new Shell(await restoreMachine(path, options));
    await shell.machine.start();
    return shell;
  }

  type(line: string): void {
    this.channel.stdin.write(`${line}\n`);
  }

  async waitFor(pattern: RegExp, from = 0): Promise<RegExpExecArray> {
    for (const deadline = performance.now() + WAIT_MS; performance.now() < deadline; await sleep(5)) {
      const match = pattern.exec(this.output.slice(from));
      if (match !== null) return match;
      if (this.log.end !== undefined) break;
    }
    const end = JSON.stringify(this.log.end);
    throw new Error(
      `no ${pattern} (end: ${end}). The shell:\n${this.output}\nThe console:\n${this.log.text}`,
    );
  }

  /** Output of a line. */
  async run(line: string): Promise<string> {
    const from = this.output.length;
    const id = `${++this.#line}-${this.#id}`;
    this.type(`${line}; echo "<done ${id}>"`);
    const match = await this.waitFor(new RegExp(`<done ${id}>\n`), from);
    return this.output.slice(from, from + match.index);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.machine.stop();
  }
}
