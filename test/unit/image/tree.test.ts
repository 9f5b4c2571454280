/** Layers on top of each other: what comes of names, kinds, links and marks. */
import { describe, expect, test } from 'vitest';
import { treeOf, treeOfArchives } from '../../support/memory-tree.js';
import { dir, file, hard, link, tarOf } from '../../support/tar.js';

const device = (name: string) => ({ name, type: '3', numbers: [1, 3] as const });

describe('applyLayers()', () => {
  test('replaces what changes its kind, and adds to folders', async () => {
    const below = [dir('a'), file('a/old'), file('b', 'b'), link('c', 'a'), dir('d', 0o700), file('d/keep')];
    expect(await treeOf(below, [link('a', 'd'), dir('b'), file('b/x'), dir('c'), dir('d', 0o711)])).toEqual([
      'a: link d',
      'b: directory 755',
      'b/x: file 644 ""',
      'c: directory 755',
      'd: directory 711',
      'd/keep: file 644 ""',
    ]);
    expect(await treeOf(below, [file('a', 'now')])).toContain('a: file 644 "now"');
    expect(await treeOf(below, [file('b/x')])).toContain('b/x: file 644 ""');
  });

  test.each([
    ['a relative link', 'usr/lib'],
    ['an absolute one', '/usr/lib'],
    ['one that climbs over the root', '../../../usr/lib'],
    ['one by way of another', 'again'],
  ])('places what is below %s inside the root', async (_, target) => {
    const below = [dir('usr'), dir('usr/lib'), link('again', 'usr/./lib/'), link('lib', target)];
    const tree = await treeOf(below, [file('lib/x.so', 'so'), file('lib/new/y')]);
    expect(tree).toContain(`lib: link ${target}`);
    expect(tree).toContain('usr/lib/x.so: file 644 "so"');
    expect(tree).toContain('usr/lib/new/y: file 644 ""');
  });

  test('makes the folders that a link leads to, and gives up on links in circles', async () => {
    expect(await treeOf([link('a', 'b/c'), file('a/x')])).toEqual([
      'a: link b/c',
      'b: directory 755',
      'b/c: directory 755',
      'b/c/x: file 644 ""',
    ]);
    await expect(treeOf([link('a', 'b'), link('b', 'a'), file('a/x')])).rejects.toThrow('too many links');
    const chain = Array.from({ length: 41 }, (_, i) => link(`l${i}`, `l${i + 1}`));
    await expect(treeOf([...chain, dir('l41'), file('l0/x')])).rejects.toThrow('too many links');
    await expect(treeOf([...chain.slice(1), dir('l41'), file('l1/x')])).resolves.toContain(
      'l41/x: file 644 ""',
    );
  });

  test.each(['first', 'last'])('obeys marks that stand %s', async (where) => {
    const below = [
      dir('d'),
      file('d/a'),
      file('d/b'),
      dir('e'),
      file('e/old'),
      file('f'),
      dir('g'),
      file('g/old'),
    ];
    const marks = [
      'd/.wh.a',
      'd/.wh.never',
      'e/.wh..wh..opq',
      '.wh.f',
      '.wh.g',
      '.wh.',
      '.wh...',
      '.wh..',
    ].map((name) => file(name));
    const entries = [dir('e', 0o700), file('e/new'), file('f', 'new'), file('g/new')];
    const above = where === 'first' ? [...marks, ...entries] : [...entries, ...marks];
    expect(await treeOf(below, above)).toEqual([
      'd: directory 755',
      'd/b: file 644 ""',
      'e: directory 700',
      'e/new: file 644 ""',
      'f: file 644 "new"',
      'g: directory 755',
      'g/new: file 644 ""',
    ]);
  });

  test('obeys marks with any names, through links, and with marks below them', async () => {
    const odd = ['a\\x2db.slice', 'na\u00efve', 'tab\there', 'new\nline', '-dash'];
    const below = [
      dir('etc'),
      ...odd.map((name) => file(`etc/${name}`)),
      link('conf', '/etc'),
      file('etc/x'),
    ];
    const marks = [...odd.map((name) => file(`etc/.wh.${name}`)), file('conf/.wh.x')];
    expect(await treeOf(below, marks)).toEqual(['conf: link /etc', 'etc: directory 755']);
    expect(await treeOf([dir('t'), file('t/t')], [file('.wh.t'), file('t/.wh.t')])).toEqual([]);
    expect(await treeOf([file('.wh..wh.plnk/1'), file('x')])).toEqual(['x: file 644 ""']);
  });

  test('links to what layers below have, by any form of its name, and to links', async () => {
    const below = [dir('etc'), file('etc/a', 'A'), link('s', 'etc/a'), link('conf', '/etc')];
    const above = [
      hard('etc/b', './etc//a'),
      hard('etc/c', '/etc/a'),
      hard('etc/d', 'conf/a'),
      hard('t', 's'),
    ];
    expect(await treeOf(below, above)).toEqual([
      'conf: link /etc',
      'etc: directory 755',
      'etc/a: file 644 "A"',
      'etc/b = etc/a',
      'etc/c = etc/b',
      'etc/d = etc/c',
      's: link etc/a',
      't = s',
    ]);
    expect(await treeOf(below, above, [file('etc/.wh.a'), file('etc/b', 'B')])).toContain(
      'etc/c: file 644 "A"',
    );
    await expect(treeOf([hard('a', 'b')])).rejects.toThrow('"a" is a link to "b", which is not there');
    await expect(treeOf([dir('b'), hard('a', 'b')])).rejects.toThrow('"a" is a hard link to a folder');
    expect(await treeOf([dir('d'), file('d/f', 'f'), hard('d', 'd/f')])).toEqual(['d: file 644 "f"']);
    expect(await treeOf([file('d', 'f'), hard('d/f', 'd')])).toEqual([
      'd: directory 755',
      'd/f: file 644 "f"',
    ]);
    expect(await treeOf([file('a', 'A'), hard('a', 'a')])).toEqual(['a: file 644 "A"']);
  });

  test('leaves out devices, what is in the top dev, and what is linked to either, over layers', async () => {
    const below = [
      device('opt/null'),
      device('dev/zero'),
      file('dev/shm/x'),
      link('d', 'dev'),
      file('src/dev/x'),
    ];
    const above = [hard('a', 'opt/null'), hard('b', 'a'), hard('c', 'dev/shm/x'), file('d/y'), dir('dev')];
    expect(await treeOf(below, above)).toEqual([
      'd: link dev',
      'dev: directory 755',
      'src: directory 755',
      'src/dev: directory 755',
      'src/dev/x: file 644 ""',
    ]);
  });

  test('takes a root with its facts, and names that climb as Docker does', async () => {
    expect(await treeOf([dir('./'), file('etc/../usr/x'), file('../../y'), file('/z')])).toEqual([
      'usr: directory 755',
      'usr/x: file 644 ""',
      'y: file 644 ""',
      'z: file 644 ""',
    ]);
    await expect(treeOf([link('./', 'x')])).rejects.toThrow('the root of the image is no folder');
  });

  test('bounds how deep links may bring an entry', async () => {
    const deep = `${'d/'.repeat(200)}d`;
    await expect(
      treeOf([
        { ...link('a', ''), pax: { linkpath: deep } },
        { ...file('x'), pax: { path: `a/${deep}/x` } },
      ]),
    ).rejects.toThrow('has 403 parts, more than 256');
    const steps = Array.from({ length: 10 }, (_, i) => ({
      ...link(`l${i}`, ''),
      pax: { linkpath: `${'./x/../'.repeat(60)}l${i + 1}` },
    }));
    await expect(treeOf([dir('x'), ...steps, file('l0/y')])).rejects.toThrow(
      'leads through too many folders',
    );
  });

  test('counts folders that no entry is, over all layers', async () => {
    const below = tarOf([file(`${'a/'.repeat(40)}x`), link('l', 'b/c/d')]);
    const above = tarOf([file('l/y')]);
    await treeOfArchives([below, above], { entries: 46 });
    await expect(treeOfArchives([below, above], { entries: 45 })).rejects.toThrow(
      '"d": the image has more files than are unpacked',
    );
  });

  test('counts the paths of what is left out, which links make long', async () => {
    const deep = `${'d'.repeat(200)}/`.repeat(14);
    const devices = Array.from({ length: 9 }, (_, i) => device(`l/${i}`));
    const image = tarOf([{ ...link('l', ''), pax: { linkpath: deep } }, ...devices, ...devices]);
    await treeOfArchives([image], { headerBytes: 32_000 });
    await expect(treeOfArchives([image], { headerBytes: 28_000 })).rejects.toThrow(
      'the image has more long names',
    );
  });

  test('refuses a link’s folder with a name that no folder can have', async () => {
    const image = (bytes: number) => [
      { ...link('l', ''), pax: { linkpath: `a/${'b'.repeat(bytes)}/c` } },
      file('l/x'),
    ];
    await expect(treeOf(image(255))).resolves.toContain(`a/${'b'.repeat(255)}/c/x: file 644 ""`);
    await expect(treeOf(image(256))).rejects.toThrow('has a part of more than 255 bytes');
  });
});
