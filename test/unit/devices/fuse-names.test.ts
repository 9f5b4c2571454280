/** Names as texts and back, whatever bytes they have. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeName, encodeName } from '../../../src/devices/backends/file-names.js';
import type { FileSystem } from '../../../src/devices/backends/file-system.js';
import { MemoryFileSystem } from '../../../src/devices/fs/memory-file-system.js';
import { NodeTable } from '../../../src/devices/fs/node-table.js';
import { budget } from '../../support/fuzz.js';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test('decodeName() and encodeName() lose no byte', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      expect(hex(encodeName(decodeName(bytes)))).toBe(hex(bytes));
    }),
    budget(300, 7),
  );
});

test.each([
  ['text', Buffer.from('naïve'), 'naïve'],
  ['a byte order mark', Buffer.from('\ufeffx'), '\ufeffx'],
  ['Latin-1', Buffer.of(0x61, 0xe9), 'a\udce9'],
  ['what would be a surrogate', Buffer.of(0xed, 0xb2, 0x80), '\udced\udcb2\udc80'],
  ['an emoji beside a byte', Buffer.concat([Buffer.from('😀'), Buffer.of(0xff)]), '😀\udcff'],
])('decodeName() has %s as a text that JSON keeps', (_, bytes, text) => {
  expect(decodeName(bytes)).toBe(text);
  expect(hex(encodeName(JSON.parse(JSON.stringify(text))))).toBe(hex(bytes));
});

test('NodeTable gives back as many entries as the file system handed out, those that the guest was not told of too', () => {
  const given: [object, number | undefined][] = [];
  const fileSystem: FileSystem = Object.assign(new MemoryFileSystem() as FileSystem, {
    forget: (node: object, entries?: number) => void given.push([node, entries]),
  });
  const nodes = new NodeTable(fileSystem);
  const [node, other] = [{}, {}];
  const id = nodes.add(node);
  expect(nodes.add(node)).toBe(id);
  nodes.drop(node);
  nodes.drop(other);
  expect(given).toEqual([[other, 1]]);
  nodes.forget(id, 1);
  nodes.drop(fileSystem.root);
  expect(given).toHaveLength(1);
  nodes.forget(id, 1);
  expect(given[1]).toEqual([node, 3]);
  expect(nodes.isEmpty).toBe(true);
});
