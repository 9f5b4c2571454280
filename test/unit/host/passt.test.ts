/** passt as it is installed here: on the loopback only. */
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { NetBackend, NetClient, UserNet } from '../../../src/devices/backends/net.js';
import { createHost } from '../../../src/host/host.js';
import { openPasst, passtArguments } from '../../../src/host/net/passt.js';
import type { NativeAddon } from '../../../src/native/binding.js';
import { WAIT_MS } from '../../support/eventually.js';
import { freePort } from '../../support/free-port.js';
import { passtProblem } from '../../support/passt-problem.js';
import { ScratchAddon } from '../../support/scratch-addon.js';
import { skipAll } from '../../support/skip.js';
import { frameSource, PLAIN_HEADER } from '../../support/test-cable.js';

const PLACE: UserNet = { kind: 'user', mtu: 65_520, forwards: [], loopback: true };
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 9);

class Guest implements NetClient {
  readonly got: Buffer[] = [];
  links: boolean[] = [];
  room = Number.POSITIVE_INFINITY;
  #wake: () => void = () => {};

  receive(frame: Uint8Array): boolean {
    if (this.room-- <= 0) return false;
    this.got.push(Buffer.from(frame));
    return true;
  }

  received(): void {
    this.#wake();
  }

  onWritable(): void {}

  onLink(up: boolean): void {
    this.links.push(up);
    this.#wake();
  }

  async until<T>(find: () => T | undefined): Promise<T> {
    const deadline = performance.now() + WAIT_MS;
    for (;;) {
      const found = find();
      if (found !== undefined) return found;
      if (performance.now() > deadline) throw new Error(`nothing came for ${WAIT_MS} ms`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 50);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}

function send(backend: NetBackend, bytes: Buffer): void {
  backend.send(frameSource(bytes), PLAIN_HEADER);
  backend.flush();
}

const hex = (...parts: string[]): Buffer => Buffer.from(parts.join('').replaceAll(' ', ''), 'hex');

/** ARP request: who has this address? */
const arp = (address: string): Buffer =>
  hex(
    'ffffffffffff 020000000009 0806',
    '0001 0800 06 04 0001',
    '020000000009 0a00020f',
    '000000000000',
    address,
  );

const isArpReply = (frame: Buffer): boolean =>
  frame.readUInt16BE(12) === 0x0806 && frame.readUInt16BE(20) === 2;

/** Children of this process that are called passt, zombies too. */
function passtChildren(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const [, comm, parent] = /\((.*)\) \S (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, 'latin1')) ?? [];
        return comm?.startsWith('passt') === true && Number(parent) === process.pid;
      } catch {
        return false; // it ended meanwhile
      }
    })
    .map(Number);
}

test('passtArguments() forwards each port by itself, and no UDP that nobody asked for', () => {
  const args = passtArguments({
    ...PLACE,
    loopback: false,
    forwards: [
      { protocol: 'tcp', address: '127.0.0.1', port: 8080, guestPort: 80 },
      { protocol: 'tcp', address: '', port: 2222, guestPort: 22 },
    ],
  }).join(' ');
  expect(args).toContain('-t 127.0.0.1/8080:80 -t 2222:22 -u none');
  expect(args).toContain('--no-map-gw');
  expect(passtArguments(PLACE).join(' ')).toMatch(/--mtu 65520 .*-t none -u none$/);
});

test('openPasst() says which package to install when there is no passt', async () => {
  const { PATH } = process.env;
  process.env['PATH'] = '/nowhere';
  try {
    await expect(openPasst(PLACE)).rejects.toMatchObject({
      code: 'TSVM_HOST',
      message: "net user: the program 'passt' is needed, and is not installed",
      hint: expect.stringContaining('apt-get install passt'),
    });
  } finally {
    process.env['PATH'] = PATH;
  }
});

describe('passt', () => {
  skipAll(passtProblem());

  let backend: NetBackend | undefined;
  let guest: Guest;

  async function open(place: Partial<UserNet> = {}): Promise<NetBackend> {
    const opened = await openPasst({ ...PLACE, ...place });
    backend = opened;
    opened.connect(MAC, guest);
    return opened;
  }

  beforeEach(() => {
    guest = new Guest();
  });

  afterEach(async () => {
    await backend?.close();
    backend = undefined;
    expect(passtChildren()).toEqual([]);
  });

  test('sends what comes to a forwarded port to a guest that has said nothing yet', async () => {
    const port = await freePort();
    await open({ forwards: [{ protocol: 'tcp', address: '127.0.0.1', port, guestPort: 22 }] });
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    const frame = await guest.until(() => guest.got.find(isTcpSyn));
    expect(frame.subarray(0, 6)).toEqual(Buffer.from(MAC));
    socket.destroy();
  });

  test('answers for the gateway', async () => {
    send(await open(), arp('0a000202'));
    const reply = await guest.until(() => guest.got.find(isArpReply));
    expect(reply.subarray(0, 6)).toEqual(Buffer.from(MAC));
    expect(reply.subarray(28, 32)).toEqual(hex('0a000202'));
    expect(guest.links).toEqual([true]);
  });

  test('tells the guest its address, gateway and MTU by DHCP, the same on every host', async () => {
    const discover = Buffer.alloc(304);
    discover.set([1, 1, 6]); // a request over Ethernet
    discover.writeUInt32BE(0x7473_766d, 4);
    discover.set(MAC, 28);
    discover.writeUInt32BE(0x6382_5363, 236);
    discover.set([53, 1, 1, 255], 240);
    const udp = Buffer.alloc(8);
    udp.writeUInt16BE(68, 0);
    udp.writeUInt16BE(67, 2);
    udp.writeUInt16BE(8 + discover.length, 4);
    send(await open(), ipv4(17, [0, 0, 0, 0], [255, 255, 255, 255], Buffer.concat([udp, discover])));
    const offer = await guest.until(() => guest.got.find((frame) => frame[23] === 17 && frame.length > 282));
    expect([...offer.subarray(58, 62)]).toEqual([10, 0, 2, 15]);
    const options = dhcpOptions(offer.subarray(282));
    expect([...(options.get(1) ?? [])]).toEqual([255, 255, 255, 0]);
    expect([...(options.get(3) ?? [])]).toEqual([10, 0, 2, 2]);
    expect(options.get(26)?.readUInt16BE()).toBe(65_520);
  });

  test('leads the guest to the host’s loopback at the gateway’s address', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const accepted = once(server, 'connection');
    const syn = Buffer.alloc(20);
    syn.writeUInt16BE(40_000, 0);
    syn.writeUInt16BE(port, 2);
    syn.writeUInt32BE(1, 4);
    syn.set([0x50, 2, 0xff, 0xff], 12);
    const [from, to] = [
      [10, 0, 2, 15],
      [10, 0, 2, 2],
    ] as const;
    syn.writeUInt16BE(checksum(Buffer.concat([Buffer.from([...from, ...to, 0, 6, 0, 20]), syn])), 16);
    send(await open(), ipv4(6, from, to, syn));
    const answer = await guest.until(() => guest.got.find((frame) => frame[23] === 6));
    expect([answer[47], answer.readUInt16BE(34), answer.readUInt32BE(42)]).toEqual([0x12, port, 2]);
    const [socket] = (await accepted) as [Socket];
    socket.on('error', () => {}).destroy();
    server.close();
  });

  test('waits while the guest has no room, and loses nothing (hostile 43)', async () => {
    const open_ = await open();
    guest.room = 0;
    for (let i = 0; i < 20; i++) send(open_, arp('0a000202'));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(guest.got).toEqual([]);
    guest.room = 5;
    open_.resume();
    await guest.until(() => (guest.got.length === 5 ? true : undefined));
    guest.room = Number.POSITIVE_INFINITY;
    open_.resume();
    await guest.until(() => (guest.got.filter(isArpReply).length === 20 ? true : undefined));
  });

  test('leads a TCP connection from a forwarded port to the guest', async () => {
    const port = await freePort();
    const opened = await open({ forwards: [{ protocol: 'tcp', address: '127.0.0.1', port, guestPort: 80 }] });
    send(opened, arp('0a000202')); // so that passt knows where the guest is
    await guest.until(() => guest.got.find(isArpReply));
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    const syn = await guest.until(() => guest.got.find((frame) => isTcpSyn(frame)));
    expect(syn.readUInt16BE(36)).toBe(80);
    socket.destroy();
  });

  test('of a fork leaves the forwarded ports to the parent', async () => {
    const port = await freePort();
    const place: UserNet = {
      ...PLACE,
      forwards: [{ protocol: 'tcp', address: '127.0.0.1', port, guestPort: 80 }],
    };
    const addon = new ScratchAddon();
    const console = { onOutput: () => {}, onDrain: () => {}, connect: () => {} };
    const parent = createHost(addon as unknown as NativeAddon, console);
    backend = await parent.openNet(place);
    await expect(parent.openNet(place)).rejects.toMatchObject({ code: 'TSVM_NET' });
    const fork = parent.fork(console);
    for (const host of [fork, fork.fork(console)]) await (await host.openNet(place)).close();
    addon.remove();
  });

  test('says which port is taken', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const forwards = [{ protocol: 'tcp', address: '127.0.0.1', port, guestPort: 80 }] as const;
    await expect(openPasst({ ...PLACE, forwards })).rejects.toMatchObject({
      code: 'TSVM_NET',
      message: `net user: tcp port ${port} of 127.0.0.1 cannot be had`,
      hint: expect.stringContaining('choose another'),
    });
    server.close();
  });

  test('pulls the cable when passt ends by itself', async () => {
    const opened = await open();
    for (const pid of passtChildren()) process.kill(pid, 'SIGKILL');
    await guest.until(() => (guest.links.includes(false) ? true : undefined));
    expect(guest.links).toEqual([true, false]);
    for (let i = 0; i < 10; i++) send(opened, arp('0a000202'));
  });

  test('reads what a guest sends as nobody who is root', async () => {
    await open();
    const uids = passtChildren().map(
      (pid) => /^Uid:(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1],
    );
    expect(uids).toHaveLength(1);
    for (const uid of uids[0]?.trim().split('\t') ?? []) expect(Number(uid)).toBeGreaterThan(0);
  });

  test('ends with its machine, twice closed, and leaves no socket', async () => {
    const opened = await open();
    expect(passtChildren()).toHaveLength(1);
    await Promise.all([opened.close(), opened.close()]);
    expect(passtChildren()).toEqual([]);
    expect(guest.links).toEqual([true]);
    expect(existsSync('/tmp/passt_1.socket')).toBe(false);
  });
});

function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** An IPv4 packet in a frame to whoever it may be. */
function ipv4(protocol: number, from: readonly number[], to: readonly number[], payload: Buffer): Buffer {
  const packet = Buffer.alloc(20);
  packet[0] = 0x45;
  packet.writeUInt16BE(20 + payload.length, 2);
  packet.set([64, protocol], 8);
  packet.set([...from, ...to], 12);
  packet.writeUInt16BE(checksum(packet), 10);
  return Buffer.concat([hex('ffffffffffff 020000000009 0800'), packet, payload]);
}

function dhcpOptions(bytes: Buffer): Map<number, Buffer> {
  const options = new Map<number, Buffer>();
  for (let at = 0; at + 1 < bytes.length && bytes[at] !== 255; ) {
    const end = at + 2 + (bytes[at + 1] as number);
    options.set(bytes[at] as number, bytes.subarray(at + 2, end));
    at = end;
  }
  return options;
}

function isTcpSyn(frame: Buffer): boolean {
  return frame.length >= 54 && frame.readUInt16BE(12) === 0x0800 && frame[23] === 6 && frame[47] === 2;
}
