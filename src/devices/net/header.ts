/**
 * struct virtio_net_hdr (virtio 1.3, 5.1.6), which is before each frame: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset,
 * num_buffers; and what of a network stack's work it leaves to the other side.
 *
 * @spec virtio-1.3 5.1.6  struct virtio_net_hdr  #yes
 */
import type { Offloads } from '../backends/net.js';

const FLAGS = 0;
const GSO_TYPE = 1;
const NUM_BUFFERS = 10;

const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
const VIRTIO_NET_HDR_GSO_NONE = 0;
const VIRTIO_NET_HDR_GSO_TCPV4 = 1;
const VIRTIO_NET_HDR_GSO_TCPV6 = 4;
const VIRTIO_NET_HDR_GSO_ECN = 0x80;

export const NO_OFFLOADS: Offloads = { checksum: false, tcp4: false, tcp6: false, ecn: false };

export const VIRTIO_NET_F_CSUM = 1n << 0n;
export const VIRTIO_NET_F_GUEST_CSUM = 1n << 1n;
export const VIRTIO_NET_F_GUEST_TSO4 = 1n << 7n;
export const VIRTIO_NET_F_GUEST_TSO6 = 1n << 8n;
export const VIRTIO_NET_F_GUEST_ECN = 1n << 9n;
export const VIRTIO_NET_F_HOST_TSO4 = 1n << 11n;
export const VIRTIO_NET_F_HOST_TSO6 = 1n << 12n;
export const VIRTIO_NET_F_HOST_ECN = 1n << 13n;

/** Both directions. */
export const OFFLOAD_FEATURES: bigint =
  VIRTIO_NET_F_CSUM |
  VIRTIO_NET_F_HOST_TSO4 |
  VIRTIO_NET_F_HOST_TSO6 |
  VIRTIO_NET_F_HOST_ECN |
  VIRTIO_NET_F_GUEST_CSUM |
  VIRTIO_NET_F_GUEST_TSO4 |
  VIRTIO_NET_F_GUEST_TSO6 |
  VIRTIO_NET_F_GUEST_ECN;

/** virtio 1.3, 5.1.3.1: segments need checksums, and ECN needs segments, whatever the driver accepted. */
function offloads(features: bigint, csum: bigint, tso4: bigint, tso6: bigint, ecn: bigint): Offloads {
  const has = (feature: bigint): boolean => (features & feature) !== 0n;
  const checksum = has(csum);
  const tcp4 = checksum && has(tso4);
  const tcp6 = checksum && has(tso6);
  return { checksum, tcp4, tcp6, ecn: (tcp4 || tcp6) && has(ecn) };
}

/** Work that the guest may leave to the host, by the features that its driver accepted. */
export function hostOffloads(features: bigint): Offloads {
  return offloads(
    features,
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_HOST_TSO4,
    VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_ECN,
  );
}

/** Work that the host may leave to the guest. */
export function guestOffloads(features: bigint): Offloads {
  return offloads(
    features,
    VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_GUEST_ECN,
  );
}

/** Many segments in one frame. */
export function isSegmented(header: Uint8Array): boolean {
  return header[GSO_TYPE] !== VIRTIO_NET_HDR_GSO_NONE;
}

/** virtio 1.3, 5.1.6.2.1 MUST (driver): nothing in the header that was not negotiated. */
export function isAllowed(header: Uint8Array, { checksum, tcp4, tcp6, ecn }: Offloads): boolean {
  const flags = header[FLAGS] as number;
  if (flags !== 0 && (flags !== VIRTIO_NET_HDR_F_NEEDS_CSUM || !checksum)) return false;
  if (!isSegmented(header)) return true;
  const type = header[GSO_TYPE] as number;
  if (flags === 0 || ((type & VIRTIO_NET_HDR_GSO_ECN) !== 0 && !ecn)) return false;
  const version = type & ~VIRTIO_NET_HDR_GSO_ECN;
  return (tcp4 && version === VIRTIO_NET_HDR_GSO_TCPV4) || (tcp6 && version === VIRTIO_NET_HDR_GSO_TCPV6);
}

/** Tells whether the guest takes such a frame: one may have waited since a driver that took more. */
export function isWelcome(header: Uint8Array, { checksum, tcp4, tcp6 }: Offloads): boolean {
  if (!checksum && ((header[FLAGS] as number) & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0) return false;
  return !isSegmented(header) || tcp4 || tcp6;
}

/** Nothing is asked: then the other fields mean nothing. */
export function isPlain(header: Uint8Array): boolean {
  return header[FLAGS] === 0 && !isSegmented(header);
}

/** virtio 1.3, 5.1.6.4.1 MUST: how many buffers the frame takes; no flags unless checksums were negotiated. */
export function finishHeader(header: Uint8Array, buffers: number, { checksum }: Offloads): void {
  if (!checksum) header[FLAGS] = 0;
  header[NUM_BUFFERS] = buffers & 0xff;
  header[NUM_BUFFERS + 1] = buffers >> 8;
}
