/**
 * A tiny encoder for ACPI Machine Language, just what a table of devices needs (ACPI 6.5, chapter 20).
 *
 * @spec acpi-6.5 20  ACPI Machine Language  #partial  what a table of devices needs
 */
import { TableWriter } from './table-writer.js';

const ZERO_OP = 0x00;
const ONE_OP = 0x01;
const NAME_OP = 0x08;
const BYTE_PREFIX = 0x0a;
const WORD_PREFIX = 0x0b;
const DWORD_PREFIX = 0x0c;
const STRING_PREFIX = 0x0d;
const SCOPE_OP = 0x10;
const BUFFER_OP = 0x11;
const PACKAGE_OP = 0x12;
const METHOD_OP = 0x14;
const EXT_OP = 0x5b;
const DEVICE_OP = 0x82;
const ROOT_CHAR = 0x5c;
const NOTIFY_OP = 0x86;
const SERIALIZED = 1 << 3;

/** An encoded term. */
export type Aml = Uint8Array;

/** A name of four characters, or `\` and such a name. */
export function nameString(name: string): Aml {
  const seg = name.startsWith('\\') ? name.slice(1) : name;
  if (!/^[A-Z_][A-Z0-9_]{0,3}$/.test(seg)) throw new RangeError(`${name} is not an ACPI name`);
  const writer = new TableWriter();
  if (seg !== name) writer.u8(ROOT_CHAR);
  return writer.text(seg.padEnd(4, '_')).bytes();
}

export function integer(value: number): Aml {
  const writer = new TableWriter();
  if (value === 0) return writer.u8(ZERO_OP).bytes();
  if (value === 1) return writer.u8(ONE_OP).bytes();
  if (value <= 0xff) return writer.u8(BYTE_PREFIX, value).bytes();
  if (value <= 0xffff) return writer.u8(WORD_PREFIX).u16(value).bytes();
  return writer.u8(DWORD_PREFIX).u32(value).bytes();
}

export function string(value: string): Aml {
  return new TableWriter().u8(STRING_PREFIX).text(value).u8(0).bytes();
}

/** A compressed EISA identifier such as PNP0501 (19.3.4). */
export function eisaId(id: string): Aml {
  if (!/^[A-Z]{3}[0-9A-F]{4}$/.test(id)) throw new RangeError(`${id} is not an EISA id`);
  const letters = [0, 1, 2].reduce((sum, i) => (sum << 5) | (id.charCodeAt(i) - 0x40), 0);
  const product = Number.parseInt(id.slice(3), 16);
  return new TableWriter()
    .u8(DWORD_PREFIX)
    .u8(letters >>> 8, letters & 0xff, product >>> 8, product & 0xff)
    .bytes();
}

export function name(path: string, value: Aml): Aml {
  return new TableWriter().u8(NAME_OP).append(nameString(path)).append(value).bytes();
}

export function pkg(...elements: Aml[]): Aml {
  const body = new TableWriter().u8(elements.length);
  for (const element of elements) body.append(element);
  return sized([PACKAGE_OP], body.bytes());
}

export function scope(path: string, ...terms: Aml[]): Aml {
  return named([SCOPE_OP], path, terms);
}

export function device(path: string, ...terms: Aml[]): Aml {
  return named([EXT_OP, DEVICE_OP], path, terms);
}

/** A serialized method of `args` arguments (20.2.5.2). */
export function method(path: string, args: number, ...terms: Aml[]): Aml {
  return named([METHOD_OP], path, [new TableWriter().u8(args | SERIALIZED).bytes(), ...terms]);
}

/** Tells the driver of a device that something happened to it (20.2.5.3). */
export function notify(path: string, value: number): Aml {
  return new TableWriter().u8(NOTIFY_OP).append(nameString(path)).append(integer(value)).bytes();
}

/** A buffer of resource descriptors with its end tag (6.4.2.9; checksum 0 means: not checked). */
export function resourceTemplate(...descriptors: Aml[]): Aml {
  const resources = new TableWriter();
  for (const descriptor of descriptors) resources.append(descriptor);
  resources.u8(0x79, 0);
  return sized(
    [BUFFER_OP],
    new TableWriter().append(integer(resources.length)).append(resources.bytes()).bytes(),
  );
}

/** Memory32Fixed, read and write (6.4.3.4). */
export function memory32Fixed(addr: number, length: number): Aml {
  return new TableWriter().u8(0x86).u16(9).u8(1).u32(addr).u32(length).bytes();
}

/** One edge-triggered, active-high, exclusive interrupt that the device consumes (6.4.3.6). */
export function interrupt(gsi: number): Aml {
  const consumer = 1 << 0;
  const edge = 1 << 1;
  return new TableWriter()
    .u8(0x89)
    .u16(6)
    .u8(consumer | edge, 1)
    .u32(gsi)
    .bytes();
}

/** A range of I/O ports, decoded in 16 bits (6.4.2.5). */
export function ioPorts(port: number, length: number): Aml {
  return new TableWriter().u8(0x47, 1).u16(port).u16(port).u8(1, length).bytes();
}

function named(opcode: readonly number[], path: string, terms: readonly Aml[]): Aml {
  const body = new TableWriter().append(nameString(path));
  for (const term of terms) body.append(term);
  return sized(opcode, body.bytes());
}

/** Opcode, PkgLength (20.2.4), body; the length counts itself. */
function sized(opcode: readonly number[], body: Uint8Array): Aml {
  const writer = new TableWriter().u8(...opcode);
  const extraBytes = [0, 1, 2, 3].find(
    (extra) => body.length + 1 + extra < (extra === 0 ? 0x40 : 2 ** (4 + 8 * extra)),
  );
  if (extraBytes === undefined) throw new RangeError(`an AML package of ${body.length} bytes`);
  const length = body.length + 1 + extraBytes;
  if (extraBytes === 0) writer.u8(length);
  else writer.u8((extraBytes << 6) | (length & 0xf));
  for (let i = 0; i < extraBytes; i++) writer.u8(Math.floor(length / 2 ** (4 + 8 * i)) & 0xff);
  return writer.append(body).bytes();
}
