/** Ports, by the agent's program itself. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type AgentClient, agentClient } from '../support/agent-client.js';

const MIB = 1 << 20;

describe('ports of an agent', () => {
  let agent: AgentClient;

  beforeAll(async () => {
    agent = await agentClient();
  });
  afterAll(async () => {
    await agent?.[Symbol.asyncDispose]();
  });

  test.each(['127.0.0.1', '::1'])('a port at %s is connected to, with half closes', async (address) => {
    await using server = await listening((socket) => socket.pipe(socket), { host: address, port: 0 });
    const connection = await agent.ports.dial(server.port);
    connection.end('hello');
    expect(await text(connection)).toBe('hello');
  });

  test('a Unix socket is connected to', async () => {
    const path = join(agent.folder, 'socket');
    await using _ = await listening((socket) => socket.end('from it'), { path });
    expect(await text(await agent.ports.dial(path))).toBe('from it');
    await expect(agent.ports.dial(join(agent.folder, 'none'))).rejects.toMatchObject({ code: 'TSVM_PORT' });
  });

  test('a port that nothing listens on is refused', async () => {
    const server = await listening(() => {}, { host: '127.0.0.1', port: 0 });
    await server[Symbol.asyncDispose]();
    await expect(agent.ports.dial(server.port)).rejects.toMatchObject({
      code: 'TSVM_PORT',
      message: expect.stringContaining(`cannot connect to port ${server.port}`),
      hint: expect.stringContaining('nothing listens there'),
    });
    await expect(agent.ports.dial(70_000)).rejects.toMatchObject({ code: 'TSVM_CONFIG' });
  });

  test('much goes both ways at once', async () => {
    await using server = await listening((socket) => socket.pipe(socket), { host: '127.0.0.1', port: 0 });
    const connection = await agent.ports.dial(server.port);
    const sent = Buffer.alloc(32 * MIB, 'abcdefg');
    connection.end(sent);
    expect((await buffer(connection)).equals(sent)).toBe(true);
  });

  test('who does not read stops who writes', async () => {
    let written = 0;
    await using server = await listening(
      (socket) => {
        const piece = Buffer.alloc(MIB);
        const more = (): void => {
          while (!socket.destroyed && socket.write(piece)) written += piece.length;
          written += piece.length;
        };
        socket.on('drain', more);
        more();
      },
      { host: '127.0.0.1', port: 0 },
    );
    const connection = await agent.ports.dial(server.port);
    await once(connection, 'readable');
    await delay(300);
    const before = written;
    await delay(300);
    expect(written).toBe(before);
    expect(agent.program.residentKiB()).toBeLessThan(16 * 1024);
    connection.destroy();
  });

  test('what listens is listed, and waited for', async () => {
    const server = await listening(() => {}, { host: '127.0.0.1', port: 0 });
    expect(await agent.ports.list()).toContainEqual({
      protocol: 'tcp',
      address: '127.0.0.1',
      port: server.port,
    });
    await agent.ports.wait(server.port);
    await server[Symbol.asyncDispose]();
    let done = false;
    const waited = agent.ports.wait(server.port).then(() => {
      done = true;
    });
    await delay(200);
    expect(done).toBe(false);
    await using _ = await listening(() => {}, { host: '127.0.0.1', port: server.port });
    await waited;
    await expect(agent.ports.wait(1, { signal: AbortSignal.timeout(50) })).rejects.toThrow('timeout');
  });

  test('connections to what is offered come here', async () => {
    const offer = await agent.ports.offer(0, (connection: Duplex) => connection.pipe(connection));
    const clients = Array.from({ length: 20 }, async (_, i) => {
      const socket = connect(offer.port, '127.0.0.1');
      socket.end(`client ${i}`);
      return await text(socket);
    });
    expect(await Promise.all(clients)).toEqual(clients.map((_, i) => `client ${i}`));
    await expect(agent.ports.offer(offer.port, () => {})).rejects.toThrow('cannot listen on');
    await offer[Symbol.asyncDispose]();
    const [error] = await once(connect(offer.port, '127.0.0.1'), 'error');
    expect(error).toMatchObject({ code: 'ECONNREFUSED' });
  });

  test('nothing is left open', async () => {
    await delay(200);
    expect(agent.program.descriptors()).toBeLessThan(12);
  });
});

interface Listening extends AsyncDisposable {
  readonly port: number;
}

async function listening(
  accept: (socket: Socket) => void,
  where: { host: string; port: number } | { path: string },
): Promise<Listening> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    accept(socket);
  });
  server.listen(where);
  await once(server, 'listening');
  const address = server.address();
  return {
    port: typeof address === 'object' ? (address?.port ?? 0) : 0,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function delay(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
