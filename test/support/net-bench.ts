/** A network card with a driver on one side and a test on the other. */
import { NET_HEADER_BYTES as HEADER_BYTES } from '../../src/devices/net-header.js';
import { Net } from '../../src/devices/virtio/net.js';
import { type MockQueue, Rig, type StartOptions } from './mock-driver.js';
import { TestCable } from './test-cable.js';

export const MAC: Uint8Array = Uint8Array.of(2, 1, 2, 3, 4, 5);
export const HEADER: Uint8Array = new Uint8Array(HEADER_BYTES);

export interface Bench {
  readonly cable: TestCable;
  readonly net: Net;
  readonly rig: Rig;
  readonly rx: MockQueue;
  readonly tx: MockQueue;
}

export function bench(options: StartOptions & { mtu?: number } = {}): Bench {
  const cable = new TestCable();
  const net = new Net({
    backend: cable,
    mac: MAC,
    ...(options.mtu === undefined ? {} : { mtu: options.mtu }),
  });
  const rig = new Rig(net);
  rig.driver.start(options);
  return { cable, net, rig, rx: rig.driver.queue(0), tx: rig.driver.queue(1) };
}

/** Bytes that tell where they are. */
export function frame(length: number, seed = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = i * 7 + seed + (i >> 8);
  return bytes;
}

export const header = (...bytes: number[]): Uint8Array => {
  const whole = new Uint8Array(HEADER_BYTES);
  whole.set(bytes);
  return whole;
};

/** Number of buffers, by the received frame's header. */
export const buffersOf = (bytes: Uint8Array): number => (bytes[10] as number) | ((bytes[11] as number) << 8);
