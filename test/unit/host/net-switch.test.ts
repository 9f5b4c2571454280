import { beforeEach, describe, expect, test } from 'vitest';
import type { NetBackend, NetClient } from '../../../src/devices/backends/net.js';
import { NET_HEADER_BYTES as HEADER_BYTES } from '../../../src/devices/backends/net.js';
import { type Net, netAt } from '../../../src/devices/net/net.js';
import { NetSwitch } from '../../../src/host/net/net-switch.js';
import { Rig } from '../../support/mock-driver.js';
import { frameSource, PLAIN_HEADER } from '../../support/test-cable.js';

const ALL = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
const mac = (n: number): number[] => [2, 0, 0, 0, n >> 8, n & 0xff];
const AGE_MS = 300_000;

function frame(to: number[], from: number[], payload = 0): Uint8Array {
  return Uint8Array.of(...to, ...from, 0x88, 0xb5, payload);
}

class Station implements NetClient {
  readonly port: NetBackend;
  readonly got: Uint8Array[] = [];
  batches = 0;
  up: boolean | undefined;
  deaf = false;

  constructor(hub: NetSwitch, address: number[]) {
    this.port = hub.openPort();
    this.port.connect(Uint8Array.from(address), this);
  }

  receive(bytes: Uint8Array): boolean {
    if (this.deaf) return false;
    this.got.push(bytes.slice());
    return true;
  }

  received(): void {
    this.batches++;
  }

  onWritable(): void {}

  onLink(up: boolean): void {
    this.up = up;
  }

  send(bytes: Uint8Array): void {
    this.port.send(frameSource(bytes), PLAIN_HEADER);
    this.port.flush();
  }

  /** Frames since the last call. */
  take(): number {
    return this.got.splice(0).length;
  }
}

let nowMs: number;
let hub: NetSwitch;
let a: Station;
let b: Station;
let c: Station;

beforeEach(() => {
  nowMs = 0;
  hub = new NetSwitch({ now: () => nowMs });
  a = new Station(hub, mac(1));
  b = new Station(hub, mac(2));
  c = new Station(hub, mac(3));
});

describe('NetSwitch', () => {
  test('knows the cards from the start, and gives a frame to its own only', () => {
    a.send(frame(mac(2), mac(1)));
    expect([a.take(), b.take(), c.take()]).toEqual([0, 1, 0]);
    expect([a.batches, b.batches, c.batches]).toEqual([0, 1, 0]);
  });

  test('gives groups and strangers to all but the sender', () => {
    a.send(frame(ALL, mac(1)));
    a.send(frame([0x33, 0x33, 0, 0, 0, 1], mac(1)));
    a.send(frame(mac(99), mac(1)));
    expect([a.take(), b.take(), c.take()]).toEqual([0, 3, 3]);
  });

  test('learns addresses behind a card, and forgets them when they are silent', () => {
    a.send(frame(ALL, mac(50)));
    b.send(frame(mac(50), mac(2)));
    expect([a.take(), c.take()]).toEqual([1, 1]);
    nowMs = AGE_MS;
    b.send(frame(mac(50), mac(2)));
    expect([a.take(), c.take()]).toEqual([1, 0]);
    nowMs = AGE_MS + 1;
    b.send(frame(mac(50), mac(2)));
    expect([a.take(), c.take()]).toEqual([1, 1]);
  });

  test('never forgets a card', () => {
    nowMs = 10 * AGE_MS;
    a.send(frame(mac(2), mac(1)));
    expect([b.take(), c.take()]).toEqual([1, 0]);
  });

  test('does not send back what is for the sender', () => {
    a.send(frame(mac(1), mac(1)));
    expect([a.take(), b.take(), c.take()]).toEqual([0, 0, 0]);
  });

  test('drops frames from another’s address, a card’s or a learned one (hostile 42)', () => {
    a.send(frame(ALL, mac(50)));
    b.take();
    c.take();
    b.send(frame(ALL, mac(1)));
    b.send(frame(ALL, mac(50)));
    b.send(frame(ALL, [3, 0, 0, 0, 0, 1]));
    expect([a.take(), c.take(), hub.counters.conflicts]).toEqual([0, 0, 3]);
    c.send(frame(mac(50), mac(3)));
    expect([a.take(), b.take()]).toEqual([1, 0]);
  });

  test('lets a learned address move after a silence', () => {
    a.send(frame(ALL, mac(50)));
    nowMs = AGE_MS + 1;
    b.send(frame(ALL, mac(50)));
    [a, b, c].map((station) => station.take());
    c.send(frame(mac(50), mac(3)));
    expect([a.take(), b.take()]).toEqual([0, 1]);
  });

  test('remembers no more addresses than fit, however many a guest makes up (hostile 42)', () => {
    for (let i = 0; i < 5000; i++) a.send(frame(ALL, mac(100 + i)));
    expect(hub.addressCount).toBe(3 + 64);
    expect(b.take()).toBe(5000);
    b.send(frame(ALL, mac(60_000)));
    expect(hub.addressCount).toBe(3 + 65);
    nowMs = AGE_MS + 1;
    a.send(frame(ALL, mac(7777)));
    expect(hub.addressCount).toBe(3 + 2);
  });

  test('drops for a guest without room, and for no other (hostile 43)', () => {
    b.deaf = true;
    a.send(frame(ALL, mac(1)));
    expect([b.take(), c.take(), hub.counters.dropped]).toEqual([0, 1, 1]);
  });

  test('unplugs a second card with the same address until the first is gone', async () => {
    const twin = new Station(hub, mac(1));
    expect([a.up, twin.up]).toEqual([true, false]);
    twin.send(frame(ALL, mac(1)));
    b.send(frame(mac(1), mac(2)));
    expect([a.take(), twin.take(), b.take(), hub.counters.conflicts]).toEqual([1, 0, 0, 0]);
    await a.port.close();
    expect(twin.up).toBe(true);
    b.send(frame(mac(1), mac(2)));
    expect([a.take(), twin.take()]).toEqual([0, 1]);
  });

  test('gives a card its address also if somebody else used it before', () => {
    a.send(frame(ALL, mac(4)));
    const d = new Station(hub, mac(4));
    expect(d.up).toBe(true);
    b.send(frame(mac(4), mac(2)));
    expect(d.take()).toBe(1);
    a.send(frame(ALL, mac(4)));
    expect(hub.counters.conflicts).toBe(1);
  });

  test('forgets a port that is closed, also twice', async () => {
    a.send(frame(ALL, mac(50)));
    await a.port.close();
    await a.port.close();
    expect(hub.addressCount).toBe(2);
    b.take();
    b.send(frame(mac(1), mac(2)));
    expect([a.take(), c.take()]).toEqual([0, 2]);
  });

  test.each([67, 65_521, 1.5, Number.NaN])('refuses an MTU of %d', (mtu) => {
    expect(() => new NetSwitch({ mtu })).toThrow(RangeError);
  });
});

test('netAt() links two cards, from one guest’s memory to the other’s', async () => {
  const wire = new NetSwitch({ mtu: 9000 });
  const host = { fillRandom: () => {} } as unknown as Parameters<ReturnType<typeof netAt>['open']>[0];
  const request = netAt(wire, { mac: '02:00:00:00:00:01' });
  expect(request.config).toBeUndefined();
  const one = new Rig((await request.open(host)) as Net);
  const two = new Rig((await netAt(wire, { mac: '02:00:00:00:00:02' }).open(host)) as Net);
  const fork = new Rig((await request.open(host)) as Net);
  for (const { driver } of [one, two, fork]) driver.start();
  expect(one.driver.config(10, 2)).toBe(9000);
  expect([one, two, fork].map(({ driver }) => driver.config(6, 2))).toEqual([1, 1, 0]);
  const rx = two.driver.queue(0);
  const room = rx.add([], [1526]);
  const bytes = frame(mac(2), mac(1), 42);
  const tx = one.driver.queue(1);
  tx.add([new Uint8Array(HEADER_BYTES), bytes], []);
  tx.kick();
  expect(rx.used()).toEqual([{ head: room.head, length: HEADER_BYTES + bytes.length }]);
  expect(rx.written(room).subarray(HEADER_BYTES, HEADER_BYTES + bytes.length)).toEqual(Buffer.from(bytes));
  expect(two.interrupts).toBe(1);
});
