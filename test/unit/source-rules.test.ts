/** Holds src/ against the rules of test/support/source-rules.ts, and these against source that breaks them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { EXCEPTIONS } from '../support/source-exceptions.js';
import { type Finding, findIn, RULES, type RuleName } from '../support/source-rules.js';

const SRC = new URL('../../src', import.meta.url).pathname;
/** A compiler is loaded and all of src/ is parsed, on a machine that may be busy. */
const TIMEOUT_MS = 120_000;

const keyOf = ({ rule, file, within, what }: Omit<Finding, 'line'>): string =>
  `${rule} | ${file} | ${within} | ${what}`;

/** Keys of the findings that the exceptions allow. */
const allowed = EXCEPTIONS.flatMap(({ rule, file, places }) =>
  Object.entries(places).flatMap(([within, uses]) =>
    uses.split(' ').map((what) => keyOf({ rule, file, within, what })),
  ),
);

describe('src/', () => {
  let found: Finding[];
  beforeAll(() => {
    found = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
      .filter((path) => /\.c?ts$/.test(path) && !path.endsWith('.d.ts'))
      .flatMap((path) => findIn(path, readFileSync(join(SRC, path), 'utf8')));
  }, TIMEOUT_MS);

  test('keeps to the rules, but for places that have a reason', () => {
    const wrong = found.filter((finding) => !allowed.includes(keyOf(finding)));
    expect(wrong.map((f) => `${f.file}:${f.line}: ${f.what} in ${f.within}: ${RULES[f.rule]}`)).toEqual([]);
  });

  test('needs every exception', () => {
    const needed = new Set(found.map(keyOf));
    expect(allowed.filter((key) => !needed.has(key))).toEqual([]);
  });

  test('has one exception for one place, with its reason', () => {
    expect(allowed.filter((key, i) => allowed.indexOf(key) !== i)).toEqual([]);
    expect(EXCEPTIONS.filter(({ reason }) => reason === '')).toEqual([]);
  });
});

/** Source that breaks a rule, in a file of its own below src/; and what is used there. */
const BROKEN: readonly (readonly [rule: RuleName, file: string, source: string, ...what: string[]])[] = [
  ['fs path', 'host/a.ts', "import { open } from 'node:fs/promises'; await open(path, 'w');", 'open'],
  [
    'fs path',
    'host/a.ts',
    "import { rmSync, statSync } from 'fs'; rmSync(p); statSync(p);",
    'rmSync',
    'statSync',
  ],
  ['fs path', 'host/a.ts', "import { statSync as look } from 'node:fs'; look(path);", 'statSync'],
  ['fs path', 'host/a.ts', "import { statSync } from 'node:fs'; const look = statSync;", 'statSync'],
  ['fs path', 'host/a.ts', "import { lstatSync } from 'node:fs'; paths.map(lstatSync);", 'lstatSync'],
  ['fs path', 'host/a.ts', "import { rmSync } from 'node:fs'; const own = { rmSync };", 'rmSync'],
  ['fs path', 'host/a.ts', "import * as fs from 'node:fs'; fs.writeFileSync(path, '');", 'writeFileSync'],
  ['fs path', 'host/a.ts', "import fs from 'node:fs'; fs.promises.rm(path);", 'rm'],
  ['fs path', 'host/a.ts', "import fs from 'node:fs'; const { open } = fs;", '*'],
  ['fs path', 'host/a.ts', "import fs from 'node:fs'; fs['openSync'](path);", '*'],
  ['fs path', 'host/a.ts', "import fs = require('node:fs'); fs.openSync(path);", 'openSync'],
  ['fs path', 'host/a.ts', "import { promises } from 'node:fs'; promises.cp(a, b);", 'cp'],
  ['fs path', 'host/a.ts', "const { rm } = await import('node:fs/promises'); rm(path);", '*'],
  ['fs path', 'host/a.ts', "process.getBuiltinModule('node:fs').rmSync(path);", '*'],
  ['fs path', 'host/a.ts', "export { openSync } from 'node:fs';", 'openSync'],
  ['fs path', 'host/a.ts', "export * from 'node:fs';", '*'],
  ['no fs here', 'devices/a.ts', "import { openSync } from 'node:fs'; openSync(path);", 'openSync'],
  ['umask', 'control/a.ts', 'const before = process.umask(0o177);', 'umask'],
  ['umask', 'control/a.ts', "globalThis.process['umask'](0);", 'umask'],
  ['umask', 'control/a.ts', 'const { umask } = process;', 'umask'],
  ['process.env', 'image/a.ts', "const token = process.env['TOKEN'];", 'TOKEN'],
  ['process.env', 'image/a.ts', 'const token = process.env.TOKEN;', 'TOKEN'],
  ['process.env', 'image/a.ts', 'spawn(program, [], { env: { ...process.env } });', '*'],
  ['process.env', 'image/a.ts', 'const { env } = process;', '*'],
  [
    'inherited variable',
    'cli/a.ts',
    "import { environment, parseVariables } from './environment.js'; environment(parseVariables(config.env));",
    'environment',
    'parseVariables',
  ],
  [
    'inherited variable',
    'cli/commands/a.ts',
    "import { environment as e } from '../environment.js'; e(config.env.map((name) => ({ name, inherit: true })));",
    'environment',
  ],
  ['evaluated text', 'cli/a.ts', 'eval(text);', 'eval'],
  ['evaluated text', 'cli/a.ts', "new Function('a', text);", 'Function'],
  [
    'evaluated text',
    'cli/a.ts',
    "import { runInThisContext } from 'node:vm'; runInThisContext(t);",
    'runInThisContext',
  ],
  ['shell', 'cli/a.ts', "import { exec } from 'node:child_process'; exec(text);", 'exec'],
  ['shell', 'cli/a.ts', "import * as p from 'node:child_process'; p.execSync(text);", 'execSync'],
  ['shell', 'cli/a.ts', 'spawn(text, { shell: true });', 'shell'],
  ['shell', 'cli/a.ts', "spawn('/bin/sh', ['-c', text]);", '/bin/sh'],
  ['shell', 'cli/a.ts', "spawnSync('bash', ['-ec', text]);", 'bash'],
  ['process.exit', 'machine/a.ts', 'process.exit(1);', 'exit'],
  ['foreseen name', 'cli/a.ts', "import { tmpdir } from 'node:os'; join(tmpdir(), 'tsvm');", 'tmpdir'],
  [
    'foreseen name',
    'cli/a.ts',
    "import { tmpdir } from 'node:os'; join(tmpdir(), 'x-' + process.pid);",
    'tmpdir',
  ],
  ['foreseen name', 'cli/a.ts', "import * as os from 'node:os'; os.tmpdir();", 'tmpdir'],
  ['foreseen name', 'cli/a.ts', "const path = '/tmp/tsvm.log';", '/tmp/tsvm.log'],
  ['foreseen name', 'cli/a.ts', 'const path = `/var/tmp/$' + '{name}`;', '/var/tmp/'],
];

describe('findIn() finds', () => {
  test.each(BROKEN)('%s in %s: %s', (rule, file, source, ...what) => {
    expect(findIn(file, source).map((found) => [found.rule, found.file, found.what])).toEqual(
      what.map((used) => [rule, file, used]),
    );
  });

  test('each rule broken', () => {
    expect(new Set(BROKEN.map(([rule]) => rule))).toEqual(new Set(Object.keys(RULES)));
  });

  test('the function, method or class around it', () => {
    const source = `import { rmSync } from 'node:fs';
      function a() { [1].map(() => rmSync(p)); }
      const b = () => rmSync(p);
      class C { #d() { rmSync(p); } get e() { return rmSync(p); } constructor() { rmSync(p); } static { rmSync(p); } }`;
    expect(findIn('a.ts', source).map(({ within, line }) => [within, line])).toEqual([
      ['a', 2],
      ['b', 3],
      ['C.#d', 4],
      ['C.e', 4],
      ['C.constructor', 4],
      ['C', 4],
    ]);
  });

  test.each([
    [
      'a descriptor',
      "import { fstatSync, read, closeSync } from 'node:fs'; fstatSync(3); read(3, b); closeSync(3);",
    ],
    [
      'a type',
      "import type { Stats } from 'node:fs'; import { type FileHandle, constants } from 'node:fs/promises'; let a: FileHandle;",
    ],
    ['an open file', 'await handle.open(); await handle.stat(); folder.rmSync();'],
    ['a name of the file’s own', 'function open() {} open();'],
    [
      'what the operator typed',
      "import { environment, parseVariables } from './environment.js'; environment(parseVariables(options.env ?? []));",
    ],
    ['the operator’s environment, in the command line', "process.env['TERM'];"],
    ['a fresh folder', "import { tmpdir } from 'node:os'; mkdtempSync(join(tmpdir(), 'tsvm-'));"],
    [
      'an example for people',
      "fail({ hint: '/tmp/vm.sock' }); print('use a path such as /tmp/vm.sock'); print('/tmp is full');",
    ],
    [
      'a program with arguments',
      "spawn('sh', ['script']); spawn('head', ['-c', '3']); spawn(p, { shell: false });",
    ],
  ])('nothing in %s', (_, source) => {
    expect(findIn('cli/a.ts', source)).toEqual([]);
  });
});
