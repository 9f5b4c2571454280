/**
 * Images as one archive that docker, podman and skopeo load: an OCI layout with Docker's manifest.json beside it, as `docker save` writes it
 * since version 25. Blobs are as they came, so that digests stay.
 */
import { Blob } from './blob.js';
import { imageError } from './image-error.js';
import type { KeptImage, KeptImages } from './kept-images.js';
import { readDocument } from './oci/documents.js';
import { DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from './oci/media-types.js';
import { parseReference, shortReference } from './reference.js';
import { MANIFEST } from './source/docker-archive.js';
import { blobPath, CONTAINERD_NAME, INDEX, OCI_LAYOUT, REF_NAME } from './source/oci-layout.js';
import { BLOCK_BYTES, paddedLength } from './tar/format.js';

/** Largest length that fits in octal digits; tar has another form for more. */
const MAX_OCTAL_SIZE = 8 ** 11 - 1;

/** An image, and the names that the archive gives it. */
export interface SavedImage {
  readonly image: KeptImage;
  readonly names: readonly string[];
}

/** Writes images as an archive. @throws TsvmError `TSVM_IMAGE` if one is not whole */
export async function* saveImages(
  images: readonly SavedImage[],
  kept: KeptImages,
): AsyncGenerator<Uint8Array> {
  const written = new Set<string>();
  const manifests: object[] = [];
  const entries: object[] = [];
  for (const { image, names } of images) {
    const document = await readDocument(kept.places.place(image.digest));
    if (document.kind !== 'image') throw imageError(`${image.digest}: it is no image`);
    const { config, layers } = document.manifest;
    for (const digest of [...layers.map((layer) => layer.digest), config.digest, image.digest]) {
      if (written.has(digest)) continue;
      written.add(digest);
      yield* blobEntry(digest, kept);
    }
    const size = kept.blobs.sizeOf(image.digest);
    const isDocker = config.mediaType?.startsWith('application/vnd.docker.') === true;
    const descriptor = {
      mediaType: isDocker ? DOCKER_MANIFEST : OCI_MANIFEST,
      digest: image.digest,
      size,
    };
    manifests.push(
      ...(names.length === 0
        ? [descriptor]
        : names.map((name) => ({ ...descriptor, annotations: annotationsOf(name) }))),
    );
    entries.push({
      Config: blobPath(config.digest),
      RepoTags: names.length === 0 ? null : names.map((name) => shortReference(parseReference(name))),
      Layers: layers.map((layer) => blobPath(layer.digest)),
    });
  }
  yield* documentEntry(INDEX, { schemaVersion: 2, mediaType: OCI_INDEX, manifests });
  yield* documentEntry(MANIFEST, entries);
  yield* documentEntry(OCI_LAYOUT, { imageLayoutVersion: '1.0.0' });
  yield Buffer.alloc(2 * BLOCK_BYTES);
}

/** Names as containerd and podman read them. */
function annotationsOf(name: string): object {
  return {
    [CONTAINERD_NAME]: name,
    [REF_NAME]: name,
  };
}

async function* blobEntry(digest: string, kept: KeptImages): AsyncGenerator<Uint8Array> {
  await using blob = await Blob.open(kept.places.place(digest));
  yield header(blobPath(digest), blob.sizeBytes);
  yield* blob.pieces();
  yield padding(blob.sizeBytes);
}

function* documentEntry(name: string, value: object): Generator<Uint8Array> {
  const bytes = Buffer.from(JSON.stringify(value));
  yield header(name, bytes.length);
  yield bytes;
  yield padding(bytes.length);
}

const padding = (length: number): Uint8Array => Buffer.alloc(paddedLength(length) - length);

/** Header of a file (POSIX.1-2017, "ustar Interchange Format"); a length of 8 GiB or more in GNU's form. */
function header(name: string, size: number): Uint8Array {
  const block = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, at: number, length: number): void => {
    block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
  };
  block.write(name, 0, 'latin1');
  octal(0o644, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  if (size <= MAX_OCTAL_SIZE) octal(size, 124, 12);
  else block.writeBigUInt64BE(BigInt(size), 128);
  if (size > MAX_OCTAL_SIZE) block.writeUInt8(0x80, 124);
  octal(0, 136, 12);
  block.write(' '.repeat(8), 148);
  block.write('0', 156);
  block.write('ustar\u000000', 257, 'latin1');
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  return block;
}
