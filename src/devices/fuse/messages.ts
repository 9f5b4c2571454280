/** FUSE messages: what requests are read with and answers are written with. What does not fit throws an error that the guest sees. */
import type { ChainReader, ChainWriter } from '../../virtio/chain.js';
import { type FileAttributes, fileError } from './file-system.js';
import * as P from './protocol.js';

/** How long the guest may believe what it was told. Changes on the host are seen after that. */
const VALID_SECONDS = 1;
export const MAX_NAME_BYTES = 255;
/** PATH_MAX, with its NUL. */
export const MAX_TARGET_BYTES = 4096;
/** XATTR_SIZE_MAX of linux/limits.h. */
const MAX_XATTR_BYTES = 65_536;
/** Everything before the data of a write: no request has more. */
const MAX_ARGUMENT_BYTES = P.IN_HEADER_BYTES + 2 * (MAX_TARGET_BYTES + MAX_NAME_BYTES + 64);
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

/** What is left of a request, as texts that end with NUL. */
export function texts(reader: ChainReader, ...maxBytes: readonly number[]): [string, string] {
  if (reader.length > MAX_ARGUMENT_BYTES) throw fileError('EINVAL');
  const bytes = new Uint8Array(reader.remaining);
  reader.read(bytes);
  const found: string[] = [];
  let start = 0;
  for (const max of maxBytes) {
    const end = bytes.indexOf(0, start);
    if (end < 0) throw fileError('EINVAL');
    if (end - start > max) throw fileError('ENAMETOOLONG');
    found.push(decode(bytes.subarray(start, end)));
    start = end + 1;
  }
  return found as [string, string];
}

/** A name that ends with NUL, and `valueBytes` of what follows it. */
export function nameAndValue(reader: ChainReader, valueBytes: number): [name: string, value: Uint8Array] {
  if (valueBytes > MAX_XATTR_BYTES || reader.remaining > MAX_NAME_BYTES + 1 + valueBytes)
    throw fileError('E2BIG');
  const bytes = new Uint8Array(reader.remaining);
  reader.read(bytes);
  const end = bytes.indexOf(0);
  if (end < 0 || bytes.length - end - 1 !== valueBytes) throw fileError('EINVAL');
  return [xattrName(decode(bytes.subarray(0, end))), bytes.subarray(end + 1)];
}

export function xattrName(name: string): string {
  if (name === '') throw fileError('EINVAL');
  return name;
}

/** What getxattr(2) and listxattr(2) return: the value, or how long it is if no room was offered. */
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

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw fileError('EILSEQ');
  }
}

export function nameOf(reader: ChainReader): string {
  return checkName(texts(reader, MAX_NAME_BYTES)[0]);
}

export function checkName(name: string): string {
  if (name === '' || name === '.' || name === '..' || name.includes('/')) throw fileError('EINVAL');
  return name;
}

export function opened(writer: ChainWriter, handle: number): number {
  room(writer, 16);
  writer.writeU64(handle);
  writer.fill(8, 0);
  return 16;
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
  const times = [attributes.atimeNs, attributes.mtimeNs, attributes.ctimeNs];
  const seconds = times.map(
    (ns) => (ns - (((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n)) / 1_000_000_000n,
  );
  writeU64(writer, attributes.ino);
  writer.writeU64(attributes.sizeBytes);
  writer.writeU64(attributes.blocks);
  for (const value of seconds) writeU64(writer, value);
  for (const [i, ns] of times.entries())
    writer.writeU32(Number(ns - (seconds[i] as bigint) * 1_000_000_000n));
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

/** What the guest is told of a failure. */
export function errnoOf(error: unknown): number {
  const code = (error as { code?: unknown } | undefined)?.code;
  return (typeof code === 'string' && P.ERRNO[code]) || P.EIO;
}
