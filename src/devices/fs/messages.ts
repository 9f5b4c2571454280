/** FUSE messages: what requests are read with and answers are written with. What does not fit throws an error that the guest sees. */

import { nanosecondsOf, timespecOf } from '../../util/timespec.js';
import type { ChainReader, ChainWriter } from '../../virtio/chain.js';
import { type AttributeChanges, type FileAttributes, fileError } from '../backends/file-system.js';
import * as P from './protocol.js';

/** The largest read and write: 256 pages of 4 KiB. */
export const MAX_TRANSFER_BYTES: number = 1 << 20;

/** Seconds for which the guest may believe what it was told. Changes on the host are seen after that. */
const VALID_SECONDS = 1;
export const MAX_NAME_BYTES = 255;
/** struct fuse_in_header. */
export interface Header {
  readonly opcode: number;
  readonly uniqueLow: number;
  readonly uniqueHigh: number;
  readonly nodeId: number;
  readonly uid: number;
  readonly gid: number;
}

export const align8 = (bytes: number): number => Math.ceil(bytes / 8) * 8;

export function room(part: ChainReader | ChainWriter, bytes: number): void {
  if (part.remaining < bytes) throw fileError('EINVAL');
}

/** The first field of a structure that has so many bytes. */
export function u32(reader: ChainReader, structBytes: number): number {
  room(reader, structBytes);
  return reader.readU32();
}

/** Inexact beyond 2^53: no ID, size or offset is. */
export function u64(reader: ChainReader): number {
  room(reader, 8);
  const low = reader.readU32();
  return reader.readU32() * 0x1_0000_0000 + low;
}

export function u64Exact(reader: ChainReader): bigint {
  const low = reader.readU32();
  return (BigInt(reader.readU32()) << 32n) | BigInt(low);
}

export function writeU64(writer: ChainWriter, value: bigint): void {
  writer.writeU32(Number(value & 0xffff_ffffn));
  writer.writeU32(Number((value >> 32n) & 0xffff_ffffn));
}

export function fileOffset(value: number): number {
  if (!Number.isSafeInteger(value)) throw fileError('EFBIG');
  return value;
}

/** Answer of getxattr(2) and listxattr(2): the value, or how long it is if no room was offered. */
export function sized(writer: ChainWriter, size: number, value: Uint8Array): number {
  if (size === 0) {
    room(writer, 8);
    writer.writeU64(value.length); // and padding
    return 8;
  }
  if (value.length > size) throw fileError('ERANGE');
  room(writer, value.length);
  writer.write(value);
  return value.length;
}

/** struct fuse_setattr_in: the handle, if the file is open, and what changes. */
export function setattrIn(reader: ChainReader): { handle: number | undefined; changes: AttributeChanges } {
  const valid = u32(reader, 88);
  reader.skip(4);
  const handle = u64(reader);
  const sizeBytes = u64(reader);
  reader.skip(8);
  const seconds = [u64Exact(reader), u64Exact(reader)] as const;
  reader.skip(8);
  const nanoseconds = [reader.readU32(), reader.readU32()] as const;
  reader.skip(4);
  const mode = reader.readU32();
  reader.skip(4);
  const uid = reader.readU32();
  const gid = reader.readU32();
  const time = (index: 0 | 1): bigint =>
    nanosecondsOf(BigInt.asIntN(64, seconds[index]), BigInt(nanoseconds[index]));
  return {
    handle: valid & P.FATTR_FH ? handle : undefined,
    changes: {
      ...(valid & P.FATTR_MODE ? { mode: mode & 0o7777 } : {}),
      ...(valid & P.FATTR_UID ? { uid } : {}),
      ...(valid & P.FATTR_GID ? { gid } : {}),
      ...(valid & P.FATTR_SIZE ? { sizeBytes: fileOffset(sizeBytes) } : {}),
      ...(valid & P.FATTR_ATIME ? { atimeNs: valid & P.FATTR_ATIME_NOW ? 'now' : time(0) } : {}),
      ...(valid & P.FATTR_MTIME ? { mtimeNs: valid & P.FATTR_MTIME_NOW ? 'now' : time(1) } : {}),
    },
  };
}

export function opened(writer: ChainWriter, handle: number): number {
  writer.writeU64(handle);
  writer.fill(8, 0);
  return P.OPEN_OUT_BYTES;
}

export function entryOut(writer: ChainWriter, id: number, attributes: FileAttributes): void {
  writer.writeU64(id);
  writer.fill(8, 0);
  writer.writeU64(VALID_SECONDS);
  writer.writeU64(VALID_SECONDS);
  writer.fill(8, 0);
  attr(writer, attributes);
}

export function attributesOut(writer: ChainWriter, attributes: FileAttributes): number {
  room(writer, 16 + P.ATTR_BYTES);
  writer.writeU64(VALID_SECONDS);
  writer.fill(8, 0);
  attr(writer, attributes);
  return 16 + P.ATTR_BYTES;
}

function attr(writer: ChainWriter, attributes: FileAttributes): void {
  const times = [attributes.atimeNs, attributes.mtimeNs, attributes.ctimeNs].map(timespecOf);
  writeU64(writer, attributes.ino);
  writer.writeU64(attributes.sizeBytes);
  writer.writeU64(attributes.blocks);
  for (const [seconds] of times) writeU64(writer, seconds);
  for (const [, nanoseconds] of times) writer.writeU32(Number(nanoseconds));
  writer.writeU32(attributes.mode);
  writer.writeU32(attributes.nlink);
  writer.writeU32(attributes.uid);
  writer.writeU32(attributes.gid);
  writer.writeU32(attributes.rdev);
  writer.writeU32(attributes.blockBytes);
  writer.writeU32(0);
}

export function putHeader(
  views: readonly Uint8Array[],
  length: number,
  error: number,
  { uniqueLow, uniqueHigh }: Header,
): void {
  const bytes = new Uint8Array(P.OUT_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, length, true);
  view.setInt32(4, error, true);
  view.setUint32(8, uniqueLow, true);
  view.setUint32(12, uniqueHigh, true);
  let at = 0;
  for (const target of views) {
    target.set(bytes.subarray(at, at + target.length));
    at += target.length;
  }
}

/** Errno that the guest is told of a failure. */
export function errnoOf(error: unknown): number {
  const code = (error as { code?: unknown } | undefined)?.code;
  return (typeof code === 'string' && P.ERRNO[code]) || P.EIO;
}

/** A method that a file system may lack. */
export function have<Method>(method: Method | undefined): Method {
  if (method === undefined) throw fileError('ENOSYS');
  return method;
}
