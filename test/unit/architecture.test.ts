/** Walks the imports of src/ and holds them against the arrows in ARCHITECTURE.md. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';

const ROOT = new URL('../..', import.meta.url).pathname;
const SRC = join(ROOT, 'src');

/** Past it, look for the second noun. */
const MAX_LINES = 450;

/** Layers that each may import besides itself, errors and util. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  'errors.ts': [],
  util: [],
  native: [],
  memory: [],
  bus: [],
  virtio: ['bus', 'memory'],
  devices: ['virtio', 'bus', 'memory'],
  boot: ['memory'],
  kvm: ['memory', 'native'],
  host: ['devices', 'native', 'kvm'],
  snapshot: ['host', 'kvm', 'memory', 'native'],
  guest: ['devices', 'boot', 'host', 'kvm'],
  machine: ['guest', 'snapshot', 'devices', 'virtio', 'bus', 'memory', 'boot', 'host', 'kvm', 'native'],
  template: ['guest', 'machine', 'snapshot', 'host', 'kvm', 'native'],
  control: ['agent', 'guest', 'container', 'machine', 'snapshot', 'devices', 'host'],
  dashboard: ['control', 'container', 'machine'],
  container: ['devices', 'host'],
  image: ['boot', 'devices', 'host'],
  agent: ['image', 'host'],
  sandbox: ['agent', 'control', 'template', 'container', 'image', 'guest', 'machine', 'devices', 'host'],
  compare: ['guest', 'container', 'image', 'template', 'machine', 'devices', 'host', 'kvm'],
  cli: [
    'sandbox',
    'agent',
    'control',
    'compare',
    'template',
    'container',
    'image',
    'guest',
    'machine',
    'devices',
    'host',
    'kvm',
    'native',
  ],
  'index.ts': [
    'sandbox',
    'agent',
    'control',
    'template',
    'container',
    'image',
    'guest',
    'machine',
    'snapshot',
    'devices',
    'virtio',
    'bus',
    'memory',
    'boot',
    'host',
    'kvm',
  ],
};

/**
 * Rooms within a layer: folders, and files that stand for one. Of its own layer a room may import what is listed; of other layers, what
 * {@link MAY_IMPORT} says of its layer. The files beside the folders are the room with the layer's name.
 */
const ROOMS: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  devices: {
    devices: ['backends'],
    backends: ['devices'],
    balloon: ['backends', 'devices'],
    blk: ['backends', 'devices'],
    console: ['backends', 'devices'],
    fs: ['backends', 'devices'],
    net: ['backends', 'devices'],
    pc: [],
    vsock: ['backends', 'devices'],
    'pmem.ts': ['backends', 'devices'],
    'rng.ts': ['backends', 'devices'],
    'registry.ts': ['devices', 'balloon', 'blk', 'console', 'fs', 'net', 'pmem.ts', 'rng.ts', 'vsock'],
  },
  host: {
    host: ['disk', 'fs', 'net', 'vsock'],
    disk: ['host'],
    fs: ['host'],
    kvm: ['host', 'process'],
    net: ['host'],
    process: ['host'],
    production: ['host', 'process'],
    vsock: ['host'],
  },
  control: {
    control: ['http', 'logs', 'stats'],
    client: ['control', 'stats'],
    firecracker: ['control', 'http'],
    http: ['control', 'logs', 'routes.ts', 'stats'],
    logs: ['control'],
    'pool-route.ts': ['control', 'firecracker', 'http'],
    'routes.ts': ['firecracker', 'http', 'pool-route.ts'],
    stats: ['control'],
  },
  cli: {
    cli: ['commands', 'options'],
    commands: ['cli', 'doctor', 'options', 'session'],
    doctor: ['cli'],
    options: ['cli'],
    session: ['cli', 'options'],
  },
  machine: {
    machine: ['machine.ts', 'report', 'vcpu-runner.ts'],
    'machine.ts': ['machine', 'report'],
    report: ['machine.ts', 'vcpu-runner.ts'],
    'vcpu-runner.ts': [],
  },
  container: { container: ['agent', 'engines'], agent: ['container'], engines: ['container'] },
  virtio: { virtio: [], transport: ['virtio'] },
  kvm: { kvm: [], profiles: ['kvm'] },
  boot: { boot: ['decompress'], decompress: [] },
};

/** Rooms that only some rooms of another layer may enter: `host` knows of devices what it does for them, and nothing of how they do it. */
const DOORS: readonly { readonly from: string; readonly to: string; readonly only: readonly string[] }[] = [
  { from: 'host', to: 'devices', only: ['backends'] },
  { from: 'container', to: 'devices', only: ['backends'] },
  { from: 'guest', to: 'devices', only: ['backends'] },
];

/** Layers that must run in any JavaScript engine: no file, socket, process or terminal of the host's. */
const PURE = ['memory', 'bus', 'virtio', 'devices', 'boot', 'kvm'];
const PURE_NODE_MODULES = ['node:assert', 'node:zlib', 'node:util', 'node:buffer', 'node:crypto'];

interface Import {
  readonly from: string;
  readonly to: string;
}

function sourceFiles(): string[] {
  return readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter(
    (path) => path.endsWith('.ts') && !path.endsWith('.d.ts'),
  );
}

function imports(): Import[] {
  return sourceFiles().flatMap((from) => {
    const text = readFileSync(join(SRC, from), 'utf8');
    return [...text.matchAll(/^(?:import|export)\s[^;]*?from\s+'([^']+)'/gms)].map((match) => {
      const target = match[1] ?? '';
      const to = target.startsWith('.')
        ? relative(SRC, join(SRC, dirname(from), target)).replace(/\.js$/, '.ts')
        : target;
      return { from, to };
    });
  });
}

const layerOf = (path: string): string => path.split('/')[0] ?? path;
/** Room of a file in its layer: its folder there, itself where it stands for one, else the layer's name. */
function roomOf(path: string): string {
  const [layer = path, second = '', third] = path.split('/');
  return third !== undefined || ROOMS[layer]?.[second] !== undefined ? second : layer;
}
const isLocal = (path: string): boolean => path.endsWith('.ts');

const show = (wrong: readonly Import[]): string[] => wrong.map(({ from, to }) => `${from} -> ${to}`);

function againstFloors(all: readonly Import[]): string[] {
  return show(
    all.filter(({ from, to }) => {
      if (!isLocal(to)) return false;
      const [source, target] = [layerOf(from), layerOf(to)];
      if (source === target || target === 'errors.ts' || target === 'util') return false;
      return !(MAY_IMPORT[source] ?? []).includes(target);
    }),
  );
}

function againstRooms(all: readonly Import[]): string[] {
  return show(
    all.filter(({ from, to }) => {
      if (!isLocal(to)) return false;
      const [source, target] = [layerOf(from), layerOf(to)];
      const [room, other] = [roomOf(from), roomOf(to)];
      if (source !== target)
        return DOORS.some((door) => door.from === source && door.to === target && !door.only.includes(other));
      const rooms = ROOMS[source];
      return rooms !== undefined && room !== other && !(rooms[room] ?? []).includes(other);
    }),
  );
}

describe('the arrows of ARCHITECTURE.md', () => {
  const all = imports();

  test('every layer imports only what it may', () => {
    expect(againstFloors(all)).toEqual([]);
  });

  test('every room imports only what it may', () => {
    expect(againstRooms(all)).toEqual([]);
  });

  test.each([
    ['devices/blk/blk.ts', 'devices/net/net.ts'],
    ['devices/rng.ts', 'devices/pmem.ts'],
    ['devices/backends/disk.ts', 'devices/blk/blk.ts'],
    ['devices/kind.ts', 'devices/fs/fs.ts'],
    ['devices/pc/serial.ts', 'devices/backends/host.ts'],
    ['host/host.ts', 'devices/blk/blk.ts'],
    ['host/net/tap.ts', 'devices/rate-limit.ts'],
    ['host/disk/io.ts', 'host/fs/folder-io.ts'],
    ['host/files.ts', 'host/production/rules.ts'],
    ['container/container.ts', 'devices/registry.ts'],
    ['guest/init-ways.ts', 'devices/console/console.ts'],
    ['control/logs/log-file.ts', 'control/http/server.ts'],
    ['control/client/connect.ts', 'control/firecracker/setup.ts'],
    ['control/instance.ts', 'control/firecracker/draft.ts'],
    ['control/http/machine-routes.ts', 'control/firecracker/models.ts'],
    ['cli/options/run-options.ts', 'cli/session/console.ts'],
    ['cli/session/console.ts', 'cli/commands/run.ts'],
    ['cli/table.ts', 'cli/session/console.ts'],
    ['virtio/queue.ts', 'virtio/transport/mmio.ts'],
    ['machine/report/meter.ts', 'machine/platform.ts'],
  ])('%s may not import %s', (from, to) => {
    expect(againstRooms([{ from, to }])).toHaveLength(1);
  });

  test.each([
    ['virtio/queue.ts', 'devices/rng.ts'],
    ['host/files.ts', 'machine/config.ts'],
    ['boot/elf.ts', 'host/files.ts'],
    ['guest/life.ts', 'machine/machine.ts'],
    ['image/guest-root.ts', 'guest/store.ts'],
  ])('%s of a lower layer may not import %s', (from, to) => {
    expect(againstFloors([{ from, to }])).toHaveLength(1);
  });

  test('every room is known', () => {
    const known = (path: string): boolean => ROOMS[layerOf(path)]?.[roomOf(path)] !== undefined;
    const unknown = sourceFiles().filter((path) => layerOf(path) in ROOMS && !known(path));
    expect(unknown).toEqual([]);
  });

  test.each([
    ['devices', 15],
    ['host', 15],
    ['control', 15],
    ['cli', 15],
    ['boot', 25],
    ['machine', 25],
    ['container', 25],
  ])('%s has at most %i files beside its folders', (layer, most) => {
    const loose = sourceFiles().filter((path) => dirname(path) === layer);
    expect(loose.length, loose.join(' ')).toBeLessThanOrEqual(most);
  });

  test('no source file is longer than a reader can hold in mind', () => {
    const lengths = [
      ...sourceFiles().map((path) => `src/${path}`),
      ...readdirSync(join(ROOT, 'kvm-addon/src')).map((path) => `kvm-addon/src/${path}`),
    ].map((path) => [path, readFileSync(join(ROOT, path), 'utf8').split('\n').length - 1] as const);
    const long = lengths.filter(([, lines]) => lines > MAX_LINES);
    expect(long).toEqual([]);
  });

  test('every layer is known', () => {
    const unknown = sourceFiles()
      .map(layerOf)
      .filter((layer) => !(layer in MAY_IMPORT));
    expect([...new Set(unknown)]).toEqual([]);
  });

  test('pure layers touch nothing of the host', () => {
    const wrong = all.filter(
      ({ from, to }) =>
        PURE.includes(layerOf(from)) && to.startsWith('node:') && !PURE_NODE_MODULES.includes(to),
    );
    expect(wrong.map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
  });

  test('only native/ loads the addon', () => {
    const filesWith = (text: string) =>
      sourceFiles().filter((path) => readFileSync(join(SRC, path), 'utf8').includes(text));
    expect(filesWith('createRequire').sort()).toEqual(['native/binding.ts', 'util/package-file.ts']);
    expect(filesWith('kvm_addon.node')).toEqual(['native/binding.ts']);
  });

  test('there is no import cycle', () => {
    const graph = new Map<string, string[]>();
    for (const { from, to } of all) if (isLocal(to)) graph.set(from, [...(graph.get(from) ?? []), to]);
    const cycles: string[] = [];
    const state = new Map<string, 'open' | 'done'>();
    const visit = (node: string, path: string[]): void => {
      if (state.get(node) === 'done') return;
      if (state.get(node) === 'open') {
        cycles.push([...path.slice(path.indexOf(node)), node].join(' -> '));
        return;
      }
      state.set(node, 'open');
      for (const next of graph.get(node) ?? []) visit(next, [...path, node]);
      state.set(node, 'done');
    };
    for (const node of graph.keys()) visit(node, []);
    expect(cycles).toEqual([]);
  });

  test('no module has mutable state', () => {
    const wrong = sourceFiles().flatMap((path) =>
      readFileSync(join(SRC, path), 'utf8')
        .split('\n')
        .filter((line) => /^(export )?let /.test(line))
        .map((line) => `${path}: ${line}`),
    );
    expect(wrong).toEqual([]);
  });
});
