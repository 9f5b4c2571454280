/** The bytecode of the bundled command: used when it fits, and never a reason to fail. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ts from 'typescript';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';

const directory = mkdtempSync(join(tmpdir(), 'tsvm-test-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const bundle = join(directory, 'main.cjs');
const program = join(directory, 'code-cache.cjs');
const source = readFileSync(new URL('../../../src/bin/code-cache.cts', import.meta.url), 'utf8');
writeFileSync(
  program,
  ts.transpileModule(source, {
    compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 },
  }).outputText,
);

/** Output of a process that does this to the bundle. */
function node(method: 'save' | 'load', ...flags: string[]): string {
  const script = `require(${JSON.stringify(program)}).${method}(${JSON.stringify(bundle)})`;
  const { stdout, stderr, status } = spawnSync(process.execPath, [...flags, '-e', script], {
    encoding: 'utf8',
  });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return stdout;
}

const cache = `${bundle}.cache`;
const text = (answer: string) =>
  `const { sep } = require('node:path'); console.log('${answer}', sep, __filename);`;

/** The cache of the first text, as save() makes it. */
let saved: Buffer;
beforeAll(() => {
  writeFileSync(bundle, text('one'));
  node('save');
  saved = readFileSync(cache);
});

beforeEach(() => {
  writeFileSync(bundle, text('one'));
  writeFileSync(cache, saved);
});

test('load() runs the bundle with and without a cache', () => {
  expect(node('load')).toBe(`one / ${bundle}\n`);
  rmSync(cache);
  expect(node('load')).toBe(`one / ${bundle}\n`);
});

test('load() takes no bytecode of another bundle of the same length', () => {
  writeFileSync(bundle, text('two'));
  expect(node('load')).toBe(`two / ${bundle}\n`);
});

test('load() takes no bytecode that V8 refuses', () => {
  expect(node('load', '--no-opt')).toBe(`one / ${bundle}\n`);
});

test.each([0, 3, 8, 40])('load() runs the bundle with a cache cut to %i bytes', (length) => {
  writeFileSync(cache, saved.subarray(0, length));
  expect(node('load')).toBe(`one / ${bundle}\n`);
});

test('load() runs the bundle with a cache whose end is damaged', () => {
  const bytes = Buffer.from(saved);
  bytes.fill(0xff, bytes.length - 64);
  writeFileSync(cache, bytes);
  expect(node('load')).toBe(`one / ${bundle}\n`);
});

test('save() makes bytecode that V8 takes', () => {
  const check = `
    const { readFileSync } = require('node:fs');
    const { Script } = require('node:vm');
    const code = '(function (exports, require, module, __filename, __dirname) {' + readFileSync(process.argv[1]) + '\\n})';
    console.log(new Script(code, { cachedData: readFileSync(process.argv[2]).subarray(8) }).cachedDataRejected);`;
  const { stdout } = spawnSync(process.execPath, ['-e', check, bundle, cache], { encoding: 'utf8' });
  expect(stdout).toBe('false\n');
});
