/** Walks the imports of src/ and holds them against the arrows in ARCHITECTURE.md. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';

const SRC = new URL('../../src', import.meta.url).pathname;

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
  machine: ['snapshot', 'devices', 'virtio', 'bus', 'memory', 'boot', 'host', 'kvm', 'native'],
  template: ['machine', 'snapshot', 'host', 'kvm', 'native'],
  control: ['machine', 'snapshot', 'devices', 'host'],
  dashboard: ['control', 'container', 'machine'],
  container: ['devices', 'host'],
  image: ['boot', 'devices', 'host'],
  compare: ['container', 'image', 'template', 'machine', 'devices', 'host', 'kvm'],
  cli: [
    'control',
    'compare',
    'template',
    'container',
    'image',
    'machine',
    'devices',
    'host',
    'kvm',
    'native',
  ],
  'index.ts': [
    'control',
    'template',
    'container',
    'image',
    'machine',
    'snapshot',
    'devices',
    'virtio',
    'bus',
    'memory',
    'host',
    'kvm',
  ],
};

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
const isLocal = (path: string): boolean => path.endsWith('.ts');

describe('the arrows of ARCHITECTURE.md', () => {
  const all = imports();

  test('every layer imports only what it may', () => {
    const wrong = all.filter(({ from, to }) => {
      if (!isLocal(to)) return false;
      const [source, target] = [layerOf(from), layerOf(to)];
      if (source === target || target === 'errors.ts' || target === 'util') return false;
      return !(MAY_IMPORT[source] ?? []).includes(target);
    });
    expect(wrong.map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
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

  test('no device imports another device', () => {
    const wrong = all.filter(
      ({ from, to }) =>
        /^devices\/(legacy|virtio)\//.test(from) && /^devices\/(legacy|virtio)\//.test(to) && isLocal(to),
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
