/**
 * Unpacks on the host what the kernel would unpack in the guest: kernels and initramfs archives, told apart by their
 * first bytes as the kernel does (lib/decompress.c).
 *
 * xz and lzma are unpacked by the `xz` program, which the caller runs: every xz kernel uses the x86 branch filter, and no
 * package on npm unpacks that without a native build.
 */
import { TsvmError } from '../../errors.js';
import { bunzip2 } from './bzip2.js';
import { DecompressError, type Unpacked } from './error.js';
import { gunzip } from './gzip.js';
import { unlz4 } from './lz4.js';
import { unzstd } from './zstd.js';

export type CompressionFormat = 'gzip' | 'xz' | 'lzma' | 'bzip2' | 'lz4' | 'zstd' | 'lzo';

const MAGICS: readonly { readonly format: CompressionFormat; readonly magic: readonly number[] }[] = [
  { format: 'gzip', magic: [0x1f, 0x8b] },
  { format: 'xz', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] },
  { format: 'lzma', magic: [0x5d, 0x00] },
  { format: 'bzip2', magic: [0x42, 0x5a, 0x68] },
  { format: 'lz4', magic: [0x02, 0x21, 0x4c, 0x18] },
  { format: 'zstd', magic: [0x28, 0xb5, 0x2f, 0xfd] },
  { format: 'lzo', magic: [0x89, 0x4c, 0x5a, 0x4f] },
];

/** How these bytes are compressed, or undefined if they do not look so. */
export function compressionFormat(bytes: Uint8Array): CompressionFormat | undefined {
  return MAGICS.find(({ magic }) => magic.every((byte, i) => bytes[i] === byte))?.format;
}

/** Runs `xz` on the first .xz or .lzma stream in `bytes`; rejects if the data are damaged or unpack to more than `maxBytes`. */
export type XzProgram = (bytes: Uint8Array, format: 'xz' | 'lzma', maxBytes: number) => Promise<Unpacked>;

export interface DecompressOptions {
  readonly xz: XzProgram;
  /** The defence against bombs: one byte more is an error. */
  readonly maxBytes: number;
  /** If given, the result must have this length. */
  readonly exactBytes?: number;
}

/** Unpacks all of `bytes`, which hold one compressed stream. Fails only with {@link DecompressError}, or with TsvmError for want of `xz`. */
export async function decompress(bytes: Uint8Array, options: DecompressOptions): Promise<Uint8Array> {
  const { data } = await decompressFirst(bytes, options);
  if (options.exactBytes !== undefined && data.length !== options.exactBytes) {
    throw new DecompressError(`unpacked to ${data.length} bytes, ${options.exactBytes} were announced`);
  }
  return data;
}

/** Unpacks the first stream in `bytes` and tells where it ends. Fails only with {@link DecompressError}, or with TsvmError for want of `xz`. */
export async function decompressFirst(bytes: Uint8Array, options: DecompressOptions): Promise<Unpacked> {
  const format = compressionFormat(bytes);
  try {
    return await unpack(format, bytes, options);
  } catch (error) {
    if (error instanceof DecompressError || error instanceof TsvmError) throw error;
    if (error instanceof Error && (error as { code?: unknown }).code === 'ERR_BUFFER_TOO_LARGE') {
      throw new DecompressError(`unpacks to more than ${options.maxBytes} bytes`, { cause: error });
    }
    throw new DecompressError(
      `${format} data is damaged: ${error instanceof Error ? error.message : String(error)}`,
      {
        cause: error,
      },
    );
  }
}

async function unpack(
  format: CompressionFormat | undefined,
  bytes: Uint8Array,
  { xz, maxBytes, exactBytes }: DecompressOptions,
): Promise<Unpacked> {
  switch (format) {
    case 'gzip':
      return gunzip(bytes, maxBytes);
    case 'xz':
    case 'lzma':
      return await xz(bytes, format, maxBytes);
    case 'bzip2':
      return await bunzip2(bytes, maxBytes, exactBytes);
    case 'lz4':
      return unlz4(bytes, maxBytes, exactBytes);
    case 'zstd':
      return await unzstd(bytes, maxBytes);
    case 'lzo':
      throw new DecompressError('LZO is not supported');
    case undefined: {
      const start = Buffer.from(bytes.subarray(0, 6)).toString('hex');
      throw new DecompressError(`unknown compression (it starts with ${start || 'nothing'})`);
    }
    default:
      return format satisfies never;
  }
}
