/** Hints: the library's name fields, the command's name options. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FLAGS, inFlags } from '../../../src/cli/flags.js';

const SRC = join(import.meta.dirname, '../../../src');
/** Layers whose errors a library's user gets. What reads the command line, beside a device, may speak of its options. */
const LAYERS = ['boot', 'container', 'host', 'machine', 'snapshot', 'template'];
/** Options that stand for fields of a machine or a container. */
const OPTIONS =
  /--(append|balloon|cmdline|cpus|disk|disks|entry|firmware|gid-map|initrd|kernel|memory|no-template|no-unpack-initrd|pmem|ports|rootfs|share|uid-map|vsock)\b(?!=)/;

/** Files that make command lines of container runtimes. */
const OTHER_PROGRAMS = ['container/engines/engine.ts', 'container/run-arguments.ts'];

/** Lines of code of those layers, without comments. */
const lines = LAYERS.flatMap((layer) =>
  readdirSync(join(SRC, layer), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .flatMap((path) =>
      readFileSync(join(SRC, layer, path), 'utf8')
        .split('\n')
        .filter((line) => !/^\s*(\/?\*|\/\/)/.test(line))
        .map((line) => ({ file: `${layer}/${path}`, line: line.trim() })),
    ),
);

test('no hint of the library names an option of the command', () => {
  const wrong = lines.filter(({ file, line }) => OPTIONS.test(line) && !OTHER_PROGRAMS.includes(file));
  expect(wrong).toEqual([]);
});

test('every field that the command has a word for is named by a hint', () => {
  const text = lines.map(({ line }) => line.replaceAll('\\`', '`')).join('\n');
  const unused = Object.keys(FLAGS).filter(
    (field) => !text.includes(`\`${field}\``) && !/^[ug]idMap$/.test(field),
  );
  expect(unused).toEqual([]);
});

test('inFlags() says fields as options, and leaves other code as it is', () => {
  expect(inFlags("leave out `entry: 'pvh'`, or give `memoryBytes`")).toBe(
    'leave out --entry pvh, or give --memory',
  );
  expect(inFlags('run `tsvm doctor`, or call `toString`')).toBe('run `tsvm doctor`, or call `toString`');
});
