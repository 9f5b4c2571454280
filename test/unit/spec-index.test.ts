/** docs/spec-index.md and the `@spec` tags that scripts/spec-index.mjs makes it from. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

type Source = readonly [path: string, text: string];

const REPOSITORY = join(import.meta.dirname, '../..');
// A script that runs without a build has no types.
const { specIndex, specSources } = (await import(join(REPOSITORY, 'scripts/spec-index.mjs'))) as {
  specIndex(sources: readonly Source[]): { page: string; faults: string[] };
  specSources(): Source[];
};

const toy = (text: string): Source => ['src/devices/toy.ts', text];

test('docs/spec-index.md is what the @spec tags say (npm run spec-index), and every device has one', () => {
  const { page, faults } = specIndex(specSources());
  expect(faults).toEqual([]);
  expect(readFileSync(join(REPOSITORY, 'docs/spec-index.md'), 'utf8')).toBe(page);
});

describe('specIndex()', () => {
  test('lists a tag with its section, state, file and note', () => {
    const { page, faults } = specIndex([
      toy('/**\n * A toy.\n *\n * @spec virtio-1.3 5.9  Toy_device  #no  no need\n */\n'),
    ]);
    expect(faults).toEqual([]);
    expect(page).toContain(
      '| 5.9 | Toy\\_device | no | [devices/toy.ts](../src/devices/toy.ts) | no need |\n',
    );
  });

  test('sorts sections by their numbers', () => {
    const { page } = specIndex([
      toy(' * @spec virtio-1.3 5.10  Ten  #yes\n * @spec virtio-1.3 5.9  Nine  #yes\n'),
    ]);
    expect(page.indexOf('Nine')).toBeLessThan(page.indexOf('Ten'));
  });

  test.each(['VirtioDevice', 'BusDevice', 'Closeable, VirtioDevice'])(
    'finds a device that implements %s and has no tag',
    (contract) => {
      const { faults } = specIndex([toy(`/** A toy. */\nexport class Toy implements ${contract} {}\n`)]);
      expect(faults).toEqual([expect.stringContaining('src/devices/toy.ts: a device without @spec')]);
    },
  );

  test.each([
    'virtio-9 5.9  Toy  #yes',
    'virtio-1.3 5.9  Toy',
    'virtio-1.3 Toy #yes',
    'virtio-1.3 5.9  Toy  #maybe',
  ])('refuses a tag that it cannot read: %s', (tag) => {
    expect(specIndex([toy(`/**\n * @spec ${tag}\n */\n`)]).faults).toEqual([
      expect.stringContaining('src/devices/toy.ts:2: not'),
    ]);
  });
});
