/** Clients that listen: what is kept for one that is slow, or has gone, has a bound in memory and not only in bytes. */
import { request } from 'node:http';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { expect, test, vi } from 'vitest';
import { ControlClient } from '../../../src/control/client/client.js';
import { ControlServer } from '../../../src/control/http/server.js';
import { Instance } from '../../../src/control/instance.js';
import { ConsoleLog } from '../../../src/control/logs/console-log.js';
import { Follower } from '../../../src/control/logs/follower.js';
import type { Machine } from '../../../src/machine/machine.js';
import { eventually } from '../../support/eventually.js';
import { temporaryDirectory } from '../../support/guest.js';

const root = temporaryDirectory();

/** A stream whose reader takes one write when the test says so. */
function slow() {
  const written: Buffer[] = [];
  let taken: (() => void) | undefined;
  const stream = new Writable({
    write(chunk: Buffer, _encoding, callback) {
      written.push(chunk);
      taken = callback;
    },
  });
  const take = async (): Promise<void> => {
    const callback = taken;
    taken = undefined;
    callback?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { stream, written, take };
}

test('Follower.write() keeps small writes for a slow client in one piece, and gives it all in order', async () => {
  const { stream, written, take } = slow();
  const follower = new Follower(stream);
  for (let i = 0; i < 100_000; i++) follower.write(Uint8Array.of(i));
  follower.end();
  follower.write('too late');
  expect([written.length, stream.writableLength]).toEqual([1, 1]);
  await take();
  expect(written.length).toBe(2);
  await take();
  expect(Buffer.concat(written)).toEqual(Buffer.from(Uint8Array.from({ length: 100_000 }, (_, i) => i)));
  expect(stream.writableFinished).toBe(true);
});

test('Follower.write() drops a client that is 4 MiB behind', () => {
  const { stream } = slow();
  const follower = new Follower(stream);
  for (let i = 0; i < 4; i++) follower.write(Buffer.alloc(1 << 20));
  expect(stream.destroyed).toBe(false);
  for (let i = 0; i < 2; i++) follower.write(Buffer.alloc(1 << 20));
  expect(stream.destroyed).toBe(true);
});

test.each(['/tsvm/wait', '/tsvm/console', '/tsvm/events', 'attach'])(
  'nothing is kept for clients of %s that have gone',
  async (target) => {
    const socketPath = join(root, `${target.replaceAll('/', '-')}.sock`);
    const instance = new Instance('one', new ConsoleLog());
    instance.adopt({ state: 'running', config: {}, on: () => {}, console: {} } as unknown as Machine);
    await using _server = await ControlServer.listen(instance, socketPath);
    let listening = 0;
    const { listen } = instance;
    instance.listen = (listener) => {
      const subscription = listen.call(instance, listener);
      listening++;
      return {
        [Symbol.dispose]() {
          listening--;
          subscription[Symbol.dispose]();
        },
      };
    };
    // Whoever waits for that promise is kept by it to the end of the machine.
    const waited = vi.spyOn(instance.ended, 'then');
    for (let i = 0; i < 5; i++) {
      if (target === 'attach') {
        const socket = await new ControlClient(socketPath, 'one').attach();
        await eventually(() => listening).toBeGreaterThan(0);
        socket.destroy();
      } else {
        const call = request({ socketPath, path: target });
        call.on('error', () => {}).end();
        await eventually(() => listening).toBeGreaterThan(0);
        call.destroy();
      }
      await eventually(() => listening).toBe(0);
    }
    expect(waited).not.toHaveBeenCalled();
  },
);

test('what is typed over the API waits for the guest in one request, and more is refused until it was taken', async () => {
  const socketPath = join(root, 'typing.sock');
  const instance = new Instance('one', new ConsoleLog());
  let drained = (): void => {};
  const typed: string[] = [];
  const console_ = {
    write: (bytes: Uint8Array) => {
      typed.push(Buffer.from(bytes).toString());
      return false;
    },
    onDrain: (callback: () => void) => {
      drained = callback;
    },
  };
  instance.adopt({ state: 'running', config: {}, on: () => {}, console: console_ } as unknown as Machine);
  await using _server = await ControlServer.listen(instance, socketPath);
  const client = new ControlClient(socketPath, 'one');
  const type = (text: string) => client.call('PUT', '/tsvm/console', { body: { text } });
  await type('a');
  await expect(type('b')).rejects.toThrow(/not taken what was typed before/);
  drained();
  await type('c');
  expect(typed).toEqual(['a', 'c']);
});
