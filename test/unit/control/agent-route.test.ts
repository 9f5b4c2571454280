/** The agent's connections over the control socket, with a machine that is played. */
import { connect as connectSocket } from 'node:net';
import { join } from 'node:path';
import { Duplex, duplexPair } from 'node:stream';
import { expect, test } from 'vitest';
import { ControlClient } from '../../../src/control/client/client.js';
import { dialAgent } from '../../../src/control/client/dial-agent.js';
import { openApiDocument } from '../../../src/control/http/openapi.js';
import { ControlServer } from '../../../src/control/http/server.js';
import { Instance } from '../../../src/control/instance.js';
import { ConsoleLog } from '../../../src/control/logs/console-log.js';
import { routes } from '../../../src/control/routes.js';
import { TsvmError } from '../../../src/errors.js';
import { eventually } from '../../support/eventually.js';
import { temporaryDirectory } from '../../support/guest.js';
import { playedMachine } from './played-machine.js';

const root = temporaryDirectory();
let count = 0;

/** An instance whose agent is played by `dial`, and its socket. */
async function served(dial: Instance['dialAgent']) {
  const instance = new Instance('web', new ConsoleLog());
  instance.adopt(playedMachine());
  instance.dialAgent = dial;
  const socketPath = join(root, `${count++}.sock`);
  const server = await ControlServer.listen(instance, socketPath);
  return { instance, socketPath, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

/** All that comes, to the end; the other direction stays open. */
async function text(stream: Duplex): Promise<string> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await new Promise((resolve) => stream.once('end', resolve));
  return Buffer.concat(chunks).toString();
}

test('each request is a connection of its own, both ways, with both ends', async () => {
  const agents: Duplex[] = [];
  await using web = await served(async () => {
    const [ours, theirs] = duplexPair();
    agents.push(theirs);
    return ours;
  });
  const dial = dialAgent(web.socketPath, 'web');
  const [one, other] = [await dial(), await dial()];
  expect(web.instance.agentClients.size).toBe(2);
  one.end('from one');
  expect(await text(agents[0] as Duplex)).toBe('from one');
  agents[0]?.end('to one');
  expect(await text(one)).toBe('to one');
  other.write('x');
  agents[1]?.once('data', () => agents[1]?.end('to the other'));
  expect(await text(other)).toBe('to the other');
  await eventually(() => expect(web.instance.agentClients.size).toBe(0));
});

test('who does not read holds the other up, and nothing is lost', async () => {
  const bytes = 8 << 20;
  let agent: Duplex | undefined;
  await using web = await served(async () => {
    const [ours, theirs] = duplexPair();
    agent = theirs;
    return ours;
  });
  const client = await dialAgent(web.socketPath)();
  let sent = 0;
  const pump = (): void => {
    while (sent < bytes) {
      const more = agent?.write(Buffer.alloc(64 << 10, 1));
      sent += 64 << 10;
      if (more === false) return void agent?.once('drain', pump);
    }
    agent?.end();
  };
  pump();
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(sent).toBeLessThan(bytes / 2);
  let got = 0;
  for await (const chunk of client as AsyncIterable<Buffer>) got += chunk.length;
  expect(got).toBe(bytes);
});

test('a client that is lost is lost to the agent, and an agent that is lost to its client', async () => {
  const agents: Duplex[] = [];
  await using web = await served(async () => {
    const [ours, theirs] = duplexPair();
    agents.push(ours);
    theirs.resume();
    return ours;
  });
  const dial = dialAgent(web.socketPath);
  const [one, other] = [await dial(), await dial()];
  one.destroy();
  await eventually(() => expect(agents[0]?.destroyed).toBe(true));
  const closed = new Promise<void>((resolve) => other.once('close', () => resolve()));
  other.on('error', () => {}).resume();
  agents[1]?.destroy();
  await closed;
  await eventually(() => expect(web.instance.agentClients.size).toBe(0));
});

test('who goes before the agent answers is not waited for', async () => {
  let aborted = false;
  await using web = await served(
    ({ signal } = {}) =>
      new Promise((_, reject) =>
        signal?.addEventListener('abort', () => {
          aborted = true;
          reject(signal.reason);
        }),
      ),
  );
  const call = dialAgent(web.socketPath)({ signal: AbortSignal.timeout(50) });
  await expect(call).rejects.toThrow(/timeout/);
  await eventually(() => expect([aborted, web.instance.agentClients.size]).toEqual([true, 0]));
});

test('a refusal is told in the words of the machine', async () => {
  await using web = await served(async () => {
    throw new TsvmError('TSVM_STATE', 'the guest of this machine has no agent', { hint: 'make it anew' });
  });
  const dial = dialAgent(web.socketPath, 'web');
  await expect(dial()).rejects.toThrow('web: the guest of this machine has no agent (make it anew)');
  web.instance.dialAgent = undefined;
  await expect(dial()).rejects.toThrow('web: The requested operation is not supported before starting');
  const plain = new ControlClient(web.socketPath, 'web').call('GET', '/tsvm/agent');
  await expect(plain).rejects.toThrow('web: This path is for a connection');
  for (let i = 0; i < 256; i++) web.instance.agentClients.add(new Duplex());
  web.instance.dialAgent = async () => new Duplex();
  await expect(dial()).rejects.toThrow('web: Its agent has 256 connections already');
});

test('another protocol is not had there', async () => {
  await using web = await served(async () => duplexPair()[0]);
  const socket = connectSocket(web.socketPath);
  socket.write('GET /tsvm/agent HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tsvm-console\r\n\r\n');
  expect(await text(socket)).toContain('/tsvm/agent is no tsvm-console');
});

test('every operation of the document has an id of its own', () => {
  const { paths } = openApiDocument(routes) as {
    paths: Record<string, Record<string, { operationId: string }>>;
  };
  const ids = Object.values(paths).flatMap((path) =>
    Object.values(path).map(({ operationId }) => operationId),
  );
  expect(ids).toContain('dialAgent');
  expect(ids).toContain('putTsvmMachinesByName');
  expect(new Set(ids).size).toBe(ids.length);
});
