/** A command's streams in the guest on this process's: apart, byte for byte, each at the pace of who reads. */
import { fstatSync } from 'node:fs';
import type { GuestChannel } from '../../guest/channel.js';

/** Connects them. The returned function waits until all output is out, and lets go of stdin. */
export function connectStreams(channel: GuestChannel): () => Promise<void> {
  const { stdin, stdout, stderr } = process;
  // A reader that goes away (`| head`) is the guest's SIGPIPE, not our failure.
  stdout.on('error', () => channel.stdout.destroy());
  stderr.on('error', () => channel.stderr.destroy());
  channel.stdin.on('error', () => {});
  const ended = [
    new Promise<void>((resolve) => void channel.stdout.once('close', resolve)),
    new Promise<void>((resolve) => void channel.stderr.once('close', resolve)),
  ];
  channel.stdout.pipe(stdout, { end: false });
  channel.stderr.pipe(stderr, { end: false });
  if (isEmpty(stdin)) channel.stdin.end();
  else stdin.pipe(channel.stdin);
  return async () => {
    stdin.unpipe(channel.stdin);
    stdin.destroy();
    await Promise.all(ended);
  };
}

/** Closed, or /dev/null: the guest is told that there is no input, and need not look for it. */
function isEmpty(stdin: NodeJS.ReadStream): boolean {
  try {
    return !stdin.isTTY && fstatSync(0).isCharacterDevice() && fstatSync(0).rdev === NULL_DEVICE;
  } catch {
    return true;
  }
}

/** Major 1, minor 3 (Documentation/admin-guide/devices.txt), as stat has it. */
const NULL_DEVICE = 0x103;
