/**
 * virtio-net: a network card with one pair of queues, and the offloads that its backend has.
 *
 * Frames from the guest go from its memory into the backend's in one copy, and the other way round. Who has no room makes
 * the other wait: a full backend leaves frames in the transmit queue, a guest without buffers pauses the backend.
 *
 * @spec virtio-1.3 5.1    Network device               #yes
 * @spec virtio-1.3 5.1.3  VIRTIO_NET_F_MRG_RXBUF       #yes
 * @spec virtio-1.3 5.1.3  VIRTIO_NET_F_CSUM, _GUEST_CSUM, _HOST_TSO*, _GUEST_TSO*, _ECN   #yes  at a TAP interface
 * @spec virtio-1.3 5.1.3  VIRTIO_NET_F_*_UFO, _USO*, CTRL_GUEST_OFFLOADS  #no   TCP is what comes in bulk
 * @spec virtio-1.3 5.1.3  VIRTIO_NET_F_CTRL_VQ         #no   at the end of a cable there is nothing to filter
 * @spec virtio-1.3 5.1.3  VIRTIO_NET_F_GUEST_ANNOUNCE  #no   it needs the control queue; see docs/devices/net.md
 * @spec virtio-1.3 5.1.3  VIRTIO_NET_F_MQ, _RSS        #no   one JavaScript thread serves all queues anyway
 */
import { type Clock, systemClock } from '../../util/clock.js';
import { checkState, checkStateVersion } from '../../util/state.js';
import type { Chain, ChainReader } from '../../virtio/chain.js';
import type {
  ConfigSpace,
  DeviceState,
  VirtioContext,
  VirtioDevice,
  Virtqueue,
} from '../../virtio/device.js';
import type { NetControl } from '../backends/net.js';
import {
  ETHERNET_HEADER_BYTES,
  MAC_BYTES,
  MAX_FRAME_BYTES,
  MAX_MTU,
  MAX_SEGMENTED_BYTES,
  MIN_MTU,
  NET_HEADER_BYTES,
  type NetBackend,
  type NetClient,
  type NetHub,
} from '../backends/net.js';
import type { DeviceKind, DeviceRequest } from '../kind.js';
import { checkLimit, type RateLimit, RateLimiter, restoredLimit } from '../rate-limit.js';
import {
  finishHeader,
  guestOffloads,
  hostOffloads,
  isAllowed,
  isPlain,
  isSegmented,
  isWelcome,
  NO_OFFLOADS,
  OFFLOAD_FEATURES,
} from './header.js';
import { netHostUse } from './host-use.js';
import {
  checkNetConfig,
  isMac,
  NET_ARGUMENT,
  type NetConfig,
  parseNet,
  placeOf,
  randomMac,
  staticAddress,
  toMac,
} from './options.js';

const DEVICE_ID = 1;
const RECEIVE = 0;
const TRANSMIT = 1;
const QUEUE_SIZE = 256;
/** The longest frame with its header, and what a driver rounds its buffers up to. */
const MAX_REQUEST_BYTES = 2 * 65_536;

export const VIRTIO_NET_F_MTU = 1n << 3n;
export const VIRTIO_NET_F_MAC = 1n << 5n;
export const VIRTIO_NET_F_MRG_RXBUF = 1n << 15n;
export const VIRTIO_NET_F_STATUS = 1n << 16n;

// struct virtio_net_config (virtio 1.3, 5.1.4)
const CONFIG_BYTES = 12;
const CONFIG_MAC = 0;
const CONFIG_STATUS = 6;
const CONFIG_MTU = 10;
export const VIRTIO_NET_S_LINK_UP = 1;

/** Offset at which a frame says what is in it, or that a VLAN's tag (0x8100) comes first. */
const ETHERTYPE_OFFSET = 12;
const VLAN_TAG_BYTES = 4;

/** Counts of what became of frames. */
export type NetCounters = {
  sent: number;
  received: number;
  /** From the guest: shorter than an Ethernet header, longer than any frame, or with offloads that were not negotiated. */
  malformed: number;
  /** From the guest, while the link was down. */
  unsent: number;
  /** For the guest: while it had no driver, or larger than its buffers or its MTU. */
  dropped: number;
};

export interface NetOptions {
  readonly backend: NetBackend;
  readonly mac: Uint8Array;
  /** Default: the backend's. */
  readonly mtu?: number;
  /** Of each direction. */
  readonly limit?: RateLimit;
  readonly clock?: Clock;
}

export class Net implements VirtioDevice, NetClient, NetControl {
  readonly name = 'net';
  readonly deviceId = DEVICE_ID;
  readonly features: bigint;
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE];
  readonly maxRequestBytes = [MAX_REQUEST_BYTES, MAX_REQUEST_BYTES];
  readonly config: ConfigSpace;
  readonly counters: NetCounters = { sent: 0, received: 0, malformed: 0, unsent: 0, dropped: 0 };
  readonly #backend: NetBackend;
  readonly #configView: DataView;
  /** Of the frame that is being sent, and of the one that is being received. */
  readonly #sentHeader = new Uint8Array(NET_HEADER_BYTES);
  readonly #header = new Uint8Array(NET_HEADER_BYTES);
  /** Offloads that were negotiated: what the guest may leave to the host, and the host to the guest. */
  #fromGuest = NO_OFFLOADS;
  #toGuest = NO_OFFLOADS;
  /** Buffers that the current frame takes. */
  readonly #chains: Chain[] = [];
  readonly #sending: RateLimiter;
  readonly #receiving: RateLimiter;
  #context: VirtioContext | undefined;
  #connected = false;
  /** A frame was refused, and the backend waits. */
  #refused = false;

  constructor(options: NetOptions) {
    this.#backend = options.backend;
    this.features =
      VIRTIO_NET_F_MTU |
      VIRTIO_NET_F_MAC |
      VIRTIO_NET_F_MRG_RXBUF |
      VIRTIO_NET_F_STATUS |
      (options.backend.setOffloads === undefined ? 0n : OFFLOAD_FEATURES);
    const clock = options.clock ?? systemClock;
    this.#sending = new RateLimiter(options.limit ?? {}, clock, () => this.onWritable());
    this.#receiving = new RateLimiter(options.limit ?? {}, clock, () =>
      this.#context?.enter(() => this.#resumeBackend()),
    );
    const bytes = new Uint8Array(CONFIG_BYTES);
    this.config = { bytes };
    this.#configView = new DataView(bytes.buffer);
    bytes.set(options.mac, CONFIG_MAC);
    this.#configView.setUint16(CONFIG_STATUS, VIRTIO_NET_S_LINK_UP, true);
    this.#configView.setUint16(CONFIG_MTU, options.mtu ?? options.backend.mtu, true);
  }

  get mac(): Uint8Array {
    return this.config.bytes.slice(CONFIG_MAC, CONFIG_MAC + MAC_BYTES);
  }

  get linkUp(): boolean {
    return (this.#configView.getUint16(CONFIG_STATUS, true) & VIRTIO_NET_S_LINK_UP) !== 0;
  }

  get limits(): { readonly sending: RateLimit; readonly receiving: RateLimit } {
    return { sending: this.#sending.limit, receiving: this.#receiving.limit };
  }

  setLimit({ sending, receiving }: { readonly sending?: RateLimit; readonly receiving?: RateLimit }): void {
    const checked = [sending, receiving].map((limit) => limit && checkLimit(limit));
    if (checked[0] !== undefined) this.#sending.set(checked[0]);
    if (checked[1] !== undefined) this.#receiving.set(checked[1]);
  }

  /** The backend is connected only now, when a restored card has its address. */
  activate(context: VirtioContext): void {
    this.#context = context;
    this.#negotiate(context.features);
    if (this.#connected) return;
    this.#connected = true;
    this.#backend.connect(this.mac, this);
  }

  #negotiate(features: bigint): void {
    this.#fromGuest = hostOffloads(features);
    this.#toGuest = guestOffloads(features);
    this.#backend.setOffloads?.(this.#toGuest);
  }

  /** As a network does with frames that are too long. */
  dropRequest(index: number): void {
    if (index === TRANSMIT) this.counters.malformed++;
    else this.counters.dropped++;
  }

  notify({ index }: Virtqueue): void {
    if (index === TRANSMIT) this.#transmit();
    else this.#resumeBackend();
  }

  onWritable(): void {
    this.#context?.enter(() => this.#transmit());
  }

  /** Sends as long as the backend has room; what it has not stays in the queue. */
  #transmit(): void {
    const queue = this.#context?.queues[TRANSMIT];
    if (queue === undefined) return;
    while (this.#backend.writable && this.#sending.open) {
      const chain = queue.pop();
      if (chain === undefined) break;
      this.#sending.charge(Math.min(chain.reader.length, MAX_SEGMENTED_BYTES));
      this.#send(chain.reader);
      queue.complete(chain, 0);
    }
    this.#backend.flush();
    queue.signal();
  }

  #send(reader: ChainReader): void {
    const frameBytes = reader.length - NET_HEADER_BYTES;
    const header = this.#sentHeader;
    if (frameBytes < ETHERNET_HEADER_BYTES) {
      this.counters.malformed++;
      return;
    }
    reader.read(header);
    const most = isSegmented(header) ? MAX_SEGMENTED_BYTES : MAX_FRAME_BYTES;
    if (frameBytes > most || !isAllowed(header, this.#fromGuest)) {
      this.counters.malformed++;
      return;
    }
    if (!this.linkUp) {
      this.counters.unsent++;
      return;
    }
    if (isPlain(header)) header.fill(0);
    this.#backend.send(reader, header);
    this.counters.sent++;
  }

  /** Puts a frame into as many of the guest's buffers as it takes, of which there may not be enough yet. */
  receive(frame: Uint8Array, header?: Uint8Array): boolean {
    if (!this.#receiving.open) return this.#refuse();
    let taken = true; // one in which the card broke down is lost
    if (this.#context === undefined) return this.#drop();
    this.#context.enter(() => {
      taken = this.#receive(frame, header);
    });
    return taken;
  }

  #receive(frame: Uint8Array, header: Uint8Array | undefined): boolean {
    const queue = this.#context?.queues[RECEIVE];
    if (queue === undefined || frame.length > this.#longestFrame(frame, header)) return this.#drop();
    if (header !== undefined && !isWelcome(header, this.#toGuest)) return this.#drop();
    const needed = NET_HEADER_BYTES + frame.length;
    const mergeable = this.#negotiated(VIRTIO_NET_F_MRG_RXBUF);
    const chains = this.#chains;
    chains.length = 0;
    for (let room = 0; room < needed; ) {
      const chain = queue.pop();
      if (chain === undefined) {
        const wholeRing = chains.length === queue.size;
        while (chains.length > 0) queue.putBack(chains.pop() as Chain);
        // More buffers than that there will never be.
        return wholeRing ? this.#drop() : this.#refuse();
      }
      chains.push(chain);
      room += chain.writer.length;
      // virtio 1.3, 5.1.6.3.1 MUST (driver): a buffer holds the header, and if buffers are not merged the largest frame too.
      if (chain.writer.length < (mergeable ? NET_HEADER_BYTES : needed)) {
        for (const held of chains) queue.complete(held, 0);
        return this.#drop();
      }
    }
    this.#fill(queue, frame, header);
    this.#receiving.charge(frame.length);
    this.counters.received++;
    return true;
  }

  #negotiated(feature: bigint): boolean {
    return ((this.#context?.features ?? 0n) & feature) !== 0n;
  }

  /** virtio 1.3, 5.1.4.1 MUST NOT: pass frames beyond an MTU that was negotiated. */
  #longestFrame(frame: Uint8Array, header: Uint8Array | undefined): number {
    if (header !== undefined && isSegmented(header)) return MAX_SEGMENTED_BYTES;
    if (!this.#negotiated(VIRTIO_NET_F_MTU)) return MAX_FRAME_BYTES;
    const tagged = frame[ETHERTYPE_OFFSET] === 0x81 && frame[ETHERTYPE_OFFSET + 1] === 0;
    const ethernetBytes = ETHERNET_HEADER_BYTES + (tagged ? VLAN_TAG_BYTES : 0);
    return Math.min(this.#configView.getUint16(CONFIG_MTU, true) + ethernetBytes, MAX_FRAME_BYTES);
  }

  #fill(queue: Virtqueue, frame: Uint8Array, header: Uint8Array | undefined): void {
    const chains = this.#chains;
    if (header !== undefined) this.#header.set(header);
    finishHeader(this.#header, chains.length, this.#toGuest);
    let at = 0;
    for (let i = 0; i < chains.length; i++) {
      const chain = chains[i] as Chain;
      const { writer } = chain;
      if (i === 0) writer.write(this.#header);
      const here = Math.min(writer.remaining, frame.length - at);
      writer.write(here === frame.length ? frame : frame.subarray(at, at + here));
      at += here;
      queue.complete(chain, writer.written, i < chains.length - 1);
    }
  }

  received(): void {
    this.#context?.enter(() => this.#context?.queues[RECEIVE]?.signal());
  }

  #drop(): true {
    this.counters.dropped++;
    return true;
  }

  #refuse(): false {
    this.#refused = true;
    return false;
  }

  #resumeBackend(): void {
    if (!this.#refused) return;
    this.#refused = false;
    this.#backend.resume();
  }

  onLink(up: boolean): void {
    if (up === this.linkUp) return;
    this.#configView.setUint16(CONFIG_STATUS, up ? VIRTIO_NET_S_LINK_UP : 0, true);
    this.#context?.configChanged();
  }

  #stopLimits(): void {
    this.#sending.stop();
    this.#receiving.stop();
  }

  /** Frames that come until there is a driver again are dropped: nobody waits for a guest that reboots. */
  reset(): void {
    this.#context = undefined;
    this.#stopLimits();
    this.#negotiate(0n);
    this.#resumeBackend();
  }

  save(): DeviceState {
    return {
      version: 2,
      mac: [...this.mac],
      mtu: this.#configView.getUint16(CONFIG_MTU, true),
      linkUp: this.linkUp,
      sendLimit: this.#sending.limit,
      receiveLimit: this.#receiving.limit,
    };
  }

  /** The guest's driver has read address and MTU already, so they are the saved ones whatever the request says. */
  restore(state: DeviceState): void {
    checkStateVersion(this.name, state, 2);
    const { mac, mtu, linkUp, sendLimit, receiveLimit } = state as { readonly [key: string]: unknown };
    checkState(isMac(mac), 'net: MAC address');
    checkState(Number.isInteger(mtu) && (mtu as number) >= MIN_MTU && (mtu as number) <= MAX_MTU, 'net: MTU');
    checkState(typeof linkUp === 'boolean', 'net: link');
    this.#sending.set(restoredLimit(sendLimit));
    this.#receiving.set(restoredLimit(receiveLimit));
    this.config.bytes.set(mac, CONFIG_MAC);
    this.#configView.setUint16(CONFIG_MTU, mtu as number, true);
    // Compared with what the backend says when it is connected.
    this.#configView.setUint16(CONFIG_STATUS, linkUp ? VIRTIO_NET_S_LINK_UP : 0, true);
  }

  async close(): Promise<void> {
    this.#context = undefined;
    this.#stopLimits();
    await this.#backend.close();
  }
}

/** Asks for a virtio-net on the host's network: by way of passt, or at a TAP interface. */
export function net(config: NetConfig): DeviceRequest {
  const checked = checkNetConfig(config);
  return {
    kind: 'net',
    config: { ...checked },
    ...(checked.backend === 'user' ? { kernelParameter: staticAddress } : {}),
    async open(host) {
      const backend = await host.openNet(placeOf(checked));
      const mac = checked.mac === undefined ? randomMac(host) : toMac(checked.mac);
      return new Net({
        backend,
        mac,
        limit: checked,
        ...(checked.mtu === undefined ? {} : { mtu: checked.mtu }),
      });
    },
  };
}

/** Asks for a virtio-net at a switch that other machines of this process are at. Such a machine cannot be saved. */
export function netAt(hub: NetHub, config: Pick<NetConfig, 'mac' | 'mtu'> = {}): DeviceRequest {
  const { mac, mtu } = checkNetConfig({ ...config, backend: 'user' });
  return {
    kind: 'net',
    open: async (host) =>
      new Net({
        backend: hub.openPort(),
        mac: mac === undefined ? randomMac(host) : toMac(mac),
        ...(mtu === undefined ? {} : { mtu }),
      }),
  };
}

export const netKind: DeviceKind = {
  summary: 'a network card (eth0, ...): user (passt, no privileges) or tap',
  guestKconfig: 'CONFIG_VIRTIO_NET',
  cliFlag: 'net',
  cliRepeatable: true,
  cliArgument: NET_ARGUMENT,
  fromCli: (text) => net(parseNet(text)),
  fromConfig: (config) => net(checkNetConfig(config)),
  paths: () => [],
  hostUse: netHostUse,
};
