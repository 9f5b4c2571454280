/**
 * A switch that links machines of this process, as a library user wants them linked.
 *
 * A frame is copied out of the sender's memory once, and once into each receiver's. A guest that has no room for it loses
 * it: otherwise one that sleeps would stop all others.
 */
import {
  type FrameSource,
  MAC_BYTES,
  MAX_FRAME_BYTES,
  MAX_MTU,
  MIN_MTU,
  type NetBackend,
  type NetClient,
  type NetHub,
} from '../../devices/backends/net.js';

/** Age at which an address is forgotten, as in IEEE 802.1Q's recommendation, and Linux's bridges. */
const AGE_MS = 300_000;
/** Addresses behind one port, besides its card's: containers in the guest. More are not learned, but still flooded to. */
const MAX_ADDRESSES = 64;

export interface NetSwitchOptions {
  /** MTU that cards at it are told. Default 1500. */
  readonly mtu?: number;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
}

export interface NetSwitchCounters {
  /** Frames that were lost, for a guest that had no room. */
  dropped: number;
  /** Frames that were sent from an address that is another port's. */
  conflicts: number;
}

interface Address {
  readonly port: Port;
  /** Time at which a frame came from there last. A card's own address does not age. */
  seenMs: number;
}

export class NetSwitch implements NetHub {
  readonly mtu: number;
  readonly counters: NetSwitchCounters = { dropped: 0, conflicts: 0 };
  readonly #now: () => number;
  readonly #frame = new Uint8Array(MAX_FRAME_BYTES);
  readonly #ports = new Set<Port>();
  /** Addresses, each by its number of 48 bits. */
  readonly #addresses = new Map<number, Address>();

  constructor(options: NetSwitchOptions = {}) {
    this.mtu = options.mtu ?? 1500;
    if (!Number.isInteger(this.mtu) || this.mtu < MIN_MTU || this.mtu > MAX_MTU)
      throw new RangeError(`mtu: it must be from ${MIN_MTU} to ${MAX_MTU}`);
    this.#now = options.now ?? (() => performance.now());
  }

  openPort(): NetBackend {
    return new Port(this);
  }

  /** Addresses that are known now. */
  get addressCount(): number {
    return this.#addresses.size;
  }

  /**
   * Gives a port its card's address. A second card with the same one, as in a fork, stays unplugged until the first is gone:
   * two would take each other's frames.
   *
   * @internal
   */
  plug(port: Port): void {
    this.#ports.add(port);
    const present = this.#addresses.get(port.address);
    if (present !== undefined && present.port.address === port.address) return;
    this.#forget(port.address);
    this.#addresses.set(port.address, { port, seenMs: Number.POSITIVE_INFINITY });
    port.setLink(true);
  }

  /** @internal */
  unplug(port: Port): void {
    this.#ports.delete(port);
    for (const [address, { port: owner }] of this.#addresses) if (owner === port) this.#forget(address);
    for (const other of this.#ports) if (!other.up && other.address === port.address) this.plug(other);
  }

  #forget(address: number): void {
    const known = this.#addresses.get(address);
    if (known === undefined) return;
    if (known.seenMs !== Number.POSITIVE_INFINITY) known.port.learned--;
    this.#addresses.delete(address);
  }

  /** @internal */
  send(from: Port, source: FrameSource): void {
    if (!from.up) return;
    const frame = this.#frame.subarray(0, source.remaining);
    source.read(frame);
    if (!this.#learn(from, frame)) {
      this.counters.conflicts++;
      return;
    }
    const group = ((frame[0] as number) & 1) !== 0;
    const known = group ? undefined : this.#known(addressAt(frame, 0));
    if (known === undefined) {
      for (const port of this.#ports) if (port !== from) this.#give(port, frame);
    } else if (known !== from) {
      this.#give(known, frame);
    }
  }

  #give(port: Port, frame: Uint8Array): void {
    if (port.up && !port.give(frame)) this.counters.dropped++;
  }

  #known(address: number): Port | undefined {
    const known = this.#addresses.get(address);
    if (known === undefined) return undefined;
    if (this.#now() - known.seenMs <= AGE_MS) return known.port;
    this.#forget(address);
    return undefined;
  }

  /** False: the sender's address is not its own. An address stays at its port until nothing was heard from it for long. */
  #learn(from: Port, frame: Uint8Array): boolean {
    if (((frame[MAC_BYTES] as number) & 1) !== 0) return false; // a group never sends
    const address = addressAt(frame, MAC_BYTES);
    const owner = this.#known(address);
    if (owner !== undefined) {
      if (owner !== from) return false;
      const known = this.#addresses.get(address) as Address;
      if (known.seenMs !== Number.POSITIVE_INFINITY) known.seenMs = this.#now();
      return true;
    }
    if (from.learned >= MAX_ADDRESSES) this.#age(from);
    if (from.learned >= MAX_ADDRESSES) return true;
    from.learned++;
    this.#addresses.set(address, { port: from, seenMs: this.#now() });
    return true;
  }

  #age(port: Port): void {
    const now = this.#now();
    if (now - port.agedMs < AGED_EVERY_MS) return;
    port.agedMs = now;
    for (const [address, known] of this.#addresses) {
      if (known.port === port && now - known.seenMs > AGE_MS) this.#forget(address);
    }
  }

  /** The guests that frames came to are told. */
  flush(): void {
    for (const port of this.#ports) port.tell();
  }
}

/** A guest that makes up addresses must not make the switch walk its table for each. */
const AGED_EVERY_MS = 1000;

function addressAt(frame: Uint8Array, at: number): number {
  const high = ((frame[at] as number) << 8) | (frame[at + 1] as number);
  const low =
    ((frame[at + 2] as number) << 24) |
    ((frame[at + 3] as number) << 16) |
    ((frame[at + 4] as number) << 8) |
    (frame[at + 5] as number);
  return high * 0x1_0000_0000 + (low >>> 0);
}

class Port implements NetBackend {
  readonly mtu: number;
  /** The card's. */
  address = -1;
  up = false;
  /** Addresses besides the card's. */
  learned = 0;
  agedMs = Number.NEGATIVE_INFINITY;
  readonly #switch: NetSwitch;
  #client: NetClient | undefined;
  #given = false;

  constructor(hub: NetSwitch) {
    this.#switch = hub;
    this.mtu = hub.mtu;
  }

  get writable(): boolean {
    return true;
  }

  connect(mac: Uint8Array, client: NetClient): void {
    this.#client = client;
    this.address = addressAt(mac, 0);
    this.#switch.plug(this);
    client.onLink(this.up);
  }

  setLink(up: boolean): void {
    this.up = up;
    this.#client?.onLink(up);
  }

  send(frame: FrameSource): void {
    this.#switch.send(this, frame);
  }

  flush(): void {
    this.#switch.flush();
  }

  give(frame: Uint8Array): boolean {
    this.#given = true;
    return this.#client?.receive(frame) ?? true;
  }

  tell(): void {
    if (!this.#given) return;
    this.#given = false;
    this.#client?.received();
  }

  /** Frames that were refused are gone. */
  resume(): void {}

  async close(): Promise<void> {
    this.up = false;
    this.#client = undefined;
    this.#switch.unplug(this);
  }
}
