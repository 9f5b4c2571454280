/** Tar archives, header by header, also such as no program writes. */

export interface TarEntry {
  readonly name: string;
  /** Default: a file. */
  readonly type?: string;
  readonly content?: Uint8Array | string;
  /** Size in place of the content's length. */
  readonly size?: number;
  readonly mode?: number;
  readonly link?: string;
  readonly uid?: number;
  /** Numbers of a device. */
  readonly numbers?: readonly [major: number, minor: number];
  /** Records of a pax header before it. */
  readonly pax?: Readonly<Record<string, string>>;
}

export const dir = (name: string, mode = 0o755): TarEntry => ({ name, type: '5', mode });
export const file = (name: string, content = '', mode = 0o644): TarEntry => ({ name, content, mode });
export const link = (name: string, target: string): TarEntry => ({
  name,
  type: '2',
  link: target,
  mode: 0o777,
});
export const hard = (name: string, target: string): TarEntry => ({ name, type: '1', link: target });

const BLOCK_BYTES = 512;

export function tarOf(entries: readonly TarEntry[]): Buffer {
  return Buffer.concat([...entries.map(entryOf), Buffer.alloc(2 * BLOCK_BYTES)]);
}

function entryOf({ pax, ...entry }: TarEntry): Buffer {
  if (pax === undefined) return withHeader(entry);
  const content = Object.entries(pax).map(([key, value]) => {
    const rest = Buffer.byteLength(` ${key}=${value}\n`);
    const digits = String(rest + String(rest).length).length;
    return `${rest + digits} ${key}=${value}\n`;
  });
  return Buffer.concat([
    withHeader({ name: 'pax', type: 'x', content: content.join('') }),
    withHeader(entry),
  ]);
}

function withHeader(entry: Omit<TarEntry, 'pax'>): Buffer {
  const { name, type = '0', mode = 0o644, link = '', uid = 0, numbers = [0, 0] } = entry;
  const content = Buffer.from(entry.content ?? '');
  const header = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, at: number, length: number): void => {
    header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
  };
  header.write(name, 0);
  octal(mode, 100, 8);
  if (uid < 8 ** 7) {
    octal(uid, 108, 8);
  } else {
    header.writeBigUInt64BE((1n << 63n) | BigInt(uid), 108);
  }
  octal(0, 116, 8);
  octal(entry.size ?? content.length, 124, 12);
  octal(0, 136, 12);
  header.write(' '.repeat(8), 148);
  header.write(type, 156);
  header.write(link, 157);
  header.write('ustar\u000000', 257);
  octal(numbers[0], 329, 8);
  octal(numbers[1], 337, 8);
  octal(
    header.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  return Buffer.concat([header, content, Buffer.alloc(-content.length & (BLOCK_BYTES - 1))]);
}
