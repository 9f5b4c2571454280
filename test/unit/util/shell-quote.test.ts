import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { shellQuote } from '../../../src/util/shell-quote.js';

test.each(['/srv/root.img', '0=/a,overlay=/b', 'tcp:127.0.0.1:80-:80'])(
  'shellQuote() leaves %s as it is',
  (word) => {
    expect(shellQuote(word)).toBe(word);
  },
);

test.each([
  '',
  'a b',
  "it's",
  '$(touch x)',
  '`id`;&|<>*?[]{}~!#"\\',
  'é 漢',
  'a\nb\t\x1b[2J\x7f',
  "'\n'\\",
  'hidden\u202egnp',
  '\u2028',
])('shellQuote() makes one word on one line of %j, with nothing that a terminal would obey', (word) => {
  const quoted = shellQuote(word);
  expect(quoted).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
  const { stdout } = spawnSync('bash', ['-c', `printf '%s\\0' ${quoted}`]);
  expect(stdout.toString()).toBe(`${word}\0`);
});
