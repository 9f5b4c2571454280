/** Errors: the library's name fields, the command's name options. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FLAGS, HEADS, inFlags } from '../../../src/cli/flags.js';
import { FIRECRACKER_WORDS } from '../../../src/control/firecracker/words.js';
import { TsvmError } from '../../../src/errors.js';

const SRC = join(import.meta.dirname, '../../../src');
/** Layers whose errors a library's user gets. What reads the command line, beside a device, may speak of its options. */
const LAYERS = [
  ...['boot', 'container', 'control', 'guest', 'host', 'kvm', 'machine', 'memory', 'native', 'snapshot'],
  ...['template', 'virtio'],
];
/** Options that stand for fields of a machine or a container. */
const OPTIONS =
  /--(append|balloon|cmdline|cpus|disk|disks|engine|entry|firmware|gid-map|initrd|kernel|memory|name|net|no-template|no-unpack-initrd|pmem|ports|profile|rootfs|share|uid-map|vsock)\b(?!=)/;

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

test('no message or hint of the library names an option of the command', () => {
  const wrong = lines.filter(({ file, line }) => OPTIONS.test(line) && !OTHER_PROGRAMS.includes(file));
  expect(wrong).toEqual([]);
});

test('every field that the command has a word for is named by a message or a hint', () => {
  const text = lines.map(({ line }) => line.replaceAll('\\`', '`')).join('\n');
  const unused = [
    ...Object.keys(FLAGS).filter((field) => !text.includes(`\`${field}\``) && !/^[ug]idMap$/.test(field)),
    ...Object.keys(HEADS).filter(
      (head) => !["'", '"', '`'].some((quote) => text.includes(`${quote}${head}`)),
    ),
  ];
  expect(unused).toEqual([]);
});

test('Firecracker’s API has words for fields that the command has words for', () => {
  const { heads, code } = FIRECRACKER_WORDS;
  expect(Object.keys(heads).filter((head) => !Object.hasOwn(HEADS, head))).toEqual([]);
  expect(Object.keys(code).filter((field) => !Object.hasOwn(FLAGS, field))).toEqual([]);
});

const said = (message: string, hint?: string) => inFlags(new TsvmError('TSVM_CONFIG', message, { hint }));

test('inFlags() says fields of a hint as options, and leaves other code as it is', () => {
  const { hint } = said('no', "leave out `entry: 'pvh'`, or give `memoryBytes`");
  expect(hint).toBe('leave out --entry pvh, or give --memory');
  expect(said('no', 'run `tsvm doctor`, or call `toString`').hint).toBe(
    'run `tsvm doctor`, or call `toString`',
  );
  expect(said('no').hint).toBeUndefined();
});

test.each([
  ['memoryBytes: 0 B is too little for a machine', '--memory: 0 B is too little for a machine'],
  ['cpus: 65 is not from 1 to 64', '--cpus: 65 is not from 1 to 64'],
  ['net user: passt: no route', '--net user: passt: no route'],
  ['name web: a machine of that name runs already', '--name web: a machine of that name runs already'],
  ['kernel: it is no snapshot', 'kernel: it is no snapshot'],
  ['there is no memoryBytes: at all', 'there is no memoryBytes: at all'],
])('inFlags() says the field that a message begins with as an option: %s', (message, text) => {
  expect(said(message).message).toBe(text);
});
