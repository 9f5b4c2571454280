/** Small images, each for one thing that layers may do to each other, and their files as lines that can be compared. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { DirectoryNode, TreeNode } from '../../src/image/tree/tree.js';
import { listXattrs } from './list-xattrs.js';
import type { MemorySink } from './memory-tree.js';
import { type TarEntry, tarOf } from './tar.js';

const dir = (name: string, mode = 0o755): TarEntry => ({ name, type: '5', mode });
const file = (name: string, content = '', mode = 0o644): TarEntry => ({ name, content, mode });
const link = (name: string, target: string): TarEntry => ({ name, type: '2', link: target, mode: 0o777 });
const hard = (name: string, target: string): TarEntry => ({ name, type: '1', link: target });
const node = (name: string, type: string): TarEntry => ({ name, type, mode: 0o666, numbers: [1, 3] });
const pax = (entry: TarEntry, records: Record<string, string>): TarEntry => ({ ...entry, pax: records });

const BASE = [dir('bin'), dir('etc'), file('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\n')];
const LINKED = [dir('usr'), dir('usr/lib'), file('usr/lib/old', 'o'), link('lib', 'usr/lib')];
const LONG = `${'d'.repeat(90)}/`.repeat(5);
const CAPABILITY = '\u0001\0\0\u0002\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0';

/** Layers of each image, the lowest first. */
export const LAYOUTS: Readonly<Record<string, readonly (readonly TarEntry[])[]>> = {
  plain: [BASE],
  'folders called dev': [[...BASE, dir('app'), dir('app/dev'), file('app/dev/server.js', 'x')]],
  'files in the top dev': [[...BASE, dir('dev'), file('dev/x', 'x')]],
  'marks of odd names': [
    [
      ...BASE,
      ...['a\\x2db.slice', 'na\u00efve', 'tab\there', 'new\nline'].map((name) => file(`etc/${name}`)),
    ],
    ['a\\x2db.slice', 'na\u00efve', 'tab\there', 'new\nline'].map((name) => file(`etc/.wh.${name}`)),
  ],
  'a folder becomes a link': [
    [...BASE, file('bin/ls', 'ls'), dir('usr'), dir('usr/bin')],
    [link('bin', 'usr/bin'), file('usr/bin/cat', 'c')],
  ],
  'a folder becomes a file': [[...BASE, dir('etc/conf'), file('etc/conf/a', 'y')], [file('etc/conf', 'x')]],
  'a file becomes a folder': [
    [...BASE, file('etc/conf', 'x')],
    [dir('etc/conf'), file('etc/conf/a', 'y')],
  ],
  'a link becomes a folder': [LINKED, [dir('lib'), file('lib/x.so', 'so')]],
  'a link becomes a file': [LINKED, [file('lib', 'so')]],
  'a file becomes a link': [[...BASE, file('a', 'x')], [link('a', 'etc/passwd')]],
  'a file through a link': [LINKED, [file('lib/x.so', 'so')]],
  'a folder through a link': [LINKED, [dir('lib/d', 0o700), file('lib/d/x', 'x')]],
  'through an absolute link': [[dir('usr'), link('lib', '/usr')], [file('lib/x', 'x')]],
  'through a link that climbs': [[dir('usr'), link('lib', '../../usr')], [file('lib/x', 'x')]],
  'through a link to nowhere': [[link('lib', 'usr/lib')], [file('lib/x', 'x')]],
  'through two links': [[dir('a'), link('b', 'a'), link('c', 'b')], [file('c/x', 'x')]],
  'a mark through a link': [LINKED, [file('lib/.wh.old')]],
  'an opaque mark through a link': [LINKED, [file('lib/.wh..wh..opq')]],
  'hard links to a lower layer': [
    [...BASE, file('etc/a', 'A')],
    [hard('etc/b', 'etc/a'), hard('etc/c', '/etc/a'), hard('etc/d', './etc/a')],
  ],
  'a hard link outlives its first name': [[file('a', 'A'), hard('b', 'a')], [file('.wh.a')]],
  'a hard link outlives a new first name': [[file('a', 'A'), hard('b', 'a')], [file('a', 'new')]],
  'a hard link to a link': [[...BASE, link('s', 'etc/passwd'), hard('h', 's')]],
  'names from the root and from here': [
    [dir('/etc'), file('/etc/a', 'a'), dir('./usr'), file('./usr/x', 'x')],
  ],
  'names that climb': [[dir('etc'), dir('usr'), file('etc/../usr/x', 'x')]],
  'a name twice': [[...BASE, file('etc/a', '1'), file('etc/a', '22')]],
  'folders after what is in them': [[file('a/b/c', 'c'), dir('a/b', 0o700), dir('a', 0o711)]],
  'folders that no layer has': [[file('a/b/c', 'c')]],
  'an opaque mark behind its folder': [
    [...BASE, dir('etc/d'), file('etc/d/old', 'o'), dir('etc/d/sub'), file('etc/d/sub/old', 'o')],
    [dir('etc/d'), file('etc/d/new', 'n'), file('etc/d/.wh..wh..opq')],
  ],
  'an opaque mark before its folder': [
    [...BASE, dir('etc/d'), file('etc/d/old', 'o')],
    [file('etc/d/.wh..wh..opq'), dir('etc/d', 0o700), file('etc/d/new', 'n')],
  ],
  'a mark before what it hides is made again': [
    [...BASE, dir('etc/d'), file('etc/d/old', 'o')],
    [file('etc/.wh.d'), dir('etc/d'), file('etc/d/new', 'n')],
  ],
  'a mark behind what it hides is made again': [
    [...BASE, dir('etc/d'), file('etc/d/old', 'o')],
    [dir('etc/d'), file('etc/d/new', 'n'), file('etc/.wh.d')],
  ],
  'a mark behind a file of its name': [[file('a', 'old')], [file('a', 'new'), file('.wh.a')]],
  'a mark below a mark': [
    [...BASE, dir('t'), file('t/t')],
    [file('.wh.t'), file('t/.wh.t')],
  ],
  'a mark of what is not there': [BASE, [file('etc/.wh.never'), file('never/.wh.x')]],
  'a mark without a name': [BASE, [file('.wh.'), file('etc/x')]],
  'layers of nothing': [BASE, [], []],
  'links that lead out': [[...BASE, dir('nix'), link('nix/x', '../../../etc/passwd'), link('abs', '/etc')]],
  'long names': [
    [
      pax(file('x', 'x'), { path: `${LONG}f` }),
      { name: 'long', type: 'L', content: `${LONG}g\0` },
      file('x', 'y'),
      { name: 'long', type: 'K', content: `${'y'.repeat(300)}\0` },
      link('l', 'y'),
    ],
  ],
  'names of any bytes': [
    [pax(file('x', 'x'), { path: 'etc/odd\u0001\u007f' }), file('etc/ caf\u00e9 ', 'x')],
  ],
  'suid, sgid, sticky': [
    [file('su', 'x', 0o4755), file('sg', 'x', 0o2755), dir('tmp', 0o1777), dir('mail', 0o2775)],
  ],
  'owners that are large': [[{ ...file('big', 'x'), uid: 4_294_967_294 }]],
  'read-only folders': [
    [dir('go'), dir('go/mod', 0o555), file('go/mod/a', '1', 0o444)],
    [file('go/mod/.wh.a'), file('go/mod/b', '2')],
  ],
  'no permissions at all': [[dir('sec', 0), file('sec/a', '1', 0)]],
  'device nodes': [
    [...BASE, dir('opt'), node('opt/null', '3'), hard('opt/again', 'opt/null'), file('opt/x', 'x')],
  ],
  pipes: [[dir('run'), node('run/pipe', '6')]],
  attributes: [
    [pax(file('a', 'x'), { 'SCHILY.xattr.user.k': 'v' }), pax(dir('d'), { 'SCHILY.xattr.user.k': 'v' })],
  ],
  capabilities: [[pax(file('ping', 'x', 0o755), { 'SCHILY.xattr.security.capability': CAPABILITY })]],
  times: [[pax(file('old', 'x'), { mtime: '-86400' }), pax(file('y2k', 'x'), { mtime: '946684800.5' })]],
  'an empty file, and one after it': [[file('empty'), file('x', 'x'.repeat(600))]],
};

/** Writes an image as a layout with the tag `latest`. */
export function writeLayout(folder: string, layers: readonly (readonly TarEntry[])[]): string {
  mkdirSync(join(folder, 'blobs/sha256'), { recursive: true });
  const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
  const blob = (bytes: Uint8Array, type: string) => {
    writeFileSync(join(folder, 'blobs/sha256', digest(bytes)), bytes);
    return {
      mediaType: `application/vnd.oci.image.${type}`,
      digest: `sha256:${digest(bytes)}`,
      size: bytes.length,
    };
  };
  const json = (value: object, type: string) => blob(Buffer.from(JSON.stringify(value)), `${type}+json`);
  const archives = layers.map((entries) => tarOf(entries));
  const rootfs = { type: 'layers', diff_ids: archives.map((bytes) => `sha256:${digest(bytes)}`) };
  const manifest = json(
    {
      ...{ schemaVersion: 2, mediaType: 'application/vnd.oci.image.manifest.v1+json' },
      config: json({ os: 'linux', architecture: 'amd64', config: {}, rootfs }, 'config.v1'),
      layers: archives.map((bytes) => blob(gzipSync(bytes), 'layer.v1.tar+gzip')),
    },
    'manifest.v1',
  );
  const annotations = { 'org.opencontainers.image.ref.name': 'latest' };
  writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(
    join(folder, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }),
  );
  return folder;
}

/** Files by their paths: kind, mode, owner, time, size and content, target, attributes, and which other path is the same file. */
export type Files = Readonly<Record<string, string>>;

/** Time of what was made while a program unpacked: no layer here is of this century, but for its first moment. */
const NOW_SECONDS = 978_307_200;

interface Facts {
  readonly kind: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
  readonly content?: Buffer | undefined;
  readonly target?: string | undefined;
  readonly xattrs: Readonly<Record<string, string>>;
}

function described({ kind, mode, uid, gid, mtimeNs, content, target, xattrs }: Facts): string {
  const bits = kind === 'link' ? '' : ` ${mode.toString(8).padStart(4, '0')}`;
  const time = mtimeNs > BigInt(NOW_SECONDS) * 1_000_000_000n ? 'now' : Number(mtimeNs) / 1e9;
  const what =
    content === undefined
      ? (target ?? '')
      : `${content.length} ${createHash('sha256').update(content).digest('hex').slice(0, 12)}`;
  const attributes = Object.entries(xattrs).map(([name, hex]) => `${name}=${hex}`);
  return [`${kind}${bits} ${uid}:${gid} ${time}`, what, ...attributes]
    .filter((text) => text !== '')
    .join(' ');
}

/** Lists a tree in memory. */
export function filesOfTree(sink: MemorySink): Files {
  const files: Record<string, string> = {};
  const firsts = new Map<TreeNode, string>();
  const add = (path: string, node: TreeNode): void => {
    const first = firsts.get(node);
    firsts.set(node, first ?? path);
    const xattrs = Object.fromEntries(
      [...node.xattrs].map(([name, value]) => [name, Buffer.from(value).toString('hex')]),
    );
    const mtimeNs = BigInt(node.mtimeSeconds) * 1_000_000_000n + BigInt(node.mtimeNs);
    const content = node.kind === 'file' ? sink.files.get(node) : undefined;
    const target = node.kind === 'link' ? node.target : undefined;
    files[path] =
      first === undefined ? described({ ...node, mtimeNs, content, target, xattrs }) : `= ${first}`;
    if (node.kind !== 'directory') return;
    for (const name of [...node.children.keys()].sort())
      add(path === '.' ? name : `${path}/${name}`, node.children.get(name) as TreeNode);
  };
  add('.', sink.root as DirectoryNode);
  return files;
}

/** Lists a directory, as the superuser. */
export function filesOfDirectory(root: string): Files {
  const files: Record<string, string> = {};
  const firsts = new Map<bigint, string>();
  const xattrs = listXattrs(root);
  const add = (path: string, full: Buffer): void => {
    const stats = lstatSync(full, { bigint: true });
    const first = stats.isDirectory() ? undefined : firsts.get(stats.ino);
    firsts.set(stats.ino, first ?? path);
    const kind = stats.isDirectory()
      ? 'directory'
      : stats.isFile()
        ? 'file'
        : stats.isSymbolicLink()
          ? 'link'
          : stats.isFIFO()
            ? 'fifo'
            : 'device';
    const facts = { kind, mode: Number(stats.mode) & 0o7777, uid: Number(stats.uid), gid: Number(stats.gid) };
    const content = kind === 'file' ? readFileSync(full) : undefined;
    const target = kind === 'link' ? readlinkSync(full, 'latin1') : undefined;
    files[path] =
      first === undefined
        ? described({ ...facts, mtimeNs: stats.mtimeNs, content, target, xattrs: xattrs[path] ?? {} })
        : `= ${first}`;
    if (kind !== 'directory') return;
    for (const name of readdirSync(full, 'latin1').sort())
      add(path === '.' ? name : `${path}/${name}`, Buffer.concat([full, Buffer.from(`/${name}`, 'latin1')]));
  };
  add('.', Buffer.from(root));
  return files;
}

/** Files that a program of others makes of an image; undefined: it refuses it. */
export const PEERS: Readonly<
  Record<'umoci' | 'podman', (layout: string, scratch: string) => Files | undefined>
> = {
  umoci(layout, scratch) {
    const done = tried(() =>
      execFileSync('umoci', ['unpack', '--image', `${layout}:latest`, scratch], QUIET),
    );
    return done === undefined ? undefined : filesOfDirectory(join(scratch, 'rootfs'));
  },
  podman(layout, scratch) {
    const store = [
      '--root',
      join(scratch, 'store'),
      '--runroot',
      join(scratch, 'run'),
      '--storage-driver',
      'vfs',
    ];
    // It takes a path for a part of a name, which has no capital letters.
    const options = { ...QUIET, cwd: dirname(layout) };
    const podman = (...args: string[]) =>
      execFileSync('podman', [...store, ...args], options)
        .toString()
        .trim();
    const id = tried(() => podman('pull', '-q', `oci:${basename(layout)}:latest`));
    if (id === undefined) return undefined;
    const root = podman('image', 'mount', id);
    try {
      return filesOfDirectory(root);
    } finally {
      podman('image', 'umount', id);
    }
  },
};

const QUIET = { stdio: ['ignore', 'pipe', 'ignore'] as ['ignore', 'pipe', 'ignore'] };

function tried<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
