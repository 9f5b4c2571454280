/** The host's side of a vsock, against the device and a driver that plays the guest. */
import { getEventListeners } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { ConsolePort } from '../../../src/devices/backends/console.js';
import { BUF_ALLOC_BYTES } from '../../../src/devices/backends/vsock.js';
import { Vsock } from '../../../src/devices/vsock/vsock.js';
import { createHost } from '../../../src/host/host.js';
import { VsockEndpoint } from '../../../src/host/vsock/endpoint.js';
import type { NativeAddon } from '../../../src/native/binding.js';
import { eventually, WAIT_MS } from '../../support/eventually.js';
import { Rig } from '../../support/mock-driver.js';
import { GUEST_CID, type GuestPacket, type HostPacket, OP, VsockDriver } from '../../support/vsock-driver.js';

const CONSOLE: ConsolePort = { onOutput: () => {}, onDrain: () => {}, connect: () => {} };

let directory: string;
let path: string;
const closing: (() => unknown)[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tsvm-vsock-'));
  path = join(directory, 'vm.sock');
});

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  rmSync(directory, { recursive: true, force: true });
});

/** A program in the guest, and its kernel: packets in, packets out, until it is told to be slow. */
class Guest {
  readonly endpoint: VsockEndpoint;
  readonly device: Vsock;
  readonly driver: VsockDriver;
  readonly packets: HostPacket[] = [];
  readonly #timer: NodeJS.Timeout;
  #room = 0;
  /** Receive buffers that it keeps available. */
  appetite = 16;

  constructor(endpoint: VsockEndpoint) {
    this.endpoint = endpoint;
    this.device = new Vsock({ host: endpoint, cid: GUEST_CID });
    endpoint.attach(this.device);
    this.driver = new VsockDriver(new Rig(this.device));
    this.#timer = setInterval(() => this.work(), 1);
    closing.push(async () => {
      clearInterval(this.#timer);
      await this.device.close();
    });
  }

  work(): void {
    if (this.#room < this.appetite) {
      this.driver.give(this.appetite - this.#room);
      this.#room = this.appetite;
    }
    const packets = this.driver.take();
    this.#room -= packets.length;
    this.packets.push(...packets);
    this.driver.rig.runDeferred();
  }

  /** Waits for a packet, and takes it out. */
  async next(op: number): Promise<HostPacket> {
    for (const end = performance.now() + WAIT_MS; performance.now() < end; ) {
      this.work();
      const index = this.packets.findIndex((packet) => packet.op === op);
      if (index !== -1) return this.packets.splice(index, 1)[0] as HostPacket;
      await sleep(1);
    }
    throw new Error(`no packet ${op}; there are ${JSON.stringify(this.packets.map((packet) => packet.op))}`);
  }

  /** Waits for payload of `count` bytes in all. */
  async read(count: number): Promise<string> {
    let text = '';
    while (text.length < count) text += (await this.next(OP.RW)).payload.toString('latin1');
    return text;
  }

  send(op: number, to: { guestPort: number; hostPort: number }, more: Partial<GuestPacket> = {}): void {
    const { guestPort, hostPort } = to;
    this.driver.send({ bufAlloc: 0x4000_0000, ...more, op, guestPort, hostPort });
  }
}

async function guestAt(at: string | undefined = path): Promise<Guest> {
  return new Guest(await VsockEndpoint.open(at, false));
}

async function client(at = path): Promise<Socket> {
  const socket = connect({ path: at, allowHalfOpen: true });
  closing.push(() => socket.destroy());
  socket.on('error', () => {});
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  return socket;
}

/** A program on the host that the guest has accepted, and the packet by which it asked. */
async function connected(
  guest: Guest,
  answer: Partial<GuestPacket> = {},
): Promise<{ socket: Socket; request: HostPacket }> {
  const socket = await client();
  socket.write('CONNECT 52\n');
  const request = await guest.next(OP.REQUEST);
  guest.send(OP.RESPONSE, request, answer);
  await textOf(socket, 4);
  return { socket, request };
}

async function serve(port: number, onSocket: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    closing.push(() => socket.destroy());
    onSocket(socket);
  });
  await new Promise<void>((resolve) => server.listen(`${path}_${port}`, resolve));
  closing.push(() => void server.close());
  return server;
}

/** The other side is gone: a half-open socket says so by its end. */
const ended = (stream: Socket | Duplex): Promise<void> =>
  new Promise((resolve) => void stream.once('close', () => resolve()).once('end', () => resolve()));

async function textOf(stream: Socket | Duplex, count: number): Promise<string> {
  let text = '';
  while (text.length < count) {
    const chunk: Buffer | null = stream.read();
    if (chunk !== null) text += chunk.toString('latin1');
    else await Promise.race([new Promise((resolve) => stream.once('readable', resolve)), sleep(2000)]);
  }
  return text;
}

describe('UnixSockets', () => {
  test('CONNECT <port> gets OK <host port> when the guest has accepted, and then bytes both ways', async () => {
    const guest = await guestAt();
    const socket = await client();
    socket.write('CONNECT 52\nearly');
    const request = await guest.next(OP.REQUEST);
    expect(request.guestPort).toBe(52);
    guest.send(OP.RESPONSE, request);
    const ok = `OK ${request.hostPort}\n`;
    expect(await textOf(socket, ok.length)).toBe(ok);
    expect(await guest.read(5)).toBe('early');
    guest.send(OP.RW, request, { payload: Buffer.from('hello') });
    expect(await textOf(socket, 5)).toBe('hello');
    socket.write('world');
    expect(await guest.read(5)).toBe('world');
  });

  test('CONNECT in pieces, with CR too', async () => {
    const guest = await guestAt();
    const socket = await client();
    for (const part of ['CONN', 'ECT 1', '0', '\r\n']) {
      socket.write(part);
      await sleep(2);
    }
    expect((await guest.next(OP.REQUEST)).guestPort).toBe(10);
  });

  test('a port that the guest refuses closes the socket', async () => {
    const guest = await guestAt();
    const socket = await client();
    socket.write('CONNECT 52\n');
    guest.send(OP.RST, await guest.next(OP.REQUEST));
    socket.resume();
    await ended(socket);
    expect(guest.device.connectionCount).toBe(0);
  });

  test.each([
    'CONNECT\n',
    'CONNECT -1\n',
    'connect 5\n',
    'CONNECT 4294967295\n',
    'GET / HTTP/1.1\r\n',
    'x'.repeat(100),
  ])('%j closes the socket', async (line) => {
    const guest = await guestAt();
    const socket = await client();
    socket.write(line);
    socket.resume();
    await ended(socket);
    expect(guest.device.connectionCount).toBe(0);
  });

  test('a guest’s connection to port P is one to PATH_P; without one there, it is reset', async () => {
    const guest = await guestAt();
    guest.send(OP.REQUEST, { guestPort: 9, hostPort: 80 });
    expect(await guest.next(OP.RST)).toMatchObject({ guestPort: 9, hostPort: 80 });
    expect(guest.device.connectionCount).toBe(0);
    const accepted = new Promise<Socket>((resolve) => void serve(80, resolve));
    await turn();
    guest.send(OP.REQUEST, { guestPort: 10, hostPort: 80 });
    await guest.next(OP.RESPONSE);
    const socket = await accepted;
    guest.send(OP.RW, { guestPort: 10, hostPort: 80 }, { payload: Buffer.from('GET') });
    expect(await textOf(socket, 3)).toBe('GET');
    socket.end('answer');
    expect(await guest.read(6)).toBe('answer');
    expect((await guest.next(OP.SHUTDOWN)).flags).toBe(2);
    guest.send(OP.SHUTDOWN, { guestPort: 10, hostPort: 80 }, { flags: 3 });
    await guest.next(OP.RST);
    socket.resume();
    await ended(socket);
    expect(guest.device.connectionCount).toBe(0);
  });

  test('what the guest sent before it closed arrives, also at a reader who comes late', async () => {
    const guest = await guestAt();
    const accepted = new Promise<Socket>((resolve) => void serve(81, resolve));
    await turn();
    const address = { guestPort: 10, hostPort: 81 };
    guest.send(OP.REQUEST, address);
    await guest.next(OP.RESPONSE);
    guest.send(OP.RW, address, { payload: Buffer.alloc(BUF_ALLOC_BYTES, 'z') });
    guest.send(OP.SHUTDOWN, address, { flags: 3 });
    await guest.next(OP.RST);
    await sleep(20);
    const socket = await accepted;
    expect(await textOf(socket, BUF_ALLOC_BYTES)).toBe('z'.repeat(BUF_ALLOC_BYTES));
    socket.resume();
    socket.end();
    await ended(socket);
  });

  test('a host that does not read makes the guest wait; one that goes on lets it go on', async () => {
    const guest = await guestAt();
    const accepted = new Promise<Socket>((resolve) => void serve(82, (socket) => resolve(socket.pause())));
    await turn();
    const address = { guestPort: 10, hostPort: 82 };
    guest.send(OP.REQUEST, address);
    await guest.next(OP.RESPONSE);
    const socket = await accepted;
    // As a kernel does: no more than the credit says.
    let [sent, fwdCnt] = [0, 0];
    const pump = async (): Promise<boolean> => {
      guest.work();
      for (const packet of guest.packets.splice(0)) ({ fwdCnt } = packet);
      const room = BUF_ALLOC_BYTES - (sent - fwdCnt);
      if (room > 0) guest.send(OP.RW, address, { payload: Buffer.alloc(room, 'g') });
      sent += room;
      await sleep(1);
      return room > 0;
    };
    // Kernel buffers, then the stream's: then it stands still.
    for (let idle = 0; idle < 30; ) idle = (await pump()) ? 0 : idle + 1;
    const standstill = sent;
    expect(standstill).toBeLessThan(2 * 1024 * 1024);
    expect(guest.device.counters.violations).toBe(0);
    let received = 0;
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    socket.resume();
    while (sent < 3 * standstill) await pump();
    await eventually(() => received).toBe(sent);
  });

  test('a guest that does not read makes the host’s program wait', async () => {
    const guest = await guestAt();
    const { socket, request } = await connected(guest, { bufAlloc: 1000 });
    let written = 0;
    const chunk = Buffer.alloc(64 * 1024, 'h');
    while (written < 64 * 1024 * 1024 && socket.write(chunk)) {
      written += chunk.length;
      await turn();
    }
    await sleep(50);
    const queued = socket.writableLength;
    expect(queued).toBeGreaterThan(0);
    expect(await guest.read(1000)).toHaveLength(1000);
    await sleep(20);
    expect(guest.packets.filter(({ op }) => op === OP.RW)).toEqual([]);
    guest.send(OP.CREDIT_UPDATE, request, { bufAlloc: 0x4000_0000, fwdCnt: 1000 });
    await eventually(() => {
      guest.packets.length = 0;
      return socket.writableLength;
    }).toBe(0);
  });

  test('a program on the host that closes its socket: the guest gets what it sent, then hears that nobody reads, either', async () => {
    const guest = await guestAt();
    guest.appetite = 1;
    const { socket, request } = await connected(guest);
    const bytes = 50_000;
    await new Promise((resolve) => socket.write(Buffer.alloc(bytes, 'z'), resolve));
    socket.destroy();
    expect(await guest.read(bytes)).toBe('z'.repeat(bytes));
    expect(guest.packets.filter(({ op }) => op === OP.SHUTDOWN)).toEqual([]);
    expect((await guest.next(OP.SHUTDOWN)).flags).toBe(3);
    guest.send(OP.RW, request, { payload: Buffer.from('to nobody') });
    guest.send(OP.RST, request);
    guest.work();
    expect(guest.packets).toEqual([]);
    expect(guest.device.connectionCount).toBe(0);
  });

  test.each([false, true])(
    'a server on the host that answers and closes: the same; the guest had ended its side: %s',
    async (half) => {
      const guest = await guestAt();
      const answer = 'a'.repeat(60_000);
      const closed = new Promise<void>((resolve) => {
        void serve(83, (socket) => {
          socket.resume();
          socket.write(answer, () => socket.destroy());
          socket.once('close', () => resolve());
        });
      });
      await turn();
      const address = { guestPort: 10, hostPort: 83 };
      guest.send(OP.REQUEST, address, { bufAlloc: 1000 });
      await guest.next(OP.RESPONSE);
      if (half) guest.send(OP.SHUTDOWN, address, { flags: 2, bufAlloc: 1000 });
      await closed;
      expect(await guest.read(1000)).toHaveLength(1000);
      await sleep(20);
      guest.send(OP.CREDIT_UPDATE, address, { fwdCnt: 1000 });
      expect(await guest.read(answer.length - 1000)).toHaveLength(answer.length - 1000);
      expect((await guest.next(OP.SHUTDOWN)).flags).toBe(3);
    },
  );

  test('a guest that closes: its program’s other side is closed at once, not first in one direction', async () => {
    const guest = await guestAt();
    const { socket, request } = await connected(guest);
    const shutdown = vi.spyOn(Socket.prototype, '_final');
    closing.push(() => shutdown.mockRestore());
    guest.send(OP.RW, request, { payload: Buffer.from('bye') });
    guest.send(OP.SHUTDOWN, request, { flags: 3 });
    await guest.next(OP.RST);
    expect(await textOf(socket, 3)).toBe('bye');
    socket.resume();
    await ended(socket);
    expect(shutdown).not.toHaveBeenCalled();
  });

  test('a program on the host that ended and then goes: the guest hears of both; a guest that resets ends its program’s socket', async () => {
    const guest = await guestAt();
    const { socket, request } = await connected(guest);
    socket.end();
    expect((await guest.next(OP.SHUTDOWN)).flags).toBe(2);
    socket.destroy();
    guest.send(OP.RW, request, { payload: Buffer.from('to nobody') });
    expect((await guest.next(OP.SHUTDOWN)).flags).toBe(3);
    guest.send(OP.RST, request);
    const { socket: other, request: second } = await connected(guest);
    guest.send(OP.RST, second);
    other.resume();
    await ended(other);
    await eventually(() => guest.device.connectionCount).toBe(0);
  });

  test('hundreds at once', async () => {
    const guest = await guestAt();
    const sockets = await Promise.all(Array.from({ length: 300 }, () => client()));
    for (const [i, socket] of sockets.entries()) socket.write(`CONNECT ${i}\n${i}.`);
    const seen = new Set<string>();
    for (let i = 0; i < 300; i++) guest.send(OP.RESPONSE, await guest.next(OP.REQUEST));
    for (let i = 0; i < 300; i++) {
      const { payload, guestPort } = await guest.next(OP.RW);
      expect(payload.toString()).toBe(`${guestPort}.`);
      seen.add(payload.toString());
    }
    expect(seen.size).toBe(300);
  });

  test('close() removes the socket and ends every connection', async () => {
    const guest = await guestAt();
    const { socket } = await connected(guest);
    expect(existsSync(path)).toBe(true);
    await guest.device.close();
    expect(existsSync(path)).toBe(false);
    socket.resume();
    await ended(socket);
  });

  test('a path where somebody listens is refused; one that was left behind is taken over', async () => {
    await guestAt();
    await expect(VsockEndpoint.open(path, false)).rejects.toThrow('another machine or program listens there');
    await expect(VsockEndpoint.open(path, false)).rejects.toMatchObject({ code: 'TSVM_VSOCK' });
    const stale = join(directory, 'stale.sock');
    const { execFileSync } = await import('node:child_process');
    const script = `require('net').createServer().listen(${JSON.stringify(stale)}, () => process.kill(process.pid, 'SIGKILL'))`;
    expect(() => execFileSync(process.execPath, ['-e', script], { stdio: 'ignore' })).toThrow();
    expect(existsSync(stale)).toBe(true);
    const endpoint = await VsockEndpoint.open(stale, false);
    await endpoint.close();
  });

  test('a file that is no socket, a folder that is not there and a path too long are refused, and the file stays', async () => {
    const file = join(directory, 'file');
    writeFileSync(file, 'mine');
    await expect(VsockEndpoint.open(file, false)).rejects.toThrow('is no socket');
    expect(existsSync(file)).toBe(true);
    await expect(VsockEndpoint.open(join(directory, 'no', 'x'), false)).rejects.toThrow(/^vsock .*no\/x: /);
    await expect(VsockEndpoint.open(`/tmp/${'x'.repeat(100)}`, false)).rejects.toThrow(
      'too long for a Unix socket',
    );
  });
});

describe('MachineVsock', () => {
  test('connect() gives a stream, which ends when the guest ends', async () => {
    const guest = await guestAt(undefined);
    const promise = guest.endpoint.connect(52);
    const request = await guest.next(OP.REQUEST);
    guest.send(OP.RESPONSE, request);
    const stream = await promise;
    stream.write('abc');
    expect(await guest.read(3)).toBe('abc');
    guest.send(OP.RW, request, { payload: Buffer.from('defg') });
    expect(await textOf(stream, 4)).toBe('defg');
    guest.send(OP.SHUTDOWN, request, { flags: 2 });
    stream.resume();
    await new Promise((resolve) => stream.once('end', resolve));
    stream.end('last');
    expect(await guest.read(4)).toBe('last');
    expect((await guest.next(OP.SHUTDOWN)).flags).toBe(3);
    guest.send(OP.RST, request);
    await eventually(() => guest.device.connectionCount).toBe(0);
    expect(stream.destroyed).toBe(true);
  });

  test('connect() rejects when nobody listens, and when there is no driver', async () => {
    const guest = await guestAt(undefined);
    const promise = guest.endpoint.connect(52);
    guest.send(OP.RST, await guest.next(OP.REQUEST));
    await expect(promise).rejects.toMatchObject({ code: 'TSVM_VSOCK' });
    await guest.driver.rig.driver.reset();
    await expect(guest.endpoint.connect(52)).rejects.toThrow('port 52 of the guest cannot be asked');
    await expect(guest.endpoint.connect(-1)).rejects.toThrow('port -1 is not');
  });

  test('connect() that is aborted resets what the guest has not answered', async () => {
    const guest = await guestAt(undefined);
    const reason = new Error('enough');
    await expect(guest.endpoint.connect(52, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const promise = guest.endpoint.connect(52, controller);
    promise.catch(() => {});
    await guest.next(OP.REQUEST);
    controller.abort(reason);
    await expect(promise).rejects.toBe(reason);
    await guest.next(OP.RST);
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
  });

  test('listen() serves a port, before PATH_P, until it is disposed of', async () => {
    const guest = await guestAt();
    const streams: Duplex[] = [];
    const served = guest.endpoint.listen(80, (stream) => streams.push(stream));
    expect(() => guest.endpoint.listen(80, () => {})).toThrow('port 80 is served already');
    const address = { guestPort: 1, hostPort: 80 };
    guest.send(OP.REQUEST, address);
    await guest.next(OP.RESPONSE);
    await turn();
    expect(streams).toHaveLength(1);
    guest.send(OP.RW, address, { payload: Buffer.from('hi') });
    const [stream] = streams as [Duplex];
    expect(await textOf(stream, 2)).toBe('hi');
    served[Symbol.dispose]();
    guest.send(OP.REQUEST, { guestPort: 2, hostPort: 80 });
    await guest.next(OP.RST);
    stream.write('still there');
    expect(await guest.read(11)).toBe('still there');
  });

  test('a guest’s reset destroys the stream without an error', async () => {
    const guest = await guestAt(undefined);
    const streams: Duplex[] = [];
    guest.endpoint.listen(80, (stream) => streams.push(stream));
    const address = { guestPort: 1, hostPort: 80 };
    guest.send(OP.REQUEST, address);
    await guest.next(OP.RESPONSE);
    await turn();
    const [stream] = streams as [Duplex];
    stream.write('x');
    guest.send(OP.RST, address);
    await ended(stream);
    stream.write('y', () => {});
    stream.on('error', () => {});
  });

  test('many small packets do not cost more than their bytes', async () => {
    const guest = await guestAt(undefined);
    const streams: Duplex[] = [];
    guest.endpoint.listen(80, (stream) => streams.push(stream));
    const address = { guestPort: 1, hostPort: 80 };
    guest.send(OP.REQUEST, address);
    await guest.next(OP.RESPONSE);
    await turn();
    const [stream] = streams as [Duplex];
    for (let i = 0; i < 3000; i++) {
      guest.send(OP.RW, address, { payload: Buffer.of(i & 0xff) });
      if (i % 64 === 0) await turn();
      guest.driver.rig.runDeferred();
    }
    await turn();
    let chunks = 0;
    let bytes = 0;
    stream.on('data', (chunk: Buffer) => {
      chunks++;
      bytes += chunk.length;
    });
    await eventually(() => bytes).toBe(3000);
    expect(chunks).toBeLessThan(5);
  });

  test('renumber() refuses what is no guest’s', async () => {
    const guest = await guestAt(undefined);
    for (const cid of [2, 0xffff_ffff, 3.5, Number.NaN])
      expect(() => guest.endpoint.renumber(cid)).toThrow('is not a whole number');
    guest.endpoint.renumber(44);
    expect(guest.endpoint.cid).toBe(44);
  });
});

describe('MachineHost.openVsock()', () => {
  test('once for a machine; a fork has the services of its parent’s path, and a path of its own by bind()', async () => {
    const parent = createHost({} as NativeAddon, CONSOLE, { directory });
    const guest = new Guest((await parent.openVsock('vm.sock')) as VsockEndpoint);
    await expect(parent.openVsock('vm.sock')).rejects.toThrow('no more than one');
    const child = parent.fork(CONSOLE);
    const fork = new Guest((await child.openVsock('vm.sock')) as VsockEndpoint);
    const accepted: Socket[] = [];
    await serve(80, (socket) => accepted.push(socket));
    for (const each of [guest, fork]) {
      each.send(OP.REQUEST, { guestPort: 1, hostPort: 80 });
      await each.next(OP.RESPONSE);
    }
    await eventually(() => accepted.length).toBe(2);
    (await client()).write('CONNECT 52\n');
    expect((await guest.next(OP.REQUEST)).guestPort).toBe(52);
    const own = join(directory, 'fork.sock');
    await child.vsock()?.bind(own);
    (await client(own)).write('CONNECT 53\n');
    expect((await fork.next(OP.REQUEST)).guestPort).toBe(53);
    await fork.device.close();
    expect(existsSync(own)).toBe(false);
    expect(existsSync(path)).toBe(true);
  });
});
