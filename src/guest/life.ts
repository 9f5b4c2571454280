/** A command's life in a machine: its streams are connected, it is sent; it ends, its output is drained, and the machine is stopped. */
import { TsvmError } from '../errors.js';
import type { GuestChannel } from './channel.js';
import type { GuestCommand } from './command.js';
import type { GuestFacts } from './facts.js';

/** Part of a machine that a command's life needs. */
interface CommandMachine<End> {
  readonly channel: GuestChannel | undefined;
  stop(): Promise<void>;
  wait(): Promise<End>;
}

export interface CommandStart {
  /** Command to send. Undefined: the machine has one already, or gets none. */
  readonly command?: GuestCommand | undefined;
  readonly facts?: GuestFacts | undefined;
  /** Connects the command's streams, before it is sent. The function that it returns waits until all output is where it belongs. */
  connect(channel: GuestChannel): () => Promise<void>;
}

export interface CommandLife<End> {
  readonly channel: GuestChannel;
  /** Waits for the command's end and its output, and stops the machine. `status` is undefined if the machine ended before. */
  end(): Promise<{ readonly status: number | undefined; readonly end: End }>;
}

/**
 * Gives `machine`, which need not be started yet, its command.
 *
 * @throws TsvmError `TSVM_STATE` if the machine has no channel; and what `channel.send` throws.
 */
export function beginCommand<End>(
  machine: CommandMachine<End>,
  { command, facts, connect }: CommandStart,
): CommandLife<End> {
  const { channel } = machine;
  if (channel === undefined) throw new TsvmError('TSVM_STATE', 'the machine has no channel');
  const drained = connect(channel);
  if (command !== undefined) channel.send(command, facts);
  return {
    channel,
    async end() {
      const status = await channel.exited;
      if (status !== undefined) await drained();
      await machine.stop();
      return { status, end: await machine.wait() };
    },
  };
}
