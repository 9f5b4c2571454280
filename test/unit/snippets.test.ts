/** Every program in the documentation compiles, and those that need neither machine nor container run. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { compileSnippets } from '../support/compile-snippets.js';
import {
  allSnippets,
  docComments,
  examplesWithoutProgram,
  REPOSITORY,
  relocated,
  snippetsIn,
  sources,
  textOf,
} from '../support/snippets.js';

/** Calls of a program that cannot be had here: KVM, the addon, a machine that runs, or a kernel. */
const NOT_HERE = [
  'createMachine',
  'restoreMachine',
  'openSavedMachine',
  'connect',
  'Sandbox.create',
  'Sandbox.connect',
  'startContainer',
  'loadLinux',
];
/** A compiler and all of src/ are read, on a machine that may be busy. */
const TIMEOUT_MS = 120_000;
const snippets = allSnippets();
const runnable = snippets.filter(({ code }) => !NOT_HERE.some((name) => code.includes(`${name}(`)));

describe('programs in the documentation', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tsvm-snippets-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  const wrong = snippetsIn(
    [
      ["import { blk } from 'tsvm';", "blk({ path: 'disk', readOnly: undefined });"],
      ["import { createMachine } from 'tsvm';", "await createMachine({ kernal: 'vmlinux' });"],
      ['const [first] = [1, 2].filter(Boolean);', 'console.log(first.toFixed());'],
      ["import { blk } from 'tsvm';"],
    ]
      .map((lines) => `\`\`\`ts\n${lines.join('\n')}\n\`\`\`\n`)
      .join(''),
    'wrong.md',
  );
  let faults: Map<string, string[]>;
  beforeAll(() => {
    faults = compileSnippets([...snippets, ...wrong]);
  }, TIMEOUT_MS);

  test('are many', () => expect(snippets.length).toBeGreaterThan(20));

  test.each(snippets.map(({ name }) => name))('%s compiles', (name) => {
    expect(faults.get(name)).toEqual([]);
  });

  test('compile under the strictest options only', () => {
    expect(wrong.map(({ name }) => faults.get(name))).toEqual([
      [expect.stringContaining('exactOptionalPropertyTypes')],
      [expect.stringContaining("'kernal' does not exist")],
      [expect.stringContaining("'first' is possibly 'undefined'")],
      [expect.stringContaining('never read')],
    ]);
  });

  const named = runnable.map((snippet) => [snippet.name, snippet] as const);
  test.each(named)('%s runs', { timeout: TIMEOUT_MS }, async (_, snippet) => {
    const path = join(folder, basename(snippet.path));
    writeFileSync(path, relocated(snippet, join(REPOSITORY, 'src/index.ts')));
    await import(path);
  });
});

test('every @example has a program in a fence', () => {
  const bare = sources().flatMap((file) =>
    docComments(textOf(file)).flatMap((comment) =>
      examplesWithoutProgram(comment).map((line) => `${file}:${line}`),
    ),
  );
  expect(bare).toEqual([]);
});

test('examplesWithoutProgram() names the line of a tag without a fence', () => {
  const source = 'const a = 1;\n/**\n * @example\n * a();\n *\n * @example\n * ```ts\n * a();\n * ```\n */\n';
  expect(docComments(source).map(examplesWithoutProgram)).toEqual([[3]]);
});

test('snippetsIn() finds indented programs, and none in fences of another language', () => {
  const text = 'a\n```sh\n~~~ts\n```\n- b\n\n  ```js\n  f();\n    g();\n  ```\n';
  expect(snippetsIn(text, 'docs/a.md')).toEqual([
    { name: 'docs/a.md:8', code: 'f();\n  g();\n', path: join(REPOSITORY, 'docs/a.md.8.mjs') },
  ]);
});
