/** Clients of the API that go away: the process and its machines must not notice. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ControlServer } from '../../../src/control/http/server.js';
import { Instance } from '../../../src/control/instance.js';
import { ConsoleLog } from '../../../src/control/logs/console-log.js';

const root = mkdtempSync(join(tmpdir(), 'tsvm-broken-'));
const path = join(root, 'api.sock');
const instance = new Instance('test', new ConsoleLog());
const faults: unknown[] = [];
const onFault = (error: unknown): void => void faults.push(error);
let others: NodeJS.UncaughtExceptionListener[] = [];
let server: ControlServer | undefined;

beforeAll(async () => {
  server = await ControlServer.listen(instance, path);
  others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', onFault);
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  process.off('uncaughtException', onFault);
  for (const listener of others) process.on('uncaughtException', listener);
  rmSync(root, { recursive: true, force: true });
});

const UPGRADE = 'Connection: Upgrade\r\nUpgrade: tsvm-console\r\n';
const REQUESTS: Readonly<Record<string, string>> = {
  'a plain request': 'GET /version HTTP/1.1\r\nHost: x\r\n\r\n',
  'a body': 'PUT /machine-config HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{"vcpu_count": true}',
  'a chunked body':
    'PUT /actions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n',
  'a request that expects 100-continue':
    'PUT /actions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}',
  'another expectation': 'GET / HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n',
  'requests in a row': 'GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n',
  'an upgrade to nothing': `GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
  'an upgrade with bytes after it': `GET /tsvm/console HTTP/1.1\r\nHost: x\r\n${UPGRADE}\r\nls\n`,
  'an upgrade by PUT': `PUT /tsvm/console HTTP/1.1\r\nHost: x\r\n${UPGRADE}Content-Length: 2\r\n\r\n{}`,
  CONNECT: 'CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\nhello',
  events: 'GET /tsvm/events HTTP/1.1\r\nHost: x\r\n\r\n',
  'no HTTP': 'SSH-2.0-OpenSSH_9.2\r\n\r\n\0\0\0',
};

/** Sends `bytes`, waits as long as `how` says and goes, without reading. */
async function hitAndRun(bytes: string, how: 'close' | 'end' | 'wait and close'): Promise<void> {
  const socket = connect(path);
  socket.on('error', () => {});
  await once(socket, 'connect');
  if (how === 'end') socket.end(bytes);
  else await new Promise<void>((resolve) => void socket.write(bytes, () => resolve()));
  if (how !== 'close') await turn();
  socket.destroy();
  await turn(); // a server takes one connection in each turn of the loop
}

test.each(Object.entries(REQUESTS))('ControlServer outlives %s, closed at every byte', async (_, text) => {
  for (let length = 1; length <= text.length; length++) {
    const part = text.slice(0, length);
    for (const how of ['close', 'end', 'wait and close'] as const) await hitAndRun(part, how);
  }
  for (let i = 0; i < 20; i++) await turn();
  expect(faults).toEqual([]);
});

test('ControlServer outlives streams whose clients do not read, when they end and more comes', async () => {
  const log = new ConsoleLog();
  const ending = new Instance('ending', log);
  const at = join(root, 'ending.sock');
  const control = await ControlServer.listen(ending, at);
  const sockets = [];
  for (const target of ['console', 'events']) {
    const socket = connect(at);
    socket.on('error', () => {}).pause();
    socket.write(`GET /tsvm/${target} HTTP/1.1\r\nHost: x\r\n\r\n`);
    sockets.push(socket);
  }
  for (let i = 0; i < 20; i++) await turn();
  log.push(new Uint8Array(2 << 20));
  ending.finish({ kind: 'stopped', exitCode: 130 });
  await turn();
  log.push(new Uint8Array(1000));
  for (let i = 0; i < 20; i++) await turn();
  for (const socket of sockets) socket.destroy();
  await control[Symbol.asyncDispose]();
  expect(faults).toEqual([]);
});
