/** A command's streams in the guest on this process's: apart, byte for byte, each at the pace of who reads. */
import { fstatSync } from 'node:fs';
import type { Writable } from 'node:stream';
import type { GuestChannel } from '../../guest/channel.js';

/** Time that a signal or timeout leaves a reader of the output to take what is still buffered. */
const DRAIN_MS = 1000;

/**
 * Connects them. The returned function waits until all output is out, and lets go of stdin.
 *
 * @param stop - aborted when the end is asked for: then a reader that has stopped reading is waited for no longer
 */
export function connectStreams(channel: GuestChannel, stop: AbortSignal): () => Promise<void> {
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
    await atReadersPace(Promise.all(ended), stop);
    channel.stdout.destroy();
    channel.stderr.destroy();
  };
}

/** Waits until readers of this process's output have all of it, or have gone. @param stop - as of {@link connectStreams} */
export async function outputTaken(stop: AbortSignal): Promise<void> {
  await atReadersPace(Promise.all([process.stdout, process.stderr].map(flushed)), stop);
}

function flushed(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed || stream.writableLength === 0) resolve();
    else stream.write('', () => resolve());
  });
}

/** Waits for `taken`; for {@link DRAIN_MS} and no longer once `stop` was aborted. */
export async function atReadersPace(taken: Promise<unknown>, stop: AbortSignal): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  let hurry = (): void => {};
  const late = new Promise<void>((resolve) => {
    hurry = () => {
      timer = setTimeout(resolve, DRAIN_MS);
    };
  });
  if (stop.aborted) hurry();
  else stop.addEventListener('abort', hurry);
  await Promise.race([taken, late]);
  stop.removeEventListener('abort', hurry);
  clearTimeout(timer);
}

/** Exits although a reader of the output has stopped reading: Node would wait for it for ever. */
export function exitWithoutReader(exitCode: number): void {
  if (process.stdout.writableLength > 0 || process.stderr.writableLength > 0)
    setTimeout(() => process.exit(exitCode), DRAIN_MS).unref();
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
