/** Pages keep what they promise: links lead somewhere, checks are explained. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import { NEEDS } from '../../src/cli/doctor/needs.js';
import { KVM_CAUSE_IDS } from '../../src/host/kvm/causes.js';
import { HOST_CHECKS } from '../../src/host/production/host-checks.js';
import { ADDON_CAUSE_IDS } from '../../src/native/addon-error.js';
import { testTitles } from '../support/test-titles.js';

const ROOT = new URL('../../', import.meta.url).pathname;
const FOLDERS = ['docs', 'bench', 'guests', 'test', 'kvm-addon', 'firmware'];

const pages = [
  ...readdirSync(ROOT).filter((name) => name.endsWith('.md')),
  ...FOLDERS.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.md') && !/(^|\/)(node_modules|build|dist|results)\//.test(name))
      .map((name) => join(folder, name)),
  ),
];
const textOf = (page: string): string => readFileSync(join(ROOT, page), 'utf8');
/** Text of a page without programs and quoted code, where brackets mean something else. */
const prose = (page: string): string =>
  textOf(page)
    .replace(/^```[\s\S]*?^```/gm, '')
    .replace(/`[^`\n]*`/g, 'code');

/** Anchors of a page, as GitHub makes them of its headings. */
function anchors(page: string): string[] {
  return [...textOf(page).matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/** Faults of the links of a page. */
function brokenLinks(page: string, text: string): string[] {
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, link = '']) => {
    if (/^(https?:|mailto:)/.test(link)) return [];
    const [path = '', anchor] = link.split('#');
    const target = path === '' ? page : relative(ROOT, join(ROOT, dirname(page), path));
    if (!existsSync(join(ROOT, target))) return [`${page}: ${link} is not there`];
    const isPage = target.endsWith('.md') && statSync(join(ROOT, target)).isFile();
    if (anchor !== undefined && isPage && !anchors(target).includes(anchor)) return [`${page}: no ${link}`];
    return [];
  });
}

describe('pages', () => {
  test('are many', () => expect(pages.length).toBeGreaterThan(20));

  test('have links that lead somewhere', () => {
    expect(pages.flatMap((page) => brokenLinks(page, prose(page)))).toEqual([]);
  });

  test('with a link that leads nowhere are found', () => {
    const text =
      '[a](nothing.md) [b](README.md#no-such-heading) [c](README.md#set-up) [d](https://example.com)';
    expect(brokenLinks('README.md', text)).toEqual([
      'README.md: nothing.md is not there',
      'README.md: no README.md#no-such-heading',
    ]);
  });
});

test('docs/production.md explains each check of `tsvm doctor --production`, and no other', () => {
  const sections = [...textOf('docs/production.md').matchAll(/^### (.+)$/gm)].map(([, title]) => title);
  expect(sections).toEqual(HOST_CHECKS.map(({ id }) => id));
});

test('docs/host.md explains each cause without KVM, in the order in which they are tried', () => {
  expect(rowsBelow('## Causes without KVM')).toEqual([...KVM_CAUSE_IDS]);
});

test('docs/host.md explains each cause for which the addon does not load', () => {
  expect(rowsBelow('## An addon that does not load')).toEqual([...ADDON_CAUSE_IDS]);
});

test('docs/host.md explains each need that `tsvm doctor` looks at', () => {
  expect(rowsBelow('## What works without').sort()).toEqual(NEEDS.map(({ name }) => name).sort());
});

/** First cells of the table below a heading of docs/host.md. */
function rowsBelow(heading: string): string[] {
  const [, section = ''] = textOf('docs/host.md').split(`${heading}\n`);
  const [table = ''] = section.split('\n## ');
  return [...table.matchAll(/^\| `([^`]+)` \|/gm)].map(([, name = '']) => name);
}

/** Rows of a page's tables that end with the tests which hold them. */
function promises(page: string): { row: string; tests: { file: string; title: string }[] }[] {
  const tables = textOf(page)
    .split('\n\n')
    .filter((block) => /^\|.* held by \|$/m.test(block));
  return tables
    .flatMap((table) => table.split('\n').slice(2))
    .filter((line) => line.startsWith('|'))
    .map((row) => ({
      row,
      tests: [...row.matchAll(/\[[^\]]+\]\((\S+\.test\.ts)\): `([^`]+)`/g)].map(
        ([, link = '', title = '']) => ({ file: relative(ROOT, join(ROOT, dirname(page), link)), title }),
      ),
    }));
}

describe('docs/threat-model.md', () => {
  const rows = promises('docs/threat-model.md');

  test('promises much, and names the test that holds each', () => {
    expect(rows.length).toBeGreaterThan(40);
    expect(rows.filter(({ tests }) => tests.length === 0).map(({ row }) => row)).toEqual([]);
  });

  test('names tests that there are', () => {
    const titles = new Map<string, Set<string>>();
    const missing = rows
      .flatMap(({ tests }) => tests)
      .filter(({ file, title }) => {
        if (!existsSync(join(ROOT, file))) return true;
        const known = titles.get(file) ?? testTitles(file, textOf(file));
        titles.set(file, known);
        return !known.has(title);
      });
    expect(missing).toEqual([]);
  });

  test('says what it must of --net user, and what is not held', () => {
    const page = textOf('docs/threat-model.md');
    for (const word of [
      '169.254.169.254',
      '`loopback=yes`',
      'LAN',
      'Side channels',
      'No jail',
      'processor time',
    ])
      expect(page).toContain(word);
  });
});

test('testTitles() finds titles however a test is written', () => {
  const text =
    "test('a', f); test.each([1])('b %s', f); describe('c', () => test.skipIf(x)('d', f)); other('e', f);";
  expect([...testTitles('a.test.ts', text)]).toEqual(['a', 'b %s', 'd']);
});

test('README.md links the threat model and SECURITY.md on its first screen', () => {
  const screen = textOf('README.md').split('\n').slice(0, 24).join('\n');
  expect(screen).toContain('(docs/threat-model.md)');
  expect(screen).toContain('(SECURITY.md)');
});
