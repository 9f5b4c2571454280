import { once } from 'node:events';
import { existsSync, linkSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { PortControl } from '../../../src/devices/backends/console.js';
import { PortSocket } from '../../../src/host/port-socket.js';

const root = mkdtempSync(join(tmpdir(), 'tsvm-port-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let count = 0;
const freshPath = (): string => join(root, `${count++}.sock`);

/** The device's side: takes `room` bytes of input at most. */
class FakePort implements PortControl {
  input_ = '';
  room = Number.POSITIVE_INFINITY;
  readonly opens: boolean[] = [];
  resumed = 0;
  #changed = (): void => {};

  input(bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, this.room);
    this.room -= taken;
    this.input_ += Buffer.from(bytes.subarray(0, taken)).toString('latin1');
    this.#changed();
    return taken;
  }

  close(): void {}

  resumeOutput(): void {
    this.resumed++;
    this.#changed();
  }

  setHostOpen(open: boolean): void {
    this.opens.push(open);
    this.#changed();
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => (this.#changed = resolve));
  }
}

async function setUp() {
  const path = freshPath();
  const socket = await PortSocket.open(path);
  const port = new FakePort();
  socket.connect(port);
  return { path, socket, port };
}

async function client(path: string): Promise<Socket> {
  const socket = connect(path);
  await once(socket, 'connect');
  return socket;
}

test('PortSocket carries bytes both ways, for one client after another', async () => {
  const { path, socket, port } = await setUp();
  const first = await client(path);
  await port.until(() => port.opens.length === 2);
  first.write('to the guest');
  await port.until(() => port.input_ === 'to the guest');
  expect(socket.onOutput(Buffer.from('to the host'))).toBe(true);
  expect(String((await once(first, 'data'))[0])).toBe('to the host');
  const second = await client(path);
  second.resume();
  await once(second, 'close');
  first.end();
  await port.until(() => port.opens.length === 3);
  expect(socket.onOutput(Buffer.from('to nobody'))).toBe(false);
  const third = await client(path);
  await port.until(() => port.opens.length === 4);
  expect(port.opens).toEqual([false, true, false, true]);
  third.destroy();
  await socket.release();
  expect(existsSync(path)).toBe(false);
});

test('PortSocket makes a client wait for a guest that does not read, and the guest for such a client', async () => {
  const { path, socket, port } = await setUp();
  port.room = 10;
  const quick = await client(path);
  const bytes = 'x'.repeat(2_000_000);
  let written = false;
  quick.write(bytes, () => {
    written = true;
  });
  await port.until(() => port.input_.length === 10);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(written).toBe(false);
  port.room = Number.POSITIVE_INFINITY;
  socket.onDrain();
  await port.until(() => port.input_.length === bytes.length);
  let more = true;
  for (let i = 0; i < 1000 && more; i++) more = socket.onOutput(new Uint8Array(16384));
  expect(more).toBe(false);
  quick.resume();
  await port.until(() => port.resumed > 0);
  await socket.release();
});

test('PortSocket delivers all of what a client said before it went', async () => {
  const { path, socket, port } = await setUp();
  port.room = 16384;
  const brief = await client(path);
  brief.end('x'.repeat(100_000));
  brief.resume();
  while (port.input_.length < 100_000) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    expect(port.opens).toEqual([false, true]);
    port.room = 16384;
    socket.onDrain();
  }
  await port.until(() => port.opens.length === 3);
  await socket.release();
});

test('PortSocket.open() takes over what a killed process left, and refuses what is somebody’s', async () => {
  const stale = freshPath();
  const dead = createServer().listen(`${stale}.dead`);
  await once(dead, 'listening');
  linkSync(`${stale}.dead`, stale);
  dead.close();
  await once(dead, 'close');
  await (await PortSocket.open(stale)).release();
  const path = freshPath();
  const { socket, path: taken } = await setUp();
  await expect(PortSocket.open(taken)).rejects.toMatchObject({ code: 'TSVM_PORT', message: /listens there/ });
  writeFileSync(path, '');
  await expect(PortSocket.open(path)).rejects.toMatchObject({ code: 'TSVM_PORT', message: /no socket/ });
  await expect(PortSocket.open(join(root, 'none/x'))).rejects.toMatchObject({ code: 'TSVM_PORT' });
  await expect(PortSocket.open(join(root, 'x'.repeat(107)))).rejects.toThrow(/too long/);
  await socket.release();
});

test('PortSocket without a path has nobody, for ever', async () => {
  const socket = await PortSocket.open(undefined);
  const port = new FakePort();
  socket.connect(port);
  expect(port.opens).toEqual([false]);
  await socket.release();
});
