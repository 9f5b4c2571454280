/** Far end of a network card's cable, as the card sees it. src/host implements it; tests do too. */
import type { RateLimit } from '../rate-limit.js';

/** Source, destination and type. */
export const ETHERNET_HEADER_BYTES = 14;
/** The greatest frame that anybody here takes: what passt does, and more than a TAP's MTU allows. */
export const MAX_FRAME_BYTES = 65_535;
/** Of segments that are yet to be cut: an IP packet of the greatest length, with its Ethernet header and a VLAN's tag. */
export const MAX_SEGMENTED_BYTES: number = 65_535 + ETHERNET_HEADER_BYTES + 4;
/** virtio 1.3, 5.1.4.1 MUST: no less than 68. */
export const MIN_MTU = 68;
/** Rounded down to whole words, as passt counts. */
export const MAX_MTU = 65_520;
export const MAC_BYTES = 6;

/** The addresses of `--net user`: those of QEMU's user network, so that guests that were set up for it find what they expect. */
export const USER_NET = {
  guestAddress: '10.0.2.15',
  gatewayAddress: '10.0.2.2',
  /** Stands for the host's first name server, which another host has elsewhere. */
  nameServerAddress: '10.0.2.3',
  prefixBits: 24,
  netmask: '255.255.255.0',
} as const;

/** Length of struct virtio_net_hdr (virtio 1.3, 5.1.6), which goes before each frame. */
export const NET_HEADER_BYTES = 12;

/** Work that a side may leave to the other. */
export interface Offloads {
  /** The checksum of a frame, of which only the pseudo header's is there. */
  readonly checksum: boolean;
  /** TCP segments: one frame of up to 64 KiB, over IPv4 or IPv6, and with ECN. */
  readonly tcp4: boolean;
  readonly tcp6: boolean;
  readonly ecn: boolean;
}

/** A frame that is still in the guest's memory. It is read once, whole, during the call. */
export interface FrameSource {
  readonly remaining: number;
  read(target: Uint8Array): number;
}

/** The card's side. */
export interface NetClient {
  /**
   * A frame for the guest; the array is valid during the call only. False: there is no room and it was not taken. Whoever
   * can keeps it, pauses, and offers it again when `resume` is called.
   *
   * @param header - struct virtio_net_hdr, from a backend with offloads
   */
  receive(frame: Uint8Array, header?: Uint8Array): boolean;
  /** No more frames for now: the guest is told of those that came. */
  received(): void;
  /** `writable` is true again. */
  onWritable(): void;
  /** The cable was plugged in, or pulled. */
  onLink(up: boolean): void;
}

/** The host's side. */
export interface NetBackend {
  /** The greatest payload of a frame that makes sense. */
  readonly mtu: number;
  /** There is room for one frame of the greatest size. After false, `onWritable` tells when to go on. */
  readonly writable: boolean;
  /** Called once, by the card, before anything else; frames may come from then on, also from within. */
  connect(mac: Uint8Array, client: NetClient): void;
  /**
   * A frame from the guest, of a legal size. Only while `writable`.
   *
   * @param header - struct virtio_net_hdr, which says nothing for a backend without offloads
   */
  send(frame: FrameSource, header: Uint8Array): void;
  /** Absent in one that takes and gives whole frames only. Else: what it may leave to the guest from now on; nothing at first. */
  setOffloads?(offloads: Offloads): void;
  /** No more frames for now: what was sent goes out. */
  flush(): void;
  /** `receive` would succeed again. May call it from within. */
  resume(): void;
  /** Nothing is called afterwards. */
  close(): Promise<void>;
}

/** A port of the host's that leads into the guest. */
export interface PortForward {
  readonly protocol: 'tcp' | 'udp';
  /** An IPv4 address of the host's; empty for all. */
  readonly address: string;
  readonly port: number;
  readonly guestPort: number;
}

/** The host's own network connection, without privileges: what is in the guest speaks as this user's processes do. */
export interface UserNet {
  readonly kind: 'user';
  readonly mtu: number;
  readonly forwards: readonly PortForward[];
  /** The gateway's address stands for the host's loopback. */
  readonly loopback: boolean;
}

/** A TAP interface that the operator made. */
export interface TapNet {
  readonly kind: 'tap';
  readonly name: string;
}

/** Place that a host is asked to plug a card into. */
export type NetPlace = UserNet | TapNet;

/** Links machines of one process. */
export interface NetHub {
  openPort(): NetBackend;
}

/** A network card, from outside the guest. */
export interface NetControl {
  /** Six bytes. */
  readonly mac: Uint8Array;
  readonly limits: { readonly sending: RateLimit; readonly receiving: RateLimit };
  /** Limits each direction from now on, as the guest sees it; one that is not given stays as it is. @throws TsvmError `TSVM_CONFIG` */
  setLimit(limits: { readonly sending?: RateLimit; readonly receiving?: RateLimit }): void;
}
