/** The streams of a command in a machine that has no terminal of its own here: what it says is in the log, what is typed goes to it. */
import type { GuestChannel } from '../../guest/channel.js';
import type { Instance } from '../instance.js';

/** Connects them. The returned function waits until all that the command said is in the log. */
export function logCommand(channel: GuestChannel, instance: Instance): () => Promise<void> {
  const { stdin, stdout, stderr } = channel;
  stdin.on('error', () => {}); // it reads no more
  instance.input = {
    write: (bytes) => stdin.write(bytes),
    onDrain: (callback) => void stdin.once('drain', callback),
  };
  const ended = [stdout, stderr].map((stream) => {
    stream.on('data', (bytes: Buffer) => instance.log.push(bytes));
    return new Promise<void>((resolve) => void stream.once('close', resolve));
  });
  return async () => {
    await Promise.all(ended);
  };
}
