/** Files that an image is handed over in: which form they have says their content, and what they are not is said. */
import { accessSync, constants, existsSync, readdirSync, type Stats } from 'node:fs';
import { join, resolve } from 'node:path';
import { TsvmError } from '../../errors.js';
import { describeFileError, factsAt } from '../../host/files.js';
import { Blob, identityOf } from '../blob.js';
import { contentOf, isCompressed } from '../decompress.js';
import type { Image } from '../image.js';
import { imageError } from '../image-error.js';
import { keyOfFile, keyOfManifest } from '../key.js';
import { lookAtArchive } from '../unpack.js';
import type { DockerImage } from './docker-archive.js';
import { archiveMembers, beginsAsImage, folderMembers, type Members } from './members.js';
import { readingsOf, type Selector, selectorText } from './selector.js';

/** Length of an archive's beginning, uncompressed, that is looked at to tell what it is. */
const START_BYTES = 1 << 20;
/** Words for where an image is, as skopeo and podman write them before a path; its content says the same. */
const TRANSPORTS = /^(oci|oci-archive|docker-archive):/;

/** Makes a file of a compressed archive, whose members cannot be read where they are. */
export type Uncompress = (archive: Blob) => Promise<string>;

/** Kinds of what is handed over. */
export type Source =
  | { readonly kind: 'directory' | 'root archive'; readonly path: string }
  | { readonly kind: 'OCI layout' | 'Docker archive'; readonly path: string; readonly members: Members };

export interface Found {
  readonly path: string;
  readonly stats: Stats;
  readonly selector?: Selector;
}

/**
 * Finds the file or folder that a text names: `PATH`, or of several images in it `PATH:NAME` or `PATH@sha256:...`; undefined if there is
 * none.
 *
 * @throws TsvmError `TSVM_IMAGE` for what is no image at all
 */
export function findFile(text: string): Found | undefined {
  const path = existsSync(text) ? text : text.replace(TRANSPORTS, '');
  for (const { path: name, selector } of readingsOf(path)) {
    const stats = factsAt(name);
    // A folder that holds one image or none has no name for it: debian:12 beside a folder debian.
    if (stats === undefined || (selector !== undefined && stats.isDirectory() && !mayHaveSeveral(name)))
      continue;
    refuseUnfit(name, stats);
    return { path: resolve(name), stats, ...(selector === undefined ? {} : { selector }) };
  }
  return undefined;
}

const mayHaveSeveral = (folder: string): boolean =>
  ['oci-layout', 'manifest.json'].some((name) => existsSync(join(folder, name)));

/** Tells what kind of image a file or folder holds. @throws TsvmError `TSVM_IMAGE` */
export async function lookAt({ path, stats }: Found, uncompress: Uncompress): Promise<Source> {
  return stats.isDirectory() ? await lookAtFolder(path) : await lookAtFile(path, uncompress);
}

/** Opens what {@link findFile} found. @throws TsvmError `TSVM_IMAGE` */
export async function openFile(found: Found, uncompress: Uncompress): Promise<Image> {
  const { path, selector } = found;
  const source = await lookAt(found, uncompress);
  switch (source.kind) {
    case 'OCI layout': {
      // Schemas cost 60 ms to load, which is not for everybody.
      const [{ imageInLayout, layoutBlobs }, { readParts }] = await Promise.all([
        import('./oci-layout.js'),
        import('../oci/read-image.js'),
      ]);
      const { descriptor, manifest } = await imageInLayout(source.members, selector);
      const parts = await readParts(manifest, layoutBlobs(source.members));
      return { kind: 'layers', key: keyOfManifest(descriptor.digest), ...parts };
    }
    case 'Docker archive': {
      const { imageInArchive } = await import('./docker-archive.js');
      return ofDocker(await imageInArchive(source.members, selector));
    }
    case 'directory':
    case 'root archive': {
      if (selector !== undefined) {
        throw imageError(
          `${path}: there is no image '${selectorText(selector).slice(1)}' in it: it is the ${source.kind} of one root`,
          `leave out ${selectorText(selector)}`,
        );
      }
      if (source.kind === 'directory') return { kind: 'directory', directory: path, config: {} };
      await using archive = await Blob.open({ path });
      const layers = [{ path, identity: identityOf(archive.stats) }];
      return { kind: 'layers', key: keyOfFile('tar', archive), config: {}, layers };
    }
    default:
      return source satisfies never;
  }
}

/** Layers of Docker's archive are known by the image's id, which names what they unpack to. */
function ofDocker({ id, config, layers }: DockerImage): Image {
  return { kind: 'layers', key: id.replace(':', '-config-'), config, layers };
}

async function lookAtFolder(path: string): Promise<Source> {
  const version = join(path, 'version');
  const members = folderMembers(path);
  if (existsSync(join(path, 'manifest.json')) && existsSync(version)) {
    await using blob = await Blob.open({ path: version });
    if (
      Buffer.from(await blob.magic())
        .toString('latin1')
        .startsWith('Directory Transport Version')
    )
      throw imageError(
        `${path}: it has skopeo’s form dir:, which is not read`,
        `skopeo copy dir:${path} oci:LAYOUT`,
      );
  }
  return (await formOf(path, members)) ?? { kind: 'directory', path };
}

async function lookAtFile(path: string, uncompress: Uncompress): Promise<Source> {
  await using archive = await Blob.open({ path });
  await lookAtArchive(archive);
  if (!isCompressed(await archive.magic())) return await lookAtMembers(archive);
  if (!(await beginsAsImage(await startOf(archive), path))) return { kind: 'root archive', path };
  await using plain = await Blob.open({ path: await uncompress(archive) });
  return await lookAtMembers(plain);
}

async function lookAtMembers(archive: Blob): Promise<Source> {
  const members = await archiveMembers(archive);
  const found = members === undefined ? undefined : await formOf(archive.path, members);
  return found ?? { kind: 'root archive', path: archive.path };
}

async function formOf(path: string, members: Members): Promise<Source | undefined> {
  const [{ isOciLayout }, { isDockerArchive }] = await Promise.all([
    import('./oci-layout.js'),
    import('./docker-archive.js'),
  ]);
  if (isOciLayout(members)) return { kind: 'OCI layout', path, members };
  if (await isDockerArchive(members)) return { kind: 'Docker archive', path, members };
  return undefined;
}

async function startOf(archive: Blob): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of await contentOf(archive)) {
    pieces.push(piece);
    length += piece.length;
    if (length >= START_BYTES) break;
  }
  return Buffer.concat(pieces);
}

/** Refuses what is no image at all. */
function refuseUnfit(text: string, stats: Stats): void {
  const refused = (why: string): TsvmError =>
    imageError(
      `image ${text}: ${why}`,
      'a directory with the files of a system, an archive of one, or an OCI layout',
    );
  if (!stats.isDirectory() && !stats.isFile()) throw refused('it is neither a directory nor a file');
  try {
    if (stats.isDirectory() && readdirSync(text).length === 0) throw refused('the directory is empty');
    accessSync(text, constants.R_OK);
  } catch (cause) {
    throw cause instanceof TsvmError ? cause : refused(describeFileError(cause));
  }
  if (stats.isFile() && stats.size === 0) throw refused('the file is empty');
}
