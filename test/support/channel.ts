/** The channel of a machine whose guest waits for a command, and what comes out of its streams. */
import type { Readable } from 'node:stream';
import type { GuestChannel, Machine } from '../../src/index.js';

export function channelOf(machine: Machine): GuestChannel {
  if (machine.channel === undefined) throw new Error('no channel');
  return machine.channel;
}

/** Reads all that a stream says until it ends, a character for each byte. */
export async function textOf(stream: Readable): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString('latin1');
}
