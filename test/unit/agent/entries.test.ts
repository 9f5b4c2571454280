/** Facts and entries that an agent sends, which may be anything. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseFacts, readEntries } from '../../../src/agent/entries.js';
import { Violation } from '../../../src/agent/violation.js';

const FACTS = '33188 1 2 30 -4.000000005 18446744073709551615 1 0 65024';

async function* pieces(text: string, size = 1): AsyncGenerator<Buffer> {
  const bytes = Buffer.from(text, 'latin1');
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function entriesOf(text: string): Promise<string[]> {
  const paths: string[] = [];
  for await (const { path } of readEntries(pieces(text))) paths.push(path);
  return paths;
}

describe('facts of a file', () => {
  test('are read', () => {
    expect(parseFacts(FACTS)).toEqual({
      kind: 'file',
      mode: 0o644,
      uid: 1,
      gid: 2,
      size: 30,
      mtime: { seconds: -4, nanoseconds: 5 },
      inode: 0xffff_ffff_ffff_ffffn,
      links: 1,
      device: 0,
      fileSystem: 65024,
    });
    expect(parseFacts('32768 0 0 9223372036854775807 0.000000000 1 1 0 0').size).toBe(
      Number.MAX_SAFE_INTEGER,
    );
    const kinds = [0o04, 0o12, 0o01, 0o02, 0o06, 0o14].map(
      (kind) => parseFacts(`${kind * 4096} 0 0 0 0.000000000 1 1 0 0`).kind,
    );
    expect(kinds).toEqual(['directory', 'link', 'fifo', 'character-device', 'block-device', 'socket']);
  });

  test.each([
    '',
    `${FACTS} 1`,
    FACTS.replace('33188', '0'),
    FACTS.replace('33188', '-1'),
    FACTS.replace(' 1 ', ' 9999999999 '),
    FACTS.replace('.000000005', '.5'),
    FACTS.replace('30', '0x1e'),
  ])('are refused: %j', (text) => {
    expect(() => parseFacts(text)).toThrow(Violation);
  });
});

describe('entries of a list', () => {
  test('come whatever they are cut into', async () => {
    expect(await entriesOf(`${FACTS}\0a\0\0${FACTS}\0a/b\n\0\0`)).toEqual(['a', 'a/b\n']);
  });

  test.each([
    `${FACTS}\0../x\0\0`,
    `${FACTS}\0/x\0\0`,
    `${FACTS}\0a//b\0\0`,
    `${FACTS}\0a/./b\0\0`,
    `${FACTS}\0a\0`,
    `${FACTS}\0a`,
    `x\0a\0\0`,
  ])('are refused: %j', async (text) => {
    await expect(entriesOf(text)).rejects.toThrow(Violation);
  });

  test('any bytes are entries, or a violation', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: fc.constantFrom('\0', '/', '.', 'a', '1', ' ') }), async (text) => {
        await entriesOf(text).catch((error: unknown) => expect(error).toBeInstanceOf(Violation));
      }),
    );
  });
});
