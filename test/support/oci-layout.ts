/** OCI image layouts, written as umoci and skopeo write them. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** Files by their paths; a name that ends in a slash is a directory, an empty text at `.wh.` names a whiteout. */
export type LayerFiles = Readonly<Record<string, string>>;

/** A layout of layers that are files by path, or directories of the host's as they are. */
export function makeOciLayout(
  folder: string,
  layers: readonly (LayerFiles | { readonly directory: string })[],
  config: object = {},
  tag = 'latest',
): string {
  mkdirSync(join(folder, 'blobs/sha256'), { recursive: true });
  const blob = (bytes: Uint8Array, mediaType: string) => {
    const hash = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(folder, 'blobs/sha256', hash), bytes);
    return { mediaType, digest: `sha256:${hash}`, size: bytes.length };
  };
  const json = (value: object, type: string) =>
    blob(Buffer.from(JSON.stringify(value)), `application/vnd.oci.image.${type}+json`);
  const archives = layers.map((files) => archiveOf('directory' in files ? files.directory : written(files)));
  const diffIds = archives.map((bytes) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`);
  const manifest = json(
    {
      schemaVersion: 2,
      config: json(
        { os: 'linux', architecture: 'amd64', config, rootfs: { type: 'layers', diff_ids: diffIds } },
        'config.v1',
      ),
      layers: archives.map((bytes) => blob(gzip(bytes), 'application/vnd.oci.image.layer.v1.tar+gzip')),
    },
    'manifest.v1',
  );
  const annotations = { 'org.opencontainers.image.ref.name': tag };
  writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(
    join(folder, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }),
  );
  return folder;
}

function written(files: LayerFiles): string {
  const directory = mkdtempSync(join(tmpdir(), 'tsvm-layer-'));
  for (const [path, text] of Object.entries(files)) {
    const full = join(directory, path);
    mkdirSync(path.endsWith('/') ? full : dirname(full), { recursive: true });
    if (!path.endsWith('/')) writeFileSync(full, text);
  }
  return directory;
}

function archiveOf(directory: string): Buffer {
  const { stdout, status, stderr } = spawnSync('tar', ['-C', directory, '--sort=name', '-cf', '-', '.'], {
    maxBuffer: 1 << 30,
  });
  if (status !== 0) throw new Error(stderr.toString());
  if (directory.startsWith(join(tmpdir(), 'tsvm-layer-'))) rmSync(directory, { recursive: true });
  return stdout;
}

function gzip(bytes: Uint8Array): Buffer {
  return spawnSync('gzip', ['-nc'], { input: bytes, maxBuffer: 1 << 30 }).stdout;
}
