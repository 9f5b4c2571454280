/**
 * The header of a vsock packet (virtio 1.3, 5.10.6), between bytes of a chain and an object that is used again.
 *
 * @spec virtio-1.3 5.10.6  struct virtio_vsock_hdr  #yes
 */

import type { ChainReader, ChainWriter } from '../../virtio/chain.js';
import { NO_CID } from '../backends/vsock.js';

/** struct virtio_vsock_hdr */
export const HEADER_BYTES = 44;

export const VIRTIO_VSOCK_TYPE_STREAM = 1;

// Operations (virtio 1.3, 5.10.6).
export const VIRTIO_VSOCK_OP_REQUEST = 1;
export const VIRTIO_VSOCK_OP_RESPONSE = 2;
export const VIRTIO_VSOCK_OP_RST = 3;
export const VIRTIO_VSOCK_OP_SHUTDOWN = 4;
export const VIRTIO_VSOCK_OP_RW = 5;
export const VIRTIO_VSOCK_OP_CREDIT_UPDATE = 6;
export const VIRTIO_VSOCK_OP_CREDIT_REQUEST = 7;

/** Flags of SHUTDOWN: bits 0 and 1 (virtio 1.3, 5.10.6.5). */
export const VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE = 1;
export const VIRTIO_VSOCK_SHUTDOWN_F_SEND = 2;
export const SHUTDOWN_BOTH: number = VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE | VIRTIO_VSOCK_SHUTDOWN_F_SEND;

export interface PacketHeader {
  srcCid: number;
  dstCid: number;
  srcPort: number;
  dstPort: number;
  /** Bytes of payload. */
  len: number;
  type: number;
  op: number;
  flags: number;
  bufAlloc: number;
  fwdCnt: number;
}

export function newHeader(): PacketHeader {
  return {
    srcCid: 0,
    dstCid: 0,
    srcPort: 0,
    dstPort: 0,
    len: 0,
    type: VIRTIO_VSOCK_TYPE_STREAM,
    op: 0,
    flags: 0,
    bufAlloc: 0,
    fwdCnt: 0,
  };
}

/** Fetches every field once. There must be {@link HEADER_BYTES} to read. */
export function readHeader(reader: ChainReader, header: PacketHeader): void {
  header.srcCid = readCid(reader);
  header.dstCid = readCid(reader);
  header.srcPort = reader.readU32();
  header.dstPort = reader.readU32();
  header.len = reader.readU32();
  header.type = reader.readU16();
  header.op = reader.readU16();
  header.flags = reader.readU32();
  header.bufAlloc = reader.readU32();
  header.fwdCnt = reader.readU32();
}

/** virtio 1.3, 5.10.6: the upper 32 bits of a CID are reserved and zero. */
function readCid(reader: ChainReader): number {
  const low = reader.readU32();
  return reader.readU32() === 0 ? low : NO_CID;
}

export function writeHeader(writer: ChainWriter, header: PacketHeader): void {
  writer.writeU64(header.srcCid);
  writer.writeU64(header.dstCid);
  writer.writeU32(header.srcPort);
  writer.writeU32(header.dstPort);
  writer.writeU32(header.len);
  writer.writeU16(header.type);
  writer.writeU16(header.op);
  writer.writeU32(header.flags);
  writer.writeU32(header.bufAlloc);
  writer.writeU32(header.fwdCnt);
}

/** One packet at a time, copied out of guest memory. */
export class Packet {
  readonly header: PacketHeader = newHeader();
  /** Of a RW packet, valid until the next `read`; undefined if it is longer than any may be. */
  payload: Uint8Array | undefined;
  readonly #maxPayloadBytes: number;
  #buffer: Uint8Array | undefined;

  constructor(maxPayloadBytes: number) {
    this.#maxPayloadBytes = maxPayloadBytes;
  }

  /** `short`: not even a header. `cut`: only the header, since there is less payload than it says. */
  read(reader: ChainReader): 'short' | 'cut' | 'whole' {
    const { header } = this;
    this.payload = undefined;
    if (reader.length < HEADER_BYTES) return 'short';
    readHeader(reader, header);
    if (header.len > reader.remaining) return 'cut';
    if (header.op === VIRTIO_VSOCK_OP_RW && header.len <= this.#maxPayloadBytes) {
      this.#buffer ??= new Uint8Array(this.#maxPayloadBytes);
      this.payload = this.#buffer.subarray(0, header.len);
      reader.read(this.payload);
    }
    return 'whole';
  }
}
