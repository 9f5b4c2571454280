/** Ways to the guest's init, by what a machine's configuration says: over the channel, over the stop port, or not at all. */
import type { PortHost } from '../devices/backends/console.js';
import { TsvmError } from '../errors.js';
import { MachineChannel } from './channel.js';
import { CHANNEL_PORTS, OFFER, STOP_PORTS } from './protocol.js';
import type { StopPort } from './stop-port.js';

/** Part of a machine's configuration that decides. */
interface WaysConfig {
  readonly channel?: boolean | undefined;
  readonly stopPort?: boolean | undefined;
}

/** Offer of the machine, for init to read. */
export function offerOf({ channel, stopPort }: WaysConfig): number {
  if (channel === true) return OFFER.CHANNEL;
  return stopPort === true ? OFFER.STOP_PORT : OFFER.NOTHING;
}

/** Named ports of the machine's first virtio-console; empty if it needs none for init. */
export function initPorts({ channel, stopPort }: WaysConfig): readonly string[] {
  if (channel === true) return CHANNEL_PORTS;
  return stopPort === true ? STOP_PORTS : [];
}

/** Host's side of the port `name`. @throws TsvmError `TSVM_CONFIG` if nobody serves it. */
export function portOf(way: MachineChannel | StopPort | undefined, name: string): PortHost {
  if (way instanceof MachineChannel) return way.port(name);
  if (way === undefined || name !== STOP_PORTS[0]) {
    throw new TsvmError('TSVM_CONFIG', `console.ports: nobody serves port '${name}' without a channel`);
  }
  return way;
}
