/** Forms that an image is handed over in, recognised by their content; and what is none of them. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { Image } from '../../../src/image/image.js';
import { ImageStore } from '../../../src/image/store.js';
import { temporaryDirectory } from '../../support/guest.js';
import { makeOciLayout } from '../../support/oci-layout.js';
import { type TarEntry, tarOf } from '../../support/tar.js';

const folder = temporaryDirectory();
let count = 0;
const newPath = (): string => join(folder, String(count++));
const store = new ImageStore(newPath());
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const written = (bytes: Uint8Array): string => {
  const path = newPath();
  writeFileSync(path, bytes);
  return path;
};
const namesIn = async (image: Image): Promise<string[]> => readdirSync(await store.directoryOf(image)).sort();

/** Entries of what `docker save` writes: of each image a configuration, and layers of one file each. */
function dockerEntries(
  images: readonly { files: readonly string[]; tags?: readonly string[] | null; config?: object }[],
): TarEntry[] {
  const entries = new Map<string, TarEntry>();
  const put = (entry: TarEntry): string => {
    entries.set(entry.name, entry);
    return entry.name;
  };
  const manifest = images.map(({ files, tags = null, config = {} }) => {
    const layers = files.map((name) => tarOf([{ name, content: name }]));
    const diffIds = layers.map((layer) => `sha256:${sha256(layer)}`);
    const text = Buffer.from(
      JSON.stringify({
        ...{ os: 'linux', architecture: 'amd64', config: { Cmd: ['sh'] } },
        ...{ rootfs: { type: 'layers', diff_ids: diffIds }, ...config },
      }),
    );
    return {
      Config: put({ name: `${sha256(text)}.json`, content: text }),
      RepoTags: tags,
      Layers: layers.map((layer) => put({ name: `${sha256(layer)}/layer.tar`, content: layer })),
    };
  });
  return [
    ...entries.values(),
    { name: 'manifest.json', content: JSON.stringify(manifest) },
    { name: 'repositories', content: '{"app":{"latest":"x"}}' },
  ];
}
const withOtherLayer = (entries: TarEntry[]): TarEntry[] =>
  entries.map((entry) =>
    entry.name.endsWith('/layer.tar') ? { ...entry, content: tarOf([{ name: 'evil' }]) } : entry,
  );
const idOf = (entries: readonly TarEntry[]): string => `sha256:${entries[0]?.name.slice(0, 64)}`;

describe('an archive of docker save', () => {
  test('is its image, compressed or not, unpacked by hand, with links between layers', async () => {
    const entries = dockerEntries([{ files: ['a', 'b'], tags: ['app:latest'] }]);
    const plain = tarOf(entries);
    const [first, second] = entries.filter(({ name }) => name.endsWith('/layer.tar'));
    const linked = entries.map((entry) =>
      entry === second ? { name: entry.name, type: '2', link: `../${'f'.repeat(64)}/layer.tar` } : entry,
    );
    const target = { name: `${'f'.repeat(64)}/layer.tar`, content: second?.content ?? '' };
    const unpacked = newPath();
    mkdirSync(unpacked);
    spawnSync('tar', ['-C', unpacked, '-xf', '-'], { input: plain });
    expect(first).toBeDefined();
    for (const path of [
      written(plain),
      written(gzipSync(plain)),
      written(
        tarOf([{ name: './', type: '5' }, ...entries.map((one) => ({ ...one, name: `./${one.name}` }))]),
      ),
      written(tarOf([...linked, target])),
      unpacked,
    ]) {
      for (const text of [path, `docker-archive:${path}`, `${path}:app`, `${path}@${idOf(entries)}`]) {
        const image = await store.open(text);
        expect(image.config).toEqual({ cmd: ['sh'] });
        expect(await namesIn(image)).toEqual(['a', 'b']);
      }
    }
  });

  test('with several images needs a name, in full or as Docker shortens it', async () => {
    const entries = dockerEntries([
      { files: ['one'], tags: ['registry.example:5000/team/app:1.0', 'app:one'] },
      { files: ['two'], tags: ['docker.io/library/app:latest'] },
      { files: ['arm'], tags: ['arm:1'], config: { architecture: 'arm64' } },
    ]);
    const path = written(tarOf(entries));
    await expect(store.open(path)).rejects.toMatchObject({
      message: `${path}: there are several images in it`,
      hint: expect.stringContaining(`${path}:registry.example:5000/team/app:1.0 (`),
    });
    for (const name of [':registry.example:5000/team/app:1.0', ':app:one', `@${idOf(entries)}`])
      expect(await namesIn(await store.open(path + name))).toEqual(['one']);
    for (const name of ['app', 'app:latest', 'docker.io/library/app', 'library/app:latest'])
      expect(await namesIn(await store.open(`${path}:${name}`))).toEqual(['two']);
    await expect(store.open(`${path}:arm:1`)).rejects.toThrow('only for linux/arm64');
    await expect(store.open(`${path}:three`)).rejects.toMatchObject({
      message: `${path}: there is no image 'three' in it`,
      hint: expect.stringContaining('app:one'),
    });
  });

  test.each<[string, (entries: TarEntry[]) => TarEntry[], string]>([
    ['a layer of it has changed', (all) => withOtherLayer(all), 'unpacked, it does not have the digest'],
    [
      'a layer of it is missing',
      (all) => all.filter(({ name }) => !name.endsWith('/layer.tar')),
      'there is no "',
    ],
    [
      'a layer is outside of it',
      (all) =>
        all.map((e) =>
          e.name === 'manifest.json'
            ? { ...e, content: String(e.content).replace(/"[0-9a-f]{64}\/layer/, '"../../etc/layer') }
            : e,
        ),
      'there is no "../../etc/layer.tar" in it',
    ],
    [
      'it has more layers than its configuration knows',
      (all) =>
        all.map((e) =>
          e.name === 'manifest.json'
            ? { ...e, content: String(e.content).replace(/\["([^"]*tar)"\]/, '["$1","$1"]') }
            : e,
        ),
      'it has 2 layers, and 1 by its configuration',
    ],
    [
      'its list is none',
      (all) =>
        all.map((e) => (e.name === 'manifest.json' ? { ...e, content: '[{"Config":"x","Layers":[1]}]' } : e)),
      'manifest.json: 0.Layers.0',
    ],
    [
      'only Docker 1.9 can read it',
      (all) => all.filter(({ name }) => name !== 'manifest.json'),
      'Docker before 1.10',
    ],
  ])('is refused if %s', async (_, change, message) => {
    const path = written(tarOf(change(dockerEntries([{ files: ['a'] }]))));
    const opened = store.open(path).then((image) => store.directoryOf(image));
    await expect(opened).rejects.toMatchObject({
      code: 'TSVM_IMAGE',
      message: expect.stringContaining(message),
    });
  });

  test('that is cut short is refused, and one that is written to meanwhile', async () => {
    const bytes = tarOf(dockerEntries([{ files: ['cut'] }]));
    const path = written(bytes.subarray(0, 1536));
    await expect(store.open(path)).rejects.toThrow(`${path}: it is cut short`);
    writeFileSync(path, bytes);
    const image = await store.open(path);
    writeFileSync(path, tarOf(dockerEntries([{ files: ['cut', 'more'] }])));
    await expect(store.directoryOf(image)).rejects.toThrow('it was changed meanwhile');
  });

  test('is not a root that has files of such names, or any other root', async () => {
    const file = (name: string) => ({ name, content: '[{"Config":1}]' });
    for (const entries of [
      [file('manifest.json'), file('bin/sh')],
      [file('manifest.json')],
      [file('index.json'), file('oci-layout/x')],
      [file('blobs/x'), { name: 'lib', type: '2', link: 'usr/lib' }],
    ]) {
      for (const bytes of [tarOf(entries), gzipSync(tarOf(entries))]) {
        const image = await store.open(written(bytes));
        expect(await namesIn(image)).toEqual(entries.map(({ name }) => name.split('/')[0]).sort());
        expect(image.config).toEqual({});
      }
    }
    const root = written(tarOf([file('bin/sh')]));
    await expect(store.open(`${root}:latest`)).rejects.toThrow('it is the root archive of one root');
  });
});

type Json = Record<string, unknown>;

/** A layout whose index is changed, which can add documents. */
function layoutWith(
  change: (manifests: Json[], put: (document: object) => Json) => unknown[],
  config?: object,
): string {
  const layout = makeOciLayout(newPath(), [{ file: String(count) }], config);
  const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8'));
  const put = (document: object): Json => {
    const bytes = Buffer.from(JSON.stringify(document));
    writeFileSync(join(layout, 'blobs/sha256', sha256(bytes)), bytes);
    return { mediaType: 'x', digest: `sha256:${sha256(bytes)}`, size: bytes.length };
  };
  writeFileSync(
    join(layout, 'index.json'),
    JSON.stringify({ ...index, manifests: change(index.manifests, put) }),
  );
  return layout;
}

const documentOf = (layout: string, { digest }: Json): Json =>
  JSON.parse(readFileSync(join(layout, 'blobs', String(digest).replace(':', '/')), 'utf8'));

/** The one manifest of a layout, as it is without a name. */
const plain = ({ annotations: _, ...descriptor }: Json): Json => descriptor;
const named = (descriptor: Json, name: string): Json => ({
  ...descriptor,
  annotations: { 'org.opencontainers.image.ref.name': name },
});

describe('a layout', () => {
  test('has names with colons and slashes, and digests', async () => {
    const layout = layoutWith(([manifest = {}], put) => [
      named(plain(manifest), 'registry.example:5000/team/app:1.0'),
      named(put({ manifests: [plain(manifest)] }), 'app:v1@x'),
      {
        ...plain(manifest),
        annotations: {
          'io.containerd.image.name': 'docker.io/library/app:latest',
          'org.opencontainers.image.ref.name': 'latest',
        },
      },
    ]);
    const { manifests } = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8'));
    const colon = `${layout}:a`;
    renameSync(layout, colon);
    for (const name of [
      ':registry.example:5000/team/app:1.0',
      ':app:v1@x',
      ':app',
      ':docker.io/library/app:latest',
      ':latest',
      `@${manifests[1].digest}`,
    ]) {
      expect(await namesIn(await store.open(colon + name))).toEqual(['file']);
      expect(await namesIn(await store.open(`oci:${colon}${name}`))).toEqual(['file']);
    }
    await expect(store.open(`${colon}@sha256:${'0'.repeat(64)}`)).rejects.toThrow(
      "there is no image 'sha256:0000",
    );
  });

  test('in an archive, compressed or not, is the same image', async () => {
    const layout = makeOciLayout(newPath(), [{ archived: '' }], {}, 'a/b:c');
    const keys = new Set<string>();
    for (const words of ['-cf', '-czf', '--zstd -cf']) {
      const path = newPath();
      spawnSync('tar', ['-C', layout, ...words.split(' '), path, ...readdirSync(layout)]);
      for (const text of [path, `${path}:a/b:c`, `oci-archive:${path}`]) {
        const image = await store.open(text);
        expect(await namesIn(image)).toEqual(['archived']);
        keys.add('key' in image ? image.key : '');
      }
      await expect(store.open(`${path}:other`)).rejects.toMatchObject({ hint: 'it has a/b:c' });
    }
    expect(keys.size).toBe(1);
  });

  test('of what Docker saves since version 25 is read as a layout', async () => {
    const layout = makeOciLayout(newPath(), [{ both: '' }]);
    writeFileSync(
      join(layout, 'manifest.json'),
      '[{"Config":"blobs/sha256/x","Layers":null,"RepoTags":null}]',
    );
    const path = newPath();
    spawnSync('tar', ['-C', layout, '-cf', path, 'blobs', 'index.json', 'manifest.json', 'oci-layout']);
    expect(await namesIn(await store.open(path))).toEqual(['both']);
  });

  test('takes null as left out', async () => {
    const nothing = { User: null, Env: null, Entrypoint: null, Cmd: null, WorkingDir: null };
    for (const config of [nothing, null]) {
      const layout = layoutWith(
        ([manifest]) => [
          { ...manifest, mediaType: null, platform: null, annotations: null, artifactType: null },
        ],
        config as object,
      );
      expect((await store.open(layout)).config).toEqual({});
    }
    const empty = layoutWith((_, put) => [
      put({
        ...{ mediaType: null, annotations: null, artifactType: null, layers: null },
        config: { ...put({ os: null, architecture: null, config: null, rootfs: null }), mediaType: null },
      }),
    ]);
    expect(await namesIn(await store.open(empty))).toEqual([]);
  });

  test('has signatures and lists of parts beside an image, and one image under two names', async () => {
    const layout = layoutWith(([manifest = {}], put) => {
      const config = put({});
      const cosign = put({ config: { ...config, mediaType: 'application/vnd.dev.cosign.v1' }, layers: [] });
      const sbom = put({ artifactType: 'application/spdx+json', config, layers: null });
      return [
        named(cosign, 'sha256-abc.sig'),
        sbom,
        { ...put({ config, layers: [] }), artifactType: 'application/vnd.example' },
        { ...put({ x: 1 }), platform: { os: 'unknown', architecture: 'unknown' } },
        named(plain(manifest), 'one'),
        named(plain(manifest), 'two'),
      ];
    });
    expect(await namesIn(await store.open(layout))).toEqual(['file']);
    expect(await namesIn(await store.open(`${layout}:two`))).toEqual(['file']);
    await expect(store.open(`${layout}:sha256-abc.sig`)).rejects.toThrow(
      'there is no image in it, only application/vnd.dev.cosign.v1',
    );
  });

  test('of several platforms has one for this CPU, the most common variant, or is refused by their names', async () => {
    const on = (architecture: string, variant?: string, os = 'linux') => ({ os, architecture, variant });
    const layout = layoutWith(([manifest = {}], put) => [
      put({
        manifests: [
          { ...put({ none: 1 }), platform: on('arm64', 'v8') },
          { ...put({ none: 2 }), platform: on('amd64', undefined, 'windows') },
          { ...plain(manifest), platform: on('amd64') },
        ],
      }),
    ]);
    expect(await namesIn(await store.open(layout))).toEqual(['file']);
    const variants = layoutWith(([manifest = {}], put) => {
      const document = documentOf(join(folder, String(count - 1)), manifest);
      const newer = put({ ...document, annotations: { newer: 'x' } });
      return [
        { ...newer, platform: on('amd64', 'v3') },
        { ...plain(manifest), platform: on('amd64', 'v1') },
      ];
    });
    const { manifests } = JSON.parse(readFileSync(join(variants, 'index.json'), 'utf8'));
    expect(await store.open(variants)).toMatchObject({ key: manifests[1].digest.replace(':', '-') });
    const foreign = layoutWith(([manifest = {}]) => [
      { ...plain(manifest), platform: on('arm', 'v7') },
      { ...plain(manifest), platform: on('amd64', undefined, 'windows') },
    ]);
    await expect(store.open(foreign)).rejects.toThrow(
      'for linux/amd64 in it, only for linux/arm/v7, windows/amd64',
    );
    const unsaid = layoutWith(([manifest = {}], put) => {
      const document = documentOf(join(folder, String(count - 1)), manifest);
      return [
        put({ ...document, config: { ...put({ os: 'linux', architecture: 's390x' }), mediaType: null } }),
      ];
    });
    await expect(store.open(unsaid)).rejects.toThrow('only for linux/s390x');
  });

  test('is refused where a document is two things, or leads on and on, or is too large', async () => {
    const both = layoutWith(([manifest = {}], put) => {
      const document = documentOf(join(folder, String(count - 1)), manifest);
      return [put({ ...document, manifests: [] })];
    });
    await expect(store.open(both)).rejects.toThrow('an index and a manifest in one');
    const deep = layoutWith(([manifest = {}], put) => {
      let one = plain(manifest);
      for (let i = 0; i < 6; i++) one = put({ manifests: [one] });
      return [one];
    });
    await expect(store.open(deep)).rejects.toThrow('indexes within indexes');
    const many = layoutWith(([manifest = {}], put) => {
      const document = documentOf(join(folder, String(count - 1)), manifest);
      const layers = document['layers'] as Json[];
      return [put({ ...document, layers: Array(501).fill(layers[0]) })];
    });
    await expect(store.open(many)).rejects.toThrow('layers are too many');
    const large = layoutWith((manifests) => manifests);
    writeFileSync(join(large, 'index.json'), ' '.repeat((4 << 20) + 1));
    await expect(store.open(large)).rejects.toThrow('index.json: it is longer than 4194304 bytes');
    const encrypted = layoutWith(([manifest = {}], put) => {
      const document = documentOf(join(folder, String(count - 1)), manifest);
      const [layer] = document['layers'] as Json[];
      return [put({ ...document, layers: [{ ...layer, mediaType: 'x+encrypted' }] })];
    });
    await expect(store.open(encrypted)).rejects.toThrow('its layers are encrypted');
  });
});

describe('the headers before a member of an archive', () => {
  const [manifest, ...others] = dockerEntries([{ files: ['a'] }])
    .filter(({ name }) => name !== 'repositories')
    .reverse();
  const content = `${manifest?.content}`.padEnd(2000);

  test('are the member’s, and no other header’s', async () => {
    const headers = [
      { name: 'pax', type: 'x', content: '13 size=2000\n' },
      { name: 'long', type: 'L', content: 'manifest.json\0' },
    ];
    const path = written(tarOf([...headers, { name: 'x', content }, ...others]));
    expect(await namesIn(await store.open(path))).toEqual(['a']);
  });

  test('are as many as of any entry, so that what they say does not fill the memory', async () => {
    const more = Array.from({ length: 17 }, () => ({ name: 'pax', type: 'x', content: '' }));
    const path = written(tarOf([...more, { name: 'manifest.json', content }, ...others]));
    await expect(store.open(path)).rejects.toThrow(`${path}: an entry of it has too many headers`);
  });
});

test('what is nearly an image is refused by name, with what to do', async () => {
  const dir = newPath();
  mkdirSync(dir);
  writeFileSync(join(dir, 'version'), 'Directory Transport Version: 1.1\n');
  writeFileSync(join(dir, 'manifest.json'), '{}');
  await expect(store.open(dir)).rejects.toMatchObject({ hint: `skopeo copy dir:${dir} oci:LAYOUT` });
  rmSync(join(dir, 'version'));
  expect(await store.open(dir)).toEqual({ kind: 'directory', directory: dir, config: {} });
  await expect(store.open(`${dir}x:latest`)).rejects.toThrow('there is no such file');
});
