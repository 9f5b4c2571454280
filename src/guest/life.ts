/** A command's life in a machine: its streams are connected, it is sent; it ends, its output is drained, and the machine is killed. */
import { TsvmError } from '../errors.js';
import type { GuestChannel } from './channel.js';
import type { GuestCommand } from './command.js';
import type { GuestFacts } from './facts.js';

/** Time for what a guest has in memory to come to its disks. */
const WRITE_BACK_MS = 60_000;

/** Part of a machine that a command's life needs. */
interface CommandMachine<End> {
  readonly channel: GuestChannel | undefined;
  kill(): Promise<void>;
  stop(timeoutMs?: number): Promise<void>;
  wait(): Promise<End>;
}

interface CommandStart {
  /** Command to send. Undefined: the machine has one already, or gets none. */
  readonly command?: GuestCommand | undefined;
  readonly facts?: GuestFacts | undefined;
  /** Has the guest write its disks back when the command has ended, before the machine is killed. */
  readonly writesBack?: boolean | undefined;
  /** Connects the command's streams, before it is sent. The function that it returns waits until all output is where it belongs. */
  connect(channel: GuestChannel): () => Promise<void>;
}

interface CommandLife<End> {
  readonly channel: GuestChannel;
  /** Waits for the command’s end and its output, and kills the machine. `status` is undefined if the machine ended before. */
  end(): Promise<{ readonly status: number | undefined; readonly end: End }>;
}

/**
 * Gives `machine`, which need not be started yet, its command.
 *
 * @throws TsvmError `TSVM_STATE` if the machine has no channel; and what `channel.send` throws.
 */
export function beginCommand<End>(
  machine: CommandMachine<End>,
  { command, facts, writesBack, connect }: CommandStart,
): CommandLife<End> {
  const { channel } = machine;
  if (channel === undefined) throw new TsvmError('TSVM_STATE', 'the machine has no channel');
  const drained = connect(channel);
  if (command !== undefined) channel.send(command, facts);
  return {
    channel,
    end: async () => await endOf(machine, drained, writesBack),
  };
}

/**
 * Waits until `machine` has ended. One that is for a command ends with that: `status` is the command's, and undefined if the machine ended
 * before.
 *
 * @param drained - waits until all that the command said is where it belongs
 * @param writesBack - the guest writes its disks back before
 */
export async function endOf<End>(
  machine: CommandMachine<End>,
  drained: () => Promise<void> = async () => {},
  writesBack = false,
): Promise<{ readonly status: number | undefined; readonly end: End }> {
  const status = await machine.channel?.exited;
  await drained();
  if (status !== undefined) await (writesBack ? machine.stop(WRITE_BACK_MS) : machine.kill());
  return { status, end: await machine.wait() };
}
