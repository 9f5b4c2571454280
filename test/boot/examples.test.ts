/** The examples of docs/library.md and the program of README.md, as they are. */
import { spawn } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run, tsvm } from '../support/cli.js';
import { temporaryDirectory } from '../support/guest.js';
import { REPOSITORY, relocated, snippetsIn, textOf } from '../support/snippets.js';

const EXAMPLES = join(REPOSITORY, 'docs/examples');
const FORKS = 5;
const folder = temporaryDirectory();
const example = (name: string, ...args: string[]) =>
  run(process.execPath, [join(EXAMPLES, name), ...args], { timeoutMs: 280_000 });

test.each([
  ['run-command.mjs', ['sh', '-c', 'echo $((6 * 7)); exit 3'], /^42\n$/, 3],
  ['own-device.mjs', [], /^66666666\n$/, 0],
  [
    'hundred-forks.mjs',
    [String(FORKS)],
    new RegExp(`^${FORKS} machines in [\\d.]+ ms\\nthe last one says ${(FORKS - 1) ** 2}\\n$`),
    0,
  ],
  ['virtual-switch.mjs', ['2'], /^10\.0\.0\.2 answers\n$/, 0],
])(
  '%s',
  async (name, args, said, status) => {
    const result = await example(name, ...args);
    expect([result.status, result.stderr]).toEqual([status, '']);
    expect(result.stdout.toString()).toMatch(said);
  },
  300_000,
);

test.each([
  ['of a sandbox', 0, /^0 5\n\n$/],
  ['of a machine', 1, /^Linux .* GNU\/Linux\n\{ kind: 'power-off', exitStatus: 0 \}\n$/],
])(
  'the program of README.md %s',
  async (_what, index, says) => {
    const snippet = snippetsIn(textOf('README.md'), 'README.md')[index];
    const program = join(folder, `readme-${index}.mjs`);
    writeFileSync(program, relocated(snippet!, join(REPOSITORY, 'dist/index.js')));
    const { status, stderr, stdout } = await run(process.execPath, [program], { timeoutMs: 280_000 });
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout.toString()).toMatch(says);
  },
  300_000,
);

test('metrics-exporter.mjs', async () => {
  const env = { TSVM_RUN_DIR: join(folder, 'run') };
  expect((await tsvm(['boot', '--memory', '64M', '-d', '--name', 'web'], { env })).status).toBe(0);
  const child = spawn(process.execPath, [join(EXAMPLES, 'metrics-exporter.mjs'), '0'], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const url = await new Promise<string>((resolve) =>
      child.stdout.once('data', (bytes: Buffer) => resolve(bytes.toString().trim())),
    );
    const page = await (await fetch(url)).text();
    expect(page).toMatch(/^tsvm_exits_total\{machine="web"/m);
  } finally {
    child.kill();
    await tsvm(['rm', '-f', 'web'], { env });
  }
}, 120_000);

test('none is left out', () => {
  const tested = [
    'run-command',
    'own-device',
    'hundred-forks',
    'virtual-switch',
    'metrics-exporter',
    'support',
  ];
  expect(readdirSync(EXAMPLES).sort()).toEqual(tested.map((name) => `${name}.mjs`).sort());
});
